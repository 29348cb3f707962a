"""Rules on the data: each on a planted fault and on healthy data."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.diagnose.data_rules import check_inputs, shift_findings

draw = np.random.default_rng(0)
NORMAL = draw.normal(size=(500, 6)).astype(np.float32)
PIXELS = draw.uniform(size=(50, 4, 4, 3)).astype(np.float32)
LABELS = draw.integers(0, 5, 500).astype(np.int32)


def names(found):
    return [one.name for one in found]


def of_inputs(x):
    return check_inputs("inputs", np.asarray(x, np.float32)).findings


HEALTHY = {
    "standardized": NORMAL,
    "pixels": PIXELS,
    "centered pixels": 2 * PIXELS - 1,
    "skewed column": np.concatenate([NORMAL, np.exp(NORMAL[:, :1])], 1),
    "one-hot": np.eye(40)[draw.integers(0, 40, 500)],
    "counts": draw.poisson(0.3, (500, 6)),
    "relu features": np.maximum(NORMAL, 0) * 2,
    "sparse": (draw.uniform(size=(500, 60)) < 0.002),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_normalized_inputs_have_no_finding(name):
    # Constant columns are no fault of the scale.
    assert [one for one in of_inputs(HEALTHY[name]) if one.severity != "info"] == []


FAULTS = {
    "bytes": (255 * PIXELS, "divide by the deviation"),
    "divided twice": (PIXELS / 255, "scale once"),
    "one large column": (NORMAL * [1, 1, 500, 1, 1, 1], "standardize"),
    "far from 0": (NORMAL + 30, "standardize"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_inputs_of_another_scale_have_a_warning_with_numbers_to_use(name):
    x, advice = FAULTS[name]
    (finding,) = of_inputs(x)
    assert finding.name == "unnormalized_inputs" and finding.severity == "warning"
    assert any(advice in text for text in finding.advice)
    mean = np.asarray(x).reshape(-1, x.shape[-1]).mean(0)
    np.testing.assert_allclose(finding.measured["mean"], mean, rtol=1e-3, atol=1e-5)


def test_the_large_column_is_named():
    (finding,) = of_inputs(NORMAL * [1, 1, 500, 1, 1, 1])
    assert "column 2" in finding.title


def test_numbers_that_are_not_finite_are_an_error_with_their_index():
    x = NORMAL.copy()
    x[3, 1] = np.inf
    (finding,) = of_inputs(x)
    assert finding.name == "nonfinite_data" and finding.severity == "error"
    assert finding.measured == {"count": 1, "index": (3, 1)}


def test_constant_columns_are_a_note():
    x = NORMAL.copy()
    x[:, 4] = 0.5
    (finding,) = of_inputs(x)
    assert finding.name == "constant_features" and finding.severity == "info"
    assert finding.measured["columns"] == [4]


def test_integers_are_not_checked():
    assert check_inputs("inputs", jnp.zeros((3, 4), jnp.int32)) is None


def test_validation_of_another_scale_has_a_warning():
    assert names(shift_findings("inputs", NORMAL[:400], NORMAL[400:])) == []
    for valid in (NORMAL + 3, NORMAL * 5):
        assert names(shift_findings("inputs", NORMAL, valid)) == ["validation_scale"]
