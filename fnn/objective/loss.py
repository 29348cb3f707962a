"""Losses as values: what declares one, and what is known of a function that was not declared."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from fnn.errors import ConfigError
from fnn.types import Loss, LossFunction, Metric, PerExample, Weighted
from fnn.values import Maker, signature_of

Compute = Callable[..., PerExample | Weighted]


class DeclaredLoss(Loss):
    """A loss of this library or of a user, made by `loss`.

    Called with outputs and targets it gives the values; called with options alone it gives the loss that has them:
    cross_entropy(logits, labels, label_smoothing=0.1) and cross_entropy(label_smoothing=0.1)(logits, labels) are one.
    """

    def __init__(self, compute: Compute, **known: Any):
        super().__init__(compute, **known)
        update_wrapper(self, compute)

        def with_options(**options: Any) -> Loss:
            return Loss(partial(compute, **options), **known)

        update_wrapper(with_options, compute)
        with_options.__dict__.pop("__wrapped__")
        record = Maker(with_options, (), None, signature=options_of(compute), contract=Loss)
        record.public = self
        self.__dict__["record"] = record

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        record = self.__dict__["record"]
        if arrays or options.keys() - record.kinds.keys():  # as logits= and labels= are
            return self.function(*arrays, **options)
        return record.call(**options)

    def __repr__(self) -> str:
        return f"<loss {self.__dict__['__name__']}>"

    def __reduce__(self) -> str:
        return self.__dict__["__name__"]


def options_of(compute: Compute) -> inspect.Signature:
    """The signature of a loss without its outputs and targets."""
    signature = signature_of(compute)
    parameters = [
        own for own in signature.parameters.values() if own.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    return signature.replace(parameters=parameters)


def loss(
    *,
    classes: bool = False,
    probabilities: bool = False,
    metric: tuple[str, LossFunction | Metric] | None = None,
) -> Callable[[Compute], DeclaredLoss]:
    """Declare a function (outputs, targets, *, options) -> one value an example as a loss.

        @objective.loss()
        def count_error(outputs, targets, *, scale: fnn.types.Number = 1.0):
            return jnp.abs(jnp.exp(outputs) - targets).mean(-1) * scale

    Options annotated as numbers are leaves of `count_error(scale=2.0)`, as of every made value; see `fnn.values`.

    Args:
        classes: Whether integer targets are the numbers of classes, one for each entry of the outputs' last axis. Then
            labels out of range raise LabelError before a run.
        probabilities: Whether floating-point targets are probabilities that sum to 1 along the last axis.
        metric: A name and a function that are reported beside the loss where a recipe gives no metrics.
    """
    return partial(DeclaredLoss, classes=classes, probabilities=probabilities, metric=metric)


def as_loss(where: str, function: Any) -> Loss:
    """The function as a loss, of which nothing more is known than it says itself; ConfigError for no function."""
    if isinstance(function, Loss):
        return function
    if (
        isinstance(function, partial)
        and isinstance(function.func, DeclaredLoss)
        and not function.args
    ):
        return function.func(**function.keywords)
    if not callable(function):
        raise ConfigError(
            where,
            "a function (outputs, targets) -> values",
            repr(function),
            "give the function itself",
        )
    return Loss(function)
