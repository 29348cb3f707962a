"""Outcomes of experiments: the comparison of a control with treatments, and its account."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fnn.diagnose.arms import TAIL, gains, judge, standard_error
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED

# The least effects that count; ours, since no publication has such experiments.
LEAST_GAIN = 0.1  # relative fall of a loss
LEAST_VALID_GAIN = 0.05  # relative fall of a loss at the end, which has less noise
LEARNED = 0.1  # relative fall of the training loss within a run that learns


class Outcome(NamedTuple):
    """The result of an experiment.

    Attributes:
        certainty: "confirmed", "refuted" or "likely"; None if there was no experiment.
        account: The experiment and its numbers, as a sentence.
        figures: The numbers by name.
    """

    certainty: str | None
    account: str
    figures: Mapping[str, float]


def not_run(reason: str) -> Outcome:
    return Outcome(None, f"not run: {reason}", {})


def compare(
    quantity: str,
    control: np.ndarray,
    treated: Mapping[str, np.ndarray],
    least: float,
    scale: np.ndarray | None = None,
) -> Outcome:
    """Compare losses (keys,) of a control with those of treatments, of which the best counts.

    Args:
        quantity: Name of the loss.
        control: Its values without a treatment, (keys,).
        treated: Its values by treatment.
        least: The least gain that counts.
        scale: As for `gains`.
    """
    effects = {name: gains(control, losses, scale) for name, losses in treated.items()}
    best = max(effects, key=lambda name: float(effects[name].mean()))
    figures = {"as it is": float(control.mean())}
    figures |= {name: float(losses.mean()) for name, losses in treated.items()}
    figures |= {"gain": float(effects[best].mean()), "error": standard_error(effects[best])}
    account = (
        f"{quantity} {number_text(control)} as it is, {number_text(treated[best])} {best}: "
        f"a gain of {percent_text(effects[best])}"
    )
    return Outcome(judge(effects[best], least), account, figures)


def compare_scores(
    quantity: str,
    control: np.ndarray,
    treatment: str,
    treated: np.ndarray,
    least: float,
) -> Outcome:
    """Compare scores (keys,) of a control with those of a treatment, where higher is better.

    Args:
        quantity: Name of the score.
        control: Its values without the treatment, (keys,).
        treatment: Name of the treatment.
        treated: Its values with it, (keys,).
        least: The least rise that counts.
    """
    # An explained variance may be far below 0, and is NaN after a run that diverged.
    rise = np.nan_to_num(np.maximum(treated, 0) - np.maximum(control, 0), nan=-1.0)
    figures = {
        "as it is": float(control.mean()),
        treatment: float(treated.mean()),
        "gain": float(rise.mean()),
        "error": standard_error(rise),
    }
    account = f"{quantity} {number_text(control)} as it is, {number_text(treated)} {treatment}"
    return Outcome(judge(rise, least), account, figures)


def unless_short(
    outcome: Outcome,
    losses: np.ndarray,
    least: float = LEARNED,
) -> Outcome:
    """Return the outcome, where only a run that learns refutes.

    In a run whose loss hardly falls, no treatment can gain much: it is too short, or something else
    is wrong as well.

    Args:
        outcome: Of a comparison.
        losses: Of the runs that would refute, (keys, steps).
        least: Least fall of the mean loss of the last quarter below the first loss.
    """
    tail = max(1, round(TAIL * losses.shape[1]))
    falls = gains(losses[:, 0], losses[:, -tail:].mean(1))
    if outcome.certainty != REFUTED or judge(falls, least) == CONFIRMED:
        return outcome
    account = (
        f"{outcome.account}; inconclusive, since the loss falls by {percent_text(falls)} in "
        f"{losses.shape[1]} steps: give more epochs"
    )
    return Outcome(LIKELY, account, outcome.figures)


def number_text(values: np.ndarray) -> str:
    return f"{values.mean():.4g}"


def percent_text(effects: np.ndarray) -> str:
    text = f"{100 * effects.mean():.0f} %"
    if len(effects) > 1:
        text += f" (standard error {100 * standard_error(effects):.0f} %, {len(effects)} keys)"
    return text
