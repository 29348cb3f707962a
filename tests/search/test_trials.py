"""Results of a search: decisions of planted scores, texts, tables and test scores."""

import jax
import numpy as np
import pytest

from fnn import nn, optim, search, train
from fnn.errors import ConfigError
from fnn.search.columns import hyperparameter_columns
from fnn.search.samplers import unit_points
from fnn.search.score import Score
from fnn.search.space import as_space
from fnn.search.trials import Trials

BOOK = train.recipe(
    nn.dense(2),
    optim.adamw(search.log_uniform(1e-6, 1e-2), weight_decay=search.log_uniform(1e-8, 1e-4)),
)
RATE, DECAY = "optimizer.rate", "optimizer.weight_decay"
OPTIONS = (optim.sgd(search.log_uniform(1e-3, 1)), optim.adam(1e-3))
MIXED = train.recipe(
    nn.chain(nn.dense(search.choice(8, 32, 16)), nn.dropout(search.normal(0.5, 0.05)), nn.dense(2)),
    search.choice(*OPTIONS),
)
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 3)).astype(np.float32)
DATA = (X, (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int))


def planted(space, function, count=48, seeds=3, noise=0.01, mode="max"):
    """Trials whose scores are a function of the positions, plus noise of trials and of seeds."""
    space = as_space("test", space)
    points = unit_points(jax.random.key(3), count, len(space.distributions))
    drawn = [space.draw(point) for point in points]
    draw = np.random.default_rng(0)
    scores = function(*points.T)[:, None] + noise * draw.normal(size=(count, seeds))
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    score = Score("valid_accuracy", -1) if mode == "max" else Score()
    recipes = [recipe for recipe, _ in drawn]
    return Trials(space, recipes, columns, scores, {}, np.full(count, 5), score, {})


def permuted(trials, order):
    return Trials(
        trials.space,
        [trials.recipes[index] for index in order],
        {path: column[order] for path, column in trials.hyperparameters.items()},
        trials.scores[order],
        {},
        trials.epochs[order],
        trials.figure,
        {},
    )


@pytest.fixture(scope="module")
def book():
    """Only rates of the top decade learn, and the highest ones most."""
    return planted(BOOK, lambda rate, decay: 0.1 + np.maximum(rate - 0.7, 0), count=64)


def test_the_best_of_n_is_in_units_of_the_score(book):
    found = book.best_of_n()
    assert found.mean[-1] == pytest.approx(book.best.score)
    assert (np.diff(found.mean) >= 0).all() and (found.low <= found.mean + 1e-9).all()
    np.testing.assert_allclose(found.mean[0], book.mean_scores.mean())


def test_the_rate_of_a_space_that_ends_too_early_is_to_be_widened(book):
    found = book.boundaries()
    assert (found[RATE].verdict, found[RATE].edge) == ("above", 1e-2)
    assert str(found[RATE]) == "widen above 0.01" and found[RATE].p_value < 1e-4
    assert str(found[DECAY]) == "inside"


def test_the_lower_side_and_the_direction_of_the_score():
    found = planted(BOOK, lambda rate, decay: decay, mode="min").boundaries()
    assert str(found[DECAY]) == "widen below 1e-08"


def test_the_verdicts_of_options_and_normal_distributions():
    trials = planted(MIXED, lambda units, drop, optimizer, rate: units)
    # Of the options 8, 32, 16 the last one is best, which is inside.
    units, drop, optimizer, _ = trials.boundaries().values()
    assert [str(one) for one in (units, drop, optimizer)] == ["inside", "no edges", "no edges"]
    assert trials.positions("network.1.drop_rate").max() < 1
    few = planted(MIXED, lambda units, drop, optimizer, rate: rate, count=12).boundaries()
    assert few["optimizer.sgd.rate"].verdict == "unknown"


def test_the_rate_is_important_and_the_decay_is_not(book):
    found = book.importance()
    assert found[RATE].share > 0.5 > 0.1 > found[DECAY].share
    assert found[RATE].low > found[DECAY].high
    options = planted(MIXED, lambda units, drop, optimizer, rate: optimizer > 0.5)
    assert options.importance()["optimizer"].share > 0.7


def test_ties_are_ordered_and_need_seeds(book):
    ties = book.ties()
    assert ties[0] == book.best.index and 1 <= len(ties) < 32
    assert (np.diff(book.mean_scores[ties]) <= 0).all()
    assert book.seed_deviation == pytest.approx(0.01, rel=0.3)
    single = planted(BOOK, lambda rate, decay: rate, seeds=1)
    with pytest.raises(ConfigError, match="ties: expected trials of several seeds, got 1 seed"):
        single.ties()
    assert "ties: unknown with one seed; search with seeds=3" in single.summary()
    assert np.isnan(single.deviations).all() and np.isnan(single.seed_deviation)
    with pytest.raises(ConfigError, match="confidence: expected"):
        book.ties(confidence=95)


def test_permuted_trials_have_permuted_results(book):
    order = np.random.default_rng(1).permutation(len(book))
    other = permuted(book, order)
    assert order[other.ranked].tolist() == book.ranked.tolist()
    assert order[other.ties()].tolist() == book.ties().tolist()
    assert other.boundaries() == book.boundaries()
    for path, one in book.importance().items():
        np.testing.assert_allclose(other.importance()[path], one)


