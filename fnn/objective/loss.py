"""Losses as values: functions declared with their options and with the kind of their targets."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Loss, LossFunction, Metric, PerExample, Weighted
from fnn.values import Maker, expect_arguments, signature_of
from fnn.xla import subjaxprs

MODES = ("min", "max")
COUPLED = "couples_examples"  # name of values in a jaxpr
Compute = Callable[..., PerExample | Weighted]


class DeclaredLoss(Loss):
    """A loss of this library or of a user, declared by `loss`.

    Called with outputs and targets, it returns the values; called with options alone, it returns
    the loss with these options. cross_entropy(logits, labels, label_smoothing=0.1) equals
    cross_entropy(label_smoothing=0.1)(logits, labels).
    """

    def __init__(self, compute: Compute, **known: Any):
        function = _mark_values(compute) if known["couples_examples"] else compute
        super().__init__(function, **known)
        update_wrapper(self, compute)

        def with_options(**options: Any) -> Loss:
            return Loss(partial(function, **options), **known)

        update_wrapper(with_options, compute)
        # inspect.signature would follow it to the outputs and targets, which are not options.
        with_options.__dict__.pop("__wrapped__")
        record = Maker(with_options, (), None, signature=options_of(compute), contract=Loss)
        record.public = self
        # `fnn.values` recognizes a maker by this entry.
        self.__dict__["record"] = record

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        record = self.__dict__["record"]
        # Keywords that are not options are arrays, as in cross_entropy(logits=x, labels=y).
        arrays_by_name = options.keys() - record.kinds.keys()
        if arrays or arrays_by_name:
            try:
                return self.function(*arrays, **options)
            except TypeError:
                # Only a call that has failed is compared with the signature.
                signature = signature_of(self.function)
                expect_arguments(record.name, signature, arrays, options)
                raise
        return record.call(**options)

    def __repr__(self) -> str:
        return f"<loss {self.__dict__['__name__']}>"

    def __reduce__(self) -> str:
        # A module-level name: it is pickled and copied by reference.
        return self.__dict__["__name__"]


def _mark_values(compute: Compute) -> Compute:
    """Mark the values of a loss that couples the examples, for `has_coupled_values`."""

    def marked(*arrays: Any, **options: Any) -> Any:
        values = compute(*arrays, **options)
        return jax.tree.map(partial(checkpoint_name, name=COUPLED), values)

    return update_wrapper(marked, compute)


def has_coupled_values(jaxpr: Any) -> bool:
    """Return whether a program computes a loss that is declared to couple the examples.

    So a plain function that calls such a loss is recognized.
    """
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name == "name" and equation.params["name"] == COUPLED:
            return True
        if any(map(has_coupled_values, subjaxprs(equation))):
            return True
    return False


def options_of(compute: Compute) -> inspect.Signature:
    """Return the signature of a loss without its outputs and targets."""
    signature = signature_of(compute)
    options = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            options.append(parameter)
    return signature.replace(parameters=options)


def loss(
    *,
    classes: bool = False,
    probabilities: bool = False,
    couples_examples: bool = False,
    mode: str = "min",
    metric: tuple[str, LossFunction | Metric] | None = None,
) -> Callable[[Compute], DeclaredLoss]:
    """Declare a function (outputs, targets, *, options) -> one value an example as a loss.

        @objective.loss()
        def count_error(outputs, targets, *, scale: fnn.types.Number = 1.0):
            return jnp.abs(jnp.exp(outputs) - targets).mean(-1) * scale

    Options annotated as numbers are leaves of `count_error(scale=2.0)`, as of every made value; see
    `fnn.values`.

    Args:
        classes: Whether integer targets are the numbers of classes, one for each entry of the
            outputs' last axis. Then labels out of range raise LabelError before a run.
        probabilities: Whether floating-point targets are probabilities that sum to 1 along the last
            axis.
        couples_examples: Whether the value of an example depends on the others of its batch, as in
            a contrastive loss. Such a batch is not split into micro-batches.
        mode: "min" for a loss. "max" for a metric whose higher values are better, which early
            stopping then maximizes.
        metric: A name and a function that are reported with the loss if a recipe gives no metrics.
    """
    return partial(
        DeclaredLoss,
        classes=classes,
        probabilities=probabilities,
        couples_examples=couples_examples,
        mode=checks.choice("loss mode", mode, MODES),
        metric=metric,
    )


def as_loss(where: str, function: Any) -> Loss:
    """Return the function as a loss; of a plain function, nothing about its targets is known."""
    if isinstance(function, Loss):
        return function
    # partial(cross_entropy, label_smoothing=0.1) is cross_entropy(label_smoothing=0.1).
    # Then it is a made value too, with the options as leaves.
    is_partial_loss = isinstance(function, partial) and isinstance(function.func, DeclaredLoss)
    if is_partial_loss and not function.args:
        return function.func(**function.keywords)
    if not callable(function):
        raise ConfigError(
            where,
            "a function (outputs, targets) -> values",
            repr(function),
            "give the function itself",
        )
    return Loss(function)
