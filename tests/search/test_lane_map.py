"""Functions over lanes: any number at a time gives the results of one lane after another."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError
from fnn.search.lane_map import LaneMap, batch_size_of, best_width, stack_leaves

RECIPES = [train.recipe(nn.dense(1), optim.sgd(rate)) for rate in (0.1, 0.2, 0.3)]


def weigh(recipe, own, common):
    rate = jnp.asarray(recipe["optimizer.rate"])
    return {"sum": rate * own.sum() + common["shift"], "own": own}


@pytest.mark.parametrize("lanes", [1, 2, 3, 8, "auto"])
def test_lanes_have_their_own_arguments_and_those_in_common(lanes):
    own = np.arange(6, dtype=np.float32).reshape(3, 2)
    common = {"shift": np.float32(10)}
    found = LaneMap("weigh", weigh, RECIPES[0], lanes)(
        RECIPES, lambda indices: own[indices], common, probe=common
    )
    np.testing.assert_allclose(found["sum"], [0.1 * 1 + 10, 0.2 * 5 + 10, 0.3 * 9 + 10], rtol=1e-6)
    np.testing.assert_array_equal(found["own"], own)


def test_a_map_of_recipes_of_one_structure_compiles_once():
    traces = []

    def counted(recipe, own, common):
        traces.append(1)
        return own

    def call(recipes):
        program = LaneMap("counted", counted, recipes[0], 2)
        return program(recipes, lambda indices: indices.astype(np.float32), (), probe=())

    call(RECIPES)
    assert call([one.replace(optimizer=optim.sgd(1.0)) for one in RECIPES]).tolist() == [0, 1, 2]
    assert len(traces) == 1


def test_more_lanes_than_those_of_a_call_are_computed_one_after_another():
    recipes = [train.recipe(nn.dense(1), optim.sgd(rate)) for rate in np.linspace(0.1, 1, 11)]
    own = np.arange(11, dtype=np.float32)
    found = LaneMap("weigh", weigh, recipes[0], 1)(
        recipes, lambda indices: own[indices], {"shift": np.float32(0)}, probe=()
    )
    np.testing.assert_allclose(found["sum"], np.linspace(0.1, 1, 11) * own, rtol=1e-6)


def test_arguments_in_common_are_not_copied_for_the_lanes():
    data = np.zeros((1000, 10), np.float32)
    indices = np.arange(8 * 4).reshape(8, 4)

    def take(recipe, own, common):
        return common[own].sum()

    program = LaneMap("take", take, RECIPES[0], 8)
    leaves = [np.full(8, 0.1, np.float32)]
    compiled = program._program.compiled(leaves, indices, data, is_mapped=True)
    assert compiled.memory_analysis().temp_size_in_bytes < data.nbytes


def test_a_wrong_number_of_lanes_raises():
    with pytest.raises(ConfigError, match="lanes: expected >= 1, got 0"):
        LaneMap("weigh", weigh, RECIPES[0], 0)


def timed(together, memory=1):
    """A measurement: alone 1 s, and these seconds of a lane where they are mapped."""
    return lambda width: (1.0 if width == 1 else together, memory)


def test_the_number_of_lanes_divides_them_evenly(monkeypatch):
    monkeypatch.setattr("fnn.search.lane_map.MAX_LANES", 4)
    monkeypatch.setattr("fnn.search.lane_map.CACHE", 0)
    assert best_width([(10, 1)], timed(0.5)) == 4
    assert best_width([(10, 1)], timed(1.5)) == 1
    assert best_width([(1, 1)], timed(0.5)) == 1


def test_lanes_one_after_another_have_little_padding():
    # Calls of at most eight lanes: nine are three calls of three, and not two of eight.
    assert [batch_size_of(1, [(count, 1)]) for count in (1, 5, 8, 9, 10, 13, 16)] == [
        1, 5, 8, 3, 5, 7, 8,
    ]  # fmt: skip
    # Of stages with few lanes and many epochs, padding would be most of the work.
    assert batch_size_of(1, [(27, 1), (9, 3), (3, 9), (1, 27)]) == 1
    assert batch_size_of(16, [(10, 1)]) == 10


def test_padding_decides_between_lanes_together_and_one_after_another(monkeypatch):
    monkeypatch.setattr("fnn.search.lane_map.MAX_LANES", 4)
    monkeypatch.setattr("fnn.search.lane_map.CACHE", 0)
    # Together the last of three calls is padded to twelve lanes, alone none is.
    assert best_width([(10, 1)], timed(0.9)) == 1
    assert best_width([(10, 1)], timed(0.75)) == 4


def test_a_gain_within_the_noise_does_not_pay_for_the_memory_of_lanes_together():
    assert best_width([(10, 1)], timed(0.97)) == 1
    assert best_width([(10, 1)], timed(0.9)) == 10


@pytest.mark.parametrize(("memory", "lanes"), [(1, 256), (320_000, 100), (1e6, 64)])
def test_lanes_that_fit_into_the_cache_are_trained_together(memory, lanes, monkeypatch):
    monkeypatch.setattr("fnn.search.lane_map.free_memory", lambda mesh: 1e12)
    assert best_width([(6400, 1)], timed(0.5, memory=memory)) == lanes


def test_the_number_of_lanes_is_limited_by_memory(monkeypatch):
    monkeypatch.setattr("fnn.search.lane_map.free_memory", lambda mesh: 1000)
    # Half of 1000 bytes hold 5 lanes of 100 bytes.
    assert best_width([(10, 1)], timed(0.5, memory=100)) == 5


def test_stacked_leaves_have_an_axis_of_recipes():
    leaves = stack_leaves(RECIPES)
    assert {len(leaf) for leaf in leaves} == {3}
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
