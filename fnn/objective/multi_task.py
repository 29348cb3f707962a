"""Multi-task loss: one loss for each head of a network."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.objective.loss import as_loss
from fnn.objective.targets import mean_per_example
from fnn.objective.weights import as_weighted
from fnn.types import Aggregator, HeadLosses, Loss, LossFunction, Number, PerExample, Weighted
from fnn.values import is_maker, maker, reference

LOG_VARIANCE = "log_variance"  # the entry of the outputs with the learned uncertainties


@maker
def multi_task(
    losses: Mapping[str, LossFunction],
    *,
    weights: Mapping[str, Number] | None = None,
    learned: bool = False,
    aggregator: Aggregator | None = None,
) -> Loss:
    """Multi-task loss, Σ_k w_k L_k, over the heads k of a network.

    Outputs and targets are dicts with an entry for each head. L_k is the mean over the examples
    with a label for the head: if a loss returns weights m, as `masked` and `ignoring` do, it is
    Σ_i m_ik L_ik / Σ_i m_ik, and 0 if all m are 0. So examples without any label change nothing.

    Args:
        losses: A loss for each head, by the head's name.
        weights: w_k >= 0 by head; 1 for a head that is left out. They may be traced.
        learned: Weigh by learned uncertainty, Σ_k exp(-s_k) w_k L_k + s_k / 2. Then the outputs
            have the entry "log_variance", s (batch, heads) in the order of `losses`, as from
            nn.parameter [Kendall, Gal & Cipolla 2018, arXiv:1705.07115, eq. 10]. With
            w_k = 1/2 a squared error is that of eq. 7, and exp(s_k) its mean. The value may be
            negative: early stopping should monitor the losses of the heads.
        aggregator: How the gradients of w_k L_k become one, such as `pcgrad()`, `mgda()`,
            `gradnorm(layer)` or `dwa(steps)`. None for their sum, in one backward pass. It changes
            the gradient alone: the loss that is reported stays Σ_k w_k L_k.

    Raises:
        ConfigError: `losses` is not a dict of functions, a head is named "log_variance", `weights`
            has a negative number or a name that is not a head, or `aggregator` is not one, or is
            given for a single head or with `learned`.
        ShapeError: When called, "log_variance" is not (batch, heads).
        TreeMismatchError: When called, outputs or targets lack a head or have another entry.
    """
    if not isinstance(losses, Mapping) or not losses or not all(map(callable, losses.values())):
        advice = "give a dict of them, by the heads' names"
        raise ConfigError(
            "multi_task losses",
            "a loss a head",
            repr(losses),
            advice,
        )
    if LOG_VARIANCE in losses:
        expected = f"a head of another name than {LOG_VARIANCE}"
        raise ConfigError(
            "multi_task losses",
            expected,
            list(losses),
            "rename it",
        )
    # The weight of a misspelled head would have no effect, so the names are checked.
    if weights is not None and not isinstance(weights, Mapping):
        raise ConfigError(
            "multi_task weights",
            "a number by head, or None",
            checks.show(weights),
            'give a dict, as in {"size": 3.0}',
        )
    given = dict(weights or {})
    _expect_heads("multi_task weights", given, losses, ConfigError, complete=False)
    head_weights = {}
    for head, weight in given.items():
        head_weights[head] = checks.number(f"multi_task weights {head}", weight, "[0, inf)")
    checks.flag("multi_task learned", learned)
    functions = {}
    for head, loss in losses.items():
        functions[head] = as_loss(f"multi_task losses {head}", loss)
    _expect_aggregator(aggregator, functions, learned)
    # With learned uncertainty, the outputs have one more entry than heads.
    entries = [*functions, LOG_VARIANCE] if learned else [*functions]

    def head_loss(head: str, outputs: Any, targets: Any) -> PerExample | Weighted:
        values = _one_each(functions[head](outputs, targets))
        if isinstance(values, Weighted):
            return values._replace(values=weigh(head, values.values))
        return weigh(head, values)

    def weigh(head: str, values: PerExample) -> PerExample:
        return values * trees.knob(head_weights.get(head, 1.0), values)

    def total(outputs: Any, targets: Any) -> PerExample | HeadLosses:
        _expect_heads("multi_task outputs", outputs, entries, TreeMismatchError)
        _expect_heads("multi_task targets", targets, functions, TreeMismatchError)
        heads: list[Any] = [head_loss(head, outputs[head], targets[head]) for head in functions]
        is_weighted = any(isinstance(head, Weighted) for head in heads)
        if not (is_weighted or learned or aggregator is not None):
            # From the first head on, since a sum from 0 would add an operation to the program.
            return sum(heads[1:], heads[0])
        columns = [as_weighted(head) for head in heads]
        values = jnp.stack([column.values for column in columns], 1)  # (batch, heads)
        if learned:
            values = _weigh_by_uncertainty(outputs[LOG_VARIANCE], values)
        # Without weights, the value of an example is the sum of those of its heads.
        if not (is_weighted or aggregator is not None):
            return values.sum(1)
        return HeadLosses(values, jnp.stack([column.weights for column in columns], 1))

    couples = [function.couples_examples for function in functions.values()]
    # One head that couples them is enough; one that may do so leaves it unknown.
    couples_examples = True if True in couples else None if None in couples else False
    return Loss(
        total,
        heads=functions,
        couples_examples=couples_examples,
        mode="min",
        aggregator=aggregator,
    )


def _one_each(values: Any) -> PerExample | Weighted:
    """Return one value an example (batch,), and its weight if there are weights (batch, ...)."""
    if not isinstance(values, Weighted):
        # A plain mean over the values of an example, as of a sequence; HeadLosses raise here.
        return mean_per_example(as_weighted(values).values)
    counts = values.weights.reshape(len(values.weights), -1)  # (batch, values)
    numbers = values.values.reshape(counts.shape)
    total = counts.sum(1)
    # The weighted mean over an example's values, so that over all examples each value counts alike.
    sums = (numbers * counts).sum(1)
    return Weighted(sums / jnp.where(total > 0, total, 1), total)


def _expect_aggregator(aggregator: Any, losses: Mapping[str, Loss], learned: bool) -> None:
    """Raise ConfigError unless the value is None or an aggregator that these losses can have."""
    for head, loss in losses.items():
        if loss.aggregator is not None:
            expected = "a loss without an aggregator of its own"
            advice = "give one aggregator, to the outer loss"
            raise ConfigError(f"multi_task losses {head}", expected, loss.aggregator, advice)
    if aggregator is None:
        return
    where = "multi_task aggregator"
    if not isinstance(aggregator, Aggregator):
        got = f"the maker {reference(aggregator)}" if is_maker(aggregator) else repr(aggregator)
        raise ConfigError(where, "an Aggregator", got, "call one, as in objective.pcgrad()")
    if len(losses) == 1:
        expected = "None for a single head"
        raise ConfigError(where, expected, repr(aggregator), "leave it out: there is one gradient")
    if learned:
        expected = "None with learned=True"
        raise ConfigError(where, expected, repr(aggregator), "choose one of the two")


def _weigh_by_uncertainty(log_variance: jax.Array, values: jax.Array) -> jax.Array:
    """Return exp(-s) L + s / 2 by head, (batch, heads)."""
    s = checks.floating("multi_task log_variance", log_variance)
    if s.shape != values.shape:
        expected = f"(batch, heads) {values.shape}"
        raise ShapeError(
            "multi_task log_variance",
            expected,
            s.shape,
            "give one a head",
        )
    s = s.astype(values.dtype)
    # exp(-s) is the precision of a head; s / 2 is the price of a large variance.
    return jnp.exp(-s) * values + s / 2


def _expect_heads(
    where: str,
    got: Any,
    heads: Collection[str],
    error: type[ValueError],
    *,
    complete: bool = True,
) -> None:
    """Raise the error unless this is a dict of the heads: of all of them, if `complete`."""
    if not isinstance(got, Mapping):
        expected = f"a dict of the heads {list(heads)}"
        raise error(
            where,
            expected,
            type(got).__name__,
            "give an entry a head",
        )
    # Weights may leave heads out; outputs and targets may not.
    extra = set(got) - set(heads)
    missing = set(heads) - set(got)
    if extra or (complete and missing):
        expected = f"the heads {list(heads)}"
        raise error(
            where,
            expected,
            list(got),
            "give an entry a head, and no other",
        )
