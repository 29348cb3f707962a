"""Learning curves: each point is a run on a prefix, and the fit against exact power laws."""

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from fnn import nn, objective, optim, search, train
from fnn.errors import ArgumentError, ConfigError, DTypeError, NonFiniteError, ShapeError
from fnn.search.learning_curve import RUNS, LearningCurve
from fnn.search.power_law import fit_power_law
from fnn.search.score import Score

draw = np.random.default_rng(0)
# Sorted by class.
Y = np.repeat(np.arange(3), [20, 12, 8])
X = draw.normal(size=(40, 4)) + Y[:, None]
VALID = (draw.normal(size=(9, 4)), np.arange(9) % 3)
SIZES = [12, 8, 24]


def recipe(optimizer=None, **options):
    network = nn.chain(nn.dense(5), nn.batch_norm(), nn.tanh(), nn.dropout(0.3), nn.dense(3))
    return train.recipe(network, optimizer or optim.adam(0.02), **options)


def curve(key, one=None, examples=(X, Y), **options):
    options = {"valid": VALID, "sizes": SIZES, "batch_size": 4, "seeds": 2, "lanes": 6} | options
    return search.learning_curve(key, one or recipe(), examples, **options)


@pytest.mark.parametrize("length", [{"steps": 12}, {"epochs": 2}], ids=["steps", "epochs"])
@pytest.mark.slow
def test_a_point_is_the_run_of_a_prefix(x64, key, length):
    found = curve(key, **length)
    assert found.sizes.tolist() == [8, 12, 24]
    for place, size in enumerate(found.sizes):
        part = found.orders[1, :size]
        epochs = length.get("epochs") or 12 // (size // 4)
        single = train.run(
            jax.random.fold_in(jax.random.fold_in(key, RUNS), 1),
            recipe(),
            (X[part], Y[part]),
            valid=VALID,
            epochs=epochs,
            batch_size=4,
        )
        assert found.steps[place] == int(single.train_state.step)
        expected = single.history.valid_loss[-1]
        np.testing.assert_allclose(found.scores[place, 1], expected, rtol=1e-9)


@pytest.mark.slow
def test_a_confusion_matrix_has_its_axes_at_the_end_of_the_figures(key):
    one = train.recipe(
        nn.dense(3), optim.sgd(0.1), metrics={"matrix": objective.confusion_matrix(3)}
    )
    rows = curve(key, one, epochs=1).figures["valid_matrix"]
    assert rows.shape == (3, 2, 3, 3)
    assert (rows.sum((-2, -1)) == len(VALID[1])).all()


@pytest.mark.slow
def test_with_early_stopping_the_score_is_that_of_the_best_epoch(x64, key):
    one = recipe(optim.adam(0.3), early_stopping=train.early_stopping(1))
    found = curve(key, one, epochs=5, sizes=[8, 16])
    for place, size in enumerate(found.sizes):
        part = found.orders[0, :size]
        run_key = jax.random.fold_in(jax.random.fold_in(key, RUNS), 0)
        examples = (X[part], Y[part])
        single = train.run(run_key, one, examples, valid=VALID, epochs=5, batch_size=4)
        best = np.asarray(single.history.valid_loss).min()
        np.testing.assert_allclose(found.scores[place, 0], best, rtol=1e-9)


@pytest.mark.slow
def test_subsets_of_sorted_data_are_nested_and_mixed(key):
    found = curve(key, steps=1, seeds=3, stratified=True)
    for order in found.orders:
        assert sorted(order.tolist()) == list(range(40))
        for size in range(1, 41):
            counts = np.bincount(Y[order[:size]], minlength=3)
            assert (np.abs(counts - size * np.array([20, 12, 8]) / 40) <= 1).all()
    plain = curve(key, steps=1)
    assert all(len(np.unique(Y[order[:12]])) == 3 for order in plain.orders)
    assert not np.array_equal(plain.orders[0], plain.orders[1])


