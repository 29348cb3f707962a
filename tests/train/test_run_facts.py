"""Facts by which processes recognize the same run: texts of recipes, digests of data."""

import jax.numpy as jnp
import numpy as np
import process_runs

from fnn.train.devices import as_layout, place_data
from fnn.train.run_facts import describe, digest_examples


def test_the_text_of_a_recipe_has_no_addresses():
    recipe = process_runs.recipe(prepare=lambda x: x)
    assert " at 0x" in str(recipe)
    assert "0x" not in describe(recipe)


def test_the_digest_of_large_arrays_takes_examples_from_beginning_to_end():
    values = np.arange(1000, dtype=np.int8).reshape(100, 10)
    digests = set()
    for row in (0, 11, 99):
        changed = values.copy()
        changed[row] = 0
        digests.add(digest_examples((changed, values), 100))
    assert len(digests) == 3
    whole = digest_examples((values, values), 100)
    assert whole not in digests
    assert digest_examples((jnp.asarray(values), values), 100) == whole


def test_the_digest_of_data_on_several_devices_is_that_of_the_data():
    layout = as_layout("mesh", process_runs.all_devices())
    placed = place_data(layout, process_runs.DATA)
    assert digest_examples(placed) == digest_examples(process_runs.DATA)
