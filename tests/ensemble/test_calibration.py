"""Fitted scalings: conditions of the optimum, against float64 minimization, and their limits."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from fnn import ensemble, nn, objective, optim, train
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError


def problem(n=300, classes=4, factor=3.0, seed=0):
    """Logits that are `factor` times too large, and labels drawn by the true probabilities."""
    draw = np.random.default_rng(seed)
    true = 1.5 * draw.normal(size=(n, classes))
    labels = (true + draw.gumbel(size=true.shape)).argmax(-1)
    return jnp.float32(factor * true), jnp.array(labels)


def nll(logits, labels):
    log_p = log_softmax(np.float64(logits), -1)
    return -np.take_along_axis(log_p, np.asarray(labels)[:, None], -1).mean()


LOGITS, LABELS = problem()
fit_temperature = jax.jit(ensemble.fit_temperature)


@pytest.mark.slow
def test_the_temperature_fulfils_the_condition_of_the_optimum():
    scaling = ensemble.fit_temperature(LOGITS, LABELS)
    z = np.float64(LOGITS)
    p = np.exp(log_softmax(z / float(scaling["value"]), -1))
    own = np.take_along_axis(z, np.asarray(LABELS)[:, None], -1).mean()
    np.testing.assert_allclose((p * z).sum(-1).mean(), own, rtol=1e-5)
    assert 2.4 < scaling["value"] < 3.7
    scaled = scaling(LOGITS)
    np.testing.assert_array_equal(scaled.argmax(-1), LOGITS.argmax(-1))
    assert nll(scaled, LABELS) < nll(LOGITS, LABELS)
    ece = objective.calibration_error()
    assert ece(scaled, LABELS) < 0.5 * ece(LOGITS, LABELS)


def test_the_temperature_follows_the_scale_of_the_logits():
    """So the optimum does not depend on the start, and no scale is out of range."""
    value = fit_temperature(LOGITS, LABELS)["value"]
    for factor in (1e-6, 0.01, 100, 1e15):
        found = fit_temperature(factor * LOGITS, LABELS)["value"]
        np.testing.assert_allclose(found, factor * value, rtol=1e-5)
    shifted = LOGITS + 100 * jnp.arange(300.0)[:, None] / 300
    np.testing.assert_allclose(fit_temperature(shifted, LABELS)["value"], value, rtol=1e-4)


def test_lanes_are_single_fits():
    logits = jnp.stack([LOGITS, problem(factor=0.3, seed=1)[0]])
    labels = jnp.stack([LABELS, problem(seed=1)[1]])
    lanes = jax.vmap(ensemble.fit_temperature)(logits, labels)["value"]
    single = [fit_temperature(*one)["value"] for one in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(lanes, single, rtol=1e-5)


@pytest.mark.slow
def test_one_output_has_a_temperature_and_platt_scaling():
    z, labels = LOGITS[:, :1] + 2, (LABELS == 0).astype(int)
    two = jnp.concatenate([jnp.zeros_like(z), z], -1)
    value = fit_temperature(two, labels)["value"]
    for single in (z, z[:, 0]):
        np.testing.assert_allclose(fit_temperature(single, labels)["value"], value, rtol=1e-6)
    platt = ensemble.fit_vector_scaling(z, labels)
    x, y = np.float64(z[:, 0]), np.asarray(labels)
    found = minimize(lambda w: nll(np.stack([0 * x, w[0] * x + w[1]], 1), y), [1, 0])
    np.testing.assert_allclose([platt["scale"][0], platt["bias"][0]], found.x, rtol=2e-3)
    np.testing.assert_allclose(nll(two.at[:, 1].set(platt(z)[:, 0]), y), found.fun, rtol=1e-6)


def minimum(outputs, start, penalty=lambda w: 0):
    z = np.float64(LOGITS)
    return minimize(
        lambda w: nll(outputs(w, z), LABELS) + penalty(w), start, options={"gtol": 1e-7}
    )


@pytest.mark.slow
def test_vector_scaling_is_the_minimum():
    biased = LOGITS * jnp.array([[1.0, 2, 0.5, 1]]) + jnp.array([[300.0, 0, 5, 0]])
    for logits in (LOGITS, biased):
        scaling = ensemble.fit_vector_scaling(logits, LABELS)
        found = minimum(lambda w, z: w[:4] * z + w[4:], np.ones(8) / 3)
        np.testing.assert_allclose(nll(scaling(logits), LABELS), found.fun, rtol=1e-6)
    scaling = ensemble.fit_vector_scaling(LOGITS, LABELS)
    np.testing.assert_allclose(scaling["scale"], found.x[:4], atol=2e-3)
    np.testing.assert_allclose(scaling["bias"].mean(), 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("factors", [{}, {"off_diagonal": 2.0, "bias": 0.1}])
def test_matrix_scaling_is_the_minimum(factors):
    def penalty(w):
        kernel = w[:16].reshape(4, 4)
        off = (kernel**2).sum() - (np.diag(kernel) ** 2).sum()
        return (
            factors.get("off_diagonal", 0) * off / 12
            + factors.get("bias", 0) * (w[16:] ** 2).mean()
        )

    scaling = ensemble.fit_matrix_scaling(LOGITS, LABELS, **factors)
    start = np.concatenate([np.eye(4).ravel() / 3, np.zeros(4)])
    found = minimum(lambda w, z: z @ w[:16].reshape(4, 4) + w[16:], start, penalty)
    w = np.concatenate([np.ravel(scaling["kernel"]), scaling["bias"]])
    np.testing.assert_allclose(nll(scaling(LOGITS), LABELS) + penalty(w), found.fun, rtol=1e-5)
    if factors:
        np.testing.assert_allclose(scaling["kernel"], found.x[:16].reshape(4, 4), atol=5e-3)
    else:
        np.testing.assert_allclose(scaling["kernel"].sum(1), 1, rtol=1e-3)


@pytest.mark.slow
def test_a_calibrated_network_keeps_its_loss():
    logits, labels = problem(factor=1.0)
    before = nll(logits, labels)
    for fit in (
        ensemble.fit_temperature, ensemble.fit_vector_scaling, ensemble.fit_matrix_scaling
    ):  # fmt: skip
        assert nll(fit(logits, labels)(logits), labels) <= before + 1e-7


def test_a_logit_of_minus_infinity_is_a_class_that_cannot_be():
    impossible = jnp.full((300, 1), -jnp.inf)
    more = jnp.concatenate([LOGITS, impossible], -1)
    found = ensemble.fit_temperature(more, LABELS)
    # The other scale of the logits changes the rounding alone.
    np.testing.assert_allclose(found["value"], fit_temperature(LOGITS, LABELS)["value"], rtol=1e-5)
    with pytest.raises(NonFiniteError, match="fit_temperature logits: expected finite numbers at"):
        ensemble.fit_temperature(more, LABELS.at[0].set(4))
    with pytest.raises(NonFiniteError, match="fit_vector_scaling logits: expected finite"):
        ensemble.fit_vector_scaling(more, LABELS)


def test_pixels_are_examples():
    logits, labels = LOGITS.reshape(10, 6, 5, 4), LABELS.reshape(10, 6, 5)
    wanted = ensemble.fit_temperature(LOGITS, LABELS)
    assert ensemble.fit_temperature(logits, labels) == wanted
    assert wanted(logits).shape == logits.shape


RIGHT = 5 * jnp.eye(4)[LABELS]
ERRORS = {
    "separable": (
        lambda: ensemble.fit_temperature(RIGHT, LABELS),
        ConfigError,
        "fit_temperature logits: expected at least one example .* got 300 of 300 right",
    ),
    "constant": (
        lambda: ensemble.fit_temperature(jnp.ones((300, 4)), LABELS),
        ConfigError,
        "fit_temperature logits: expected logits that differ, got equal ones",
    ),
    "separable vector": (
        lambda: ensemble.fit_vector_scaling(RIGHT, LABELS),
        ConfigError,
        "fit_vector_scaling logits: .* 300 of 300 right",
    ),
    "uninformative": (
        lambda: ensemble.fit_temperature(-LOGITS, LABELS),
        ConfigError,
        "fit_temperature logits: expected logits better than a uniform guess",
    ),
    "class": (
        lambda: ensemble.fit_vector_scaling(LOGITS, LABELS.clip(0, 2)),
        LabelError,
        "fit_vector_scaling labels: .* got no example of class 3",
    ),
    "label": (
        lambda: ensemble.fit_temperature(LOGITS, LABELS.at[7].set(4)),
        LabelError,
        "fit_temperature labels: expected 0 <= label < 4, got 4 at index 7",
    ),
    "members": (
        lambda: ensemble.fit_temperature(LOGITS[None], LABELS),
        ShapeError,
        r"fit_temperature logits: expected \(n, classes\) .*; combine the members first",
    ),
    "number": (
        lambda: ensemble.fit_temperature(LOGITS, LABELS[:5]),
        ShapeError,
        "labels: expected one a row of logits",
    ),
    "probabilities": (
        lambda: ensemble.fit_temperature(jax.nn.softmax(LOGITS), LABELS),
        DTypeError,
        "fit_temperature logits: expected logits, got probabilities",
    ),
    "nan": (
        lambda: ensemble.fit_temperature(LOGITS.at[3].set(jnp.nan), LABELS),
        NonFiniteError,
        "fit_temperature logits: expected numbers, of which -inf is a probability of 0",
    ),
    "penalty": (
        lambda: ensemble.fit_matrix_scaling(LOGITS, LABELS, off_diagonal=-1.0),
        ConfigError,
        r"fit_matrix_scaling off_diagonal: expected a number in \[0, inf\)",
    ),
    "one output": (
        lambda: ensemble.fit_matrix_scaling(LOGITS[:, :1], LABELS % 2),
        ConfigError,
        "fit_matrix_scaling logits: expected two outputs",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()


def test_inside_jit_separable_logits_become_sure_and_wrong_labels_give_nan():
    scaling = fit_temperature(RIGHT, LABELS)
    assert scaling["value"] > 0 and nll(scaling(RIGHT), LABELS) < 1e-12
    assert np.isnan(fit_temperature(LOGITS, LABELS.at[7].set(4))["value"])


INPUTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


@pytest.mark.slow
def test_calibrate_warns_of_training_data():
    recipe = train.recipe(nn.dense(4), optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), recipe, (3,))
    outputs = train.predict(recipe, train_state, INPUTS)
    labels = (outputs + np.random.default_rng(1).gumbel(size=(40, 4))).argmax(-1)
    held_out = (INPUTS[:30], labels[:30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaling = ensemble.calibrate(
            recipe, train_state, held_out, training=(INPUTS[30:], labels[30:])
        )
    assert scaling == ensemble.fit_temperature(outputs[:30], labels[:30])
    with pytest.warns(UserWarning, match="calibrate data: 5 of 30 examples are in the training"):
        ensemble.calibrate(recipe, train_state, held_out, training=(INPUTS[25:], labels[25:]))
    with pytest.raises(ConfigError, match="data: expected a pair"):
        ensemble.calibrate(recipe, train_state, INPUTS)
    with pytest.raises(ConfigError, match="calibrate method: expected one of temperature"):
        ensemble.calibrate(recipe, train_state, held_out, method="platt")
