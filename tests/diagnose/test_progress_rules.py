"""Rules of curves, each on a hand-made run with one fault."""

import numpy as np
import pytest
from hand_made import CHANCE, STEPS, curve, evidence, observation, untrained

from fnn.diagnose import progress_rules as rules
from fnn.diagnose.thresholds import Thresholds

LIMITS = Thresholds()
FEW = 12


def poor(**changes):
    """The end of a run that has not learned."""
    return observation(losses=np.full(400, 0.9 * CHANCE), **changes)


def flat(level, noise=0.02):
    return curve(level, level, noise=noise)


FAULTS = {
    "spikes": evidence(
        history={"loss": curve(CHANCE, 0.02) + np.isin(np.arange(STEPS), [90, 91, 92])}
    ),
    "plateau": evidence(
        history={"loss": np.r_[np.full(40, CHANCE), curve(CHANCE, 0.02, STEPS - 40)]}
    ),
    "hockey_stick": evidence(
        start=untrained(losses=np.full(400, 5 * CHANCE)),
        history={"loss": np.r_[np.linspace(5, 1, 8) * CHANCE, curve(CHANCE, 0.3, STEPS - 8)]},
    ),
    "no_progress": evidence(
        end=observation(losses=np.full(400, CHANCE)), history={"loss": flat(CHANCE)}
    ),
    "loss_rises": evidence(
        history={"loss": np.r_[curve(CHANCE, 0.1, 60), np.linspace(0.1, 2, 140)]}
    ),
    "train_longer": evidence(history={"valid_loss": np.linspace(0.6, 0.2, 10)}),
    "trained_too_long": evidence(history={"valid_loss": np.linspace(0.2, 0.6, 12)}),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_and_nothing_in_a_healthy_run(rule):
    (found,) = rule(FAULTS[rule.__name__], LIMITS)
    assert found.measured and found.threshold and found.advice and found.confirm
    assert rule(evidence(), LIMITS) == []


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("steps", [1, 2, FEW])
def test_a_rule_finds_nothing_in_a_short_healthy_run(rule, steps):
    history = {"loss": curve(CHANCE, 0.5, steps), "rate": np.full(steps, 0.1)}
    history |= {"valid_loss": np.full(1, 0.5), "finite": np.ones(steps, bool)}
    assert rule(evidence(history=history), LIMITS) == []
