"""Rules of the result, each on a hand-made run with one fault."""

import numpy as np
import pytest
from hand_made import CHANCE, EPOCHS, EXAMPLES, LABELS, evidence, observation, outputs, task

from fnn.diagnose import fit_rules as rules
from fnn.diagnose.loss_probes import Probes
from fnn.diagnose.thresholds import Thresholds

LIMITS = Thresholds()
POOR = np.full(EXAMPLES, 0.7 * CHANCE)


def probes(**changes):
    return task(probes=Probes(3e-4, CHANCE, 8.0, 0.0, CHANCE, 0.0)._replace(**changes))


FAULTS = {
    "overfit": evidence(
        end=observation(valid_losses=np.full(EXAMPLES, 0.6), valid_outputs=outputs(0.7))
    ),
    "underfit": evidence(
        end=observation(losses=POOR, outputs=outputs(0.7), valid_losses=POOR),
        history={"loss": np.full(200, 0.7 * CHANCE)},
    ),
    "noisy_validation": evidence(history={"valid_loss": 0.3 + 0.2 * (-1.0) ** np.arange(EPOCHS)}),
    "validation_better": evidence(end=observation(outputs=outputs(0.7))),
    "miscalibrated": evidence(end=observation(valid_outputs=outputs(0.6))),
    "class_collapse": evidence(end=observation(outputs=np.eye(2)[np.zeros(EXAMPLES, int)])),
    "below_baseline": evidence(end=observation(valid_outputs=outputs(0.45))),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_and_nothing_in_a_healthy_run(rule):
    (found,) = rule(FAULTS[rule.__name__], LIMITS)
    assert found.measured and found.threshold and found.advice and found.confirm
    assert rule(evidence(), LIMITS) == []


def test_the_calibration_error_is_that_of_its_definition():
    # Sure of the label by 0.88, and right in half of the cases.
    logits = np.array([[0.0, 2.0]] * EXAMPLES)
    expected = abs(0.5 - 1 / (1 + np.exp(-2)))
    assert rules.calibration_error(logits, LABELS) == pytest.approx(expected)
