"""The loss of a recipe at outputs that are known to be right, wrong or without knowledge."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from fnn.diagnose.observation import example_losses
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe

SURE = 8.0  # logit of an output that is sure of a class
PROBES = 64  # examples at whose targets the loss is evaluated
SMALLEST_SHARE = 1e-3  # of a class, whose logarithm is a logit of the best constant
RIGHT, EVEN, WRONG, SURER, PRIOR, MIXED = range(6)


class Probes(NamedTuple):
    """Mean loss at known outputs; NaN where the kind of the targets is not known.

    Attributes:
        right: Of logits that are sure of the label, or of outputs equal to the targets.
        even: Of equal logits, or of the mean target.
        wrong: Of logits that are sure of another class, or of outputs 4 deviations away.
        surer: Of logits that are four times as large as those of `right`.
        chance: Of the best constant: logits of the class shares, or the mean target.
        coupling: Largest change of the loss of an example when outputs of others change.
    """

    right: float = np.nan
    even: float = np.nan
    wrong: float = np.nan
    surer: float = np.nan
    chance: float = np.nan
    coupling: float = np.nan


def probe_loss(
    recipe: Recipe,
    targets: np.ndarray,
    outputs: np.ndarray,
    labels: np.ndarray | None,
    shares: np.ndarray | None,
) -> Probes:
    """Evaluate the loss of a recipe at known outputs.

    Args:
        recipe: Its loss is evaluated.
        targets: Labels or probabilities of classes, or values of the size of the outputs, (n, ...).
        outputs: Of the network, (n, ...), for their shape and dtype.
        labels: The most probable classes, (n, ...); None if the targets are values.
        shares: Share of each class, (classes,); None if the targets are values.
    """
    count = min(PROBES, len(targets))
    rows = np.linspace(0, len(targets) - 1, count).astype(int)
    some = targets[rows]
    shape = outputs.shape[1:]
    if labels is None or shares is None:
        right = some.reshape(count, *shape)
        wrong = right + 4 * (targets.std() or 1.0)
        surer = right
        shifted = wrong
        even = np.full_like(right, targets.mean())
        constant = targets.mean(0).reshape(shape)
    else:
        classes = len(shares)
        some_labels = labels[rows]
        right = SURE * np.eye(classes)[some_labels]
        wrong = SURE * np.eye(classes)[(some_labels + 1) % classes]
        surer = 4 * right
        # A constant added to logits changes the softmax over another axis alone.
        shifted = right + SURE
        even = np.zeros_like(right)
        constant = np.log(np.maximum(shares, SMALLEST_SHARE))
    prior = np.broadcast_to(constant, right.shape)
    half = count // 2
    # Only the first half differs from `right`: the loss of the second half must not.
    mixed = np.concatenate([shifted[:half], right[half:]])
    at = np.stack([right, even, wrong, surer, prior, mixed]).astype(outputs.dtype)
    whole = np.broadcast_to(constant, (len(targets), *shape)).astype(outputs.dtype)
    # (6, count)
    losses, chance = jax.tree.map(
        np.asarray,
        _losses_at(
            recipe,
            at,
            some,
            whole,
            targets,
        ),
    )
    change = np.abs(losses[MIXED] - losses[RIGHT])[half:]
    means = losses.mean(1)
    return Probes(
        right=float(means[RIGHT]),
        even=float(means[EVEN]),
        wrong=float(means[WRONG]),
        surer=float(means[SURER]),
        # The best constant is that of all targets.
        chance=float(chance),
        coupling=float(change.max(initial=0)),
    )


@per_recipe()
def _losses_at(
    recipe: Recipe,
    at: Any,
    some: Any,
    whole: Any,
    targets: Any,
) -> tuple[Array, Array]:
    losses = jax.vmap(lambda outputs: example_losses(recipe, outputs, some))(at)
    return losses, example_losses(recipe, whole, targets).mean()
