"""Instruments: statistics in the history of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, lab, nn, optim, train
from fnn.errors import ConfigError
from fnn.train.inputs import NOISE, derive_key
from fnn.train.step import start_on_data

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (96, 6))
Y = jnp.arange(96) % 3
RATE = 0.1
NETWORK = nn.chain(nn.dense(8), nn.relu(), nn.dropout(0.2), nn.dense(5), nn.tanh(), nn.dense(3))
RECIPE = train.recipe(
    NETWORK, optim.sgd(RATE), instruments=diagnose.instruments("full", every=2, examples=16)
)
NAMES = RECIPE.instruments.names
LAYERS = diagnose.layer_names(RECIPE, (6,))
PARAMETERS = diagnose.parameter_names(RECIPE, (6,))


def run(recipe, key=KEY, **options):
    return train.run(key, recipe, (X, Y), epochs=2, batch_size=32, **options)


@pytest.fixture(scope="module")
def result():
    return run(RECIPE)


def expect_same(got, wanted):
    for name in NAMES:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def test_the_history_has_a_row_per_step_that_is_nan_unless_it_was_measured(result):
    history = result.history
    shapes = {name: history[name].shape[1:] for name in NAMES}
    moments = ("activation_mean", "activation_std", "dead_share", "saturated_share")
    of_samples = {"activation_quantiles": (6, 5), "activation_histogram": (6, 40)}
    of_parameters = dict.fromkeys(("grad_rms", "weight_rms", "update_ratio"), (6,))
    assert shapes == dict.fromkeys(moments, (6,)) | of_samples | of_parameters
    measured = np.isfinite(history.activation_mean).all(1)
    np.testing.assert_array_equal(measured, np.arange(6) % 2 == 0)
    assert np.isnan(history.update_ratio[1]).all()


def test_instruments_change_nothing_else(result):
    plain = RECIPE.replace(instruments=None)
    expected = run(plain)
    for name, values in expected.history.items():
        np.testing.assert_array_equal(result.history[name], values)
    jax.tree.map(
        np.testing.assert_array_equal, result.train_state.params, expected.train_state.params
    )


def test_the_update_ratio_of_sgd_is_the_rate_times_gradient_over_weight(result):
    history = result.history
    wanted = RATE * history.grad_rms[2] / history.weight_rms[2]
    np.testing.assert_allclose(history.update_ratio[2], wanted, rtol=1e-3)
    # Biases begin at 0.
    assert np.isinf(history.update_ratio[0][PARAMETERS.index("dense_0/bias")])


@pytest.mark.slow
def test_statistics_are_those_of_the_outputs_in_training_mode():
    recipe = RECIPE.replace(instruments=diagnose.instruments("full", examples=32))
    before = train.start(KEY, recipe, (6,))
    x, y = X[:32], Y[:32]
    _, figures = train.step(recipe, before, (x, y))
    # The noise key of the first step.
    key = derive_key(before, NOISE, 0)
    tapped = nn.tap(NETWORK, *LAYERS)
    (_, outputs), _ = tapped.apply(before.params, before.state, x, key=key, train=True)
    by_name = {name: dict(zip(LAYERS, figures[name], strict=True)) for name in NAMES[:6]}
    for path, output in outputs.items():
        a = np.asarray(output, np.float64)
        np.testing.assert_allclose(by_name["activation_mean"][path], a.mean(), atol=1e-6)
        np.testing.assert_allclose(by_name["activation_std"][path], a.std(), rtol=1e-5)
        wanted = np.percentile(a, [5, 25, 50, 75, 95])
        np.testing.assert_allclose(by_name["activation_quantiles"][path], wanted, atol=1e-5)
        inner = np.histogram(a, diagnose.HISTOGRAM_EDGES)[0] / a.size
        np.testing.assert_allclose(by_name["activation_histogram"][path][1:-1], inner, atol=1e-6)
    dead = (np.asarray(outputs["relu_1"]) > 1e-5).mean(0) < 0.05
    np.testing.assert_allclose(by_name["dead_share"]["relu_1"], dead.mean())
    saturated = np.abs(outputs["tanh_4"]).mean(0) > 0.85
    np.testing.assert_allclose(by_name["saturated_share"]["tanh_4"], saturated.mean())
    assert np.isnan(by_name["dead_share"]["tanh_4"])


@pytest.mark.slow
def test_fit_records_the_same_arrays(result):
    fitted = lab.fit(KEY, RECIPE, (X, Y), epochs=2, batch_size=32, show=False)
    expect_same(fitted.history, result.history)


@pytest.mark.slow
def test_a_stream_records_the_arrays_of_its_steps():
    batches = [(X[:32], Y[:32]), (X[32:64], Y[32:64]), (X[64:], Y[64:])]
    fitted = lab.fit(KEY, RECIPE, batches, epochs=1, show=False)
    # Compiled, as in fit.
    state = start_on_data(RECIPE, KEY, batches[0])
    for index, batch in enumerate(batches):
        state, figures = train.step(RECIPE, state, batch)
        row = {name: fitted.history[name][index] for name in NAMES}
        expect_same(row, figures)


@pytest.mark.slow
def test_a_resumed_run_records_the_same_arrays(result):
    half = train.run(KEY, RECIPE, (X, Y), epochs=1, batch_size=32)
    whole = train.run(KEY, RECIPE, (X, Y), epochs=1, batch_size=32, resume=half)
    expect_same(whole.history, result.history)


@pytest.mark.slow
def test_a_lane_is_a_run_and_the_callback_gets_scalars(result):
    figures = []
    keys = jnp.stack([KEY, jax.random.key(7)])

    def note(step, values):
        figures.append(values)

    lanes = jax.vmap(lambda key: run(RECIPE, key, callback=note))(keys)
    jax.effects_barrier()
    for name in NAMES:
        got = lanes.history[name][0]
        np.testing.assert_allclose(got, result.history[name], rtol=1e-5, atol=1e-5)
    assert not set(NAMES) & set(figures[0])


@pytest.mark.slow
def test_a_gradient_through_a_run_ignores_the_statistics():
    recipe = RECIPE.replace(instruments=diagnose.instruments(every=2))

    def loss(recipe):
        history = train.run(KEY, recipe, (X, Y), epochs=1, batch_size=48).history
        return history.loss[-1] + 0 * jnp.nan_to_num(history.activation_std).sum()

    got = jax.jit(jax.grad(loss))(recipe)
    wanted = jax.jit(jax.grad(loss_alone))(recipe.replace(instruments=None))
    jax.tree.map(np.testing.assert_allclose, got.optimizer, wanted.optimizer)


def loss_alone(recipe):
    return train.run(KEY, recipe, (X, Y), epochs=1, batch_size=48).history.loss[-1]


def test_frozen_parameters_have_a_ratio_of_0_and_half_precision_is_measured_in_float32():
    network = nn.cast(nn.chain(nn.dense(4), nn.relu(), nn.dense(3)), jnp.bfloat16)
    optimizer = optim.partition({"dense_0/*": None}, optim.sgd(RATE))
    recipe = train.recipe(network, optimizer, instruments=diagnose.instruments(every=1))
    _, figures = train.step(recipe, train.start(KEY, recipe, (6,)), (X[:32], Y[:32]))
    ratios = dict(zip(diagnose.parameter_names(recipe, (6,)), figures["update_ratio"], strict=True))
    assert ratios["dense_0/kernel"] == ratios["dense_0/bias"] == 0
    assert ratios["dense_2/kernel"] > 0
    assert figures["activation_std"].dtype == jnp.float32


def test_misuse_raises_an_error():
    with pytest.raises(ConfigError, match=r"instruments tier: expected .*economy.*, got 'fast'"):
        str(diagnose.instruments("fast").names)
    with pytest.raises(ConfigError, match="instruments every"):
        str(diagnose.instruments(every=0).names)
    with pytest.raises(ConfigError, match="recipe instruments: expected a value from"):
        str(RECIPE.replace(instruments="full").network)
    with pytest.raises(ConfigError, match=r"recipe metrics: expected names other than .*grad_rms"):
        str(RECIPE.replace(metrics={"grad_rms": jnp.subtract}).network)