def test_the_fit_recovers_a_power_law():
    sizes = np.array([50, 100, 200, 500, 1000, 3000])
    for a, b, c in [(0.1, 3.0, 0.5), (0.95, -2.0, 0.8), (0.0, 1.0, 0.1), (5.0, 40.0, 1.5)]:
        law = fit_power_law(sizes, a + b * sizes**-c)
        np.testing.assert_allclose([law.a, law.b, law.c], [a, b, c], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(law.predict(1e4).mean, a + b * 1e4**-c, rtol=1e-4, atol=1e-6)


def law_function(n, a, b, c):
    return a + b * n**-c


def test_the_interval_is_that_of_the_linearized_fit():
    sizes = np.repeat([50, 100, 200, 500, 1000], 3)
    scores = 0.1 + 3 * sizes**-0.5 + 0.01 * draw.normal(size=15)
    law = fit_power_law(sizes, scores)
    values, covariance = optimize.curve_fit(law_function, sizes, scores, p0=(0.1, 3, 0.5))
    n = 4000.0
    slopes = np.array([1, n ** -values[2], -values[1] * n ** -values[2] * np.log(n)])
    half = stats.t.ppf(0.95, 12) * np.sqrt(slopes @ covariance @ slopes)
    mean, low, high = law.predict(n, level=0.9)
    np.testing.assert_allclose(mean, law_function(n, *values), rtol=1e-5)
    np.testing.assert_allclose([mean - low, high - mean], [half, half], rtol=1e-3)


@pytest.mark.slow
def test_the_interval_covers_the_law_as_often_as_it_says():
    sizes = np.repeat([50, 100, 200, 500, 1000], 3)
    generator = np.random.default_rng(2)
    inside = []
    for _ in range(150):
        scores = 0.1 + 3 * sizes**-0.5 + 0.01 * generator.normal(size=15)
        _, low, high = fit_power_law(sizes, scores).predict(2000, level=0.9)
        inside.append(low <= 0.1 + 3 * 2000**-0.5 <= high)
    assert 0.83 <= np.mean(inside) <= 0.97


def test_scores_without_a_trend_have_an_infinite_or_wide_interval():
    sizes = np.array([10, 20, 40, 80])
    law = fit_power_law(sizes, np.full(4, 0.3))
    mean, low, high = law.predict(160)
    assert mean == pytest.approx(0.3) and high - low >= 0
    assert "n^-" in repr(law)


def of_scores(scores, sizes=(10, 20, 40)):
    rows = np.array(scores, float)
    steps = np.ones(len(rows), int)
    return LearningCurve(np.array(sizes), rows, steps, np.zeros((1, 40), int), {}, Score())


def test_runs_that_diverged_are_left_out_of_the_fit():
    found = of_scores([[1.0, np.nan], [0.7, 0.7], [0.5, 0.5]])
    assert np.isfinite(found.fit().c) and "1 runs diverged" in repr(found)
    few = of_scores([[np.nan], [0.7], [0.5]])
    assert not few.has_fit and "n^-" not in repr(few)
    with pytest.raises(ConfigError, match="fit sizes: expected finite scores of at least three"):
        few.fit()
    with pytest.raises(ConfigError, match="fit sizes"):
        found.fit(smallest=20)
    with pytest.raises(ConfigError, match="predict sizes: expected numbers > 0"):
        found.fit().predict([0, 10])


@pytest.mark.slow
def test_all_sizes_share_one_compilation(key):
    traces = []

    def counted(outputs, labels):
        # A batch of training or validation, not the check of all examples.
        if len(labels) == 4:
            traces.append(1)
        return objective.cross_entropy(outputs, labels)

    one = train.recipe(nn.dense(3), optim.sgd(0.1), loss=counted)
    curve(key, one, epochs=2, lanes=2)
    once = len(traces)
    curve(key, one.replace(optimizer=optim.sgd(0.2)), epochs=2, lanes=2, sizes=[8, 16, 20, 24])
    assert len(traces) == once


WRONG = {
    "no length": ({"steps": None}, ConfigError, "expected either epochs or steps, got neither"),
    "both": ({"epochs": 3}, ConfigError, "expected either epochs or steps, got both"),
    "steps": ({"steps": 0}, ConfigError, "learning_curve steps: expected >= 1"),
    "seeds": ({"seeds": 0}, ConfigError, "learning_curve seeds"),
    "none": ({"sizes": []}, ConfigError, "learning_curve sizes: expected numbers of examples"),
    "large": ({"sizes": [8, 41]}, ConfigError, "sizes: expected from batch_size = 4 to the 40"),
    "small": ({"sizes": [3, 8]}, ConfigError, "sizes: expected from batch_size = 4 to the 40"),
    "shares": ({"sizes": [0.5]}, ConfigError, "learning_curve sizes: expected a whole number"),
    "score": ({"score": "valid_f2"}, ConfigError, "learning_curve score: expected one of"),
    "empty": ({"data": (X[:0], Y[:0])}, ShapeError, "expected"),
    "valid": ({"valid": (X[:0], Y[:0])}, ShapeError, "expected"),
    "key": ({"key": 0}, DTypeError, "key: expected a key"),
    "recipe": ({"recipe": 1}, ConfigError, "learning_curve recipe: expected a recipe"),
    "option": ({"trials": 1}, ArgumentError, "learning_curve trials"),
    "stopping": (
        {"recipe": recipe(early_stopping=train.early_stopping(1))},
        ConfigError,
        "learning_curve early_stopping: expected None at fixed steps",
    ),
    "plateau": (
        {"recipe": recipe(optim.plateau(optim.sgd(0.1), patience=1))},
        ConfigError,
        "learning_curve optimizer: expected no optim.plateau at fixed steps",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_raise(key, name):
    options, error, message = WRONG[name]
    given = {"key": key, "recipe": recipe(), "data": (X, Y), "valid": VALID, "steps": 3}
    given |= {"sizes": SIZES, "batch_size": 4} | options
    first = [given.pop(part) for part in ("key", "recipe", "data")]
    with pytest.raises(error, match=message):
        search.learning_curve(*first, **given)


@pytest.mark.slow
def test_runs_that_all_diverge_raise(key):
    with pytest.raises(NonFiniteError, match="learning_curve valid_loss: expected a finite score"):
        curve(key, recipe(optim.sgd(1e38), on_nonfinite="ignore"), steps=20)
