"""Predictors: combined, then calibrated; saved and loaded as one value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, ensemble, lab, nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError

draw = np.random.default_rng(0)
X = draw.integers(0, 256, (24, 4, 4, 1), np.uint8)
Y = np.arange(24) % 3
RECIPE = train.recipe(
    nn.chain(nn.flatten(), nn.dense(5), nn.batch_norm(), nn.relu(), nn.dense(3)),
    optim.adam(1e-2),
    loss=objective.cross_entropy(label_smoothing=0.1),
    metrics={"top": objective.top_k(2)},
    prepare=data.standardize(X),
    augment=augment.flip_lr(),
)


@pytest.fixture(scope="module")
def members():
    states = []
    for seed in range(3):
        result = train.run(jax.random.key(seed), RECIPE, (X, Y), epochs=20, batch_size=8)
        states.append(result.train_state)
    return ensemble.collect(RECIPE, states)


def test_outputs_are_combined_and_then_calibrated(members):
    model = ensemble.predictor(
        members, calibration=ensemble.temperature(2.0), classes=["a", "b", "c"]
    )
    combined = ensemble.average_probabilities(ensemble.predict(members, X))
    np.testing.assert_allclose(model.predict(X), combined / 2, rtol=1e-6)
    probabilities = model.probabilities(X)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(combined / 2), rtol=1e-5)
    assert model.label(X).tolist() == ["abc"[index] for index in probabilities.argmax(-1)]
    plain = ensemble.predictor(members)
    np.testing.assert_array_equal(plain.label(X), combined.argmax(-1))


def test_recipes_keep_what_prediction_and_evaluation_need(members):
    kept = ensemble.predictor(members).members
    recipe = kept.recipe
    assert recipe.optimizer is None and recipe.augment is None
    assert recipe.network == RECIPE.network and recipe.prepare == RECIPE.prepare
    expected = ensemble.evaluate(members, (X, Y)).combined
    figures = ensemble.evaluate(kept, (X, Y)).combined
    assert list(figures) == ["loss", "top"]
    for name, figure in figures.items():
        np.testing.assert_allclose(figure, expected[name], rtol=1e-6)


def test_a_predictor_is_saved_and_loaded_as_one(members, tmp_path):
    logits = ensemble.average_probabilities(ensemble.predict(members, X))
    fitted = ensemble.fit_temperature(logits, Y)
    model = ensemble.predictor(members, calibration=fitted, classes=["a", "b", "c"])
    lab.save_model(tmp_path, model)
    loaded = lab.load_model(tmp_path)
    assert loaded.classes == model.classes and loaded.calibration == fitted
    assert len(loaded.members) == 3 and loaded.members.recipe == model.members.recipe
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_members_with_numbers_of_their_own_are_predictors():
    recipes = [RECIPE.replace_at("optimizer.rate", rate) for rate in (0.1, 0.2)]
    recipes = [one.replace_at("loss.label_smoothing", 0.1 * i) for i, one in enumerate(recipes)]
    start = train.start(jax.random.key(0), RECIPE, (4, 4, 1))
    members = ensemble.collect(recipes, [start, start])
    kept = ensemble.predictor(members).members
    assert kept[1].recipe.loss == recipes[1].loss
    expected = ensemble.predict(members, X)
    np.testing.assert_allclose(ensemble.predict(kept, X), expected, rtol=1e-5, atol=1e-6)


def test_labels_within_jit_are_indices(members):
    plain = ensemble.predictor(members)
    inside = jax.jit(lambda inputs: plain.label(inputs))(X)
    np.testing.assert_array_equal(inside, plain.label(X))
    named = ensemble.predictor(members, classes=["a", "b", "c"])
    with pytest.raises(ConfigError, match="label: expected known inputs, for names of classes"):
        jax.jit(lambda inputs: named.label(inputs))(X)


def test_the_mean_of_logits_has_labels_and_probabilities(members):
    model = ensemble.predictor(members, combine=ensemble.average_outputs)
    mean = ensemble.predict(members, X).mean(0)
    np.testing.assert_array_equal(model.label(X), mean.argmax(-1))
    np.testing.assert_allclose(model.probabilities(X), jax.nn.softmax(mean), rtol=1e-5)


def test_one_output_is_the_second_of_two_classes():
    recipe = train.recipe(nn.dense(1), loss=objective.binary_cross_entropy)
    weights = train.start(jax.random.key(0), recipe.replace(optimizer=optim.sgd(0.1)), (4,))
    model = ensemble.predictor(ensemble.collect(recipe, [weights]), classes=("no", "yes"))
    x = jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)
    probabilities = model.probabilities(x)
    assert probabilities.shape == (6, 1)
    assert model.label(x).tolist() == ["yes" if p > 0.5 else "no" for p in probabilities[:, 0]]


def test_several_questions_have_probabilities_and_no_label():
    recipe = train.recipe(nn.dense(4), loss=objective.binary_cross_entropy)
    start = train.start(jax.random.key(0), recipe.replace(optimizer=optim.sgd(0.1)), (4,))
    model = ensemble.predictor(ensemble.collect(recipe, [start]))
    x = jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)
    expected = jax.nn.sigmoid(train.predict(recipe, start, x))
    np.testing.assert_allclose(model.probabilities(x), expected, rtol=1e-6)
    with pytest.raises(ConfigError, match="label: expected one question, got 4 questions"):
        model.label(x)


def test_regression_predicts_the_mean_and_has_no_labels():
    recipe = train.recipe(nn.dense(2), loss=objective.squared_error)
    start = train.start(jax.random.key(0), recipe.replace(optimizer=optim.sgd(0.1)), (4,))
    model = ensemble.predictor(ensemble.collect(recipe, [start, start]))
    x = jnp.ones((3, 4))
    np.testing.assert_allclose(model.predict(x), ensemble.predict(model.members, x).mean(0))
    with pytest.raises(ConfigError, match="label: expected logits of classes"):
        model.label(x)


def test_wrong_arguments_raise(members):
    with pytest.raises(ConfigError, match="predictor members: expected Members"):
        ensemble.predictor(RECIPE)
    with pytest.raises(ConfigError, match=r"predictor calibration: .*got 2\.0; fit one"):
        ensemble.predictor(members, calibration=2.0)
    with pytest.raises(ConfigError, match="predictor classes: expected a sequence of names"):
        ensemble.predictor(members, classes="abc")
    with pytest.raises(ShapeError, match="label: expected 2 classes, a, b"):
        ensemble.predictor(members, classes=["a", "b"]).label(X)


@pytest.mark.parametrize("classes", ["abc", {"a", "b", "c"}, 3])
def test_classes_without_an_order_raise(members, classes):
    with pytest.raises(ConfigError, match="predictor classes: expected a sequence of names"):
        ensemble.predictor(members, classes=classes)
    assert ensemble.predictor(members, classes=np.array(["a", "b", "c"])).classes == ("a", "b", "c")


def test_other_combinations_have_no_labels(members):
    model = ensemble.predictor(members, combine=ensemble.vote)
    message = r"label: expected logits of classes, .*, got combine=vote; use predict"
    with pytest.raises(ConfigError, match=message):
        model.label(X)
