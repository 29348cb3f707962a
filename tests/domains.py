"""What layers and losses are tried on: the shape of an example, and batches drawn for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BATCH = 3


class Domain(NamedTuple):
    """What a layer takes in: the shape of one example, drawn at random, and a batch of such examples."""

    shape: Callable[[np.random.Generator], Any]
    values: Callable[[np.random.Generator, Any], Any]

    def draw(self, seed: int) -> tuple[Any, Any]:
        """The shape of one example, and a batch of them."""
        draw = np.random.default_rng(seed)
        shape = self.shape(draw)
        return shape, jax.tree.map(jnp.asarray, self.values(draw, shape))


def smooth(draw: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers at least 0.1 away from 0, where many a function has a kink."""
    x = draw.normal(size=(BATCH, *shape))
    return (x + np.copysign(0.1, x)).astype(jnp.result_type(float))


def apart(draw: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers that differ from each other by 0.1 at least, so that the largest stays so when one is moved a little."""
    count = BATCH * int(np.prod(shape))
    return (0.1 * draw.permutation(count).reshape(BATCH, *shape) - count / 20).astype(
        jnp.result_type(float)
    )


def spread(draw: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers that differ along the last axis by 1 or so: to divide by their deviation is no steep function."""
    return smooth(draw, shape) + 3 * np.arange(shape[-1], dtype=jnp.result_type(float))


IMAGES = Domain(lambda draw: (*draw.integers(4, 6, 2).tolist(), 4), smooth)
VECTORS = Domain(lambda draw: (4,), smooth)
SEQUENCES = Domain(lambda draw: (int(draw.integers(3, 6)), 4), smooth)
TOKENS = Domain(
    lambda draw: (int(draw.integers(3, 6)),),
    lambda draw, shape: draw.integers(0, 5, (BATCH, *shape)),
)


def beside(
    second: Callable[[int], Any], values: Callable[[np.random.Generator, Any], Any]
) -> Domain:
    """Sequences (time, 4), each in a pair with another array, of the shape second(time)."""

    def shape(draw: np.random.Generator) -> Any:
        time, width = SEQUENCES.shape(draw)
        return (time, width), second(time)

    return Domain(shape, lambda draw, shapes: (smooth(draw, shapes[0]), values(draw, shapes)))


READINGS = beside(lambda time: (), lambda draw, shapes: draw.integers(1, shapes[0][0] + 1, BATCH))
MASKED = beside(lambda time: (time,), lambda draw, shapes: draw.random((BATCH, *shapes[1])) < 0.6)
PAIRS = beside(lambda time: (3, 4), lambda draw, shapes: smooth(draw, shapes[1]))
SEVERAL = Domain(
    lambda draw: ((4,),) * 3, lambda draw, shapes: tuple(smooth(draw, shape) for shape in shapes)
)
CHOSEN = Domain(
    lambda draw: ((), (4,)),
    lambda draw, shapes: (draw.integers(0, 2, BATCH), smooth(draw, shapes[1])),
)

VOLUMES = Domain(lambda draw: (*draw.integers(3, 5, 3).tolist(), 4), smooth)


def sized(size: int) -> Domain:
    """Square images of just that size."""
    return IMAGES._replace(shape=lambda draw: (size, size, 4))


# What a layer takes in, if not images.
DOMAINS: dict[str, Domain] = {
    "nn.adaptive_max_pool": IMAGES._replace(values=apart),
    "nn.avg_pool_1d": SEQUENCES,
    "nn.avg_pool_3d": VOLUMES,
    "nn.conv_1d": SEQUENCES,
    "nn.conv_3d": VOLUMES,
    "nn.conv_transpose_1d": SEQUENCES,
    "nn.conv_transpose_3d": VOLUMES,
    "nn.global_max_pool": IMAGES._replace(values=apart),
    "nn.max_pool_1d": SEQUENCES._replace(values=apart),
    "nn.max_pool_3d": VOLUMES._replace(values=apart),
    "nn.activity_regularizer": VECTORS,
    "nn.add": SEVERAL,
    "nn.cast": VECTORS,
    "nn.concat": SEVERAL,
    "nn.ensemble": VECTORS,
    "nn.freeze": VECTORS,
    "nn.graph": VECTORS,
    "nn.multiply": SEVERAL,
    "nn.parallel": VECTORS,
    "nn.parameter": VECTORS,
    "nn.pretrained": VECTORS,
    "nn.remat": VECTORS,
    "nn.repeat": VECTORS,
    "nn.replace": VECTORS,
    "nn.shared": VECTORS,
    "nn.switch": CHOSEN,
    "nn.take": VECTORS,
    "nn.attention": MASKED,
    "nn.chain": VECTORS,
    "nn.drop_connect": VECTORS,
    "nn.maxout": VECTORS,
    "nn.spectral_norm": VECTORS,
    "nn.weight_standardization": VECTORS,
    "nn.cross_attention": PAIRS,
    "nn.embed": TOKENS,
    "nn.gru": READINGS,
    "nn.learned_positions": SEQUENCES,
    "nn.lstm": READINGS,
    "nn.layer_norm": IMAGES._replace(values=spread),
    "nn.max_pool": IMAGES._replace(values=apart),
    "nn.cifar_speedrun": sized(9),
    "nn.gpt": TOKENS,
    "nn.lenet5": sized(16),
    "nn.mlp": VECTORS,
    "nn.unet": sized(4),
    "nn.vgg": sized(32),
    "nn.vit": sized(4),
    "nn.residual": VECTORS,
    "nn.rnn": SEQUENCES,
    "nn.sinusoidal_positions": SEQUENCES,
    # Of 4 numbers, a normalization is too curved for differences.
    "nn.transformer_block": SEQUENCES._replace(shape=lambda draw: (int(draw.integers(3, 6)), 6)),
    "nn.unembed": SEQUENCES,
    "nn.rms_norm": IMAGES._replace(values=spread),
}


def away(*bounds: float) -> Callable[[np.random.Generator], tuple[Any, Any]]:
    """Outputs whose distances from the targets lie from the first bound to the second, the third to the fourth, ..."""

    def batch(draw: np.random.Generator) -> tuple[Any, Any]:
        targets, low = (
            draw.normal(size=(BATCH, 4)),
            2 * draw.integers(0, len(bounds) // 2, (BATCH, 4)),
        )
        distances = draw.uniform(np.take(bounds, low), np.take(bounds, low + 1))
        return targets + distances * draw.choice([-1, 1], (BATCH, 4)), targets

    return batch


# For each loss, (draw) -> (outputs, targets): a batch for it.
LOSSES: dict[str, Callable[[np.random.Generator], tuple[Any, Any]]] = {
    "objective.cross_entropy": lambda draw: (
        draw.normal(size=(BATCH, 4)),
        draw.integers(0, 4, BATCH),
    ),
    "objective.squared_error": lambda draw: (
        draw.normal(size=(BATCH, 4)),
        draw.normal(size=(BATCH, 4)),
    ),
    "objective.absolute_error": away(0.2, 2),
    "objective.binary_cross_entropy": lambda draw: (
        draw.normal(size=(BATCH, 4)),
        draw.integers(0, 2, (BATCH, 4)),
    ),
    "objective.cosine": lambda draw: (1 + draw.random((BATCH, 4)), draw.normal(size=(BATCH, 4))),
    "objective.ctc": lambda draw: (
        (draw.normal(size=(BATCH, 5, 4)), np.array([5, 4, 5])),
        (draw.integers(1, 4, (BATCH, 2)), np.array([2, 1, 0])),
    ),
    "objective.dice": lambda draw: (
        draw.normal(size=(BATCH, 2, 3, 4)),
        draw.integers(0, 4, (BATCH, 2, 3)),
    ),
    "objective.focal": lambda draw: (draw.normal(size=(BATCH, 4)), draw.integers(0, 4, BATCH)),
    "objective.gaussian_nll": lambda draw: (
        (draw.normal(size=(BATCH, 4)), 1.5 + np.arange(12.0).reshape(BATCH, 4) / 10),
        draw.normal(size=(BATCH, 4)),
    ),
    "objective.hinge": lambda draw: (
        0.3 * draw.permuted(np.arange(12.0).reshape(BATCH, 4), axis=1),
        np.arange(BATCH),
    ),
    "objective.huber": away(0.2, 0.8, 1.2, 2),
    "objective.kl_divergence": lambda draw: (
        draw.normal(size=(BATCH, 4)),
        draw.dirichlet(np.ones(4), BATCH),
    ),
    "objective.log_cosh": away(0.2, 2),
    "objective.nll": lambda draw: (
        np.log(draw.dirichlet(np.full(4, 9.0), BATCH)),
        draw.integers(0, 4, BATCH),
    ),
    "objective.nt_xent": lambda draw: (
        1 + draw.random((2 * BATCH, 4)),
        np.arange(2 * BATCH) % BATCH,
    ),
    "objective.poisson_nll": lambda draw: (
        draw.normal(size=(BATCH, 4)),
        draw.poisson(2, (BATCH, 4)),
    ),
    "objective.quantile": away(0.2, 2),
    "objective.triplet": lambda draw: (
        tuple(far + draw.normal(size=(BATCH, 4)) / 8 for far in (0, 1, 2)),
        np.array([0, 1, 1]),
    ),
}


def batch_for(loss: str, seed: int) -> tuple[Any, Any]:
    """Outputs and targets that a loss takes in."""
    floats = jnp.result_type(float)

    def own(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jnp.asarray(array, {"f": floats, "i": jnp.int32}.get(array.dtype.kind, array.dtype))

    outputs, targets = jax.tree.map(own, LOSSES[loss](np.random.default_rng(seed)))
    return outputs, targets


def domain(maker: str) -> Domain:
    return DOMAINS.get(maker, IMAGES)
