"""Rules of the loss function and the labels, each on a hand-made run with one fault."""

import numpy as np
import pytest
from hand_made import CHANCE, EXAMPLES, evidence, line, observation, outputs, task, untrained

from fnn.diagnose import objective_rules as rules
from fnn.diagnose.baselines import Baselines
from fnn.diagnose.loss_probes import Probes
from fnn.diagnose.thresholds import Thresholds

LIMITS = Thresholds()
POOR = np.full(EXAMPLES, 0.7 * CHANCE)


def probes(**changes):
    return task(probes=Probes(3e-4, CHANCE, 8.0, 0.0, CHANCE, 0.0)._replace(**changes))


FAULTS = {
    "flipped_sign": evidence(task=probes(right=-3e-4, wrong=-8.0)),
    "flipped_update": evidence(start=untrained(slope=np.float32(0.9), line=-line(4.0))),
    "wrong_softmax": evidence(task=probes(right=0.31, surer=0.31, wrong=1.31)),
    "unrelated_labels": evidence(
        end=observation(valid_outputs=outputs(0.5)),
        task=task(baselines=Baselines(0.51, 0.5, 0.5, 0.01)),
    ),
    "label_noise": evidence(task=task(baselines=Baselines(0.7, 0.7, 0.7, 0.2))),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_and_nothing_in_a_healthy_run(rule):
    (found,) = rule(FAULTS[rule.__name__], LIMITS)
    assert found.measured and found.threshold and found.advice and found.confirm
    assert rule(evidence(), LIMITS) == []


def test_a_loss_without_a_lower_bound_misses_the_softmax():
    unbounded = evidence(task=probes(right=-8.0, surer=-32.0, even=0.0, wrong=0.0))
    (found,) = rules.wrong_softmax(unbounded, LIMITS)
    assert "no lower bound" in found.title
