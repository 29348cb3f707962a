"""Evaluation of the combined prediction of an ensemble, and of each of its members."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import objective
from fnn.ensemble.combination import average_outputs, average_probabilities, mixture_moments
from fnn.ensemble.members import Members, expect_members, predict
from fnn.errors import ConfigError
from fnn.train.inputs import validate_examples
from fnn.train.measure import measure_examples, reduce_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey, Scalar
from fnn.values import Made

# (outputs (members, n, ...)) -> outputs (n, ...)
Combine = Callable[[Any], Any]


class Evaluation(NamedTuple):
    """Figures of an ensemble on a data set.

    Attributes:
        combined: Of the combined prediction, by name, loss first.
        members: Of each member, (members,), by name.
    """

    combined: dict[str, Scalar]
    members: dict[str, jax.Array]

    def __str__(self) -> str:
        lines = []
        for name, figure in self.combined.items():
            own = np.asarray(self.members[name])  # (members,)
            spread = f"{own.mean():.4g} on average, {own.min():.4g} to {own.max():.4g}"
            lines.append(f"{name} {float(figure):.4g}; members {spread}")
        return "\n".join(lines)


def evaluate(
    members: Members,
    data: Data,
    *,
    combine: Combine | None = None,
    batch_size: int = 256,
    key: RandomKey | None = None,
) -> Evaluation:
    """Compute the loss and each metric of the combined prediction, and of each member.

        figures = ensemble.evaluate(members, (inputs, labels))
        print(figures)  # loss 0.243; members 0.3 on average, 0.27 to 0.33

    Loss and metrics are those of the first member's recipe.

    Args:
        members: From `ensemble.train` or `ensemble.collect`.
        data: (inputs, targets), arrays whose first axis is the example.
        combine: (outputs (members, n, ...)) -> outputs (n, ...) for loss and metrics. By default it
            follows from the loss: `average_probabilities` for those of probabilities of classes
            (cross_entropy, nll, focal, kl_divergence) and of yes-or-no questions
            (binary_cross_entropy, binary_focal); `mixture_moments` for gaussian_nll; that of each
            head for multi_task; `average_outputs` for all others, also for functions of your own.
        batch_size: Examples that pass through a network at once.
        key: Key of layers that sample at train=False, as for `ensemble.predict`.

    Raises:
        ConfigError: An argument is not of the type described here, or the loss or a metric couples
            the examples of a batch.
        FnnError: The data does not fit a recipe, as for `train.evaluate`.
    """
    # The first part has the first member.
    recipe = expect_members("evaluate", members).parts[0].recipe_of(0)
    if combine is not None and not callable(combine):
        advice = "such as ensemble.average_probabilities, or leave it out"
        raise ConfigError(
            "evaluate combine",
            "a function of the outputs",
            combine,
            advice,
        )
    # Figures are computed over all examples at once, not over the batches of training.
    if recipe.couples_examples:
        raise ConfigError(
            "evaluate recipe",
            "a loss and metrics of separate examples",
            "one that couples them",
            "combine the outputs of ensemble.predict, and call the loss on batches",
        )
    inputs, targets = validate_examples("data", recipe, data)
    # (members, n, ...) in the structure of the outputs
    outputs = predict(members, inputs, batch_size=batch_size, key=key)
    # (members, n, ...) -> (n, ...)
    combined = (combine or combination_of(recipe.loss))(outputs)
    own = _measure_members(recipe, outputs, targets)
    figures = _measure(recipe, combined, targets)
    # A compiled program returns the entries of a dict sorted by name.
    return Evaluation(recipe.in_order(figures), recipe.in_order(own))


@per_recipe()
def _measure(recipe: Recipe, outputs: Any, targets: Any) -> dict[str, Scalar]:
    return reduce_examples(recipe, measure_examples(recipe, outputs, targets))


@per_recipe()
def _measure_members(recipe: Recipe, outputs: Any, targets: Any) -> dict[str, jax.Array]:
    # (members, n, ...) -> (members,)
    # One member after another, so that memory holds the values of one.
    return jax.lax.map(lambda own: _measure(recipe, own, targets), outputs)


def average_questions(logits: Any) -> Any:
    """Average the probabilities of separate yes-or-no questions, each with one logit.

    Args:
        logits: (members, n, ..., questions).
    """
    # (members, n, ..., questions, 1) -> (n, ..., questions)
    return average_probabilities(logits[..., None])[..., 0]


def _mix(outputs: Any) -> Any:
    # The outputs of a network are the pair (mean, variance) that the loss takes.
    return mixture_moments(*outputs)


# The losses of a distribution, which is averaged in the place of the raw outputs.
COMBINATIONS: dict[Any, Combine] = {
    objective.cross_entropy: average_probabilities,
    objective.nll: average_probabilities,
    objective.focal: average_probabilities,
    objective.kl_divergence: average_probabilities,
    objective.binary_cross_entropy: average_questions,
    objective.binary_focal: average_questions,
    objective.gaussian_nll: _mix,
}


def combination_of(loss: Any) -> Combine:
    """Return the combination of outputs for which a loss is meant.

    Args:
        loss: Of a recipe.
    """
    # A loss with options is a made value, one without may be the function.
    maker = loss.maker if isinstance(loss, Made) else loss
    if maker is objective.multi_task:
        return partial(_combine_heads, loss.arguments["losses"])
    # These weight or omit examples; the outputs are those of the loss within.
    if maker in (objective.masked, objective.ignoring, objective.class_weighted):
        return combination_of(loss.arguments["loss"])
    # A function of the user may be an object that has no hash.
    known = [combine for function, combine in COMBINATIONS.items() if function is maker]
    return known[0] if known else average_outputs


def _combine_heads(losses: Any, outputs: Any) -> dict[str, Any]:
    # Besides the heads there may be learned uncertainties.
    return {head: combination_of(losses.get(head))(own) for head, own in outputs.items()}
