"""One use of each kind of value: a layer on a batch, an optimizer for some steps, and so on."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from domains import BATCH
from registry import REGISTRY, domain

from fnn import augment, objective, optim
from fnn.types import (
    Aggregator,
    Augmentations,
    Constraint,
    Initializer,
    Layer,
    Loss,
    Metric,
    Optimizer,
    Schedule,
)


def through_layer(layer: Layer, maker: str) -> Any:
    shape, x = domain(maker).draw(7)
    params, state, shape = layer.init(jax.random.key(1), shape)
    y, _ = layer.apply(params, state, x, key=jax.random.key(2), train=False)
    batched = jax.tree.map(lambda size: (BATCH, *size), shape, is_leaf=is_shape)
    assert jax.tree.map(jnp.shape, y) == batched
    return layer.apply(params, state, x, key=jax.random.key(2), train=True)


def is_shape(shape: Any) -> bool:
    """Whether it is the shape of one array, not a tuple of shapes."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


def through_optimizer(optimizer: Optimizer, maker: str) -> Any:
    params = {"a": jnp.arange(1.0, 4.0), "b": jnp.array([[1.0, 2.0], [-1.0, 0.5]])}
    opt_state = optimizer.init(params)
    # RAdam uses its mean square from the sixth step on.
    steps = 7 if maker == "optim.radam" else 3
    for step in range(steps):
        opt_state = optim.observe_loss(opt_state, 0.8**step)
        minimize = partial(waves, step)
        value, grads = jax.value_and_grad(minimize)(params)
        if maker == "optim.loss_scale" and step == 1:
            grads = jax.tree.map(lambda g: jnp.full_like(g, jnp.inf), grads)
        extra = {"value": value, "grad": grads, "value_fn": minimize}
        updates, opt_state = optimizer.update(grads, opt_state, params, **extra)
        params = optim.apply_updates(params, updates)
    return optim.averaged_params(opt_state, params)


def waves(step: int, params: Any) -> jax.Array:
    """A loss that differs from step to step, with the gradient cos(θ + step)."""
    return sum((jnp.sin(p + step).sum() for p in jax.tree.leaves(params)), jnp.zeros(()))


def through_schedule(schedule: Schedule, maker: str) -> jax.Array:
    return jnp.stack([schedule(jnp.int32(step)) for step in range(14)])


def through_initializer(initializer: Initializer, maker: str) -> jax.Array:
    return initializer(jax.random.key(1), (3, 4))


def through_params(function: Callable[[Any], Any], maker: str) -> Any:
    return function({"kernel": jnp.arange(-3.0, 3.0).reshape(2, 3), "bias": jnp.ones(3)})


def through_targets(function: Callable[[Any, Any], Any], maker: str) -> Any:
    """A loss or a metric of one yes-or-no output."""
    return function(jnp.linspace(-3, 3, 12)[:, None], jnp.arange(12) % 2)


def through_aggregator(aggregator: Aggregator, maker: str) -> Any:
    """Some steps on conflicting gradients of three tasks."""
    tasks, memory = jnp.arange(1.0, 4.0), None
    for step in range(6):
        # (tasks, ...)
        waves = jnp.cos(jnp.outer(tasks, jnp.arange(1.0, 4.0)) + step)
        gradients = {"kernel": waves, "bias": waves[:, :2]}
        losses = tasks * 0.9 ** (tasks * step)
        key = jax.random.key(step)
        gradient, memory = objective.aggregate(
            aggregator, gradients, losses=losses, memory=memory, key=key
        )
    return gradient


def through_policy(policy: augment.Policy, maker: str) -> jax.Array:
    image = jnp.asarray(np.linspace(0, 1, 6 * 6 * 3, dtype=np.float32).reshape(6, 6, 3))
    return policy(jax.random.key(REGISTRY[maker].seed), image)


def through_augmentations(augmentations: Callable[..., Any], maker: str) -> jax.Array:
    return augmentations(jax.random.key(3), jnp.linspace(0, 1, 5 * 6 * 6 * 3).reshape(5, 6, 6, 3))


def through_batch(policy: augment.BatchPolicy, maker: str) -> Any:
    images = jnp.linspace(0, 1, 5 * 6 * 6 * 3, dtype=jnp.float32).reshape(5, 6, 6, 3)
    targets = jnp.arange(5, dtype=jnp.float32)
    batch = augment.Batch(images, targets, examples=jnp.arange(5), epoch=jnp.int32(0))
    augmented = policy(jax.random.key(3), batch)
    return augmented.images, augmented.targets


def through_together(policy: augment.Together, maker: str) -> Any:
    return policy(jax.random.key(3), {"mask": jnp.ones((6, 6), jnp.float32)})


def through_tta(predict: Callable[[Any], Any], maker: str) -> Any:
    return predict(jnp.linspace(0, 1, 2 * 6 * 6 * 3, dtype=jnp.float32).reshape(2, 6, 6, 3))


EXERCISES = {
    Layer: through_layer,
    Optimizer: through_optimizer,
    Schedule: through_schedule,
    Initializer: through_initializer,
    objective.Penalty: through_params,
    Constraint: through_params,
    Loss: through_targets,
    Metric: through_targets,
    Aggregator: through_aggregator,
    augment.Policy: through_policy,
    augment.BatchPolicy: through_batch,
    augment.Together: through_together,
    Callable[[Any], Any]: through_tta,
    Augmentations: through_augmentations,
}
