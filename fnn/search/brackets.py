"""The plans of successive halving and Hyperband: numbers of trials and epochs, in integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fnn import checks
from fnn.errors import ConfigError

# Time of a batch of lanes that does not depend on their number, in units of the time of one lane.
# Measured: a small MLP on CPU takes the time of L + 4 lanes.
LANES_OF_A_BATCH = 4


class Rung(NamedTuple):
    """A number of trials that are trained to the same epoch, and are then compared.

    Attributes:
        trials: Number of trials.
        epochs: Number of epochs of each, counted from the start.
    """

    trials: int
    epochs: int


@dataclass(frozen=True)
class Bracket:
    """A run of successive halving.

    Attributes:
        rungs: From the first to the last. The best trials of a rung continue in the next one.
    """

    rungs: tuple[Rung, ...]

    @property
    def trials(self) -> int:
        """Number of trials that begin."""
        return self.rungs[0].trials

    @property
    def total_epochs(self) -> int:
        """Number of epochs of all trials together, each trained without a restart."""
        before = 0
        total = 0
        for rung in self.rungs:
            # A trial that survives continues from its last rung, so only the difference is trained.
            total += rung.trials * (rung.epochs - before)
            before = rung.epochs
        return total


def brackets(
    epochs: int,
    *,
    eta: int = 3,
    min_epochs: int = 1,
) -> tuple[Bracket, ...]:
    """Plan of `search.hyperband`: its brackets, from the one that stops most trials to one of none.

    With R = epochs, s_max is the largest s for which min_epochs η^s <= R. The bracket of s begins
    with n = ceil((s_max + 1) η^s / (s + 1)) trials. Its rung i has floor(n η^-i) trials of
    floor(R η^(i-s)) epochs [Li et al. 2018, JMLR 18:185, Algorithm 1].

        sum(bracket.total_epochs for bracket in search.brackets(81))  # 1581

    Args:
        epochs: Epochs of the trials that are never stopped.
        eta: Ratio of the trials of a rung to those of the next one, η >= 2.
        min_epochs: Epochs before a trial may be stopped, at least 1.

    Raises:
        ConfigError: `eta` is below 2, or epochs < eta * min_epochs, so that no trial is stopped.
    """
    largest = _most_halvings(
        "brackets",
        epochs,
        eta,
        min_epochs,
    )
    plan = []
    # From the bracket that stops most trials, as in Algorithm 1.
    for halvings in range(largest, -1, -1):
        # -(-a // b) is ceil(a / b) in integers.
        trials = -(-(largest + 1) * eta**halvings // (halvings + 1))
        plan.append(
            _bracket(
                trials,
                epochs,
                eta,
                halvings,
            )
        )
    return tuple(plan)


def halving_bracket(
    trials: int,
    epochs: int,
    *,
    eta: int = 3,
    min_epochs: int = 1,
) -> Bracket:
    """Return the plan of successive halving.

    Trials are halved as often as both numbers allow: the first rung has at least `min_epochs`, and
    the last one at least one trial.

    Args:
        trials: Number of trials that begin, >= eta.
        epochs: Epochs of the trials that are never stopped.
        eta: Ratio of the trials of a rung to those of the next one.
        min_epochs: Epochs before a trial may be stopped.
    """
    # The epochs allow this number of halvings; the trials may allow fewer.
    halvings = _most_halvings(
        "halving",
        epochs,
        eta,
        min_epochs,
    )
    checks.whole("trials", trials)
    # Fewer trials would leave no second rung.
    if trials < eta:
        advice = "give more trials, or use search.random"
        raise ConfigError(
            "halving trials",
            f"at least eta = {eta}",
            trials,
            advice,
        )
    return _bracket(
        trials,
        epochs,
        eta,
        min(halvings, floor_log(trials, eta)),
    )


def _bracket(
    trials: int,
    epochs: int,
    eta: int,
    halvings: int,
) -> Bracket:
    # Integer powers: logarithms in floating point lose a rung at 243 and 1,000.
    # Rung i has floor(n η^-i) trials of floor(R η^(i-s)) epochs.
    rungs = [
        Rung(trials // eta**index, epochs // eta ** (halvings - index))
        for index in range(halvings + 1)
    ]
    return Bracket(tuple(rungs))


def _most_halvings(
    where: str,
    epochs: int,
    eta: int,
    min_epochs: int,
) -> int:
    """Return the number of halvings that these epochs allow; ConfigError if it is 0."""
    checks.whole(f"{where} eta", eta, 2)
    checks.whole("epochs", epochs)
    checks.whole(f"{where} min_epochs", min_epochs)
    # A first rung at min_epochs and a last one at epochs are a factor of eta apart.
    if min_epochs * eta > epochs:
        raise ConfigError(
            f"{where} min_epochs",
            f"at most epochs / eta = {epochs} / {eta}",
            min_epochs,
            "train for more epochs, or use search.random, which stops no trial",
        )
    # The largest s with min_epochs η^s <= epochs; the floor of the quotient does not change it.
    return floor_log(epochs // min_epochs, eta)


def floor_log(value: int, base: int) -> int:
    """Return the largest n with base**n <= value, exactly; floating point is wrong for 1000, 10."""
    power = 0
    while base ** (power + 1) <= value:
        power += 1
    return power


class Stage(NamedTuple):
    """The epochs from one level of rungs to the next, of all brackets together.

    Attributes:
        trials: Number of trials.
        epochs: Number of epochs of each.
        level: The epoch at its end.
    """

    trials: int
    epochs: int
    level: int


def plan_stages(plan: Sequence[Bracket]) -> list[Stage]:
    """Return the stages of a plan, in order.

    Args:
        plan: The brackets.
    """
    stages = []
    before = 0
    # All brackets share the levels, so that their trials are trained together.
    for level in sorted({rung.epochs for bracket in plan for rung in bracket.rungs}):
        # The trials of a bracket on the way to its first rung at this level or later.
        trials = sum(
            next(rung.trials for rung in bracket.rungs if rung.epochs >= level) for bracket in plan
        )
        stages.append(Stage(trials, level - before, level))
        before = level
    return stages


def survivors(cost: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the trials of lowest cost, ascending.

    Of equal costs the earlier trials survive. A cost that is not finite never does, so that there
    may be fewer.

    Args:
        cost: (trials,), lower is better.
        count: Number of trials that survive.
    """
    # Infinity and NaN sort last.
    order = np.argsort(cost, kind="stable")
    # In the order in which the trials were drawn.
    return np.sort([index for index in order[:count] if np.isfinite(cost[index])]).astype(int)


def best_lanes(
    stages: Sequence[tuple[int, int]],
    limit: int,
    overhead: float = LANES_OF_A_BATCH,
) -> int:
    """Return the number of lanes with which stages of different numbers of trials take least time.

    The last batch of a stage is padded. Many lanes waste padding, few lanes waste the time of a
    batch that does not depend on their number.

    Args:
        stages: (trials, epochs) of each stage.
        limit: Largest number of lanes.
        overhead: Time of a batch that does not depend on its size, in times of a lane.
    """

    def time(size: int) -> float:
        # A padded batch takes as long as a full one.
        batches = sum(-(-trials // size) * epochs for trials, epochs in stages)
        return batches * (size + overhead)

    # Of equal times the fewest lanes are chosen, which need the least memory.
    return min(range(1, limit + 1), key=time)
