"""Rules on the length of a run."""

import jax.numpy as jnp
import pytest

from fnn import nn, optim, train
from fnn.diagnose.schedule_rules import schedule_findings
from fnn.objective import squared_error


def found(optimizer, steps):
    recipe = train.recipe(nn.dense(1), optimizer, loss=squared_error)
    return list(schedule_findings(recipe, steps))


@pytest.mark.parametrize(
    ("optimizer", "first"),
    [
        (optim.swa(optim.sgd(0.1), start=120), 120),
        (optim.ema(optim.swag(optim.sgd(0.1), start=110.5)), 111),
        (optim.lawa(optim.sgd(0.1), every=200), 200),
        (optim.swa(optim.sgd(0.1), start=110), None),
        (optim.swa(optim.sgd(0.1), every=110), None),
    ],
)
def test_an_average_without_a_snapshot_in_the_run_has_a_warning(optimizer, first):
    warnings = found(optimizer, 110)
    assert [one.name for one in warnings] == ["late_average"] * (first is not None)
    if first:
        title = f"the run ends at step 110 before the first snapshot at step {first}"
        assert warnings[0].title == title


SCHEDULES = [
    (
        optim.one_cycle(1e-2, steps=10),
        110,
        "the schedule's rate is 0 from step 10 of 110 on: give it steps=110",
    ),
    (
        optim.warmup(optim.cosine(1e-2, steps=90), warmup_steps=10),
        220,
        "is 0 from step 100 of 220 on",
    ),
    (optim.linear(1e-2, steps=440), 110, "the run ends at step 110 of a schedule of 440 steps"),
    (optim.table(jnp.linspace(1, 0, 51)), 110, "is 0 from step 50 of 110 on"),
    (optim.cosine(1e-2, steps=110), 110, None),
    (optim.cosine(1e-2, steps=50, floor=1e-3), 110, None),
    (optim.piecewise([1e-1, 1e-2], boundaries=[50]), 110, None),
    (optim.cosine_restarts(1e-2, steps=10), 110, None),
    (1e-2, 110, None),
    (lambda step: 1e-2 / (1 + step), 110, None),
]


def nested(rate):
    """The schedule deep inside of an optimizer."""
    return optim.ema(optim.partition({"*bias": optim.sgd(rate)}, None), 0.9)


@pytest.mark.parametrize(("rate", "steps", "warning"), SCHEDULES)
@pytest.mark.parametrize("make_optimizer", [optim.sgd, nested])
def test_a_schedule_whose_length_differs_from_the_run_has_a_warning(
    rate, steps, warning, make_optimizer
):
    warnings = found(make_optimizer(rate), steps)
    assert [one.name for one in warnings] == ["schedule_length"] * (warning is not None)
    if warning:
        assert warning in f"{warnings[0].title}: {warnings[0].advice[0]}"
