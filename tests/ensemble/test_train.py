"""Members of an ensemble: each is the run of its key, and those that diverged are left out."""

import jax
import numpy as np
import pytest

from fnn import ensemble, nn, objective, optim, train
from fnn.errors import ConfigError, DTypeError, NonFiniteError
from fnn.search.lane_map import LaneProgram
from fnn.types import Instruments

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(52, 5)).astype(np.float32)
Y = draw.integers(0, 3, 52)
DATA = (X[:40], Y[:40])
VALID = (X[40:], Y[40:])
OPTIONS = {"epochs": 3, "batch_size": 8}


def recipe(rate=0.05, **options):
    network = nn.chain(nn.dense(4), nn.batch_norm(), nn.tanh(), nn.dropout(0.2), nn.dense(3))
    return train.recipe(network, optim.momentum(rate), **options)


def measured_by_layer(width, **options):
    """Return a recipe with instruments that measure an array of this width."""
    instruments = Instruments(
        names=("measured",),
        every=2,
        measure=lambda step: {"measured": step.record.params["dense_0"]["bias"][:width]},
        columns=lambda *_: {"measured": ("all",) * width},
    )
    return recipe(instruments=instruments, **options)


def jitter(key, x):
    return x + 0.1 * jax.random.normal(key, x.shape, x.dtype)


def members(key, made=None, data=DATA, **options):
    return ensemble.train(key, made or recipe(), data, **OPTIONS | {"valid": VALID} | options)


def assert_run(result, place, expected, tolerance):
    """Whether a member is the run: to the last bit with a tolerance of 0."""
    index = result.indices[place]
    length = {True: len(expected.history.valid_loss), False: len(expected.history.loss)}
    for name, values in expected.history.items():
        row = result.history[name][index]
        own = row[: length[name.startswith("valid_")]]
        np.testing.assert_allclose(own, values, rtol=tolerance, atol=tolerance)
        assert np.isnan(row[len(own) :]).all() or name == "finite"
    one, weights = result.members[place]
    for a, b in zip(
        jax.tree.leaves(weights),
        jax.tree.leaves(train.weights(one, expected.train_state)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=100 * tolerance, atol=tolerance)


def test_arrays_of_instruments_are_those_of_the_runs(key):
    made = measured_by_layer(2)
    result = members(key, made, n=2, lanes=1)
    own = jax.random.fold_in(key, 1)
    expected = train.run(own, made, DATA, valid=VALID, **OPTIONS)
    np.testing.assert_array_equal(result.history.measured[1], expected.history.measured)
    # Networks of other widths have no array in common.
    both = members(key, [made, measured_by_layer(3)], lanes=1)
    assert "measured" not in both.history and both.history.loss.shape == (2, 15)


@pytest.mark.parametrize(("lanes", "tolerance"), [(1, 0), ("auto", 1e-5)])
def test_a_member_is_the_run_of_its_key(key, lanes, tolerance):
    result = members(key, n=3, lanes=lanes)
    for index in range(3):
        own = jax.random.fold_in(key, index)
        expected = train.run(own, recipe(), DATA, valid=VALID, **OPTIONS)
        assert_run(result, index, expected, tolerance)
    assert len(result.members) == 3 and result.diverged == {} and result.examples is None
    assert str(result).startswith("3 members of 3 runs\nvalid_loss")


def test_members_differ_and_fewer_are_the_first_ones(key):
    few, more = members(key, n=3, lanes=1), members(key, n=5, lanes=1)
    for name in few.history:
        np.testing.assert_array_equal(few.history[name], more.history[name][:3])
    kernels = np.asarray(more.members.weights.params["dense_0"]["kernel"])
    np.testing.assert_array_equal(few.members.weights.params["dense_0"]["kernel"], kernels[:3])
    first_losses = np.asarray(more.history.loss)[:, 0]
    for i in range(5):
        for j in range(i):
            assert not np.allclose(kernels[i], kernels[j], atol=1e-2)
            assert first_losses[i] != first_losses[j]


@pytest.mark.parametrize(("lanes", "tolerance"), [(1, 0), (2, 1e-5)])
def test_early_stopping_ends_each_run_at_its_own_epoch(key, lanes, tolerance):
    made = recipe(0.5, early_stopping=train.early_stopping(1))
    result = members(key, made, n=3, lanes=lanes, epochs=4)
    lengths = set()
    for index in range(3):
        own = jax.random.fold_in(key, index)
        expected = train.run(own, made, DATA, valid=VALID, epochs=4, batch_size=8)
        lengths.add(len(expected.history.valid_loss))
        assert_run(result, index, expected, tolerance)
    assert len(lengths) > 1
    assert "valid_loss" in str(result)


def test_each_member_is_trained_on_a_sample_of_its_own(key):
    noisy = recipe(augment=jitter)
    result = members(key, noisy, n=3, bootstrap=True, lanes=1)
    assert result.examples.shape == (3, 40)
    for index, chosen in enumerate(result.examples):
        # A share of 1 - 1/e of the examples is in a sample.
        assert 18 <= len(set(chosen.tolist())) <= 32
        own = jax.random.fold_in(key, index)
        sample = (X[:40][chosen], Y[:40][chosen])
        assert_run(result, index, train.run(own, noisy, sample, valid=VALID, **OPTIONS), 0)
    assert not (result.examples[0] == result.examples[1]).all()


def test_data_is_not_copied_for_bootstrap_samples(key):
    wide = (np.zeros((400, 1000), np.float32), np.zeros((400, 1), np.float32))
    made = train.recipe(nn.dense(1), optim.sgd(0.1), loss=objective.squared_error)
    used = []
    compiled = LaneProgram.compiled

    def spy(self, *arguments, **options):
        program = compiled(self, *arguments, **options)
        used.append(program.memory_analysis().temp_size_in_bytes)
        return program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LaneProgram, "compiled", spy)
        ensemble.train(key, made, wide, n=4, epochs=1, batch_size=4, bootstrap=True, lanes=4)
    assert 0 < max(used) < wide[0].nbytes / 2


