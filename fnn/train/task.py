"""What is done at each step of a run, apart from the numbers it is done to."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from fnn.data import to_float
from fnn.errors import ConfigError
from fnn.objective import accuracy
from fnn.types import Augmentation, Layer, Loss, Metrics, Optimizer, Prepare

NO_OPTIMIZER = Optimizer(
    lambda params: (), lambda grads, opt_state, params: (grads, opt_state)
)  # to look, not to train
ON_NONFINITE = ("raise", "skip", "ignore")


class Task(NamedTuple):
    """A network and what trains it. Hashable, so that a compiled program can be kept under it."""

    network: Layer
    optimizer: Optimizer
    loss: Loss
    metrics: tuple[tuple[str, Loss], ...]
    augment: Augmentation | None
    prepare: Prepare
    on_nonfinite: str

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of what each step measures, in the order that history has them."""
        return ("loss", *dict(self.metrics), "rate", "finite")


def make_task(
    network: Layer,
    targets: Any,
    optimizer: Optimizer,
    loss: Loss,
    metrics: Metrics | None,
    augment: Augmentation | None = None,
    prepare: Prepare = to_float,
    on_nonfinite: str = "raise",
) -> Task:
    """The task, or ConfigError for a wrong part. Where no metrics are given, integer targets get accuracy."""
    is_labels = hasattr(targets, "dtype") and jnp.issubdtype(targets.dtype, jnp.integer)
    metrics = ({"accuracy": accuracy} if is_labels else {}) if metrics is None else metrics
    task = Task(network, optimizer, loss, tuple(metrics.items()), augment, prepare, on_nonfinite)
    if not isinstance(task.network, Layer):
        raise ConfigError("network", "a Layer", repr(task.network), "build one, as in nn.chain(nn.dense(10))")
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ConfigError(
            "optimizer", "a pair (init, update)", repr(optimizer), "call its maker, as in optim.adam(1e-3)"
        )
    for name, function in (("loss", task.loss), ("prepare", task.prepare), *task.metrics):
        if not callable(function):
            raise ConfigError(name, "a function", repr(function), "give the function itself")
    if len(set(task.measures)) < len(task.measures):
        raise ConfigError("metrics", "names other than loss, rate and finite", list(metrics), "rename the metric")
    if task.on_nonfinite not in ON_NONFINITE:
        raise ConfigError(
            "on_nonfinite", f"one of {', '.join(ON_NONFINITE)}", repr(task.on_nonfinite), "choose one of them"
        )
    return task
