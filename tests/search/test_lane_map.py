"""Functions over lanes: any number at a time gives the results of one lane after another."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError
from fnn.search.lane_map import LaneMap

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
    compiled = program._compiled(8, (leaves, indices), data)
    assert compiled.memory_analysis().temp_size_in_bytes < data.nbytes


def test_a_wrong_number_of_lanes_raises():
    with pytest.raises(ConfigError, match="lanes: expected >= 1, got 0"):
        LaneMap("weigh", weigh, RECIPES[0], 0)
