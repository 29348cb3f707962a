"""Every public maker with an example of its use: what the laws walk over."""

import inspect
import types as python_types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import augment, nn, objective, optim
from fnn.types import Augmentation, Augmentations, Initializer, Layer, Number, Optimizer, Rate, Schedule

ROOMS = {"nn": nn, "optim": optim, "augment": augment, "objective": objective}
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
    return (0.1 * draw.permutation(count).reshape(BATCH, *shape) - count / 20).astype(jnp.result_type(float))


IMAGES = Domain(lambda draw: (*draw.integers(4, 6, 2).tolist(), 4), smooth)
VECTORS = Domain(lambda draw: (4,), smooth)
SEQUENCES = Domain(lambda draw: (int(draw.integers(3, 6)), 4), smooth)

# What a layer takes in, if not images.
DOMAINS: dict[str, Domain] = {
    "nn.chain": VECTORS,
    "nn.max_pool": IMAGES._replace(values=apart),
    "nn.residual": VECTORS,
}

# For each loss, (draw) -> (outputs, targets): a batch for it.
LOSSES: dict[str, Callable[[np.random.Generator], tuple[Any, Any]]] = {
    "objective.cross_entropy": lambda draw: (draw.normal(size=(BATCH, 4)), draw.integers(0, 4, BATCH)),
    "objective.squared_error": lambda draw: (draw.normal(size=(BATCH, 4)), draw.normal(size=(BATCH, 4))),
}

# What each maker is called with, besides a knob under test.
CALLS: dict[str, dict[str, Any]] = {
    "nn.avg_pool": {},
    "nn.batch_norm": {},
    "nn.chain": {"body": nn.dense(4), "head": nn.tanh()},
    "nn.conv": {"channels": 3},
    "nn.dense": {"units": 3},
    "nn.dropout": {"drop_rate": 0.2},
    "nn.elementwise": {"function": jnp.sin},
    "nn.elu": {},
    "nn.flatten": {},
    "nn.gelu": {},
    "nn.global_avg_pool": {},
    "nn.he_normal": {},
    "nn.he_uniform": {},
    "nn.leaky_relu": {},
    "nn.lecun_normal": {},
    "nn.max_pool": {},
    "nn.normal": {},
    "nn.relu": {},
    "nn.residual": {"body": nn.dense(4)},
    "nn.sigmoid": {},
    "nn.silu": {},
    "nn.softplus": {},
    "nn.tanh": {},
    "nn.xavier_normal": {},
    "nn.xavier_uniform": {},
    "optim.adam": {"rate": 0.1},
    "optim.adamw": {"rate": 0.1},
    "optim.momentum": {"rate": 0.1},
    "optim.rmsprop": {"rate": 0.1},
    "optim.sgd": {"rate": 0.1},
    "optim.constant": {"value": 0.1},
    "optim.cosine": {"peak": 0.1, "steps": 9.0},
    "optim.one_cycle": {"peak": 0.1, "steps": 9.0},
    "augment.chain": {},
    "augment.cutout": {"size": 2},
    "augment.flip_lr": {},
    "augment.per_image": {"augmentation": augment.flip_lr()},
    "augment.random_crop": {"padding": 1},
}
# Public functions that are no makers: they act on arrays themselves.
FUNCTIONS = {"optim.apply_updates", "objective.accuracy", *LOSSES}

# Two values for a knob whose name is here; any other is tried at 0.1 and 0.3.
VALUES = {
    "steps": (9.0, 12.0),
    "warmup_steps": (2.0, 4.0),
    "size": (2.0, 3.0),
    "eps": (1e-8, 1e-3),
    "chance": (0.0, 1.0),
}


class Knob(NamedTuple):
    """A numeric argument of a maker."""

    maker: str
    name: str

    @property
    def values(self) -> tuple[float, float]:
        return VALUES.get(self.name, (0.1, 0.3))

    def outcome(self, value: Any) -> Any:
        """What the maker's product gives on the example, with this value of the knob."""
        return outcome(self.maker, **{self.name: value})


def public() -> dict[str, Callable[..., Any]]:
    """Every public function of the rooms, by name."""
    return {
        f"{room}.{name}": value
        for room, module in ROOMS.items()
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, python_types.FunctionType)
    }


def knobs() -> Iterator[Knob]:
    """Every argument, of any public function, that is declared a number or a rate."""
    for maker, function in public().items():
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.annotation in (Number, Rate, Number | None):
                yield Knob(maker, name)


def outcome(maker: str, **options: Any) -> Any:
    """What the product of a maker gives on a small example."""
    if maker in LOSSES:
        return public()[maker](*batch_for(maker, 7), **options)
    product = public()[maker](**CALLS[maker] | options)
    return EXERCISES[kind(maker)](product, maker)


def kind(maker: str) -> Any:
    """What the maker is declared to return."""
    return inspect.signature(public()[maker]).return_annotation


def batch_for(loss: str, seed: int) -> tuple[Any, Any]:
    """Outputs and targets that a loss takes in."""
    floats = jnp.result_type(float)

    def own(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jnp.asarray(array, floats if np.issubdtype(array.dtype, np.floating) else array.dtype)

    outputs, targets = jax.tree.map(own, LOSSES[loss](np.random.default_rng(seed)))
    return outputs, targets


def domain(maker: str) -> Domain:
    return DOMAINS.get(maker, IMAGES)


def through_layer(layer: Layer, maker: str) -> Any:
    shape, x = domain(maker).draw(7)
    params, state, shape = layer.init(jax.random.key(1), shape)
    y, _ = layer.apply(params, state, x, key=jax.random.key(2), train=False)
    batched = jax.tree.map(lambda size: (BATCH, *size), shape, is_leaf=is_shape)
    assert jax.tree.map(jnp.shape, y) == batched
    return layer.apply(params, state, x, key=jax.random.key(2), train=True)


def is_shape(shape: Any) -> bool:
    """Whether it is the shape of one array, not a tuple of such."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


def through_optimizer(optimizer: Optimizer, maker: str) -> Any:
    params = {"a": jnp.arange(1.0, 4.0), "b": jnp.ones((2, 2))}
    opt_state = optimizer.init(params)
    for step in range(3):
        grads = jax.tree.map(lambda p, step=step: jnp.cos(p + step), params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optim.apply_updates(params, updates)
    return params


def through_schedule(schedule: Schedule, maker: str) -> jax.Array:
    return jnp.stack([schedule(jnp.int32(step)) for step in range(14)])


def through_initializer(initializer: Initializer, maker: str) -> jax.Array:
    return initializer(jax.random.key(1), (3, 4))


def through_augmentation(augmentation: Augmentation, maker: str) -> jax.Array:
    image = jnp.asarray(np.linspace(0, 1, 6 * 6 * 3, dtype=np.float32).reshape(6, 6, 3))
    return augmentation(jax.random.key(3), image)


def through_augmentations(augmentations: Callable[..., Any], maker: str) -> jax.Array:
    return augmentations(jax.random.key(3), jnp.linspace(0, 1, 5 * 6 * 6 * 3).reshape(5, 6, 6, 3))


EXERCISES = {
    Layer: through_layer,
    Optimizer: through_optimizer,
    Schedule: through_schedule,
    Initializer: through_initializer,
    Augmentation: through_augmentation,
    Augmentations: through_augmentations,
}
