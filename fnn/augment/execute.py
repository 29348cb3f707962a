"""Doing the steps: on the pixels of an image, on a mask, and on points."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import recolored
from fnn.augment.ops import Move, Paint, Recolor, Step, Steps, joined
from fnn.augment.resample.scale import scaled
from fnn.augment.resample.warp import warped
from fnn.augment.resample.window import windowed
from fnn.errors import ConfigError
from fnn.types import Image, Number
from fnn.xla import materialize, on_cpu_else


def rendered(steps: Steps, image: Image) -> Image:
    """The image after the steps, with consecutive moves as one and consecutive recolors as one."""
    before: Step | None = None
    normalized = False
    for step, *more in _grouped(joined(steps)):
        if normalized and (
            isinstance(step, Recolor) or (isinstance(step, Paint) and not step.unbounded)
        ):
            raise ConfigError(
                "chain",
                "normalize after all that changes levels",
                "a change after it",
                "put it last",
            )
        normalized |= isinstance(step, Paint) and step.normalizes
        if isinstance(before, Paint) and not (isinstance(step, Paint) and not step.late):
            image = materialize(image)  # which looks at a pixel more than once
        if isinstance(step, Move):
            image = moved(image, step)
        elif isinstance(step, Recolor):
            image = recolored(image, [step, *(own for own in more if isinstance(own, Recolor))])
        else:
            image = step.change(image)
        before = step
    return image


def _grouped(steps: Sequence[Step]) -> list[list[Step]]:
    """Runs of recolors, of which only the first may look at the image; anything else by itself."""
    groups: list[list[Step]] = []
    for step in steps:
        if (
            groups
            and isinstance(step, Recolor)
            and isinstance(groups[-1][0], Recolor)
            and step.look is None
        ):
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def moved(image: Image, move: Move) -> Image:
    """The image after one move, by the cheapest way that the move allows."""
    if move.support is not None:
        return scaled(image, move)
    fill = _level(move.fill, image.dtype)
    if move.reach is None or image.dtype != jnp.uint8:
        return warped(image, move, fill)
    return on_cpu_else(
        lambda image, matrix, fill: windowed(image, move._replace(matrix=matrix), fill),
        lambda image, matrix, fill: warped(image, move._replace(matrix=matrix), fill),
    )(image, move.matrix, fill)


def _level(part: Number, dtype: jnp.dtype) -> Array:
    """A part of the whole range as a level of an image."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(part).astype(dtype)
    return jnp.round(jnp.asarray(part, jnp.float32) * 255).astype(dtype)