def test_a_monotone_transform_changes_no_decision(book):
    scores = np.repeat(book.mean_scores[:, None], 2, 1)
    plain, edited = (
        Trials(book.space, book.recipes, book.hyperparameters, array, {}, book.epochs, score, {})
        for array, score in ((scores, book.figure), (np.exp(-9 * scores), Score()))
    )
    assert plain.ranked.tolist() == edited.ranked.tolist()
    assert plain.boundaries() == edited.boundaries()
    assert plain.importance() == edited.importance()


def test_diverged_trials_are_last_and_change_no_other():
    trials = planted(BOOK, lambda rate, decay: np.where(rate > 0.8, np.nan, rate))
    assert trials.is_diverged.sum() > 3
    assert trials.is_diverged[trials.ranked[-trials.is_diverged.sum() :]].all()
    assert not trials.is_diverged[trials.ties()].any()
    # The best ones are the highest rates that do not diverge, which are inside.
    assert trials.boundaries()[RATE].verdict == "inside"
    assert np.isfinite(trials.best_of_n().mean).all()
    assert f"{trials.is_diverged.sum()} diverged" in trials.summary()


def test_the_summary_is_a_table_of_a_few_lines(book):
    lines = book.summary().splitlines()
    assert lines[0] == "64 trials of 3 seeds; valid_accuracy, higher is better"
    assert lines[1].startswith(f"best: trial {book.best.index}, 0.3") and " ± 0.0" in lines[1]
    assert lines[4].split() == ["hyperparameter", "best", "interval", "importance"]
    assert lines[5].startswith(RATE) and "widen above 0.01" in lines[5]
    assert lines[6].startswith(DECAY) and "inside" in lines[6]
    assert len(lines) == 7 and max(map(len, lines)) <= 100


def test_columns_of_options_have_labels():
    trials = planted(MIXED, lambda units, drop, optimizer, rate: units, count=12)
    table = trials.table()
    assert set(table["optimizer"]) == {"optim.sgd", "optim.adam"}
    assert (np.isnan(table["optimizer.sgd.rate"]) == (table["optimizer"] == "optim.adam")).all()
    assert {len(column) for column in table.values()} == {12}
    assert {column.ndim for column in table.values()} == {1}
    assert "search." not in repr(trials) and "search." not in trials.summary()
    # The options themselves are in the hyperparameters.
    assert set(map(id, trials.hyperparameters["optimizer"])) == set(map(id, OPTIONS))


def test_a_hyperparameter_with_the_name_of_a_column_keeps_both():
    space = search.space(
        lambda epochs: train.recipe(nn.dense(2), optim.sgd(epochs)),
        epochs=search.uniform(0.1, 1),
    )
    table = planted(space, lambda u: u, count=5).table()
    assert (table["epochs"] == 5).all()
    assert (table["hyperparameters.epochs"] < 5).all()


@pytest.fixture(scope="module")
def searched():
    space = train.recipe(nn.dense(2), optim.sgd(search.log_uniform(1e-2, 1)))
    return search.random(
        jax.random.key(0), space, DATA, valid=DATA, epochs=2, batch_size=20, trials=4, keep=3,
        seeds=2, score="valid_accuracy", lanes=4,
    )  # fmt: skip


def test_kept_trials_are_evaluated_on_other_data(searched):
    other = (X[:30] + 0.5, DATA[1][:30])
    found = searched.evaluate(other)
    assert found.trials.tolist() == searched.ranked[:3].tolist()
    for index, score in zip(found.trials, found.scores, strict=True):
        states = searched.kept[index]
        expected = [
            train.evaluate(searched.recipes[index], one, other)["accuracy"] for one in states
        ]
        assert score == pytest.approx(np.mean(expected))
    assert found.bias == pytest.approx(searched.best.score - found.best)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weighted == pytest.approx(found.weights @ found.scores)
    assert "optimistic" in str(found) and "best of 4 trials" in str(found)


def test_scores_on_the_validation_data_itself_have_no_bias(searched):
    assert searched.evaluate(DATA, valid=DATA).bias == pytest.approx(0, abs=1e-6)


def test_a_slice_of_trials_raises(searched):
    with pytest.raises(ConfigError, match=r"trials index: expected one int, got slice"):
        searched[:2]


def test_networks_of_kept_trials_are_for_inference(searched):
    recipes, weights = searched.networks()
    # 3 trials of 2 seeds, the best trial first.
    assert recipes == [searched.recipes[index] for index in searched.ranked[:3] for _ in range(2)]
    figures = [train.evaluate(*pair, DATA) for pair in zip(recipes, weights, strict=True)]
    accuracies = np.array([one["accuracy"] for one in figures]).reshape(3, 2)
    np.testing.assert_allclose(accuracies, searched.scores[searched.ranked[:3]], atol=1e-6)
    assert len(searched.networks(1)[0]) == 2
    with pytest.raises(ConfigError, match=r"at most the 3 trials that are kept, got 4; .*keep=4"):
        searched.networks(4)


def test_weights_are_unknown_without_an_error_of_the_scores(searched):
    kept = {index: states[:1] for index, states in searched.kept.items()}
    single = Trials(
        searched.space, searched.recipes, searched.hyperparameters, searched.scores[:, :1], {},
        searched.epochs, searched.figure, kept,
    )  # fmt: skip
    found = single.evaluate(DATA)
    assert np.isnan(found.weighted) and "weighted" not in str(found)
    assert single.evaluate(DATA, valid=DATA).weights.sum() == pytest.approx(1)
    none = planted(BOOK, lambda rate, decay: rate, count=5)
    with pytest.raises(ConfigError, match=r"expected trials with train states, got none"):
        none.evaluate(DATA)
