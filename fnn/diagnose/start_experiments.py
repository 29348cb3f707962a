"""Experiments with the initialization."""

import jax
import numpy as np

from fnn import trees
from fnn.diagnose.arms import Arms, Start
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED, Finding
from fnn.diagnose.outcomes import (
    LEAST_GAIN,
    Outcome,
    compare,
    not_run,
    unless_short,
)
from fnn.diagnose.rate_experiments import lower_rate
from fnn.train.run import run
from fnn.types import Result

LEAST_AREA_GAIN = 0.2  # fall of the mean loss of a run, relative to the loss at its start
# Fall of the loss of a run that refutes: in one that falls by less, the treatment of a real fault
# hardly reaches the least gain.
LEAST_FALL = 2 * LEAST_AREA_GAIN
SMALL_HEAD = 0.1  # factor of the last layer
EQUAL = 1e-5  # difference of units relative to their size, below which rounding explains it
NO_KERNELS = "the network has no kernels"


def rescaled(finding: Finding, arms: Arms) -> Outcome:
    """Rescale the initial kernels: a bad scale of them costs steps."""
    if not arms.kernels:
        return not_run(NO_KERNELS)
    control = arms.run(arms.recipe, start=Start())
    treated = arms.run(arms.recipe, start=Start(rescales=True))
    outcome = compare(
        "mean training loss",
        control.mean_loss,
        {"with kernels rescaled by LSUV": treated.mean_loss},
        LEAST_AREA_GAIN,
        scale=control.losses[:, 0],
    )
    return unless_short(outcome, control.losses, LEAST_FALL)


def exploding(finding: Finding, arms: Arms) -> Outcome:
    """Lower the rate, and rescale the kernels: a run that explodes gains by one of both."""
    lower = lower_rate(finding, arms)
    scaled = rescaled(finding, arms)
    figures = {**lower.figures, **scaled.figures}
    account = f"{lower.account}; {scaled.account}"
    certainties = {lower.certainty, scaled.certainty}
    if CONFIRMED in certainties:
        return Outcome(CONFIRMED, account, figures)
    return Outcome(REFUTED if certainties == {REFUTED} else LIKELY, account, figures)


def smaller_head(finding: Finding, arms: Arms) -> Outcome:
    """Shrink the last layer: a loss that begins above chance begins at chance then."""
    if not arms.kernels:
        return not_run(NO_KERNELS)
    control = arms.run(arms.recipe, start=Start())
    treated = arms.run(arms.recipe, start=Start(head=SMALL_HEAD))
    return compare(
        "loss of the first step",
        control.losses[:, 0],
        {f"with a last layer of {SMALL_HEAD:g} times the size": treated.losses[:, 0]},
        LEAST_GAIN,
    )


def symmetric(finding: Finding, arms: Arms) -> Outcome:
    """Count layers whose units are still equal after the run; then draw other kernels."""
    if not arms.kernels:
        return not_run(NO_KERNELS)
    last = _last_params(arms)
    equal = []
    for path in arms.kernels:
        if _has_equal_units(np.asarray(last[path], float)):
            equal.append(path.rpartition("/")[0] or path)
    figures = {"layers with equal units": float(len(equal))}
    if equal:
        account = f"after the run the units of {', '.join(equal)} are still equal to each other"
        return Outcome(CONFIRMED, account, figures)
    outcome = rescaled(finding, arms)
    account = f"after the run no layer has equal units; {outcome.account}"
    return Outcome(outcome.certainty, account, {**figures, **outcome.figures})


def _last_params(arms: Arms) -> dict[str, jax.Array]:
    """Return the parameters after the examined run, or after one from its key."""
    result: Result | None = arms.result
    if result is None:
        tolerant = arms.recipe.replace(on_nonfinite="ignore")
        result = run(
            arms.key,
            tolerant,
            arms.data,
            epochs=arms.task.epochs,
            batch_size=arms.task.batch_size,
        )
    return trees.named_leaves(result.train_state.params)


def _has_equal_units(kernel: np.ndarray) -> bool:
    """Return whether all columns (..., units) of a kernel are equal to rounding."""
    if kernel.ndim < 2 or kernel.shape[-1] < 2:
        return False
    spread = np.abs(kernel - kernel[..., :1]).max()
    return bool(spread <= EQUAL * np.abs(kernel).max())
