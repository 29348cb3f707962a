"""Evaluation and prediction: every example once, for any batch size."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab, nn, objective, optim, train
from fnn.errors import ConfigError, DTypeError
from fnn.train.measure import measure_examples, reduce_examples
from fnn.types import Layer, Metric, Weighted, Weights

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
network = nn.chain(nn.batch_norm(), nn.dense(4), nn.dropout(0.5))
recipe = train.recipe(network)
weights = Weights(*network.init(jax.random.key(0), (3,))[:2])
logits, _ = network.apply(*weights, X)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 100])
def test_figures_are_the_means_over_all_examples(batch_size):
    figures = train.evaluate(recipe, weights, (X, Y), batch_size=batch_size)
    np.testing.assert_allclose(
        figures["loss"], objective.cross_entropy(logits, Y).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        figures["accuracy"], (np.asarray(logits).argmax(1) == Y).mean(), rtol=1e-7
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [objective.cross_entropy, objective.class_weighted(objective.cross_entropy, [1, 2, 3, 4])],
)
def test_examples_of_weight_0_do_not_count(loss):
    metrics = {"accuracy": objective.accuracy, "f1": objective.f1()}
    one = train.recipe(network, loss=loss, metrics=metrics)
    kept = jnp.arange(23) < 15
    values = measure_examples(one, logits, jnp.asarray(Y))
    figures = reduce_examples(one, values, kept.astype(jnp.float32))
    alone = measure_examples(one, logits[:15], jnp.asarray(Y[:15]))
    expected = reduce_examples(one, alone)
    assert figures.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(figures[name], expected[name], rtol=1e-6)


def test_the_loss_is_the_first_figure():
    assert list(train.evaluate(recipe, weights, (X, Y))) == ["loss", "accuracy"]


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_predictions_are_the_outputs_in_order(batch_size):
    predicted = train.predict(recipe, weights, X, batch_size=batch_size)
    np.testing.assert_allclose(predicted, logits, rtol=1e-6, atol=1e-7)


def test_padded_last_batch_causes_no_second_compilation():
    traced = train.recipe(
        nn.chain(nn.elementwise(chex.assert_max_traces(lambda x: x + 0, n=1)), nn.dense(4))
    )
    own, _, _ = nn.chain(nn.flatten(), nn.dense(4)).init(jax.random.key(0), (3,))
    for _ in range(2):
        train.predict(traced, Weights(own, {}), X, batch_size=5)


def test_predict_works_under_vmap():
    keys = jax.random.split(jax.random.key(1), 3)
    members = jax.vmap(lambda key: Weights(*network.init(key, (3,))[:2]))(keys)
    together = jax.vmap(lambda member: train.predict(recipe, member, X))(members)
    alone = train.predict(recipe, jax.tree.map(lambda leaf: leaf[1], members), X)
    np.testing.assert_allclose(together[1], alone, rtol=1e-5, atol=1e-6)


spread = Metric(
    per_example=lambda outputs, targets: outputs[:, 0],
    reduce=lambda statistics, weights: jnp.std(statistics * weights),
)
matrix = Metric(
    per_example=lambda outputs, targets: (outputs.argmax(-1), targets),
    reduce=lambda pair, weights: jnp.zeros((4, 4)).at[pair[1], pair[0]].add(weights),
)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_metric_of_the_set_counts_every_example_once(batch_size):
    """The spread of the set is not the mean of the batches' spreads."""
    own = recipe.replace(metrics={"spread": spread, "matrix": matrix})
    figures = train.evaluate(own, weights, (X, Y), batch_size=batch_size)
    np.testing.assert_allclose(figures["spread"], np.asarray(logits)[:, 0].std(), rtol=1e-5)
    wanted = np.zeros((4, 4))
    np.add.at(wanted, (Y, np.asarray(logits).argmax(1)), 1)
    np.testing.assert_array_equal(figures["matrix"], wanted)
    np.testing.assert_array_equal(matrix(logits, Y), wanted)


@pytest.mark.slow
def test_history_has_metrics_that_are_arrays(key):
    own = train.recipe(network, optim.sgd(0.1), metrics={"matrix": matrix})
    result = train.run(key, own, (X, Y), epochs=2, batch_size=5, valid=(X, Y))
    assert result.history.matrix.shape == (8, 4, 4) and result.history.valid_matrix.shape == (
        2,
        4,
        4,
    )
    np.testing.assert_array_equal(result.history.valid_matrix.sum((1, 2)), [23, 23])


@pytest.mark.parametrize("batch_size", [2, 23])
def test_weighted_loss_is_the_weighted_mean_over_the_set(batch_size):
    def loss(outputs, targets):
        return Weighted(
            objective.cross_entropy(outputs, targets), (targets != 3).astype(jnp.float32)
        )

    figures = train.evaluate(recipe.replace(loss=loss), weights, (X, Y), batch_size=batch_size)
    wanted = np.asarray(objective.cross_entropy(logits, Y))[Y != 3].mean()
    np.testing.assert_allclose(figures["loss"], wanted, rtol=1e-6)


def noisy():
    """A layer that adds noise whenever it gets a key, as of a variational autoencoder."""

    def apply(params, state, x, *, key=None, train=False):
        return x if key is None else x + jax.random.normal(key, x.shape), state

    return Layer(lambda key, shape: ({}, {}, shape), apply)


