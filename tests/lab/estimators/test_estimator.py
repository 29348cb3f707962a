"""Estimators: the same run as train.run, parameters, files and errors."""

import copy
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fnn import lab, nn, objective, optim, train
from fnn.errors import (
    CheckpointMismatchError,
    ConfigError,
    DTypeError,
    FnnError,
    NonFiniteError,
    ShapeError,
)

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4))
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NAMES = np.array(["low", "mid", "top"])[LABELS]
SHORT = {"epochs": 3, "batch_size": 20}


def make(outputs, rate=0.05, width=8):
    network = nn.chain(nn.dense(width), nn.relu(), nn.dense(outputs))
    return train.recipe(network, optim.adam(rate))


def fitted(**options):
    return lab.Classifier(make(3), **SHORT | options).fit(X, NAMES)


def assert_equal_weights(first, second):
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


@pytest.mark.slow
def test_scikit_learn_is_imported_on_first_use():
    program = (
        "import sys; from fnn import lab; print('sklearn' in sys.modules); lab.Regressor;"
        "print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.slow
def test_without_scikit_learn_the_error_names_the_extra():
    program = (
        "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None\n"
        "from fnn import lab\n"
        "from fnn.errors import ConfigError\n"
        "try: lab.Classifier\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install '.[sklearn]'" in done.stdout, done.stderr
    with pytest.raises(AttributeError, match=r"no attribute 'Clusterer'"):
        _ = lab.Clusterer


@pytest.mark.slow
def test_fit_is_the_run_of_train_run_bit_for_bit():
    estimator = fitted(random_state=7)
    data = X.astype(np.float32), LABELS.astype(np.int32)
    run = train.run(jax.random.key(7), make(3), data, **SHORT)
    assert_equal_weights(estimator.train_state_, run.train_state)
    np.testing.assert_array_equal(estimator.history_.loss, run.history.loss)
    shown = fitted(random_state=7, show=False).predict_proba(X)
    np.testing.assert_array_equal(estimator.predict_proba(X), shown)


def test_show_prints_progress_and_changes_no_number(capfd):
    shown = fitted(show=True)
    captured = capfd.readouterr()
    assert "epoch" in captured.out + captured.err
    assert_equal_weights(shown.train_state_, fitted().train_state_)


def test_seeds_are_those_of_scikit_learn():
    first, second = (fitted(random_state=np.random.RandomState(3)) for _ in range(2))
    assert_equal_weights(first.train_state_, second.train_state_)
    other = fitted(random_state=None)
    assert (first.predict_proba(X) != other.predict_proba(X)).any()


@pytest.mark.slow
def test_a_search_over_numbers_compiles_once():
    traces = []

    def prepare(x):
        traces.append(x.shape)
        return x

    recipe = make(3).replace(prepare=prepare)
    grid = {"classifier__recipe__optimizer__rate": [1e-3, 1e-2, 0.1]}
    model = make_pipeline(StandardScaler(), lab.Classifier(recipe, **SHORT))
    model.fit(X[:40], NAMES[:40])
    model.predict(X[40:])
    count = len(traces)
    search = GridSearchCV(model, grid, cv=3, refit=False).fit(X, NAMES)
    assert len(traces) == count
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_a_search_over_structure_takes_a_function():
    grid = {"recipe__width": [2, 8], "recipe__rate": [0.05]}
    search = GridSearchCV(lab.Classifier(make, **SHORT), grid, cv=2).fit(X, NAMES)
    assert search.best_estimator_.recipe_ == make(3, **options_of(search.best_params_))


def options_of(params):
    return {name.removeprefix("recipe__"): value for name, value in params.items()}


def test_a_function_gets_the_number_of_steps():
    def cyclic(outputs, steps):
        return make(outputs).replace(optimizer=optim.adam(optim.one_cycle(0.1, steps=steps)))

    estimator = lab.Classifier(cyclic, **SHORT).fit(X, NAMES)
    assert estimator.recipe_["optimizer.rate.steps"] == 9
    with pytest.raises(ConfigError, match="a function with a default for steps"):
        lab.Classifier(cyclic).partial_fit(X, NAMES, classes=NAMES)


def test_parameters_are_set_by_name_and_by_path():
    estimator = lab.Classifier(make(3))
    estimator.set_params(recipe__optimizer__rate=0.5, epochs=7)
    assert estimator.recipe == make(3, 0.5) and estimator.epochs == 7
    assert estimator.get_params()["recipe__optimizer__rate"] == 0.5
    assert "recipe__optimizer__rate" not in estimator.get_params(deep=False)
    copied = clone(estimator)
    assert copied.recipe == estimator.recipe and copied.epochs == 7
    with pytest.raises(ConfigError, match="Classifier epoch: expected one of batch_size"):
        estimator.set_params(epoch=1)
    default = lab.Classifier().set_params(recipe__width=3)
    assert default.recipe(2)["network.1"] == nn.dense(3)


def test_predictions_do_not_depend_on_the_number_of_rows():
    estimator = fitted()
    whole = estimator.predict_proba(np.tile(X, (6, 1)))  # 360 rows: more than one block
    for rows in (1, 7, 60):
        np.testing.assert_array_equal(estimator.predict_proba(X[:rows]), whole[:rows])
    np.testing.assert_array_equal(whole[300:], whole[:60])


def test_the_outputs_are_those_of_train_predict():
    estimator = fitted()
    inputs = X.astype(np.float32)
    logits = train.predict(estimator.recipe_, estimator.train_state_, inputs)
    expected = jax.nn.softmax(logits)
    np.testing.assert_allclose(estimator.predict_proba(X), expected, atol=1e-6)


@pytest.mark.slow
def test_early_stopping_monitors_held_out_examples():
    stopping = train.early_stopping(2)
    recipe = make(3, rate=0.3).replace(early_stopping=stopping)
    estimator = lab.Classifier(recipe, validation_fraction=0.25, epochs=40, batch_size=15)
    losses = estimator.fit(X, NAMES).history_.valid_loss
    assert len(losses) < 40 and len(losses) == 3 + int(np.argmin(losses))
    # 45 of 60 examples are trained on, three batches an epoch.
    assert len(estimator.history_.loss) == 3 * len(losses)
    with pytest.raises(ConfigError, match="Classifier validation_fraction: expected validation"):
        estimator.set_params(validation_fraction=None).fit(X, NAMES)


# Inputs.


def test_images_keep_their_axes_and_bytes():
    images = draw.integers(0, 256, (30, 4, 4, 1)).astype(np.uint8)
    network = nn.chain(nn.conv(2), nn.flatten(), nn.dense(3))
    recipe = train.recipe(network, optim.adam(0.1))
    estimator = lab.Classifier(recipe, **SHORT).fit(images, NAMES[:30])
    data = images, LABELS[:30].astype(np.int32)
    run = train.run(jax.random.key(0), recipe, data, **SHORT)
    assert_equal_weights(estimator.train_state_, run.train_state)
    probabilities = estimator.predict_proba(images)
    np.testing.assert_array_equal(estimator.predict_proba(images.astype(float)), probabilities)
    with pytest.raises(DTypeError, match="Classifier X: expected uint8 as in fit, got float64"):
        estimator.predict(images / 255)
    with pytest.raises(ShapeError, match=r"examples of shape \(4, 4, 1\), got \(4, 3, 1\)"):
        estimator.predict(images[:, :, :3])


def test_integers_become_floats_unless_the_network_takes_them():
    counts = draw.integers(0, 9, (60, 4))
    as_floats = lab.Classifier(make(3), **SHORT).fit(counts.astype(float), NAMES)
    as_integers = lab.Classifier(make(3), **SHORT).fit(counts, NAMES)
    assert_equal_weights(as_integers.train_state_, as_floats.train_state_)
    network = nn.chain(nn.embed(9, 3), nn.flatten(), nn.dense(3))
    tokens = lab.Classifier(train.recipe(network, optim.adam(0.1)), **SHORT).fit(counts, NAMES)
    table = tokens.train_state_.params["embed_0"]
    assert jax.tree.leaves(table)[0].shape == (9, 3)
    np.testing.assert_array_equal(tokens.predict(counts.tolist()), tokens.predict(counts))
    with pytest.raises(NonFiniteError, match=r"Classifier X: expected finite outputs .* 60 of 60"):
        tokens.predict(counts + 9)


def test_inputs_of_other_float_dtypes_are_converted():
    expected = fitted().predict_proba(X)
    single = lab.Classifier(make(3), **SHORT).fit(X.astype(np.float32), NAMES)
    np.testing.assert_array_equal(single.predict_proba(jnp.asarray(X)), expected)


# Weights.


@pytest.mark.slow
def test_weights_are_repeats_and_zeros_are_left_out():
    weights = draw.integers(0, 3, 60)
    full = {"epochs": 20, "batch_size": 999}
    weighted = lab.Classifier(make(3), **full).fit(X, NAMES, sample_weight=weights)
    repeated = lab.Classifier(make(3), **full)
    repeated.fit(np.repeat(X, weights, axis=0), np.repeat(NAMES, weights))
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5, rtol=0
    )
    kept = weights > 0
    removed = lab.Classifier(make(3), **SHORT).fit(X[kept], NAMES[kept], weights[kept])
    zeroed = lab.Classifier(make(3), **SHORT).fit(X, NAMES, sample_weight=weights)
    assert_equal_weights(removed.train_state_, zeroed.train_state_)


@pytest.mark.slow
def test_metrics_of_the_recipe_stay_with_weights():
    metrics = {"accuracy": objective.accuracy, "f1": objective.f1()}
    # A metric is weighted with its direction: a higher f1 is better.
    stopping = train.early_stopping(2, by="valid_f1")
    recipe = make(3).replace(metrics=metrics, early_stopping=stopping)
    weights = np.linspace(1, 2, 60)
    estimator = lab.Classifier(recipe, validation_fraction=0.2, **SHORT)
    history = estimator.fit(X, NAMES, weights).history_
    assert np.isfinite(history.accuracy).all() and np.isfinite(history.f1).all()


# Files.


def test_a_saved_estimator_predicts_and_trains_on_as_before(tmp_path):
    estimator = fitted()
    estimator.save(tmp_path / "model")
    loaded = lab.Classifier(make(3), **SHORT).load(tmp_path / "model")
    assert loaded.n_features_in_ == 4 and loaded.classes_.tolist() == ["low", "mid", "top"]
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    for one in (estimator, loaded):
        one.partial_fit(X, NAMES)
    assert_equal_weights(loaded.train_state_, estimator.train_state_)
    with pytest.raises(CheckpointMismatchError, match=r"restore params/dense_0"):
        lab.Classifier(make(3, width=5)).load(tmp_path / "model")
    with pytest.raises(CheckpointMismatchError, match="expected a saved Regressor, got a Class"):
        lab.Regressor(make(3)).load(tmp_path / "model")


@pytest.mark.parametrize(
    "classes",
    [["a", "b"], [3, 10], [True, False], [0.5, 2.5], np.array(["x", "y"], object)],
)
def test_classes_of_any_type_are_saved(tmp_path, classes):
    y = np.asarray(classes)[LABELS % 2]
    if y.dtype.kind == "f":
        y = y.astype(int)
    estimator = lab.Classifier(make, **SHORT).fit(X, y)
    estimator.save(tmp_path)
    loaded = lab.Classifier(make).load(tmp_path)
    assert loaded.classes_.dtype == estimator.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_foreign_notes_are_an_error(tmp_path):
    fitted().save(tmp_path / "model")
    checkpoint = lab.read(tmp_path / "model")
    wrong = [
        None,
        {"estimator": "Classifier"},
        {**checkpoint.notes, "input_dtype": "O"},
        {**checkpoint.notes, "input_shape": 3},
        {**checkpoint.notes, "targets": {"dtype": "M8[s]", "labels": [1, 2]}},
        {**checkpoint.notes, "targets": {"dtype": "object", "labels": [[1], "a"]}},
    ]
    for step, notes in enumerate(wrong):
        with lab.checkpoint_store(tmp_path / str(step)) as store:
            store.save(0, {"params": jnp.zeros(3)}, notes=notes)
        with pytest.raises(CheckpointMismatchError):
            lab.Classifier(make(3)).load(tmp_path / str(step))


def test_fitted_estimators_can_be_pickled_and_copied():
    estimator = fitted()
    for other in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        np.testing.assert_array_equal(other.predict_proba(X), estimator.predict_proba(X))
        np.testing.assert_array_equal(other.history_.loss, estimator.history_.loss)
        other.partial_fit(X, NAMES)


# Errors.


def test_a_failed_fit_leaves_no_mixture_of_two_fits():
    estimator = fitted()
    with pytest.raises(ConfigError, match="Classifier y: expected labels of two classes or more"):
        estimator.fit(X, [1] * 60)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: fitted().predict(X[:, :2]), ValueError, "X has 2 features, but Classifier is exp"),
        (lambda: fitted().fit(csr_matrix(X), NAMES), TypeError, "Sparse data was passed"),
        (lambda: fitted().fit(X * np.nan, NAMES), ValueError, "Input X contains NaN"),
        (lambda: fitted().fit(X, NAMES[:9]), ValueError, "inconsistent numbers of samples"),
        (lambda: fitted().fit(X, X[:, 0]), ValueError, "Unknown label type: continuous"),
        (lambda: fitted().fit(X, [1] * 60), ValueError, "two classes or more, got one class"),
        (lambda: fitted().fit(X * 1e300, NAMES), TypeError, "numbers that fit float32"),
        (lambda: fitted(random_state=-1), ValueError, "Classifier random_state: expected"),
        (lambda: fitted(epochs=-1), ValueError, "epochs: expected"),
        (lambda: fitted(batch_size=0), ValueError, "batch_size: expected"),
        (lambda: fitted(validation_fraction=2), ValueError, "validation_fraction: expected a num"),
        (lambda: fitted(class_weight={"low": -1}), ValueError, "class_weight low: expected a num"),
        (
            lambda: fitted(class_weight=dict.fromkeys(NAMES, 0)),
            ValueError,
            "Classifier weights: ex",
        ),
        (lambda: fitted().fit(X, NAMES, -np.ones(60)), ValueError, "sample_weight"),
        (lambda: fitted().fit(X, NAMES, np.zeros(60)), ValueError, "sample_weight"),
        (lambda: fitted().fit(X, NAMES, np.ones(6)), ValueError, "sample_weight"),
        (lambda: lab.Classifier(3).fit(X, NAMES), ValueError, "expected a recipe from train.rec"),
        (
            lambda: lab.Classifier(make(10)).fit(X, NAMES),
            ShapeError,
            r"output has shape \(3,\), as these targets need, got \(10,\); give a function",
        ),
        (lambda: lab.Classifier().predict(X), NotFittedError, "got one that is not; call fit"),
        (lambda: lab.Classifier().save("model"), NotFittedError, "call fit first"),
    ],
)
def test_mistakes_are_errors_of_fnn_and_of_the_types_of_scikit_learn(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, FnnError)