def test_recipes_of_several_structures_and_numbers_train_in_their_order(key):
    deep = train.recipe(nn.chain(nn.dense(4), nn.relu(), nn.dense(3)), optim.adam(0.01))
    recipes = [recipe(0.01), deep, recipe(0.1)]
    result = members(key, recipes, lanes=1)
    assert [len(part.indices) for part in result.members.parts] == [2, 1]
    for index, one in enumerate(recipes):
        own = jax.random.fold_in(key, index)
        assert_run(result, index, train.run(own, one, DATA, valid=VALID, **OPTIONS), 0)
        assert result.members[index].recipe == one


@pytest.mark.parametrize("on_nonfinite", ["raise", "ignore"])
def test_diverged_runs_are_named_and_left_out(key, on_nonfinite):
    recipes = [recipe(rate, on_nonfinite=on_nonfinite) for rate in (0.1, 1e38, 0.01, 1e38)]
    with pytest.warns(UserWarning, match=r"expected finite runs.* 1 at step \d+, 3 at step \d+"):
        result = members(key, recipes, lanes=4)
    assert result.indices.tolist() == [0, 2] and set(result.diverged) == {1, 3}
    finite = np.asarray(result.history.finite[1])
    assert result.diverged[1] == finite.argmin()
    assert [member.recipe for member in result.members] == [recipes[0], recipes[2]]
    assert np.isfinite(ensemble.predict(result.members, X)).all()
    assert "run 1 diverged at step" in str(result)


def test_an_ensemble_of_diverged_runs_raises(key):
    with pytest.raises(NonFiniteError, match="expected a run that stays finite, got none: 0 at st"):
        members(key, [recipe(1e38), recipe(1e37)], lanes=2)


def test_the_first_member_is_of_the_first_part_also_if_the_first_run_diverged(key):
    deep = train.recipe(nn.chain(nn.dense(4), nn.relu(), nn.dense(3)), optim.adam(0.01))
    recipes = [recipe(1e38), deep, recipe(0.1)]
    with pytest.warns(UserWarning, match="0 at step"):
        result = members(key, recipes, lanes=1)
    assert result.indices.tolist() == [1, 2]
    assert [part.indices for part in result.members.parts] == [(0,), (1,)]
    assert [member.recipe for member in result.members] == recipes[1:]
    assert np.isfinite(ensemble.evaluate(result.members, VALID).combined["loss"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "train n: expected the number of members, got None; give n=5"),
        ({"n": 0}, ConfigError, "train n: expected >= 1, got 0"),
        ({"n": 2.0}, ConfigError, "train n: expected a whole number"),
        ({"made": [recipe()] * 2, "n": 3}, ConfigError, "train n: expected the number of recipes"),
        ({"made": [], "n": 3}, ConfigError, "train recipe: expected a recipe from train.recipe"),
        ({"made": nn.dense(3), "n": 2}, ConfigError, "train recipe: expected a recipe"),
        ({"made": train.recipe(nn.dense(3)), "n": 2}, ConfigError, "recipe optimizer: expected an"),
        ({"n": 2, "bootstrap": 1}, ConfigError, "train bootstrap: expected True or False"),
        ({"n": 2, "lanes": 0}, ConfigError, "lanes: expected >= 1"),
        ({"n": 2, "epochs": 0}, ConfigError, "epochs: expected >= 1"),
        ({"n": 2, "batch_size": 41}, ConfigError, "batch_size: expected at most the 40 examples"),
    ],
)
def test_wrong_arguments_raise(key, options, error, message):
    given = {"made": recipe()} | options
    made = given.pop("made")
    with pytest.raises(error, match=message):
        ensemble.train(key, made, DATA, **OPTIONS | given)


def test_a_seed_in_the_place_of_a_key_raises():
    with pytest.raises(DTypeError, match="key"):
        ensemble.train(0, recipe(), DATA, n=2, **OPTIONS)


def test_traced_keys_and_recipes_raise(key):
    message = "lanes: expected a key and recipes of known numbers, got traced ones"
    with pytest.raises(ConfigError, match=message):
        jax.jit(lambda key: members(key, n=2, lanes=2).members)(key)
    with pytest.raises(ConfigError, match=message):
        jax.jit(lambda rate: members(key, recipe(rate), n=2, lanes=2).members)(0.1)
