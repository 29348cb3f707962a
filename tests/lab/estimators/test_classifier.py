"""Classifier: labels of any type, probabilities, class weights, partial_fit."""

import jax
import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight

from fnn import lab, nn, objective, optim, train
from fnn.errors import ConfigError, LabelError, NonFiniteError

draw = np.random.default_rng(1)
X = draw.normal(size=(60, 4))
LABELS = (X[:, 0] + 0.7 * draw.normal(size=60) > 0).astype(int) + (X[:, 1] > 0.8)
SHORT = {"epochs": 3, "batch_size": 20}
FULL = {"epochs": 1500, "batch_size": 60}


def linear(outputs, rate=0.05):
    return train.recipe(nn.chain(nn.dense(outputs)), optim.adam(rate))


@pytest.fixture(scope="module")
def logistic():
    return LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)


def test_a_linear_network_is_the_logistic_regression_of_scikit_learn(logistic):
    ours = lab.Classifier(linear, **FULL).fit(X, LABELS)
    theirs = logistic.fit(X, LABELS)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-3)
    assert ours.score(X, LABELS) == accuracy_score(LABELS, theirs.predict(X))


def test_class_weights_are_those_of_scikit_learn(logistic):
    ours = lab.Classifier(linear, class_weight="balanced", **FULL).fit(X, LABELS)
    theirs = logistic.set_params(class_weight="balanced").fit(X, LABELS)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-3)


def test_class_weights_multiply_the_weights_of_examples():
    by_class = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    weights = np.linspace(1, 2, 60).astype(np.float32)
    given = dict(enumerate(by_class))
    ours = lab.Classifier(linear, class_weight=given, **SHORT).fit(X, LABELS, weights)
    expected = lab.Classifier(linear, **SHORT).fit(X, LABELS, by_class[LABELS] * weights)
    np.testing.assert_allclose(ours.predict_proba(X), expected.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    "classes", [["cat", "dog", "emu"], [-7, 30, 4000], [2.0, 3.0, 5.0], ["é", "", "∅"]]
)
def test_labels_of_any_type_are_those_of_their_order(classes):
    named = np.array(sorted(classes))
    ours = lab.Classifier(linear, **SHORT).fit(X, named[LABELS])
    plain = lab.Classifier(linear, **SHORT).fit(X, LABELS)
    np.testing.assert_array_equal(ours.classes_, named)
    np.testing.assert_array_equal(ours.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(ours.predict(X), named[plain.predict(X)])


@pytest.mark.parametrize("shape", [(1,), ()])
def test_two_classes_may_have_one_output(shape):
    network = nn.chain(nn.dense(1), *([] if shape else [nn.reshape(())]))
    recipe = train.recipe(network, optim.adam(0.05), loss=objective.binary_cross_entropy)
    y = np.where(LABELS > 0, "yes", "no")
    ours = lab.Classifier(recipe, **SHORT).fit(X, y)
    assert ours.classes_.tolist() == ["no", "yes"]
    logits = train.predict(recipe, ours.train_state_, X.astype(np.float32)).reshape(-1)
    expected = expit(np.asarray(logits, np.float64))
    np.testing.assert_allclose(ours.predict_proba(X)[:, 1], expected, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(X) == "yes", expected > 0.5)
    weighted = lab.Classifier(recipe, class_weight="balanced", **SHORT).fit(X, y)
    assert (weighted.predict_proba(X) != ours.predict_proba(X)).any()


def test_partial_fit_is_an_epoch_of_train_epoch():
    ours = lab.Classifier(linear, batch_size=20)
    data = X.astype(np.float32), LABELS.astype(np.int32)
    state = train.start(jax.random.key(0), linear(3), (4,))
    for _ in range(2):
        ours.partial_fit(X, LABELS, classes=[0, 1, 2])
        state, _ = train.epoch(linear(3), state, data, batch_size=20)
    jax.tree.map(np.testing.assert_array_equal, ours.train_state_.params, state.params)
    fitted = lab.Classifier(linear, epochs=2, batch_size=20).fit(X, LABELS)
    jax.tree.map(np.testing.assert_array_equal, fitted.train_state_.params, state.params)


def test_partial_fit_knows_all_classes_from_the_first_call():
    ours = lab.Classifier(linear, batch_size=20, class_weight="balanced")
    with pytest.raises(ConfigError, match="class_weight: expected weights by label in partial_fit"):
        ours.partial_fit(X, LABELS, classes=[0, 1, 2])
    ours.set_params(class_weight=None)
    with pytest.raises(ConfigError, match="Classifier classes: expected all labels, got None"):
        ours.partial_fit(X, LABELS)
    ours.partial_fit(X, np.zeros(60, int), classes=[0, 1, 2])
    assert ours.predict_proba(X).shape == (60, 3)
    with pytest.raises(LabelError, match=r"expected one of the classes \[0, 1, 2\], got 7"):
        ours.partial_fit(X, np.full(60, 7))
    with pytest.raises(ConfigError, match="leave them out after the first call"):
        ours.partial_fit(X, LABELS, classes=[0, 1])


def test_a_diverged_epoch_leaves_the_estimator_as_it_was():
    recipe = linear(3).replace(optimizer=optim.sgd(1e38))
    ours = lab.Classifier(recipe, batch_size=20)
    with pytest.raises(NonFiniteError, match="Classifier partial_fit: expected a finite loss"):
        ours.partial_fit(X, LABELS, classes=[0, 1, 2])
    assert not ours.__sklearn_is_fitted__()
