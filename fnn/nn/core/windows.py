"""Sizes and padding of the windows that slide over a signal, an image or a volume."""

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
    """Static geometry of a convolution or a pooling: windows of one size at regular distances.

    Attributes:
        where: Name of the layer, for errors.
        size: Taps of a window along each axis.
        stride: Pixels from one window to the next.
        padding: As in `check_padding`.
        dilation: Pixels from one tap to the next.
    """

    where: str
    size: Shape
    stride: Shape
    padding: Padding
    dilation: Shape

    @property
    def axes(self) -> int:
        """Number of spatial axes: 1 for signals, 2 for images, 3 for volumes."""
        return len(self.size)

    @property
    def reach(self) -> Shape:
        """Pixels from the first to the last tap, (size - 1) dilation + 1 along each axis."""
        axes = zip(self.size, self.dilation, strict=True)
        return tuple((size - 1) * dilation + 1 for size, dilation in axes)

    def pads(self, image: Shape) -> Pairs:
        """The (low, high) padding of an image of this size."""
        return pad_pairs(self.padding, image, self.reach, self.stride)

    def outputs(self, image: Shape) -> Shape:
        """The number of windows along each axis; raises ShapeError if an axis has none."""
        return window_count(self.where, image, self.reach, self.stride, self.padding)


def make_windows(
    where: str,
    axes: int,
    kernel: Sizes,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
) -> Windows:
    """Make the windows of a kernel from the options of a layer.

    Raises:
        ConfigError: An option is out of range, or has another number of axes.
    """
    size = checks.each(f"{where} kernel", kernel, axes)
    strides = checks.each(f"{where} stride", stride, axes)
    dilations = checks.each(f"{where} dilation", dilation, axes)
    padding = check_padding(where, padding, axes)
    return Windows(where, size, strides, padding, dilations)


def check_padding(
    where: str,
    padding: Any,
    axes: int = 2,
) -> Padding:
    """Return the padding with its numbers checked.

    Args:
        where: Name of the layer, for errors.
        padding: "SAME", "VALID", an int for all axes and sides, or a (low, high) pair an axis.
        axes: Number of spatial axes.

    Raises:
        ConfigError: `padding` is anything else.
    """
    if isinstance(padding, int | np.integer):
        return checks.whole(f"{where} padding", padding, 0)
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return padding
    # A string is a sequence too, which must not be read as pairs.
    is_sequence = isinstance(padding, Sequence) and not isinstance(padding, str)
    if is_sequence and len(padding) == axes:
        return tuple(checks.pair(f"{where} padding", pair, 0) for pair in padding)
    expected = '"SAME", "VALID", an int, or a (low, high) pair an axis'
    raise ConfigError(f"{where} padding", expected, repr(padding), 'try padding="SAME"')


def pad_pairs(
    padding: Padding,
    size: Shape,
    window: Shape,
    stride: Shape,
) -> Pairs:
    """Convert the padding to a (low, high) pair along each axis.

    "SAME" gives ⌈size / stride⌉ outputs; of an odd number of pixels one more is high than low.
    """
    pairs = []
    for axis, numbers in enumerate(zip(size, window, stride, strict=True)):
        pairs.append(_axis_pad(padding, axis, *numbers))
    return tuple(pairs)


def _axis_pad(
    padding: Padding,
    axis: int,
    size: int,
    window: int,
    stride: int,
) -> tuple[int, int]:
    if isinstance(padding, int):
        return padding, padding
    if not isinstance(padding, str):
        return padding[axis]
    if padding == "VALID":
        return 0, 0
    outputs = -(-size // stride)
    # Pixels under all windows, less those of the image; a stride beyond the window needs none.
    covered = (outputs - 1) * stride + window
    total = max(covered - size, 0)
    low = total // 2
    return low, total - low


def window_count(
    where: str,
    size: Shape,
    window: Shape,
    stride: Shape,
    padding: Padding,
) -> Shape:
    """Count the windows that fit along each axis.

    Raises:
        ShapeError: A window is larger than the padded image.
    """
    pairs = pad_pairs(padding, size, window, stride)
    padding_sizes = [low + high for low, high in pairs]
    padded = tuple(n + extra for n, extra in zip(size, padding_sizes, strict=True))
    # Without this check the division below would give 0 windows, or fewer.
    if any(n < w for n, w in zip(padded, window, strict=True)):
        expected = f"an image of at least {window} after padding"
        raise ShapeError(where, expected, padded, "use a smaller window or more padding")
    counts = []
    for n, w, s in zip(padded, window, stride, strict=True):
        counts.append((n - w) // s + 1)
    return tuple(counts)
