"""Cross-validation: each fold is a run of its own, and statistics against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, nn, objective, optim, search, train
from fnn.errors import (
    ArgumentError,
    ConfigError,
    DTypeError,
    NonFiniteError,
    ShapeError,
    TreeMismatchError,
)
from fnn.search.cross_validation import RUNS

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(2, 3, (31, 4))
Y = draw.integers(0, 3, 31)
EXAMPLES = (X, Y)


def classifier(optimizer=None, **options):
    network = nn.chain(nn.dense(5), nn.batch_norm(), nn.tanh(), nn.dropout(0.3), nn.dense(3))
    return train.recipe(network, optimizer or optim.adam(0.02), **options)


def standardized(part):
    return classifier(prepare=data.standardize(part[0]))


def linear(part=None):
    return train.recipe(nn.dense(3), optim.sgd(0.05))


def validate(key, recipe, examples=EXAMPLES, **options):
    options = {"epochs": 2, "batch_size": 8, "lanes": 4, "folds": 4} | options
    return search.cross_validate(key, recipe, examples, **options)


def run_key(key, repeat, fold):
    return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, RUNS), repeat), fold)


RECIPES = {
    "batch norm and dropout": classifier(metrics={"accuracy": objective.accuracy}),
    "statistics of each fold": standardized,
    "early stopping": classifier(early_stopping=train.early_stopping(1), optimizer=optim.adam(0.2)),
    "plateau": classifier(optim.plateau(optim.sgd(0.1), patience=0)),
    "metric of a whole part": classifier(metrics={"f1": objective.f1()}),
}


CASES = [(name, 4) for name in RECIPES]
# One after another.
CASES += [("early stopping", 1), ("statistics of each fold", 1)]


@pytest.mark.parametrize(("name", "lanes"), CASES)
def test_a_fold_is_the_run_of_its_parts(x64, key, name, lanes):
    made = RECIPES[name]
    found = validate(key, made, epochs=4, repeats=2, lanes=lanes)
    for repeat, fold in ((0, 0), (1, 3)):
        part, rest = found.train[repeat, fold], np.flatnonzero(found.fold_of[repeat] == fold)
        one = made if isinstance(made, train.Recipe) else made((X[part], Y[part]))
        single = train.run(
            run_key(key, repeat, fold),
            one,
            (X[part], Y[part]),
            valid=(X[rest], Y[rest]),
            epochs=4,
            batch_size=8,
        )
        for figure in [figure for figure in single.history if figure.startswith("valid_")]:
            expected = np.asarray(single.history[figure])
            got = found.histories[figure][repeat, fold]
            # Accuracies are in single precision.
            tolerance = 1e-6 if expected.dtype == np.float32 else 1e-9
            np.testing.assert_allclose(got[: len(expected)], expected, rtol=tolerance)
            assert np.isnan(got[len(expected) :]).all()
        outputs = train.predict(one, single.train_state, X[rest])
        np.testing.assert_allclose(found.predictions[repeat, rest], outputs, rtol=1e-8, atol=1e-10)
        epoch = int(single.train_state.step) // 2 - 1
        assert found.scores[repeat, fold] == found.histories["valid_loss"][repeat, fold, epoch]


def test_augmentation_draws_as_in_the_run_of_the_part(x64, key):
    images = draw.uniform(size=(13, 6, 6, 1))
    labels = np.arange(13) % 3
    one = train.recipe(
        nn.chain(nn.flatten(), nn.dense(3)), optim.sgd(0.1), augment=augment.random_crop(padding=2)
    )
    found = validate(key, one, (images, labels), batch_size=4, folds=3)
    part, rest = found.train[0, 1], np.flatnonzero(found.fold_of[0] == 1)
    valid = (images[rest], labels[rest])
    single = train.run(
        run_key(key, 0, 1), one, (images[part], labels[part]), valid=valid, epochs=2, batch_size=4
    )
    np.testing.assert_allclose(
        found.histories["valid_loss"][0, 1], single.history.valid_loss, rtol=1e-10
    )


@pytest.mark.parametrize("folds", [2, 4, 31])
def test_every_example_is_in_one_fold_and_no_fold_trains_on_its_own(key, folds):
    found = validate(key, linear(), folds=folds, epochs=1, repeats=2, lanes=31)
    largest = -(-31 // folds)
    assert found.train.shape == (2, folds, 31 - largest)
    for repeat in range(2):
        counts = np.bincount(found.fold_of[repeat], minlength=folds)
        assert counts.sum() == 31 and np.ptp(counts) <= 1 and counts.max() == largest
        for fold in range(folds):
            part = found.train[repeat, fold]
            assert (found.fold_of[repeat][part] != fold).all()
            assert len(np.unique(part)) == len(part)
            assert len(found.left_out(repeat, fold)) == largest - counts[fold]
    assert not np.array_equal(found.fold_of[0], found.fold_of[1])


def test_stratified_folds_differ_by_at_most_one_example_of_each_class(key):
    labels = np.sort(draw.choice(3, 31, p=[0.6, 0.3, 0.1]))
    found = validate(key, linear(), (X, labels), stratified=True, epochs=1, folds=4)
    for fold_of in found.fold_of:
        table = np.array([np.bincount(fold_of[labels == c], minlength=4) for c in range(3)])
        assert (np.ptp(table, 1) <= 1).all()
        assert np.ptp(np.bincount(fold_of)) <= 1


def test_no_group_is_on_both_sides_of_a_fold(key):
    groups = np.array(list("aaaaaaaaabbbbbcccddefghijklmnop"))
    found = validate(key, linear(), groups=groups, epochs=1, folds=4)
    for fold in range(4):
        valid = set(groups[found.fold_of[0] == fold])
        assert not valid & set(groups[found.train[0, fold]])
    # The folds have 9, 8, 7 and 7 examples, and all of them are validated.
    assert found.train.shape == (1, 4, 31 - 9)
    np.testing.assert_array_equal(np.sort(np.bincount(found.fold_of[0])), [7, 7, 8, 9])
    assert np.isfinite(found.predictions).all()


def test_scores_are_exact_means_over_the_parts(x64, key):
    found = validate(key, linear())
    losses = objective.cross_entropy(jnp.asarray(found.predictions[0]), jnp.asarray(Y))
    expected = [losses[found.fold_of[0] == fold].mean() for fold in range(4)]
    np.testing.assert_allclose(found.scores[0], expected, rtol=1e-12)
    assert found.mean == np.mean(expected) or abs(found.mean - np.mean(expected)) < 1e-12


def test_leave_one_out_of_ridge_regression_has_the_residuals_over_one_minus_leverage(x64, key):
    n, strength = 12, 0.1
    x = np.linalg.qr(draw.normal(size=(n, 3)))[0] * np.sqrt(n)
    y = x @ [1.0, -2.0, 0.5] + draw.normal(size=n)
    one = train.recipe(
        nn.dense(1, use_bias=False),
        optim.sgd(0.3),
        loss=objective.squared_error,
        regularizer=objective.l2(strength),
    )
    # Full batches of all examples but one: gradient descent up to convergence.
    found = validate(key, one, (x, y[:, None]), folds=n, epochs=300, batch_size=n - 1, lanes=n)
    # The penalty: of the mean of n - 1 squared errors + strength/2 |w|².
    scale = float(one.regularizer({"kernel": jnp.ones((1, 1))})) * (n - 1)
    hat = x @ np.linalg.solve(x.T @ x + scale * np.eye(3), x.T)
    residuals = (y - hat @ y) / (1 - np.diag(hat))
    np.testing.assert_allclose(y - found.predictions[0, :, 0], residuals, rtol=1e-9)
    np.testing.assert_allclose(found.scores[0][found.fold_of[0]], np.square(residuals), rtol=1e-9)


def test_permuted_labels_give_chance(key):
    x = draw.normal(size=(240, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    one = train.recipe(nn.dense(2), optim.adam(0.1))
    options = {"epochs": 10, "batch_size": 32, "folds": 4, "score": "valid_accuracy"}
    true = validate(key, one, (x, y), **options)
    chance = validate(key, one, (x, draw.permutation(y)), **options)
    assert true.mean > 0.9
    # Four standard deviations of 240 fair coins.
    assert abs(chance.mean - 0.5) < 4 * 0.5 / np.sqrt(240)


def test_recipes_compared_over_one_key_have_the_same_folds_and_share_a_program(key):
    first = validate(key, classifier(optim.sgd(0.1)))
    second = validate(key, classifier(optim.sgd(0.01)))
    found = search.compare(first, second)
    np.testing.assert_array_equal(found.differences, first.scores - second.scores)
    assert f"p = {found.p_value:.2g}: " in repr(found)
    assert repr(first).startswith(f"valid_loss {first.mean:.4g} (")
    other = validate(jax.random.key(1), classifier(optim.sgd(0.01)))
    with pytest.raises(ConfigError, match="compare second: expected the folds of the first"):
        search.compare(first, other)
    accuracy = validate(key, classifier(optim.sgd(0.1)), score="valid_accuracy")
    with pytest.raises(ConfigError, match="compare second: expected the score valid_loss"):
        search.compare(first, accuracy)
    with pytest.raises(ConfigError, match="compare first: expected a CrossValidation"):
        search.compare(first.scores, second)


def test_runs_that_all_diverge_raise(key):
    huge = X.copy()
    huge[3] = 1e30
    one = train.recipe(nn.dense(1), optim.sgd(0.1), loss=objective.squared_error)
    targets = Y[:, None].astype(float)
    with pytest.raises(NonFiniteError, match="cross_validate valid_loss: expected a finite score"):
        validate(key, one, (huge, targets), epochs=3)


def structure_by_fold():
    widths = iter([3, 4, 5, 6])
    return lambda part: train.recipe(nn.chain(nn.dense(next(widths)), nn.dense(3)), optim.sgd(0.1))


def test_a_confusion_matrix_has_its_axes_at_the_end_of_the_histories(key):
    recipe = linear().replace(metrics={"matrix": objective.confusion_matrix(3)})
    found = validate(key, recipe, folds=2)
    rows = found.histories["valid_matrix"]
    assert rows.shape == (1, 2, 2, 3, 3)
    counts = [(found.fold_of[0] == fold).sum() for fold in range(2)]
    np.testing.assert_array_equal(rows.sum((-2, -1))[0], [[count] * 2 for count in counts])


WRONG = {
    "one fold": ({"folds": 1}, ConfigError, "cross_validate folds: expected >= 2"),
    "many folds": ({"folds": 32}, ConfigError, "cross_validate folds: expected at most the 31"),
    "folds": ({"folds": 2.0}, ConfigError, "cross_validate folds: expected a whole number"),
    "repeats": ({"repeats": 0}, ConfigError, "cross_validate repeats"),
    "epochs": ({"epochs": 0}, ConfigError, "epochs"),
    "empty": ({"data": (X[:0], Y[:0])}, ShapeError, "data: expected"),
    "batch": ({"batch_size": 24}, ConfigError, "batch_size: expected at most the 23 training"),
    "no name": ({"score": 5}, ConfigError, "cross_validate score: expected one of"),
    "unknown score": ({"score": "valid_f2"}, ConfigError, "cross_validate score: expected one of"),
    "array": (
        {"recipe": classifier(metrics={"matrix": objective.confusion_matrix(3)}), "mode": "max"}
        | {"score": "valid_matrix"},
        ConfigError,
        r"cross_validate score: expected one number, as valid_loss, got valid_matrix of shape",
    ),
    "groups": ({"groups": np.arange(31) % 3}, ConfigError, "folds: expected at most the 3 groups"),
    "one group short": ({"groups": np.arange(30)}, ShapeError, "cross_validate groups"),
    "floats": ({"data": (X, Y * 0.5), "stratified": True}, DTypeError, "labels int"),
    "key": ({"key": 3}, DTypeError, "key: expected a key"),
    "recipe": ({"recipe": 3}, ConfigError, "cross_validate recipe: expected a recipe"),
    "function": ({"recipe": lambda part: 3}, ConfigError, "cross_validate recipe: expected a rec"),
    "structure": ({"recipe": structure_by_fold()}, TreeMismatchError, "structure of the first"),
    "option": ({"fold": 3}, ArgumentError, "cross_validate fold"),
    "labels": ({"data": (X, Y + 1)}, ValueError, "labels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_raise(key, name):
    options, error, message = WRONG[name]
    given = {"key": key, "recipe": linear(), "data": EXAMPLES} | {"epochs": 1, "batch_size": 8}
    given |= {"folds": 4} | options
    first = [given.pop(part) for part in ("key", "recipe", "data")]
    with pytest.raises(error, match=message):
        search.cross_validate(*first, **given)


def test_a_loss_of_coupled_examples_raises(key):
    one = train.recipe(nn.dense(4), optim.sgd(0.1), loss=objective.nt_xent)
    with pytest.raises(ConfigError, match="cross_validate recipe: expected a loss and metrics of"):
        validate(key, one)
