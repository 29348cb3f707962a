"""Population-based training: copies, changes, bitwise replay, and refused arguments."""

import jax
import numpy as np
import pytest

from fnn import nn, objective, optim, search, train
from fnn.errors import ConfigError, FnnError
from fnn.search.execution import seed_key
from fnn.search.lanes import Lanes
from fnn.search.space import as_space

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
VALID = (X[40:], Y[40:])
RUN = {"batch_size": 10, "valid": VALID}
EVOLVE = RUN | {"epochs": 6, "interval": 1, "members": 4, "quantile": 0.5, "lanes": 4}
NETWORK = nn.chain(nn.dense(3), nn.tanh(), nn.dropout(search.uniform(0, 0.5)), nn.dense(2))
SPACE = train.recipe(NETWORK, optim.adam(search.log_uniform(1e-3, 1)))
MATRIX = SPACE.replace(metrics={"matrix": objective.confusion_matrix(2)})
KEY = jax.random.key(0)
RATE = "optimizer.rate"


@pytest.fixture(scope="module")
def evolved():
    return search.population(KEY, SPACE, DATA, **EVOLVE, keep=4)


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_schedule_replays_bitwise(evolved):
    # A member whose weights come from others.
    member = next(i for i in range(4) if len(set(evolved.lineage(i))) > 1)
    schedule = evolved.schedule(member)
    result = search.replay(KEY, SPACE, schedule, DATA, **RUN)
    assert_same(result.train_state[:4], evolved.kept[member][0][:4])
    for name, figures in result.history.items():
        np.testing.assert_array_equal(figures, evolved.histories[name][member, 0])


def test_a_schedule_is_a_run_whose_recipe_changes(evolved):
    schedule = evolved.schedule(0)
    space = as_space("test", SPACE)
    train_state = None
    for index in range(6):
        values = {path: float(column[index]) for path, column in schedule.hyperparameters.items()}
        recipe, _ = space.choose(values)
        result = train.run(seed_key(KEY, 0), recipe, DATA, epochs=1, resume=train_state, **RUN)
        train_state = result.train_state
    single = search.replay(KEY, SPACE, schedule._replace(lanes=1), DATA, **RUN)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731
    jax.tree.map(close, single.train_state.params, train_state.params)
    jax.tree.map(close, evolved.kept[0][0].params, train_state.params)


def test_the_rounds_follow_from_scores_and_parents(evolved):
    assert evolved.parents[0].tolist() == [0, 1, 2, 3]
    for index in range(1, 6):
        order = np.argsort(evolved.round_scores[index - 1], kind="stable")
        parents = evolved.parents[index]
        np.testing.assert_array_equal(parents[order[:2]], order[:2])
        assert set(parents[order[2:]]) <= set(order[:2])
        kept = order[:2]
        for column in evolved.rounds.values():
            np.testing.assert_array_equal(column[index, kept], column[index - 1, kept])
    assert evolved.best.score == np.nanmin(evolved.round_scores[-1])
    np.testing.assert_array_equal(evolved.histories["valid_loss"][:, 0, -1], evolved.scores[:, 0])
    rates = [recipe[RATE] for recipe in evolved.recipes]
    np.testing.assert_array_equal(rates, evolved.rounds[RATE][-1])


def test_changes_are_by_a_fifth_or_drawn_again(evolved):
    for path, column in evolved.rounds.items():
        low, high = as_space("test", SPACE).distributions[path].examples
        assert ((column >= np.float32(low)) & (column <= np.float32(high))).all()
    only = search.population(KEY, SPACE, DATA, **EVOLVE, resample=0.0)
    rates = only.rounds[RATE]
    for index in range(1, 6):
        copies = only.parents[index] != np.arange(4)
        ratio = rates[index, copies] / rates[index - 1, only.parents[index, copies]]
        is_inside = rates[index, copies] < 1
        distance = np.minimum(np.abs(ratio - 1.2), np.abs(ratio - 0.8))
        assert (distance[is_inside] < 1e-5).all()


def test_statistics_are_those_of_the_first_round(evolved):
    options = EVOLVE | {"members": 24, "lanes": 24, "epochs": 4, "interval": 2}
    trials = search.population(KEY, SPACE, DATA, **options)
    first = search.population(KEY, SPACE, DATA, **(options | {"epochs": 2}))
    assert trials.boundaries() == first.boundaries()
    assert trials.importance() == first.importance()
    assert trials.boundaries()[RATE].verdict != "unknown"
    with pytest.raises(ConfigError, match="best_of_n: expected independent trials"):
        evolved.best_of_n()
    assert "members copy each other" in evolved.summary()


def test_the_first_round_is_random_search():
    options = EVOLVE | {"epochs": 2, "interval": 2}
    first = search.population(KEY, SPACE, DATA, **options)
    trials = search.random(KEY, SPACE, DATA, **RUN, epochs=2, trials=4, lanes=4)
    np.testing.assert_allclose(first.scores, trials.scores, rtol=1e-5)
    np.testing.assert_allclose(first.hyperparameters[RATE], trials.hyperparameters[RATE], rtol=1e-6)


