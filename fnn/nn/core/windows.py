"""Where the windows of a convolution or a pooling lie in a signal, an image or a volume."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.types import Shape

Sizes = int | Sequence[int]
Padding = str | int | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


class Windows(NamedTuple):
    """Windows of one size at regular distances: what is static in a convolution or a pooling, along each axis.

    The taps of a window lie `dilation` apart, so that it reaches over (size - 1) dilation + 1 pixels.
    """

    where: str
    size: Shape
    stride: Shape
    padding: Padding
    dilation: Shape

    @property
    def axes(self) -> int:
        return len(self.size)

    @property
    def reach(self) -> Shape:
        return tuple(
            (size - 1) * dilation + 1
            for size, dilation in zip(self.size, self.dilation, strict=True)
        )

    def pads(self, image: Shape) -> Pairs:
        """The (low, high) padding of an image of that size."""
        return pad_pairs(self.padding, image, self.reach, self.stride)

    def outputs(self, image: Shape) -> Shape:
        """How many windows fit along each axis; ShapeError if none does."""
        return window_count(self.where, image, self.reach, self.stride, self.padding)


def windows(
    where: str, axes: int, kernel: Sizes, stride: Sizes, padding: Padding, dilation: Sizes
) -> Windows:
    """The windows of a kernel that slides along so many axes; ConfigError for an option out of range."""
    size, strides, dilations = (
        checks.each(f"{where} {name}", value, axes)
        for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    return Windows(where, size, strides, check_padding(where, padding, axes), dilations)


def check_padding(where: str, padding: Any, axes: int = 2) -> Padding:
    """The padding, if it is "SAME", "VALID", an int, or a (low, high) pair an axis; ConfigError otherwise."""
    if isinstance(padding, int | np.integer):
        return checks.whole(f"{where} padding", padding, 0)
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return padding
    if not isinstance(padding, str) and isinstance(padding, Sequence) and len(padding) == axes:
        return tuple(checks.pair(f"{where} padding", pair, 0) for pair in padding)
    expected = '"SAME", "VALID", an int, or a (low, high) pair an axis'
    raise ConfigError(f"{where} padding", expected, repr(padding), 'try padding="SAME"')


def pad_pairs(padding: Padding, size: Shape, window: Shape, stride: Shape) -> Pairs:
    """The padding as (low, high) an axis. "SAME" gives ceil(size / stride) outputs, the odd pixel going high."""
    return tuple(
        _axis_pad(padding, *axis)
        for axis in zip(range(len(size)), size, window, stride, strict=True)
    )


def _axis_pad(padding: Padding, axis: int, size: int, window: int, stride: int) -> tuple[int, int]:
    if isinstance(padding, int):
        return padding, padding
    if not isinstance(padding, str):
        return padding[axis]
    total = max((-(-size // stride) - 1) * stride + window - size, 0) if padding == "SAME" else 0
    return total // 2, total - total // 2


def window_count(where: str, size: Shape, window: Shape, stride: Shape, padding: Padding) -> Shape:
    """How many windows fit along each axis; ShapeError if none does."""
    pairs = pad_pairs(padding, size, window, stride)
    padded = [n + low + high for n, (low, high) in zip(size, pairs, strict=True)]
    if any(n < w for n, w in zip(padded, window, strict=True)):
        raise ShapeError(
            where,
            f"an image of at least {window} after padding",
            tuple(padded),
            "use a smaller window or more padding",
        )
    return tuple((n - w) // s + 1 for n, w, s in zip(padded, window, stride, strict=True))
