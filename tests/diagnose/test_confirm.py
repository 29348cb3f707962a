"""Confirmation of findings: what it changes, and its errors."""

import json

import jax
import pytest

from fnn import data, diagnose, nn, optim, train
from fnn.diagnose.findings import LIKELY, REFUTED
from fnn.errors import ConfigError

BLOBS = data.synthetic.blobs(jax.random.key(1), 64, features=4)
RECIPE = train.recipe(nn.dense(3), optim.sgd(0.1))
HIGH = diagnose.Finding("T04", "rate_too_high", "warning", "the rate is too high")
LINEAR = diagnose.Finding("P07", "missing_nonlinearity", "error", "two layers are one")


@pytest.fixture
def result(key):
    return train.run(key, RECIPE, BLOBS, epochs=3, batch_size=32)


def confirm(findings, run, **options):
    return diagnose.confirm(findings, RECIPE, run, BLOBS, batch_size=32, **options)


def test_findings_without_an_experiment_stay_as_they_are(result):
    found = confirm(diagnose.Findings([HIGH, LINEAR]), result)
    assert found[0] == LINEAR
    assert found[1].certainty == REFUTED
    assert "(refuted)" in str(found[1])
    assert confirm(diagnose.Findings(), result) == diagnose.Findings()


def test_the_account_has_the_numbers_and_is_json(result):
    found = confirm(HIGH, result)[0]
    assert "mean loss of the last quarter" in found.experiment and "3 keys" in found.experiment
    values = json.loads(json.dumps(found.as_dict()))
    assert values["outcome"].keys() >= {"as it is", "gain", "error"}
    assert values["outcome"]["gain"] < 0


def test_the_same_arguments_give_the_same_findings(result):
    assert confirm(HIGH, result, seeds=2) == confirm(HIGH, result, seeds=2)


def test_a_finding_before_a_run_needs_its_key_and_its_length(key):
    assert confirm(HIGH, key, epochs=3, seeds=1)[0].certainty == REFUTED
    drift = diagnose.Finding("T16", "batch_norm_drift", "warning", "statistics drift")
    found = confirm(drift, key, epochs=3)[0]
    assert found.certainty == LIKELY and found.experiment == "not run: there is no complete run"
    with pytest.raises(ConfigError, match=r"confirm epochs: expected a number of epochs, since"):
        confirm(HIGH, key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"findings": "T04"}, r"confirm findings: expected findings, or one of them, got 'T04'"),
        (
            {"result": 3},
            r"confirm result: expected the result of a run, the error of a step, or a key",
        ),
        ({"recipe": nn.dense(3)}, r"confirm recipe: expected a recipe from train.recipe"),
        ({"seeds": 0}, r"confirm seeds: expected >= 1, got 0"),
        ({"epochs": 0}, r"confirm epochs: expected >= 1, got 0"),
        ({"batch_size": 65}, r"batch_size: expected at most the 64 examples, got 65"),
    ],
)
def test_a_wrong_argument_is_named(key, change, message):
    given = {"findings": HIGH, "recipe": RECIPE, "result": key, "data": BLOBS}
    given |= {"batch_size": 32, "epochs": 1}
    with pytest.raises(ConfigError, match=message):
        diagnose.confirm(**given | change)


def test_runs_of_several_lanes_are_refused(key):
    keys = jax.random.split(key, 2)
    lanes = jax.vmap(lambda key: train.run(key, RECIPE, BLOBS, epochs=1, batch_size=32))(keys)
    with pytest.raises(
        ConfigError, match=r"confirm result: expected the result of one run, got one"
    ):
        confirm(HIGH, lanes)
