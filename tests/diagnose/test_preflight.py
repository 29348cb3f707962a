"""The whole preflight: silence on healthy recipes of all kinds, ranks of faults, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, objective, optim, train
from fnn.errors import FnnError

draw = np.random.default_rng(0)
X = draw.normal(size=(160, 6)).astype(np.float32)
LABELS = ((X[:, 0] > 0) + 2 * (X[:, 1] > 0)).astype(np.int32)
FIRST = (X[:120], LABELS[:120])
REST = (X[120:], LABELS[120:])
classifier = train.recipe(nn.chain(nn.dense(16), nn.relu(), nn.dense(4)), optim.adam(1e-2))
KEY = jax.random.key(0)


def identity(x):
    return x


@pytest.mark.slow
def test_a_healthy_classifier_has_no_finding():
    findings = diagnose.preflight(KEY, classifier, FIRST, valid=REST, steps=100)
    assert findings == diagnose.Findings()
    # The same key gives the same findings.
    leaked = diagnose.preflight(KEY, classifier, FIRST, valid=FIRST, short_runs=False)
    assert leaked == diagnose.preflight(KEY, classifier, FIRST, valid=FIRST, short_runs=False)


TOKENS = draw.integers(0, 9, (60, 5)).astype(np.int32)
TWO_HEADS = nn.parallel(digit=nn.dense(4), size=nn.dense(1), join="dict")
TWO_LOSSES = {"digit": objective.cross_entropy, "size": objective.squared_error}
HEALTHY = {
    "two heads": (
        nn.chain(nn.dense(8), nn.relu(), TWO_HEADS),
        objective.multi_task(TWO_LOSSES),
        (X, {"digit": LABELS, "size": X[:, :1]}),
    ),
    "regression": (
        nn.chain(nn.dense(16), nn.tanh(), nn.dense(2)),
        objective.squared_error,
        (X, X[:, :2] * X[:, 2:4]),
    ),
    "text": (
        nn.chain(nn.embed(9, 4), nn.dense(9)),
        objective.cross_entropy,
        (TOKENS[:, :-1], TOKENS[:, 1:]),
    ),
    "dict of inputs": (
        nn.chain(nn.pick("a"), nn.dense(4)),
        objective.cross_entropy,
        ({"a": X, "b": X[:, :2]}, LABELS),
    ),
    "three examples": (nn.dense(4), objective.cross_entropy, (X[:3], LABELS[:3])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_recipes_of_other_kinds_have_no_finding(name):
    network, loss, examples = HEALTHY[name]
    recipe = train.recipe(network, optim.adam(1e-2), loss=loss, prepare=identity)
    findings = diagnose.preflight(KEY, recipe, examples, valid=examples, short_runs=False)
    # Validation is training here, so that each rule of two sets has its input.
    assert set(findings.ids) <= {"P15"}


@pytest.mark.slow
def test_the_cause_comes_before_its_consequences():
    network = nn.chain(nn.dense(16), nn.relu(), nn.dense(4), nn.softmax())
    recipe = train.recipe(network, optim.adam(1e-2))
    findings = diagnose.preflight(KEY, recipe, (100 * X, LABELS), short_runs=False)
    assert findings[0].name == "last_activation"
    assert "unnormalized_inputs" in [one.name for one in findings.warnings]


def test_data_that_prepare_breaks_ends_the_examination():
    recipe = classifier.replace(prepare=lambda x: jnp.log(x))
    findings = diagnose.preflight(KEY, recipe, FIRST)
    assert [one.name for one in findings] == ["nonfinite_data"]


BAD = {
    "no pair": {"data": X},
    "no examples": {"data": (X[:0], LABELS[:0])},
    "lengths": {"data": (X, LABELS[:-1])},
    "label": {"data": (X, LABELS + 1)},
    "not finite": {"data": (X * np.nan, LABELS)},
    "shape": {"data": (X[:, :, None, None], LABELS)},
    "valid": {"data": FIRST, "valid": X},
    "recipe": {"recipe": classifier.network, "data": FIRST},
    "no optimizer": {"recipe": train.recipe(classifier.network), "data": FIRST},
    "key": {"key": 0, "data": FIRST},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_the_error_of_a_run(name):
    arguments = {"key": KEY, "recipe": classifier} | BAD[name]
    key, recipe, examples = (arguments.pop(part) for part in ("key", "recipe", "data"))
    messages = []
    for entry, options in ((diagnose.preflight, {}), (train.run, {"epochs": 1, "batch_size": 4})):
        with pytest.raises(FnnError) as caught:
            entry(key, recipe, examples, **arguments, **options)
        messages.append((caught.type, str(caught.value).replace("preflight", "run")))
    assert messages[0] == messages[1]


def test_traced_arguments_are_an_error():
    with pytest.raises(FnnError, match="preflight: expected known values, got a traced array"):
        jax.jit(lambda key: diagnose.preflight(key, classifier, FIRST))(KEY)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"examples": 0}, "preflight examples: expected >= 1, got 0"),
        ({"steps": 2.5}, "preflight steps: expected a whole number, got 2.5"),
        ({"short_runs": 1}, "preflight short_runs: expected True or False"),
    ],
)
def test_options_are_checked(option, text):
    with pytest.raises(FnnError, match=text):
        diagnose.preflight(KEY, classifier, FIRST, **option)
