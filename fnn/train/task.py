"""What is done at each step of a run, apart from the numbers it is done to."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment import BatchPolicy
from fnn.data import to_float
from fnn.errors import ConfigError
from fnn.train.labels import default_metrics
from fnn.train.stopping import EarlyStopping
from fnn.types import Augmentation, Layer, Loss, Metric, Metrics, Optimizer, Prepare, Regularizer, TrainState

NO_OPTIMIZER = Optimizer(
    lambda params: (), lambda grads, opt_state, params: (grads, opt_state)
)  # to look, not to train
ON_NONFINITE = ("raise", "skip", "ignore")


class Task(NamedTuple):
    """A network and what trains it. Hashable, so that a compiled program can be kept under it."""

    network: Layer
    optimizer: Optimizer
    loss: Loss
    metrics: tuple[tuple[str, Loss | Metric], ...]
    augment: Augmentation | BatchPolicy | None
    prepare: Prepare
    on_nonfinite: str
    regularizer: Regularizer | None
    micro_batch_size: int | None
    early_stopping: EarlyStopping | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of what a step measures, in the order that history has them; penalty only where there is any."""
        return ("loss", "penalty", *dict(self.metrics), "rate", "finite")

    def in_order(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """What was measured, in the order that history has."""
        return {name: measured[name] for name in self.measures if name in measured}

    def is_over(self, train_state: TrainState) -> jax.Array:
        """Whether early stopping has ended the run."""
        return jnp.array(False) if self.early_stopping is None else self.early_stopping.is_over(train_state)


def make_task(
    network: Layer,
    targets: Any,
    optimizer: Optimizer,
    loss: Loss,
    metrics: Metrics | None,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    on_nonfinite: str = "raise",
    regularizer: Regularizer | None = None,
    micro_batch_size: int | None = None,
) -> Task:
    """The task, or ConfigError for a wrong part. Where no metrics are given, class labels get accuracy."""
    metrics = default_metrics(loss, targets) if metrics is None else metrics
    if not isinstance(metrics, Mapping):
        raise ConfigError("metrics", "functions by name", repr(metrics), 'name them, as in {"accuracy": accuracy}')
    named = tuple(metrics.items())
    most = None if micro_batch_size is None else checks.whole("micro_batch_size", micro_batch_size)
    task = Task(network, optimizer, loss, named, augment, prepare, on_nonfinite, regularizer, most)
    if not isinstance(task.network, Layer):
        raise ConfigError("network", "a Layer", repr(task.network), "build one, as in nn.chain(nn.dense(10))")
    checks.optimizer("optimizer", optimizer)
    given: dict[str, Any] = {"augment": augment, "regularizer": regularizer}
    optional = [(name, function) for name, function in given.items() if function is not None]
    for name, function in (("loss", task.loss), ("prepare", task.prepare), *optional, *task.metrics):
        if not callable(function):
            raise ConfigError(name, "a function", repr(function), "give the function itself")
    if len(set(task.measures)) < len(task.measures):
        raise ConfigError(
            "metrics", "names other than loss, penalty, rate and finite", list(metrics), "rename the metric"
        )
    checks.choice("on_nonfinite", on_nonfinite, ON_NONFINITE)
    return task


def with_stopping(task: Task, stopping: EarlyStopping | None) -> Task:
    """The task of a run that early stopping may end, or ConfigError where that looks at what is not measured."""
    if stopping is None:
        return task
    if not isinstance(stopping, EarlyStopping):
        raise ConfigError(
            "early_stopping", "what train.early_stopping gives", repr(stopping), "call that with a patience"
        )
    names = [f"valid_{name}" for name in ("loss", *dict(task.metrics))]
    if stopping.by not in names:
        raise ConfigError("early_stopping by", f"one of {', '.join(names)}", repr(stopping.by), "choose one of them")
    return task._replace(early_stopping=stopping)
