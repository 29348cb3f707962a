"""Losses of a generator and its critic."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError, TreeMismatchError
from fnn.objective.loss import loss
from fnn.objective.targets import mean_per_example
from fnn.types import Number, PerExample

Term = Callable[[jax.Array], jax.Array]

# (term of a real score, term of a fake score, term of the generator), each a function of a score.
KINDS: dict[str, tuple[Term, Term, Term]] = {
    "logistic": (lambda s: jax.nn.softplus(-s), jax.nn.softplus, lambda s: jax.nn.softplus(-s)),
    "hinge": (lambda s: jax.nn.relu(1 - s), lambda s: jax.nn.relu(1 + s), jnp.negative),
    "wasserstein": (jnp.negative, lambda s: s, jnp.negative),
}


def score_gap(outputs: Mapping[str, Any], targets: Any) -> PerExample:
    """Score of an example minus that of a generated one; 0 if the critic finds no difference."""
    return mean_per_example(outputs["real"]) - mean_per_example(outputs["fake"])


@loss(metric=("gap", score_gap))
def adversarial(
    outputs: Mapping[str, Any],
    targets: Any,
    *,
    kind: str = "logistic",
    penalty: Number = 10.0,
) -> PerExample:
    """Sum of the losses of a critic and of its generator, for the outputs of `nn.adversarial`.

    | kind | critic | generator |
    | --- | --- | --- |
    | "logistic" | softplus(-real) + softplus(fake) | softplus(-fool) |
    | "hinge" | max(0, 1 - real) + max(0, 1 + fake) | -fool |
    | "wasserstein" | -real + fake | -fool |

    See [Goodfellow et al. 2014, arXiv:1406.2661, the non-saturating form], [Lim & Ye 2017,
    arXiv:1705.02894] and [Arjovsky et al. 2017, arXiv:1701.07875]. With "slope" among the outputs,
    penalty (slope - 1)² is added [Gulrajani et al. 2017, arXiv:1704.00028].

    Args:
        outputs: Scores "real", "fake" and "fool", each (batch, ...), and possibly "slope" (batch,).
        targets: Ignored; any array with one entry for each example.
        kind: "logistic", "hinge" or "wasserstein".
        penalty: Weight of the gradient penalty, >= 0; without effect if there is no "slope".

    Raises:
        ConfigError: `kind` is not one of these, or `penalty` is negative.
        TreeMismatchError: The outputs lack a score.
        DTypeError: The scores are not floats.
        ShapeError: The scores have no examples, or differ in shape.
    """
    checks.choice("adversarial kind", kind, tuple(KINDS))
    checks.number("adversarial penalty", penalty, "[0, inf)")
    names = ("real", "fake", "fool")
    if not isinstance(outputs, Mapping) or not set(names) <= outputs.keys():
        got = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise TreeMismatchError(
            "adversarial outputs",
            "a dict with real, fake and fool",
            got,
            "give the outputs of nn.adversarial",
        )
    for name in names:
        checks.floating(f"adversarial {name}", outputs[name])
    shape = outputs["real"].shape
    total: Any = 0.0
    for name, term in zip(names, KINDS[kind], strict=True):
        scores = outputs[name]
        if scores.shape != shape or not shape or not scores.size:
            expected = "(batch, ...), of one shape for real, fake and fool"
            advice = "give one or more scores for each example"
            raise ShapeError(f"adversarial {name}", expected, scores.shape, advice)
        total = total + mean_per_example(term(scores.astype(trees.wide(scores))))
    if "slope" in outputs:
        slope = outputs["slope"]
        slope = slope.astype(trees.wide(slope))
        total = total + trees.knob(penalty, slope) * jnp.square(slope - 1)
    return total