@pytest.mark.slow
def test_layers_that_sample_get_a_key_in_validation():
    inputs, targets = np.ones((24, 3), np.float32), np.arange(24, dtype=np.int32) % 2
    sampling = train.recipe(nn.chain(nn.dense(2), noisy()), optim.sgd(0.1))
    key = jax.random.key(3)
    how = {"valid": (inputs, targets), "epochs": 2, "batch_size": 8}
    result = train.run(key, sampling, (inputs, targets), **how)
    fitted = lab.fit(key, sampling, (inputs, targets), show=False, **how)
    np.testing.assert_array_equal(result.history.valid_loss, fitted.history.valid_loss)
    evaluate = partial(train.evaluate, sampling, data=(inputs, targets), batch_size=8)
    # The key follows from that of the train state, so that the figure is that of validation.
    drawn = evaluate(result.train_state)["loss"]
    np.testing.assert_allclose(drawn, result.history.valid_loss[-1], rtol=1e-6)
    other = evaluate(result.train_state, key=jax.random.key(4))["loss"]
    weights = train.weights(sampling, result.train_state)
    without = evaluate(weights)["loss"]
    assert len({float(drawn), float(other), float(without)}) == 3
    np.testing.assert_array_equal(evaluate(weights, key=jax.random.key(4))["loss"], other)


def test_predictions_are_samples_with_a_key():
    sampling = train.recipe(nn.chain(nn.dense(2), noisy()), optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), sampling, (3,))
    inputs = np.ones((8, 3), np.float32)
    predict = partial(train.predict, sampling, train_state, inputs, batch_size=4)
    means, first, again = predict(), predict(key=jax.random.key(1)), predict(key=jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert jnp.ptp(means, 0).max() == 0 and jnp.ptp(first, 0).min() > 0
    with pytest.raises(DTypeError, match="predict key: expected a key"):
        predict(key=1)


def plain_nt_xent(outputs, targets):
    """A plain function, jitted as those of users may be."""
    return jax.jit(objective.nt_xent)(outputs, targets) / 1.0


@pytest.mark.slow
def test_a_loss_that_couples_examples_sees_whole_batches():
    """A padded batch would have copies, which are near to an example of another label."""
    inputs = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    labels = np.arange(11, dtype=np.int32) // 2
    for loss in (objective.nt_xent, plain_nt_xent):
        contrastive = train.recipe(nn.dense(2), optim.sgd(0.1), loss=loss)
        train_state = train.start(jax.random.key(0), contrastive, (3,))
        embeddings = train.predict(contrastive, train_state, inputs)
        # 11 examples in batches of at most 4: 4, 4, 3.
        parts = [slice(0, 4), slice(4, 8), slice(8, 11)]
        values = [objective.nt_xent(embeddings[part], labels[part]) for part in parts]
        got = train.evaluate(contrastive, train_state, (inputs, labels), batch_size=4)["loss"]
        np.testing.assert_allclose(got, np.concatenate(values).mean(), rtol=1e-6)


def test_micro_batches_with_a_loss_that_couples_examples_raise():
    heads = objective.multi_task({"a": objective.nt_xent, "b": objective.cross_entropy})
    masked = objective.masked(objective.nt_xent)
    for loss in (objective.nt_xent, objective.nt_xent(temperature=0.1), heads, masked):
        with pytest.raises(ConfigError, match="micro_batch_size: expected None for a loss or"):
            train.recipe(nn.dense(2), optim.sgd(0.1), loss=loss, micro_batch_size=4)


@pytest.mark.parametrize("where", ["loss", "metrics"])
def test_plain_functions_of_a_loss_that_couples_examples_are_recognized(where, key):
    given = plain_nt_xent if where == "loss" else {"contrast": plain_nt_xent}
    recipe = train.recipe(nn.dense(2), optim.sgd(0.1), **{where: given}, micro_batch_size=4)
    train_state = train.start(key, recipe, (3,))
    batch = (np.ones((8, 3), np.float32), np.arange(8, dtype=np.int32) % 2)
    with pytest.raises(ConfigError, match="micro_batch_size: expected None for a loss or"):
        train.step(recipe, train_state, batch)
    train.step(recipe, train_state, jax.tree.map(lambda leaf: leaf[:4], batch))


@pytest.mark.parametrize("entrance", ["step", "epoch", "evaluate", "predict", "weights"])
def test_a_donated_train_state_raises(entrance, key):
    trained = train.recipe(network, optim.sgd(0.1))
    state = train.start(key, trained, (3,))
    after = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf, state), donate_argnums=0)(state)
    calls = {
        "step": lambda state: train.step(trained, state, (X, Y)),
        "epoch": lambda state: train.epoch(trained, state, (X, Y), batch_size=8),
        "evaluate": lambda state: train.evaluate(trained, state, (X, Y)),
        "predict": lambda state: train.predict(trained, state, X),
        "weights": lambda state: train.weights(trained, state),
    }
    message = f"{entrance} train_state: expected arrays that exist, got arrays that were donated"
    with pytest.raises(ConfigError, match=message):
        calls[entrance](state)
    calls[entrance](after)


def test_prediction_is_exported_with_a_symbolic_batch():
    (batch,) = jax.export.symbolic_shape("batch")
    inputs = jax.ShapeDtypeStruct((batch, 3), jnp.float32)
    exported = jax.export.export(jax.jit(partial(train.predict, recipe, weights)))(inputs)
    for count in (1, 23):
        np.testing.assert_allclose(exported.call(X[:count]), logits[:count], rtol=1e-6, atol=1e-7)
