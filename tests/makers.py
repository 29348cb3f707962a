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
IMAGE, VECTOR = (6, 6, 4), (4,)

# What each maker is called with, besides a knob under test, and for layers the shape of an example.
CALLS: dict[str, dict[str, Any]] = {
    "nn.avg_pool": {},
    "nn.batch_norm": {},
    "nn.chain": {"body": nn.dense(4), "head": nn.relu()},
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
FUNCTIONS = {"optim.apply_updates", "objective.accuracy", "objective.cross_entropy", "objective.squared_error"}

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
    if maker == "objective.cross_entropy":
        return objective.cross_entropy(jnp.eye(3, 4), jnp.array([0, 1, 3]), **options)
    product = public()[maker](**CALLS[maker] | options)
    return EXERCISES[kind(maker)](product, maker)


def kind(maker: str) -> Any:
    """What the maker is declared to return."""
    return inspect.signature(public()[maker]).return_annotation


def example(maker: str) -> jax.Array:
    """A batch that the layer of a maker takes in."""
    shape = VECTOR if maker in ("nn.chain", "nn.residual") else IMAGE
    return jax.random.normal(jax.random.key(7), (5, *shape))


def through_layer(layer: Layer, maker: str) -> Any:
    x = example(maker)
    params, state, shape = layer.init(jax.random.key(1), x.shape[1:])
    y, _ = layer.apply(params, state, x, key=jax.random.key(2), train=False)
    assert y.shape == (len(x), *shape)
    return layer.apply(params, state, x, key=jax.random.key(2), train=True)


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
