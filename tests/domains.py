"""Random inputs for layers and losses: the shape of an example, and batches of such examples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BATCH = 3


class Domain(NamedTuple):
    """Random inputs of a layer: the shape of one example, and a batch of such examples."""

    shape: Callable[[np.random.Generator], Any]
    values: Callable[[np.random.Generator, Any], Any]

    def draw(self, seed: int) -> tuple[Any, Any]:
        """The shape of one example, and a batch of them."""
        draw = np.random.default_rng(seed)
        shape = self.shape(draw)
        return shape, jax.tree.map(jnp.asarray, self.values(draw, shape))


def smooth(draw: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers at least 0.1 away from 0, where many functions have a kink."""
    x = draw.normal(size=(BATCH, *shape))
    return (x + np.copysign(0.1, x)).astype(jnp.result_type(float))


def apart(draw: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers at least 0.1 apart, so that a small change of one does not change the largest."""
    count = BATCH * int(np.prod(shape))
    return (0.1 * draw.permutation(count).reshape(BATCH, *shape) - count / 20).astype(
        jnp.result_type(float)
    )


def spread(draw: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers about 1 apart along the last axis: their deviation is not small."""
    return smooth(draw, shape) + 3 * np.arange(shape[-1], dtype=jnp.result_type(float))


IMAGES = Domain(lambda draw: (*draw.integers(4, 6, 2).tolist(), 4), smooth)
VECTORS = Domain(lambda draw: (4,), smooth)
SEQUENCES = Domain(lambda draw: (int(draw.integers(3, 6)), 4), smooth)
TOKENS = Domain(
    lambda draw: (int(draw.integers(3, 6)),),
    lambda draw, shape: draw.integers(0, 5, (BATCH, *shape)),
)


def paired_with(
    second: Callable[[int], Any], values: Callable[[np.random.Generator, Any], Any]
) -> Domain:
    """Sequences (time, 4), each in a pair with another array, of the shape second(time)."""

    def shape(draw: np.random.Generator) -> Any:
        time, width = SEQUENCES.shape(draw)
        return (time, width), second(time)

    return Domain(shape, lambda draw, shapes: (smooth(draw, shapes[0]), values(draw, shapes)))


READINGS = paired_with(
    lambda time: (), lambda draw, shapes: draw.integers(1, shapes[0][0] + 1, BATCH)
)
MASKED = paired_with(
    lambda time: (time,), lambda draw, shapes: draw.random((BATCH, *shapes[1])) < 0.6
)
PAIRS = paired_with(lambda time: (3, 4), lambda draw, shapes: smooth(draw, shapes[1]))
SEVERAL = Domain(
    lambda draw: ((4,),) * 3, lambda draw, shapes: tuple(smooth(draw, shape) for shape in shapes)
)
TWO = SEVERAL._replace(shape=lambda draw: ((4,),) * 2)
CHOSEN = Domain(
    lambda draw: ((), (4,)),
    lambda draw, shapes: (draw.integers(0, 2, BATCH), smooth(draw, shapes[1])),
)

# Pooled images and the images, for an unpooling of windows 2 x 2.
POOLED = Domain(
    lambda draw: ((2, 3, 4), (4, 6, 4)),
    lambda draw, shapes: (smooth(draw, shapes[0]), apart(draw, shapes[1])),
)

VOLUMES = Domain(lambda draw: (*draw.integers(3, 5, 3).tolist(), 4), smooth)


def sized(size: int) -> Domain:
    """Square images of just that size."""
    return IMAGES._replace(shape=lambda draw: (size, size, 4))


def away(*bounds: float) -> Callable[[np.random.Generator], tuple[Any, Any]]:
    """Outputs at distances from the targets in [first, second] or [third, fourth] bound, ..."""

    def batch(draw: np.random.Generator) -> tuple[Any, Any]:
        targets, low = (
            draw.normal(size=(BATCH, 4)),
            2 * draw.integers(0, len(bounds) // 2, (BATCH, 4)),
        )
        distances = draw.uniform(np.take(bounds, low), np.take(bounds, low + 1))
        return targets + distances * draw.choice([-1, 1], (BATCH, 4)), targets

    return batch
