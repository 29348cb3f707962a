"""Early stopping: the end of a run, the returned train state, and function transforms."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, lab, nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.types import Metric

digits = data.digits()
few = (digits.train[0][:100], digits.train[1][:100])
some = (digits.test[0][:80], digits.test[1][:80])
network = nn.chain(nn.flatten(), nn.dense(32), nn.batch_norm(), nn.relu(), nn.dense(10))
EPOCHS = 30


def run(key, rate=0.3, stopping=None, epochs=EPOCHS, network=network):
    recipe = train.recipe(network, optim.ema(optim.momentum(rate), 0.5), early_stopping=stopping)
    return train.run(key, recipe, few, valid=some, epochs=epochs, batch_size=50)


def keras(losses, patience, min_delta=0.0):
    """Apply the rule of Keras: return the number of epochs that run, and the best one."""
    best, stalled = np.inf, 0
    for epoch, loss in enumerate(losses):
        if loss < best - min_delta:
            best, chosen, stalled = loss, epoch, 0
        else:
            stalled += 1
        if stalled >= patience:
            break
    return epoch + 1, chosen + 1


@pytest.mark.parametrize(("patience", "min_delta"), [(1, 0.0), (3, 0.0), (2, 0.02), (EPOCHS, 0.0)])
def test_run_ends_by_the_rule_and_returns_its_best_epoch(key, patience, min_delta):
    losses = run(key).history.valid_loss
    ran, best = keras(losses, patience, min_delta)
    result = run(key, stopping=train.early_stopping(patience, min_delta=min_delta))
    assert result.history.valid_loss.shape == (ran,) and result.history.loss.shape == (2 * ran,)
    np.testing.assert_allclose(result.history.valid_loss, losses[:ran], rtol=1e-6)
    assert result.train_state.step == 2 * best
    until_best = run(key, epochs=best).train_state
    chex.assert_trees_all_close(result.train_state[:3], until_best[:3], rtol=1e-6)


@pytest.mark.slow
def test_an_equal_loss_is_not_better(key):
    """With a rate of 0 all epochs have one loss; the first is the best."""
    plain = nn.chain(nn.flatten(), nn.dense(10))
    result = run(key, rate=0.0, stopping=train.early_stopping(3), network=plain)
    assert result.history.valid_loss.shape == (4,) and result.train_state.step == 2


def test_without_restore_best_the_last_epoch_is_returned(key):
    result = run(key, stopping=train.early_stopping(2, restore_best=False))
    assert result.train_state.step == result.history.loss.size < 2 * EPOCHS


@pytest.mark.slow
def test_mode_max_monitors_a_figure_to_maximize(key):
    accuracy = run(key).history.valid_accuracy
    ran, best = keras(-accuracy, 4)
    result = run(key, stopping=train.early_stopping(4, by="valid_accuracy", mode="max"))
    assert result.history.valid_accuracy.size == ran and result.train_state.step == 2 * best


def test_a_run_holds_no_infinity(key):
    with jax.debug_infs(True):
        result = run(key, stopping=train.early_stopping(2), epochs=1)
    assert result.train_state.watch.best == result.history.valid_loss[0]


@pytest.mark.slow
def test_history_is_padded_with_nan_within_jit(key):
    stopped = run(key, stopping=train.early_stopping(2))
    whole = jax.jit(lambda key: run(key, stopping=train.early_stopping(2)))(key)
    ran = stopped.history.valid_loss.size
    chex.assert_trees_all_close(
        whole.history.valid_loss[:ran], stopped.history.valid_loss, rtol=1e-6
    )
    assert (
        jnp.isnan(whole.history.valid_loss[ran:]).all()
        and jnp.isnan(whole.history.loss[2 * ran :]).all()
    )
    assert whole.history.finite.all() and whole.history.valid_loss.size == EPOCHS
    chex.assert_trees_all_close(
        whole.train_state.params, stopped.train_state.params, rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_lanes_end_independently_with_traced_patience(key):
    patience = jnp.array([1.0, 2.0, 5.0])
    lanes = jax.vmap(lambda p: run(key, stopping=train.early_stopping(p)).history.valid_loss)(
        patience
    )
    alone = [
        run(key, stopping=train.early_stopping(float(p))).history.valid_loss.size for p in patience
    ]
    assert jnp.isfinite(lanes).sum(1).tolist() == alone
    assert len(set(alone)) > 1


@pytest.mark.slow
def test_diverged_lane_returns_its_initial_state(key):
    stopped = jax.vmap(lambda rate: run(key, rate, train.early_stopping(3)))(
        jnp.array([0.3, jnp.inf])
    )
    chex.assert_tree_all_finite(
        stopped.train_state.params
    )  # the second lane returns its initial state
    assert stopped.train_state.step[1] == 0


@pytest.mark.slow
def test_gradient_equals_the_central_difference(x64, key):
    smooth = nn.chain(nn.flatten(), nn.dense(32), nn.batch_norm(), nn.tanh(), nn.dense(10))

    def last_loss(rate):
        history = run(key, rate, train.early_stopping(2), network=smooth).history
        return jnp.nanmin(history.valid_loss)

    rate, step = 0.05, 1e-5
    central = (last_loss(rate + step) - last_loss(rate - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(last_loss))(rate), central, rtol=1e-4)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (partial(train.early_stopping, 0), "early_stopping patience: expected a number in"),
        (
            partial(train.early_stopping, 2, min_delta=-1),
            "early_stopping min_delta: expected a number in",
        ),
        (
            partial(train.early_stopping, 2, mode="least"),
            "early_stopping mode: expected one of min, max, got 'least'",
        ),
    ],
)
def test_invalid_options_raise(mistake, message):
    with pytest.raises(ConfigError, match=message):
        mistake()


def test_missing_figures_raise(key):
    with pytest.raises(
        ConfigError,
        match="early_stopping by: expected one of valid_loss, valid_accuracy, got 'loss'",
    ):
        run(key, stopping=train.early_stopping(2, by="loss"))
    with pytest.raises(
        ConfigError, match=r"early_stopping: expected a value from train.early_stopping, got 5"
    ):
        run(key, stopping=5)
    recipe = train.recipe(network, optim.sgd(0.1), early_stopping=train.early_stopping(2))
    with pytest.raises(
        ConfigError, match="valid: expected validation data, whose loss early_stopping monitors"
    ):
        train.run(key, recipe, few, epochs=1, batch_size=50)
    with pytest.raises(
        ConfigError, match="early_stopping by: expected one of valid_loss, valid_error"
    ):
        more = train.early_stopping(2, by="valid_accuracy")
        recipe.replace(early_stopping=more, metrics={"error": objective.cross_entropy})


# Which values are better.


draw = np.random.default_rng(0)
X = draw.normal(size=(48, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


@objective.loss()
def own_loss(outputs, targets):
    """A declared loss of a user."""
    return outputs[:, 0]


@objective.loss(mode="max")
def own_score(outputs, targets):
    """A declared metric of a user."""
    return outputs[:, 0]


def own_metric(outputs, targets):
    return outputs[:, 0]


@pytest.mark.parametrize(
    ("function", "mode"),
    [
        (objective.accuracy, "max"),
        (objective.accuracy(ignore=1), "max"),
        (partial(objective.accuracy, ignore=1), "max"),
        (objective.binary_accuracy(), "max"),
        (objective.top_k(2), "max"),
        (objective.precision(), "max"),
        (objective.recall(), "max"),
        (objective.f1(), "max"),
        (objective.mean_iou(), "max"),
        (objective.roc_auc(), "max"),
        (objective.average_precision(), "max"),
        (objective.r2(), "max"),
        (objective.ignoring(objective.accuracy, 255), "max"),
        (objective.masked(objective.accuracy), "max"),
        (objective.of("digit", objective.accuracy), "max"),
        (objective.of("digit", objective.f1()), "max"),
        (objective.calibration_error(), "min"),
        (objective.perplexity(), "min"),
        (objective.cross_entropy, "min"),
        (objective.cross_entropy(label_smoothing=0.1), "min"),
        (partial(objective.cross_entropy, label_smoothing=0.1), "min"),
        (objective.class_weighted(objective.cross_entropy, [1.0, 2.0]), "min"),
        (own_loss, "min"),
        (own_score, "max"),
        (Metric(own_metric, lambda values, weights: values.max(), mode="max"), "max"),
        (own_metric, None),
        (objective.masked(own_metric), None),
        (objective.confusion_matrix(2), None),
    ],
)
def test_a_metric_knows_which_values_are_better(function, mode):
    stopping = train.early_stopping(2, by="valid_figure")
    make = partial(train.recipe, nn.dense(2), metrics={"figure": function}, early_stopping=stopping)
    if mode is None:
        with pytest.raises(ConfigError, match="early_stopping mode: expected min or max for valid"):
            make()
    else:
        assert make().stopping_sign == {"min": 1, "max": -1}[mode]


@pytest.mark.parametrize("entry", [train.run, partial(lab.fit, show=False)])
def test_early_stopping_by_accuracy_returns_the_most_accurate_epoch(entry):
    stopping = train.early_stopping(2, by="valid_accuracy")
    recipe = train.recipe(nn.dense(2), optim.sgd(0.05), early_stopping=stopping)
    options = {"epochs": 12, "batch_size": 16, "valid": (X, Y)}
    result = entry(jax.random.key(0), recipe, (X, Y), **options)
    best = np.nanmax(result.history.valid_accuracy)
    assert best > result.history.valid_accuracy[0]
    assert train.evaluate(recipe, result.train_state, (X, Y))["accuracy"] == best


def test_a_metric_whose_higher_values_are_better_is_no_loss():
    for metric in (objective.accuracy, objective.top_k(2), own_score):
        with pytest.raises(ConfigError, match="recipe loss: expected a function that is minimized"):
            train.recipe(nn.dense(2), optim.sgd(0.05), loss=metric)
