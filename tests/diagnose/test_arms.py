"""Arms of experiments: the runs that they compare, gains and verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.diagnose.arms import Arms, Start, gains, judge, score_outputs
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED
from fnn.diagnose.treatments import adjust_rate
from fnn.search.lanes import prepare_task

BLOBS = data.synthetic.blobs(jax.random.key(1), 96, features=8)
RECIPE = train.recipe(nn.chain(nn.dense(8), nn.relu(), nn.dense(3)), optim.adam(0.1))


@pytest.fixture
def arms(key):
    task = prepare_task([RECIPE], BLOBS, None, epochs=2, batch_size=32)
    return Arms(RECIPE, key, task, seeds=2)


@pytest.mark.slow
def test_the_first_key_repeats_the_run(key, arms):
    found = arms.run(adjust_rate(arms.recipe, 1.0))
    result = train.run(key, RECIPE, BLOBS, epochs=2, batch_size=32)
    figures = train.evaluate(RECIPE, result.train_state, BLOBS)
    assert found.losses.shape == found.rates.shape == (2, 6)
    np.testing.assert_allclose(found.losses[0], result.history.loss, rtol=1e-5)
    np.testing.assert_allclose(found.train_loss[0], figures["loss"], rtol=1e-5)
    # Without validation data, the training data takes its place.
    np.testing.assert_array_equal(found.train_loss, found.valid_loss)
    # Classes are balanced here.
    np.testing.assert_allclose(found.recalls[0].mean(), figures["accuracy"], rtol=1e-5)
    # The other key is another run.
    assert abs(found.losses[1] - found.losses[0]).min() > 1e-3


@pytest.mark.slow
def test_permuted_targets_cannot_be_learned(arms):
    recipe = adjust_rate(arms.recipe, 1.0)
    found = arms.run(recipe, permuted=True)
    assert (found.tail_loss > 2 * arms.run(recipe).tail_loss).all()
    # The same arm is trained once.
    assert arms.run(recipe, permuted=True) is found


@pytest.mark.slow
def test_rescaled_kernels_begin_at_unit_variance(key, arms):
    plain = arms.run(arms.recipe, start=Start())
    scaled = arms.run(arms.recipe, start=Start(rescales=True))
    result = train.run(key, RECIPE, BLOBS, epochs=2, batch_size=32)
    np.testing.assert_allclose(plain.losses[0], result.history.loss, rtol=1e-5)
    assert abs(scaled.losses[:, 0] - plain.losses[:, 0]).min() > 1e-3
    # Without the last layer, all classes are equally probable.
    even = arms.run(arms.recipe, start=Start(head=0.0)).losses[:, 0]
    np.testing.assert_allclose(even, arms.chance, rtol=1e-6)
    assert arms.chance == np.log(3)


def test_more_epochs_take_more_steps(arms):
    assert arms.run(arms.recipe, times=3).losses.shape == (2, 18)


def test_scores_are_accuracies_and_explained_shares_of_the_variance(key):
    outputs = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]], np.float32)
    found = score_outputs(jnp.asarray(outputs), jnp.array([0, 1, 1]), 2)
    np.testing.assert_allclose(found["recalls"], [1, 0.5])
    np.testing.assert_allclose(found["scores"], 2 / 3)
    targets = outputs + np.array([[1.0, 0.0]], np.float32)
    found = score_outputs(jnp.asarray(outputs), jnp.asarray(targets), 0)
    np.testing.assert_allclose(found["scores"], 1 - 0.5 / targets.var(0).mean(), rtol=1e-6)
    assert np.isnan(score_outputs(jnp.asarray(outputs), jnp.zeros(3), 0)["scores"])


def test_gains_are_relative_to_the_larger_loss():
    control = np.array([2.0, 1.0, 0.0, np.inf, 1.0, np.nan, -2.0])
    treated = np.array([1.0, 2.0, 0.0, 1.0, np.nan, np.inf, -4.0])
    np.testing.assert_allclose(gains(control, treated), [0.5, -0.5, 0, 1, -1, 0, 0.5])
    np.testing.assert_allclose(gains(control[:1], treated[:1], np.array([4.0])), [0.25])


def test_an_effect_is_judged_by_two_standard_errors():
    assert judge(np.array([0.2, 0.22, 0.21]), 0.1) == CONFIRMED
    assert judge(np.array([0.01, -0.02, 0.0]), 0.1) == REFUTED
    assert judge(np.array([0.0, 0.3, 0.1]), 0.1) == LIKELY
    # A single key decides alone.
    assert judge(np.array([0.1]), 0.1) == CONFIRMED
    assert judge(np.array([0.09]), 0.1) == REFUTED
