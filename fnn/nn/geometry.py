"""Where the windows of a convolution or a pooling lie in an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.types import Shape

Padding = str | int | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], tuple[int, int]]


def check_padding(where: str, padding: Any) -> Padding:
    """The padding, if it is "SAME", "VALID", an int, or a (low, high) pair an axis; ConfigError otherwise."""
    if isinstance(padding, int | np.integer):
        return checks.whole(f"{where} padding", padding, 0)
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return padding
    if not isinstance(padding, str) and isinstance(padding, Sequence) and len(padding) == 2:
        return tuple(checks.pair(f"{where} padding", pair, 0) for pair in padding)
    expected = '"SAME", "VALID", an int, or a (low, high) pair an axis'
    raise ConfigError(f"{where} padding", expected, repr(padding), 'try padding="SAME"')


def pad_pairs(padding: Padding, size: Shape, window: Shape, stride: Shape) -> Pairs:
    """The padding as (low, high) an axis. "SAME" gives ceil(size / stride) outputs, the odd pixel going high."""
    height, width = (_axis_pad(padding, *axis) for axis in zip(range(2), size, window, stride, strict=True))
    return height, width


def _axis_pad(padding: Padding, axis: int, size: int, window: int, stride: int) -> tuple[int, int]:
    if isinstance(padding, int):
        return padding, padding
    if not isinstance(padding, str):
        return padding[axis]
    total = max((-(-size // stride) - 1) * stride + window - size, 0) if padding == "SAME" else 0
    return total // 2, total - total // 2


def window_count(where: str, size: Shape, window: Shape, stride: Shape, padding: Padding) -> Shape:
    """How many windows fit along each image axis; ShapeError if none does."""
    pairs = pad_pairs(padding, size, window, stride)
    padded = [n + low + high for n, (low, high) in zip(size, pairs, strict=True)]
    if any(n < w for n, w in zip(padded, window, strict=True)):
        raise ShapeError(
            where, f"an image of at least {window} after padding", tuple(padded), "use a smaller window or more padding"
        )
    return tuple((n - w) // s + 1 for n, w, s in zip(padded, window, stride, strict=True))
