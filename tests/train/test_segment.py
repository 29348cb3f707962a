"""A run in segments equals the whole run, for any segments."""

import chex
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.train.epoch import order_examples
from fnn.train.segment import run_segment, segment_capacity
from fnn.train.step import start_on_data

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
VALID = X[:7], Y[:7]
network = nn.chain(nn.batch_norm(), nn.dense(4))
recipe = train.recipe(network, optim.momentum(0.1))


@pytest.mark.parametrize("stops", [[12], [1, 3, 4, 12], [2, 9, 12], [5, 8, 11, 12]])
def test_segments_are_bitwise_equal_to_the_run(stops, key):
    """Three epochs of four steps; the optimizer depends on validation."""
    recipe = train.recipe(network, optim.plateau(optim.momentum(1.0), patience=0, factor=0.5))
    whole = train.run(key, recipe, (X, Y), epochs=3, batch_size=5, valid=VALID)
    train_state = start_on_data(recipe, key, (X, Y))
    order = order_examples(key, 0, 23, 5)
    losses, valid_losses = [], []
    for stop in stops:
        begin = int(train_state.step)
        train_state, order, measured, validated, is_running = run_segment(
            recipe, train_state, (X, Y), order, stop, VALID, 5
        )
        losses.append(measured["loss"][: stop - begin])
        valid_losses.append(validated["valid_loss"][: stop // 4 - begin // 4])
        assert train_state.step == stop and not is_running
    np.testing.assert_array_equal(order, order_examples(key, 3, 23, 5))
    chex.assert_trees_all_equal(train_state[:4], whole.train_state[:4])
    np.testing.assert_array_equal(np.concatenate(losses), whole.history.loss)
    np.testing.assert_array_equal(np.concatenate(valid_losses), whole.history.valid_loss)


@pytest.mark.slow
def test_segment_ends_at_early_stopping(key):
    recipe = train.recipe(
        network, optim.sgd(0.0), early_stopping=train.early_stopping(2)
    )  # without improvement
    first = train.start(key, recipe, (3,))
    reached = run_segment(recipe, first, (X, Y), order_examples(key, 0, 23, 5), 40, VALID, 5)
    over = train.run(key, recipe, (X, Y), epochs=9, batch_size=5, valid=VALID)
    assert reached.train_state.step == over.history.loss.size < 36
    again = run_segment(recipe, reached.train_state, (X, Y), reached.order, 40, VALID, 5)
    assert again.train_state.step == reached.train_state.step


@pytest.mark.slow
def test_segment_ends_at_a_non_finite_step(key):
    poisoned = np.where(np.arange(23)[:, None] == 7, np.nan, X).astype(np.float32)
    first, order = train.start(key, recipe, (3,)), order_examples(key, 0, 23, 5)
    orders = np.concatenate([order_examples(key, epoch, 23, 5) for epoch in range(3)])
    met = next(step for step, row in enumerate(orders) if 7 in row)
    for on_nonfinite, end in (("raise", met + 1), ("ignore", 12)):
        reached = run_segment(
            recipe.replace(on_nonfinite=on_nonfinite), first, (poisoned, Y), order, 12, None, 1
        )
        assert reached.train_state.step == end
        np.testing.assert_array_equal(reached.measured["finite"][:end], np.arange(end) < met)


@pytest.mark.slow
def test_segment_of_no_steps_validates_between_epochs_and_changes_nothing(key):
    recipe = train.recipe(network, optim.plateau(optim.momentum(0.1), patience=0))
    train_state, order = train.start(key, recipe, (3,)), order_examples(key, 0, 23, 5)
    for stop, is_between in ((0, True), (3, False), (4, True)):
        train_state = run_segment(recipe, train_state, (X, Y), order, stop, VALID, 5).train_state
        again = run_segment(recipe, train_state, (X, Y), order, stop, VALID, 5)
        chex.assert_trees_all_equal(again.train_state[:4], train_state[:4])
        figures = train.evaluate(recipe, train_state, VALID, batch_size=5)
        wanted = {f"valid_{name}": value if is_between else 0 for name, value in figures.items()}
        assert (
            again.validated.keys() == wanted.keys()
            and {"valid_loss", "valid_accuracy"} <= wanted.keys()
        )
        np.testing.assert_array_equal(
            [again.validated[name][0] for name in wanted], [*map(float, wanted.values())]
        )


@pytest.mark.slow
def test_steps_beyond_the_capacity_run_without_being_recorded(key):
    """They do not overwrite the figures of the recorded steps."""
    first = start_on_data(recipe, key, (X, Y))
    order = order_examples(key, 0, 23, 20)  # one step per epoch
    capacity = segment_capacity(1)
    reached = run_segment(recipe, first, (X, Y), order, capacity + 3, VALID, 20)
    wanted = run_segment(recipe, first, (X, Y), order, capacity, VALID, 20)
    assert reached.train_state.step == capacity + 3
    chex.assert_trees_all_equal(
        (reached.measured, reached.validated), (wanted.measured, wanted.validated)
    )
