"""Rules of layers and parameters, each on a hand-made run with one fault."""

import numpy as np
import pytest
from hand_made import CHANCE, evidence, observation, untrained

from fnn.diagnose import layer_rules as rules
from fnn.diagnose.evidence import unchanged_statistics
from fnn.diagnose.thresholds import Thresholds

LIMITS = Thresholds()
NAN = np.nan
NORM = {"layers": ("dense_0", "norm_1", "dense_2"), "kinds": ("dense", "batch_norm", "dense")}
POOR = np.full(400, 0.9 * CHANCE)

# The evidence, and the layer that the rule must name.
FAULTS = {
    "dead_units": (evidence(end=observation(dead_share=np.array([NAN, 0.95, NAN]))), "relu_1"),
    "saturated_units": (
        evidence(start=untrained(saturated_share=np.array([NAN, 0.8, NAN]))),
        "relu_1",
    ),
    "penalty_dominates": (
        evidence(
            start=untrained(penalty_rms=np.full(4, 0.1)),
            end=observation(losses=POOR),
            history={"loss": np.full(200, CHANCE)},
        ),
        None,
    ),
    "batch_norm_drift": (
        evidence(end=observation(eval_mode_loss=np.float32(1.0)), **NORM),
        "norm_1",
    ),
    "small_batches": (evidence(batch_size=2, **NORM), "norm_1"),
    "unused_weights": (
        evidence(end=observation(tiny_share=np.array([0, 0, 0, 0.99]))),
        "dense_2",
    ),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_with_the_layer_and_nothing_in_a_healthy_run(rule):
    faulty, layer = FAULTS[rule.__name__]
    (found,) = rule(faulty, LIMITS)
    assert found.layer == layer
    assert found.measured and found.threshold and found.advice and found.confirm
    assert rule(evidence(), LIMITS) == []


def test_running_statistics_that_never_change_are_an_error():
    still = ("norm_1/mean", "norm_1/var")
    (found,) = rules.batch_norm_drift(evidence(still=still, **NORM), LIMITS)
    assert found.severity == "error"
    assert found.layer == "norm_1"


def test_dead_units_say_whether_they_died_in_training():
    dead = np.array([NAN, 0.95, NAN])
    at_start = evidence(start=untrained(dead_share=dead), end=observation(dead_share=dead))
    (found,) = rules.dead_units(at_start, LIMITS)
    assert "already at the start" in found.title
    (found,) = rules.dead_units(evidence(end=observation(dead_share=dead)), LIMITS)
    assert "died in training" in found.title


def test_recorded_shares_give_the_step_at_which_units_died():
    shares = np.full((200, 1), NAN)
    shares[::20, 0] = np.where(np.arange(0, 200, 20) >= 60, 0.95, 0.0)
    died = evidence(
        end=observation(dead_share=np.array([NAN, 0.95, NAN])),
        columns={"dead_share": ("relu_1",)},
        history={"dead_share": shares},
    )
    (found,) = rules.dead_units(died, LIMITS)
    assert found.steps == (60, 199)


def test_statistics_are_still_only_if_mean_and_variance_are():
    before = {"norm": {"mean": np.zeros(2), "var": np.ones(2)}}
    dead = {"norm": {"mean": np.zeros(2), "var": np.full(2, 0.5)}}
    assert unchanged_statistics(before, dead) == ()
    assert unchanged_statistics(before, before) == ("norm/mean", "norm/var")
