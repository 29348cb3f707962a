"""Scalings of logits are values: they print as code, compare, pickle and can be saved."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble, lab
from fnn.errors import ConfigError, DTypeError, ShapeError

SCALINGS = [
    ensemble.temperature(jnp.float32(1.75)),
    ensemble.vector_scaling(jnp.array([1.0, 0.5]), jnp.array([0.1, -0.1])),
    ensemble.matrix_scaling(jnp.array([[1.0, 0.25], [0, 1]]), jnp.array([0.1, -0.1])),
]
LOGITS = jnp.array([[1.0, 2.0], [3.0, -1.0]])


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda one: one.maker.__name__)
def test_a_scaling_is_a_value(scaling, tmp_path):
    again = eval(repr(scaling), {"ensemble": ensemble, "jax": jax})
    assert again == scaling == pickle.loads(pickle.dumps(scaling))
    np.testing.assert_array_equal(jax.jit(lambda one, z: one(z))(scaling, LOGITS), scaling(LOGITS))
    lab.save(tmp_path / "saved", {"scaling": scaling})
    blank = jax.tree.map(jnp.zeros_like, scaling)
    assert lab.restore(tmp_path / "saved", {"scaling": blank})["scaling"] == scaling


def test_scalings_are_the_formulas():
    one, vector, matrix = (scaling(LOGITS) for scaling in SCALINGS)
    np.testing.assert_allclose(one, LOGITS / 1.75, rtol=1e-6)
    np.testing.assert_allclose(vector, [[1.1, 0.9], [3.1, -0.6]], rtol=1e-6)
    np.testing.assert_allclose(matrix, [[1.1, 2.15], [3.1, -0.35]], rtol=1e-6)
    assert SCALINGS[0](LOGITS.astype(jnp.bfloat16)).dtype == jnp.float32


def test_a_temperature_may_be_traced():
    slope = jax.jit(jax.grad(lambda value: ensemble.temperature(value)(LOGITS).sum()))(2.0)
    np.testing.assert_allclose(slope, -LOGITS.sum() / 4, rtol=1e-6)


ERRORS = {
    "zero": (lambda: ensemble.temperature(0.0)(LOGITS), ConfigError, "temperature value: expected"),
    "integers": (
        lambda: ensemble.temperature(2.0)(jnp.ones((2, 2), int)),
        DTypeError,
        "temperature logits: expected floating",
    ),
    "sizes": (
        lambda: ensemble.vector_scaling(jnp.ones(3), jnp.ones(2))(LOGITS),
        ShapeError,
        r"vector_scaling bias: expected one number for each class, \(classes,\), got \(2,\)",
    ),
    "classes": (
        lambda: ensemble.vector_scaling(jnp.ones(3), jnp.ones(3))(LOGITS),
        ShapeError,
        r"vector_scaling logits: expected \(..., 3\), the classes that were fitted, got \(2, 2\)",
    ),
    "kernel": (
        lambda: ensemble.matrix_scaling(jnp.ones((2, 3)), jnp.ones(2))(LOGITS),
        ShapeError,
        r"matrix_scaling kernel: expected \(2, 2\)",
    ),
    "list": (
        lambda: ensemble.vector_scaling([1.0, 2.0], [0.0, 0.0])(LOGITS),
        DTypeError,
        "vector_scaling scale: expected one array, got list",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
