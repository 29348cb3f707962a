"""Operations of the automatic policies, each at a strength in [0, 1]."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import filters, matrices, random
from fnn.augment.color import channels, pointwise
from fnn.augment.geometry import METHODS
from fnn.augment.ops import GeometricOp, Ops
from fnn.augment.policy import Drawn, Policy, simple_policy
from fnn.types import ImageShape, Number
from fnn.xla import rounded


class Span(NamedTuple):
    """The magnitudes at strength 1.

    Attributes:
        shear: Tangent of the shear angle.
        translate: (length) -> shift in pixels along an axis of this length.
        degrees: Angle of the rotation.
        enhance: Brightness, color, contrast and sharpness have a factor of 1 ± this.
        bits: Number of bits that posterize removes, of `kept`.
        kept: Number of bits that posterize keeps at strength 0.
    """

    shear: float = 0.3
    translate: Callable[[int], float] = lambda length: 150 / 331 * length
    degrees: float = 30.0
    enhance: float = 0.9
    bits: int = 4
    kept: int = 8


class Sampling(NamedTuple):
    """Options of the geometric operations.

    Attributes:
        method: Interpolation, "bilinear" or "nearest".
        fill: Level outside of the image, in [0, 1].
    """

    method: str
    fill: Number


Strength = Callable[[Array], Array]  # word -> strength in [0, 1]
Lowering = Callable[[Array, Array, ImageShape, Span, Sampling], Ops]


def expect_sampling(
    name: str,
    method: str,
    fill: Number,
) -> Sampling:
    """Return the sampling options, after a check of both."""
    checks.choice(f"{name} method", method, METHODS)
    checks.number(f"{name} fill", fill, "[0, 1]")
    return Sampling(method, fill)


def operations(
    names: Sequence[str],
    strength: Strength,
    span: Span,
    sampling: Sampling,
) -> list[Policy]:
    """Make a policy for each name, which reads a strength and a sign from one word each."""
    policies = []
    for name in names:
        policies.append(_operation(LOWERINGS[name], strength, span, sampling))
    return policies


def _operation(
    lowering: Lowering,
    strength: Strength,
    span: Span,
    sampling: Sampling,
) -> Policy:
    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        return lowering(drawn["strength"], drawn["sign"], shape, span, sampling)

    return simple_policy(lower, strength=strength, sign=random.sign)


def _shear(axis: int) -> Lowering:
    def lower(
        strength: Array,
        sign: Array,
        shape: ImageShape,
        span: Span,
        sampling: Sampling,
    ) -> Ops:
        # A positive shear is to the left, as in Pillow and torchvision.
        slope = -strength * sign * span.shear
        forward = matrices.shearing(slope, 0) if axis == 0 else matrices.shearing(0, slope)
        # About the corner of the image, half a pixel before the center of the first pixel.
        about_corner = matrices.around((-0.5, -0.5), forward)
        return (_warp(about_corner, shape, sampling),)

    return lower


def _translate(axis: int) -> Lowering:
    def lower(
        strength: Array,
        sign: Array,
        shape: ImageShape,
        span: Span,
        sampling: Sampling,
    ) -> Ops:
        # Whole pixels, rounded toward 0 as in torchvision.
        pixels = jnp.trunc(strength * sign * span.translate(shape[axis]))
        rows, columns = (pixels, 0) if axis == 0 else (0, pixels)
        return (_warp(matrices.translation(rows, columns), shape, sampling),)

    return lower


def _rotate(
    strength: Array,
    sign: Array,
    shape: ImageShape,
    span: Span,
    sampling: Sampling,
) -> Ops:
    rotation = matrices.rotation(strength * sign * span.degrees)
    center = matrices.middle(shape)
    about_center = matrices.around(center, rotation)
    return (_warp(about_center, shape, sampling),)


def _warp(
    forward: Array,
    shape: ImageShape,
    sampling: Sampling,
) -> GeometricOp:
    """Make the op of a matrix from old coordinates to new ones."""
    backward = matrices.inverse(forward)
    return GeometricOp(backward, shape[:2], fill=sampling.fill, method=sampling.method)


def _enhance(maker: Callable[[float], Policy]) -> Lowering:
    # Only its `lower` is used, with the factor of the strength instead of 1.
    policy = maker(1.0)

    def lower(
        strength: Array,
        sign: Array,
        shape: ImageShape,
        span: Span,
        sampling: Sampling,
    ) -> Ops:
        # Factor 1 changes nothing; the sign decides between less and more.
        factor = 1 + rounded(strength * sign * span.enhance)
        return policy.lower({"factor": factor}, shape)

    return lower


def _posterize(
    strength: Array,
    sign: Array,
    shape: ImageShape,
    span: Span,
    sampling: Sampling,
) -> Ops:
    # The sign is not used: fewer bits are the only direction.
    bits = span.kept - jnp.round(strength * span.bits)
    return pointwise.posterize(1.0).lower({"bits": bits}, shape)


def _solarize(
    strength: Array,
    sign: Array,
    shape: ImageShape,
    span: Span,
    sampling: Sampling,
) -> Ops:
    # Strength 0 has threshold 1, which still inverts white, as in torchvision.
    return pointwise.solarize(1.0).lower({"threshold": 1 - strength}, shape)


def _without_strength(policy: Policy) -> Lowering:
    return lambda strength, sign, shape, span, sampling: policy.lower({}, shape)


def _identity(
    strength: Array,
    sign: Array,
    shape: ImageShape,
    span: Span,
    sampling: Sampling,
) -> Ops:
    return ()


# "x" is along the columns, axis 1, and "y" along the rows, axis 0.
LOWERINGS: dict[str, Lowering] = {
    "identity": _identity,
    "shear_x": _shear(1),
    "shear_y": _shear(0),
    "translate_x": _translate(1),
    "translate_y": _translate(0),
    "rotate": _rotate,
    "brightness": _enhance(pointwise.brightness),
    "color": _enhance(channels.saturation),
    "contrast": _enhance(pointwise.contrast),
    "sharpness": _enhance(filters.sharpness),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _without_strength(pointwise.autocontrast()),
    "equalize": _without_strength(pointwise.equalize()),
    "invert": _without_strength(pointwise.invert()),
}