@pytest.mark.parametrize("lanes", [1, 2])
def test_members_do_not_depend_on_the_number_of_lanes(evolved, lanes):
    other = search.population(KEY, SPACE, DATA, **(EVOLVE | {"lanes": lanes}))
    np.testing.assert_array_equal(other.parents, evolved.parents)
    np.testing.assert_allclose(other.scores, evolved.scores, rtol=1e-3)
    best = other.best.index
    result = search.replay(KEY, SPACE, other.schedule(best), DATA, **RUN)
    assert_same(result.train_state[:4], other.kept[best][0][:4])


def test_a_diverged_member_is_no_parent_and_copies():
    space = SPACE.replace(optimizer=optim.momentum(search.log_uniform(1e-3, 3e38)))
    initial = [{"network.2.drop_rate": 0.1, RATE: rate} for rate in (3e38, 0.1, 3e38, 3e38)]
    options = EVOLVE | {"epochs": 2, "quantile": 0.25}
    trials = search.population(KEY, space, DATA, **options, initial=initial, resample=0.0)
    assert not np.isfinite(trials.round_scores[0, [0, 2, 3]]).any()
    assert trials.parents[1].tolist() == [1, 1, 1, 1]
    assert np.isfinite(trials.scores).all()
    with pytest.raises(FnnError, match="a finite score of at least one trial"):
        search.population(KEY, space, DATA, **options, initial=[initial[0]] * 4, resample=0.0)


def test_functions_of_hyperparameters_and_integers_are_traced():
    def make(rate, steps):
        schedule = optim.cosine(rate / 2, steps=steps)
        return train.recipe(nn.dense(2), optim.sgd(schedule))

    space = search.space(make, rate=search.choice(0.1, 0.5, 1.0), steps=search.integer(5, 40))
    trials = search.population(KEY, space, DATA, **EVOLVE)
    assert trials.rounds["steps"].dtype.kind == "i"
    assert set(trials.rounds["rate"].ravel()) <= {0.1, 0.5, 1.0}
    assert trials.rounds["steps"].min() >= 5 and trials.rounds["steps"].max() <= 40
    best = trials.best.index
    result = search.replay(KEY, space, trials.schedule(best), DATA, **RUN)
    assert_same(result.train_state.params, trials.kept[best][0].params)


def test_a_confusion_matrix_has_its_axes_at_the_end_of_the_histories():
    found = search.population(KEY, MATRIX, DATA, **EVOLVE | {"epochs": 2})
    rows = found.histories["valid_matrix"]
    assert rows.shape == (4, 1, 2, 2, 2)
    replayed = search.replay(KEY, MATRIX, found.schedule(1), DATA, **RUN).history["valid_matrix"]
    np.testing.assert_array_equal(replayed, rows[1, 0])


WRONG = {
    "structure": (
        {"space": SPACE.replace(network=nn.dense(search.choice(2, 3)))},
        "population space: expected numbers in the place of network",
    ),
    "choice of networks": (
        {"space": SPACE.replace(network=search.choice(nn.dense(2), nn.chain(nn.dense(2))))},
        "population space: expected numbers in the place of network",
    ),
    "no hyperparameter": (
        {"space": train.recipe(nn.dense(2), optim.sgd(0.1))},
        "at least one distribution",
    ),
    "early stopping": (
        {"space": SPACE.replace(early_stopping=train.early_stopping(2))},
        "a recipe without early_stopping",
    ),
    "members": ({"members": 1}, "members: expected >= 2"),
    "epochs": ({"epochs": 5, "interval": 2}, "epochs: expected a multiple of interval = 2, got 5"),
    "quantile": ({"quantile": 0.6}, r"population quantile: .*\(0, 0.5\]"),
    "resample": ({"resample": -1.0}, "population resample"),
    "initial": ({"initial": [{"rate": 1.0}]}, "population initial: expected a value of each of"),
    "outside": (
        {"initial": [{"network.2.drop_rate": 0.7, RATE: 0.1}]},
        r"network.2.drop_rate: expected a value within \[0.0, 0.5\], got 0.7",
    ),
    "seeds": ({"seeds": 2}, "population seeds: expected 1, got 2"),
    "no valid": ({"valid": None}, "search score"),
    "array": (
        {"space": MATRIX, "score": "valid_matrix", "mode": "max"},
        "search score: expected one number, as valid_loss, got valid_matrix of shape",
    ),
    "not traced": (
        {
            "space": search.space(
                lambda rate: train.recipe(nn.dense(2), optim.sgd(float(rate))),
                rate=search.uniform(0.1, 1),
            )
        },
        "population space: expected a function that can be traced",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_raise_before_anything_compiles(name, monkeypatch):
    monkeypatch.setattr(Lanes, "__init__", None)
    options, message = WRONG[name]
    options = {"space": SPACE} | EVOLVE | options
    with pytest.raises(FnnError, match=message):
        search.population(KEY, options.pop("space"), DATA, **options)


def test_wrong_schedules_raise(evolved):
    schedule = evolved.schedule(0)
    other = train.recipe(nn.dense(2), optim.sgd(search.uniform(0.1, 1)))
    with pytest.raises(ConfigError, match="replay schedule: expected values of"):
        search.replay(KEY, other, schedule, DATA, **RUN)
    with pytest.raises(ConfigError, match="replay schedule: expected a Schedule"):
        search.replay(KEY, SPACE, evolved, DATA, **RUN)
    columns = {path: 10 * column for path, column in schedule.hyperparameters.items()}
    with pytest.raises(ConfigError, match="expected a value within"):
        search.replay(KEY, SPACE, schedule._replace(hyperparameters=columns), DATA, **RUN)
