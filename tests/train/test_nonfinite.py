"""The step at which non-finite figures end a run."""

import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.train.nonfinite import PATIENCE, find_fatal_step

plain = train.recipe(nn.dense(2), optim.sgd(0.1))


@pytest.mark.parametrize(
    ("on_nonfinite", "wrong", "fatal"),
    [
        ("raise", [3], 3),
        ("raise", [], None),
        ("ignore", range(20), None),
        ("skip", range(2, 2 + PATIENCE), 1 + PATIENCE),
        ("skip", range(2, 1 + PATIENCE), None),
        # A finite step in between begins the count again.
        ("skip", [*range(9), *range(10, 19)], None),
        ("skip", [*range(9), *range(10, 20)], 19),
    ],
)
def test_a_run_ends_at_the_last_of_its_non_finite_steps_in_a_row(on_nonfinite, wrong, fatal):
    finite = np.ones(20, bool)
    finite[list(wrong)] = False
    assert find_fatal_step(plain.replace(on_nonfinite=on_nonfinite), finite) == fatal
    assert PATIENCE == 10
