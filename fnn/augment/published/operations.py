"""The operations that the automatic policies choose from, each at a strength from 0 to 1."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn.augment import filters, matrices, random
from fnn.augment.color import channels, pointwise
from fnn.augment.ops import Move, Steps
from fnn.augment.policy import Drawn, Policy, simple
from fnn.types import ImageShape, Number


class Span(NamedTuple):
    """What strength 1 is.

    shear: tan of the angle; translate: (pixels along an axis of this length); degrees: of a rotation; enhance: a factor
    of 1 ± this; bits: how many posterize takes away, of `kept` that it leaves at strength 0
    """

    shear: float = 0.3
    translate: Callable[[int], float] = lambda length: 150 / 331 * length
    degrees: float = 30.0
    enhance: float = 0.9
    bits: int = 4
    kept: int = 8


class Looks(NamedTuple):
    """How moves look: their method of interpolation, and the level of what lies outside."""

    method: str
    fill: Number


Strength = Callable[[Array], Array]


def operations(names: Sequence[str], strength: Strength, span: Span, looks: Looks) -> list[Policy]:
    """The operations of these names, each a policy that reads its strength from a word, and its sign from another."""
    return [_operation(LOWERINGS[name], strength, span, looks) for name in names]


def _operation(
    lowering: Callable[..., Steps], strength: Strength, span: Span, looks: Looks
) -> Policy:
    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return lowering(drawn["strength"], drawn["sign"], shape, span, looks)

    return simple(steps, strength=strength, sign=random.sign)


def _shear(axis: int) -> Callable[..., Steps]:
    def steps(strength: Array, sign: Array, shape: ImageShape, span: Span, looks: Looks) -> Steps:
        slope = -strength * sign * span.shear  # to the left, as in Pillow's and torchvision's
        # About the image's corner, half a pixel before the first one's center.
        forward = matrices.shearing(slope, 0) if axis == 0 else matrices.shearing(0, slope)
        return (_move(matrices.around((-0.5, -0.5), forward), shape, looks),)

    return steps


def _translate(axis: int) -> Callable[..., Steps]:
    def steps(strength: Array, sign: Array, shape: ImageShape, span: Span, looks: Looks) -> Steps:
        pixels = jnp.trunc(strength * sign * span.translate(shape[axis]))
        return (
            _move(matrices.translation(*((pixels, 0) if axis == 0 else (0, pixels))), shape, looks),
        )

    return steps


def _rotate(strength: Array, sign: Array, shape: ImageShape, span: Span, looks: Looks) -> Steps:
    turn = matrices.rotation(strength * sign * span.degrees)
    return (_move(matrices.around(matrices.middle(shape), turn), shape, looks),)


def _move(forward: Array, shape: ImageShape, looks: Looks) -> Move:
    return Move(matrices.inverse(forward), shape[:2], fill=looks.fill, order=looks.method)


def _enhance(maker: Callable[[float], Policy]) -> Callable[..., Steps]:
    policy = maker(1.0)

    def steps(strength: Array, sign: Array, shape: ImageShape, span: Span, looks: Looks) -> Steps:
        return policy.lower({"factor": 1 + strength * sign * span.enhance}, shape)

    return steps


def _posterize(strength: Array, sign: Array, shape: ImageShape, span: Span, looks: Looks) -> Steps:
    return pointwise.posterize(1.0).lower(
        {"bits": span.kept - jnp.round(strength * span.bits)}, shape
    )


def _solarize(strength: Array, sign: Array, shape: ImageShape, span: Span, looks: Looks) -> Steps:
    return pointwise.solarize(1.0).lower({"threshold": 1 - strength}, shape)


def _plain(policy: Policy) -> Callable[..., Steps]:
    return lambda strength, sign, shape, span, looks: policy.lower({}, shape)


LOWERINGS: dict[str, Callable[..., Steps]] = {
    "identity": lambda strength, sign, shape, span, looks: (),
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
    "autocontrast": _plain(pointwise.autocontrast()),
    "equalize": _plain(pointwise.equalize()),
    "invert": _plain(pointwise.invert()),
}
