"""Rules of gradients, each on a hand-made run with one fault."""

import numpy as np
import pytest
from hand_made import CHANCE, evidence, observation, untrained

from fnn.diagnose import gradient_rules as rules
from fnn.diagnose.localize import Location
from fnn.diagnose.thresholds import Thresholds

LIMITS = Thresholds()
NAN = np.nan
NORM = {"layers": ("dense_0", "norm_1", "dense_2"), "kinds": ("dense", "batch_norm", "dense")}
POOR = np.full(400, 0.9 * CHANCE)

# Recorded at every fifth step, with a burst in the second column.
GRADIENTS = np.full((200, 2), NAN)
GRADIENTS[::5] = 0.1
GRADIENTS[100:125:5, 1] = 5.0

# The evidence, and the layer that the rule must name.
FAULTS = {
    "nonfinite": (
        evidence(location=Location("relu_1", "backward", 7, 3.0), is_cut=True),
        "relu_1",
    ),
    "exploding": (evidence(start=untrained(gradient_norm=np.array([2e3, 1, 1]))), "relu_1"),
    "gradient_spikes": (
        evidence(
            columns={"grad_rms": ("dense_0/kernel", "dense_2/kernel")},
            history={"grad_rms": GRADIENTS},
        ),
        "dense_2/kernel",
    ),
    "vanishing": (
        evidence(
            start=untrained(gradient_norm=np.array([1e-5, 1e-5, 1])),
            end=observation(gradient_norm=np.array([1e-5, 1e-5, 1])),
        ),
        "dense_2",
    ),
    "untrained": (evidence(change=np.array([0.1, 0.0, 0.1, 0.1])), "dense_0"),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_with_the_layer_and_nothing_in_a_healthy_run(rule):
    faulty, layer = FAULTS[rule.__name__]
    (found,) = rule(faulty, LIMITS)
    assert found.layer == layer
    assert found.measured and found.threshold and found.advice and found.confirm
    assert rule(evidence(), LIMITS) == []


def test_a_bias_that_does_not_change_is_no_fault():
    assert rules.untrained(evidence(change=np.array([0.0, 0.1, 0.1, 0.1])), LIMITS) == []
