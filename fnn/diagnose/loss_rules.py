"""Rules on the loss of untrained outputs: its scale, its sign, its reduction, and their range."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.diagnose.data_rules import Check
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule
from fnn.diagnose.heads import BINARY, LOGITS, VALUES, Head, is_declared, loss_name
from fnn.diagnose.structure_rules import BOUNDED, Leaf, last_activation
from fnn.train.measure import mean
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe

EXCESS = 1.0  # nats above log(classes) from which the logits are too large,
EXCESS_RATIO = 1.0  # and at least this share of log(classes)
OFF_CHANCE = 0.75  # of log(classes), the least difference from chance that is reported
STANDARD_ERRORS = 4  # of the difference from chance
ROW_TOLERANCE = 1e-3  # of sums of probabilities
ENOUGH = 64  # numbers that are all of one sign by chance in no case
DOUBLED = (1.9, 2.1)  # ratio of the loss of a batch repeated twice
OUTSIDE_ERROR = 0.1  # share of targets outside of the range of the outputs
OUTSIDE_WARNING = 0.01
WRONG_SHARE = 0.9  # of the examples whose loss rises towards the target
COUPLED = 1e-6  # relative change of the loss of an example by the outputs of others

INITIAL = Rule(
    "P04",
    "loss_at_init",
    "Karpathy 2019, A recipe for training neural networks; CS231n",
    ("the last layer begins too large", "unscaled inputs"),
    ("begin with a smaller last layer, as by nn.lsuv or kernel_init=nn.zeros()",),
    "train again with a last layer of a tenth of the size: the loss must begin lower",
)
SIGN = Rule(
    "P04",
    "loss_sign",
    "fnn",
    ("the sign of the loss is flipped", "targets are not in the order of the outputs"),
    ("return the negative of the value",),
    "train with negated updates: the outputs must get better",
)
REDUCTION = Rule(
    "P05",
    "loss_reduction",
    "TheDeepChecker [Ben Braiek & Khomh 2023]",
    ("the loss sums over the batch", "a value is multiplied by the batch size"),
    ("return one value for each example, and leave the mean to fnn",),
    "evaluate the loss on a batch and on the batch repeated twice",
)
LAST = Rule(
    "P06",
    "last_activation",
    "UMLAUT [Schoop et al. 2021]",
    ("the network ends in an activation that the loss contains too",),
    ("remove the last activation: the loss takes raw outputs",),
    "train without the last activation",
)
COUPLING = Rule(
    "P08",
    "loss_mixes_examples",
    "Karpathy 2019, A recipe for training neural networks",
    ("an operation over axis 0, which is the batch, instead of the last axis",),
    ("use axis=-1", "declare couples_examples=True where it is meant, as in a contrastive loss"),
    "change the outputs of one example and compare the losses of the others",
)


# The scale of logits.


def check_first_loss(loss: float, classes: int) -> Check:
    """Check the loss before training against log(classes).

    Args:
        loss: Mean cross-entropy before training.
        classes: Number of classes.
    """
    uniform = math.log(classes)
    facts = f"loss before training {loss:.2f} (log {classes} = {uniform:.2f})"
    return Check(facts, tuple(_excess_findings(loss, uniform, facts, None)))


def _excess_findings(
    loss: float,
    uniform: float,
    facts: str,
    where: str | None,
) -> Iterator[Finding]:
    limit = max(EXCESS, EXCESS_RATIO * uniform)
    if not math.isfinite(loss) or loss <= uniform + limit:
        return
    yield INITIAL.finding(
        WARNING,
        f"{facts}: sure of wrong classes",
        {"loss": loss, "uniform": uniform},
        f"> log(classes) + {limit:.2f}",
        layer=where,
    )


def output_findings(
    recipe: Recipe,
    all_heads: list[Head],
) -> Iterator[Finding]:
    """Find logits that are too large, and outputs of a range that does not fit the loss.

    Args:
        recipe: From `train.recipe`.
        all_heads: Its heads, with untrained outputs.
    """
    # The last layer of several heads is not known.
    last = last_activation(recipe.network) if recipe.loss.heads is None else None
    for head in all_heads:
        if not hasattr(head.outputs, "dtype") or not hasattr(head.targets, "dtype"):
            continue
        outputs = np.asarray(head.outputs, np.float32)
        if not np.isfinite(outputs).all():
            continue
        name = loss_name(head.loss)
        found = list(_range_findings(head, name, outputs, last))
        yield from found
        # Probabilities in the place of logits have a loss near log(classes).
        if not found and head.loss.probabilities:
            yield from _chance_findings(head, outputs)


def _chance_findings(head: Head, z: np.ndarray) -> Iterator[Finding]:
    """Compare the loss of logits (..., classes) with that of chance.

    If labels are independent of the inputs, the expected cross-entropy is the mean of
    logsumexp(z) - Σ_c π_c z_c, with the shares π of the classes.
    """
    targets = np.asarray(head.targets)
    if not np.issubdtype(targets.dtype, np.integer) or targets.shape != z.shape[:-1]:
        return
    labels = targets.reshape(-1)
    kept = ~np.isin(labels, list(head.loss.ignored))
    if not kept.any():
        return
    labels = labels[kept]
    # (..., classes) -> (labels, classes)
    rows = z.reshape(-1, z.shape[-1])[kept].astype(np.float64)
    classes = rows.shape[1]
    uniform = math.log(classes)
    shares = np.bincount(labels, minlength=classes) / len(labels)
    normalizer = _logsumexp(rows)
    chance = float((normalizer - rows @ shares).mean())
    facts = (
        f"loss of guessing {chance:.2f} by the untrained outputs (log {classes} = {uniform:.2f})"
    )
    excess = list(_excess_findings(chance, uniform, facts, head.where))
    yield from excess
    losses = normalizer - rows[np.arange(len(rows)), labels]
    difference = float(losses.mean()) - chance
    error = float(losses.std() / math.sqrt(len(losses)))
    # A random network has other outputs for each class, so that small differences are normal.
    least = max(STANDARD_ERRORS * error, OFF_CHANCE * uniform)
    if excess or abs(difference) <= least:
        return
    side = "below" if difference < 0 else "above"
    title = f"loss before training {losses.mean():.2f}, {side} the {chance:.2f} of guessing"
    measured = {"loss": float(losses.mean()), "chance": chance, "standard_error": error}
    reason = "a pretrained network, or labels among the inputs"
    yield INITIAL.finding(
        INFO,
        f"{title}: {reason}" if difference < 0 else title,
        measured,
        f"difference > {STANDARD_ERRORS} standard errors and > {OFF_CHANCE} log(classes)",
        layer=head.where,
    )


def _logsumexp(rows: np.ndarray) -> np.ndarray:
    top = rows.max(1)
    sums = np.exp(rows - top[:, None]).sum(1)
    return np.asarray(top + np.log(sums))


# The range of outputs.


def _range_findings(
    head: Head,
    name: str,
    outputs: np.ndarray,
    last: Leaf | None,
) -> Iterator[Finding]:
    kind = "" if last is None else last.kind
    where = head.where if last is None else last.path
    low = float(outputs.min())
    high = float(outputs.max())
    measured = {"low": low, "high": high}
    row_sums = outputs.sum(-1)
    are_rows = outputs.ndim > 1 and outputs.shape[-1] > 1
    is_sum_one = are_rows and bool((np.abs(row_sums - 1) <= ROW_TOLERANCE).all())
    if name in LOGITS and low >= 0 and is_sum_one:
        yield LAST.finding(
            ERROR,
            f"outputs are probabilities, and {name} applies softmax a second time",
            measured,
            "rows sum to 1 and are >= 0",
            layer=where,
        )
    elif name == "nll" and np.abs(_logsumexp(outputs.reshape(-1, outputs.shape[-1]))).max() > 0.1:
        yield LAST.finding(
            ERROR,
            "outputs are no log-probabilities, so that nll has no lower bound",
            measured,
            "logsumexp of a row != 0",
            layer=head.where,
            advice=("use objective.cross_entropy, or end the network in nn.log_softmax()",),
        )
    elif name in BINARY and (kind in ("sigmoid", "softmax") or _are_shares(outputs)):
        yield LAST.finding(
            ERROR if kind in ("sigmoid", "softmax") else WARNING,
            f"outputs are in [0, 1], and {name} applies sigmoid a second time",
            measured,
            "all outputs in [0, 1]",
            layer=where,
        )
    elif name in (*LOGITS, *BINARY) and kind in BOUNDED:
        bound_low, bound_high = BOUNDED[kind]
        yield LAST.finding(
            WARNING,
            f"the network ends in {kind}, so that logits are in [{bound_low:g}, {bound_high:g}]",
            measured,
            "an activation after the last layer",
            layer=where,
        )
    elif name in VALUES and kind in BOUNDED:
        yield from _target_findings(head, kind, where)


def _are_shares(outputs: np.ndarray) -> bool:
    is_spread = outputs.size >= ENOUGH and outputs.std() > 0
    return bool(is_spread and outputs.min() >= 0 and outputs.max() <= 1)


def _target_findings(head: Head, kind: str, where: str | None) -> Iterator[Finding]:
    """Find targets that bounded outputs never reach."""
    low, high = BOUNDED[kind]
    targets = np.asarray(head.targets, np.float32)
    outside = float(((targets < low) | (targets > high)).mean())
    if outside <= OUTSIDE_WARNING:
        return
    severity = ERROR if outside > OUTSIDE_ERROR else WARNING
    title = f"{outside:.0%} of the targets are outside of [{low:g}, {high:g}], the range of {kind}"
    yield LAST.finding(
        severity,
        title,
        {"share": outside},
        f"> {OUTSIDE_WARNING:.0%} of the targets outside",
        layer=where,
        advice=("end the network in a linear layer", "scale the targets into the range"),
    )


# Losses of users, of which nothing is declared.


class LossFacts(NamedTuple):
    """Properties of a loss function at untrained outputs.

    Attributes:
        rising: Share of the examples whose loss rises as the output moves towards the target.
        ratio: The loss of the batch repeated twice, relative to that of the batch.
        coupling: Largest relative change of the loss of an example by the outputs of others.
    """

    rising: Any
    ratio: Any
    coupling: Any


def function_findings(recipe: Recipe, head: Head) -> Iterator[Finding]:
    """Find faults of a loss that is a plain function.

    Args:
        recipe: From `train.recipe`, with a single head.
        head: The head, with untrained outputs and targets.
    """
    is_plain = recipe.loss.heads is None and not is_declared(recipe.loss)
    # Otherwise it is not known in which direction the target is.
    if not is_plain or not (head.is_labeled or head.is_matched) or len(head.targets) < 2:
        return
    facts = jax.device_get(_loss_facts(recipe, head.is_labeled, head.outputs, head.targets))
    rising, ratio, coupling = map(float, facts)
    if rising > WRONG_SHARE:
        yield SIGN.finding(
            ERROR,
            f"the loss of {rising:.0%} of the examples rises as the output approaches the target",
            {"rising": rising},
            f"> {WRONG_SHARE:.0%}",
        )
    low, high = DOUBLED
    if low <= ratio <= high:
        yield REDUCTION.finding(
            WARNING,
            f"the loss is {ratio:.2f} times as large on a batch repeated twice",
            {"ratio": ratio},
            f"ratio in [{low}, {high}]",
        )
    elif coupling > COUPLED and head.is_labeled:
        yield COUPLING.finding(
            WARNING,
            "the loss of an example depends on the outputs of the others of its batch",
            {"change": coupling},
            f"relative change > {COUPLED:g}",
        )


@per_recipe(static=(1,))
def _loss_facts(
    recipe: Recipe,
    is_labeled: bool,
    outputs: jax.Array,
    targets: jax.Array,
) -> LossFacts:
    def values(outputs: jax.Array, targets: jax.Array) -> Any:
        return recipe.loss(outputs, targets)

    def total(outputs: jax.Array) -> jax.Array:
        return mean(values(outputs, targets))

    slope = jax.grad(total)(outputs)
    if is_labeled:
        direction = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    else:
        direction = targets.astype(outputs.dtype) - outputs
    # (n, ...) -> (n,)
    along = (slope * direction).reshape(len(outputs), -1).sum(1)
    rising = (along > 0).mean()
    before = values(outputs, targets)
    twice = mean(values(jnp.tile(outputs, _twice(outputs)), jnp.tile(targets, _twice(targets))))
    ratio = twice / mean(before)
    # Example 0 has other outputs; the values of the others must stay.
    changed = outputs.at[0].add(1)
    after = values(changed, targets)
    rows = [leaf.reshape(len(leaf), -1)[1:] for leaf in (_values(before), _values(after))]
    scale = jnp.maximum(jnp.abs(rows[0]).max(), jnp.finfo(rows[0].dtype).tiny)
    coupling = jnp.abs(rows[1] - rows[0]).max() / scale
    return LossFacts(rising, ratio, coupling)


def _twice(array: jax.Array) -> tuple[int, ...]:
    return (2, *(1,) * (array.ndim - 1))


def _values(result: Any) -> jax.Array:
    """Return the values of a loss, also of one with weights."""
    return jax.tree.leaves(result)[0]
