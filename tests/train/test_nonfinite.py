"""The step that ends a run: the first with enough non-finite ones in a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import NonFiniteError
from fnn.train.nonfinite import PATIENCE, find_fatal_step, nonfinite_limit

NETWORK = nn.dense(2)
X = np.ones((4, 3), np.float32)
Y = np.zeros(4, np.int32)


def recipe_of(on_nonfinite):
    return train.recipe(NETWORK, optim.sgd(0.1), on_nonfinite=on_nonfinite)


def flags(*runs):
    """Flags of steps, from (finite, number of steps) pairs."""
    return np.concatenate([np.full(count, finite) for finite, count in runs])


FATAL = [
    ("raise", flags((True, 3)), None),
    ("raise", flags((True, 3), (False, 1), (True, 1)), 3),
    ("skip", flags((False, PATIENCE - 1)), None),
    ("skip", flags((False, PATIENCE)), PATIENCE - 1),
    ("skip", flags((True, 2), (False, PATIENCE), (True, 2)), PATIENCE + 1),
    ("skip", flags((False, PATIENCE - 1), (True, 1), (False, PATIENCE - 1)), None),
    ("skip", flags((False, 3), (True, 1), (False, PATIENCE + 5)), PATIENCE + 3),
    ("skip", flags((True, 0)), None),
    ("ignore", flags((False, 50)), None),
]


@pytest.mark.parametrize(("on_nonfinite", "finite", "wanted"), FATAL)
def test_the_fatal_step_is_the_last_one_of_enough_in_a_row(on_nonfinite, finite, wanted):
    assert find_fatal_step(recipe_of(on_nonfinite), finite) == wanted
    assert find_fatal_step(recipe_of(on_nonfinite), jnp.asarray(finite)) == wanted


def test_ten_skipped_steps_in_a_row_end_a_run():
    assert [nonfinite_limit(recipe_of(one)) for one in ("raise", "skip", "ignore")] == [
        1,
        10,
        np.inf,
    ]


def test_traced_flags_end_no_run():
    @jax.jit
    def found(finite):
        assert find_fatal_step(recipe_of("raise"), finite) is None
        return finite

    found(flags((False, 2)))


@pytest.mark.slow
def test_an_error_names_the_step(key):
    # A rate that makes the second step overflow.
    recipe = train.recipe(NETWORK, optim.sgd(1e38), loss=square)
    with pytest.raises(NonFiniteError) as error:
        train.run(key, recipe, (X * 1e3, Y), epochs=9, batch_size=4)
    assert error.value.step >= 1


def square(outputs, targets):
    return jnp.square(outputs).sum(-1)
