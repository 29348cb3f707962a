"""Rules of the learning rate, each on a hand-made run with one fault."""

import numpy as np
import pytest
from hand_made import CHANCE, curve, evidence, line, observation, untrained

from fnn.diagnose import decay_rules
from fnn.diagnose import rate_rules as rules
from fnn.diagnose.thresholds import Thresholds

RULES = (*rules.RULES, *decay_rules.RULES)
LIMITS = Thresholds()
FEW = 12


def poor(**changes):
    """The end of a run that has not learned."""
    return observation(losses=np.full(400, 0.9 * CHANCE), **changes)


def flat(level, noise=0.02):
    return curve(level, level, noise=noise)


FAULTS = {
    "rate_too_high": evidence(
        end=poor(line=line(0.125, depth=0.01)), history={"loss": flat(0.9 * CHANCE)}
    ),
    "rate_too_low": evidence(
        start=untrained(other_line=line(256.0)),
        end=poor(other_line=line(256.0)),
        history={"loss": curve(CHANCE, 0.9 * CHANCE)},
    ),
    "oscillation": evidence(
        end=observation(other_line=line(0.125)),
        history={"loss": np.r_[curve(CHANCE, 0.3, 80), flat(0.3, noise=0.5)[:120]]},
    ),
    "cut_too_early": evidence(
        end=poor(),
        history={
            "loss": np.r_[np.linspace(1, 0.6, 40), np.full(160, 0.58)] * CHANCE,
            "rate": np.r_[np.full(40, 0.1), np.full(160, 0.001)],
        },
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_and_nothing_in_a_healthy_run(rule):
    (found,) = rule(FAULTS[rule.__name__], LIMITS)
    assert found.measured and found.threshold and found.advice and found.confirm
    assert rule(evidence(), LIMITS) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("steps", [1, 2, FEW])
def test_a_rule_finds_nothing_in_a_short_healthy_run(rule, steps):
    history = {"loss": curve(CHANCE, 0.5, steps), "rate": np.full(steps, 0.1)}
    history |= {"valid_loss": np.full(1, 0.5), "finite": np.ones(steps, bool)}
    assert rule(evidence(history=history), LIMITS) == []


def test_a_run_that_diverged_has_too_high_a_rate():
    end = observation(losses=np.full(400, 50.0))
    (found,) = rules.rate_too_high(evidence(end=end, history={"loss": flat(50.0)}), LIMITS)
    assert found.severity == "error"
    assert "71.9" in found.title  # 50 / log 2


def test_a_low_rate_at_the_end_of_a_schedule_is_no_low_rate():
    start = untrained(other_line=line(4.0))
    end = poor(other_line=line(256.0), rate=np.float32(1e-3))
    assert rules.rate_too_low(evidence(start=start, end=end), LIMITS) == []


def test_a_cut_of_the_rate_after_the_loss_has_settled_is_no_fault():
    history = {
        "loss": np.r_[curve(CHANCE, 0.4, 100), flat(0.3)[:100]],
        "rate": np.r_[np.full(100, 0.1), np.full(100, 0.001)],
    }
    assert decay_rules.cut_too_early(evidence(end=poor(), history=history), LIMITS) == []
