"""Rules on the augmentation of a recipe: its results next to the examples as they are stored."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.diagnose.data_rules import NONFINITE
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.train.step import prepare_batch
from fnn.types import TrainState

MARGIN = 0.25  # of the range of the stored numbers, beyond which a number is outside
OUTSIDE_SHARE = 0.01  # of the numbers
DEVIATION_RATIO = (0.5, 2.0)  # of augmented and stored numbers

BROKEN = Rule(
    "P18",
    "augmentation_range",
    "TheDeepChecker [Ben Braiek & Khomh 2023]; Karpathy 2019",
    ("the augmentation expects numbers of another scale", "noise that is too strong"),
    ("draw what enters the network, as by lab.plot_augmentations", "lower the magnitude"),
    "train without augmentation",
)


def augmentation_findings(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
    low_high: tuple[float, float],
) -> Iterator[Finding]:
    """Find augmentation whose results are outside of the range of the data, or not finite.

    Args:
        recipe: From `train.recipe`, with an augmentation.
        train_state: Before the first step.
        inputs: One array (n, ...), as it is stored.
        targets: Arrays (n, ...).
        low_high: The smallest and the largest number of the data.
    """
    augmented = jax.device_get(_augmented(recipe, train_state, inputs, targets))
    if not hasattr(augmented, "dtype"):
        return
    x = np.asarray(inputs, np.float32)
    y = np.asarray(augmented, np.float32)
    if not np.isfinite(y).all():
        title = "augmentation makes numbers that are not finite"
        yield NONFINITE.finding(ERROR, title, {}, "any", layer="augment")
        return
    low, high = low_high
    margin = MARGIN * (high - low)
    outside = float(((y < low - margin) | (y > high + margin)).mean())
    deviation = float(x.std())
    ratio = float(y.std()) / deviation if deviation > 0 else 1.0
    measured = {"low": float(y.min()), "high": float(y.max()), "outside": outside, "ratio": ratio}
    interval = f"[{y.min():.3g}, {y.max():.3g}]"
    least, most = DEVIATION_RATIO
    if outside > OUTSIDE_SHARE:
        title = f"augmented inputs are in {interval}, {outside:.0%} of them far outside of the"
        title += f" [{low:.3g}, {high:.3g}] of the data"
        threshold = f"> {OUTSIDE_SHARE:.0%} beyond the range by {MARGIN:.0%} of it"
    elif not least <= ratio <= most:
        title = f"augmented inputs have {ratio:.2g} times the deviation of the data"
        threshold = f"ratio of deviations outside of [{least}, {most}]"
    else:
        return
    yield BROKEN.finding(
        WARNING,
        title,
        measured,
        threshold,
        layer="augment",
    )


@per_recipe()
def _augmented(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> Any:
    """Return augmented inputs, not prepared."""
    examples = jnp.arange(jax.tree.leaves(inputs)[0].shape[0])
    # Stored numbers are compared, whatever `prepare` makes of them.
    made: Any = recipe
    stored = made.replace(prepare=_keep)
    augmented, _ = prepare_batch(
        stored,
        train_state,
        0,
        inputs,
        targets,
        examples,
    )
    return augmented


def _keep(x: Any) -> Any:
    return x
