"""A run advances in any parts to where it comes as a whole."""

import chex
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.objective import cross_entropy
from fnn.train.advancing import advance, most_steps
from fnn.train.epochs import order_of
from fnn.train.steps import start_on
from fnn.train.task import make_task, with_stopping

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
VALID = X[:7], Y[:7]
network, optimizer = nn.chain(nn.batch_norm(), nn.dense(4)), optim.momentum(0.1)


@pytest.mark.parametrize("stops", [[12], [1, 3, 4, 12], [2, 9, 12], [5, 8, 11, 12]])
def test_advancing_in_any_parts_is_the_run_bit_for_bit(stops, key):
    """Three epochs of four steps, in which the optimizer takes note of validation."""
    optimizer = optim.plateau(optim.momentum(1.0), patience=0, factor=0.5)
    task = make_task(network, Y, optimizer, cross_entropy, None)
    whole = train.run(key, network, optimizer, (X, Y), epochs=3, batch_size=5, valid=VALID)
    train_state, order = start_on(task, key, (X, Y)), order_of(key, 0, 23, 5)
    losses, looks = [], []
    for stop in stops:
        begin = int(train_state.step)
        train_state, order, measured, validated, goes_on = advance(task, train_state, (X, Y), order, stop, VALID, 5)
        losses.append(measured["loss"][: stop - begin])
        looks.append(validated["valid_loss"][: stop // 4 - begin // 4])
        assert train_state.step == stop and not goes_on
    np.testing.assert_array_equal(order, order_of(key, 3, 23, 5))
    chex.assert_trees_all_equal(train_state[:4], whole.train_state[:4])
    np.testing.assert_array_equal(np.concatenate(losses), whole.history.loss)
    np.testing.assert_array_equal(np.concatenate(looks), whole.history.valid_loss)


def test_advancing_ends_where_early_stopping_does(key):
    still = optim.sgd(0.0)  # gets no better
    stopping = train.early_stopping(2)
    task = with_stopping(make_task(network, Y, still, cross_entropy, None), stopping)
    first = stopping.begin(train.start(key, network, still, (3,)))
    reached = advance(task, first, (X, Y), order_of(key, 0, 23, 5), 40, VALID, 5)
    over = train.run(key, network, still, (X, Y), epochs=9, batch_size=5, valid=VALID, early_stopping=stopping)
    assert reached.train_state.step == over.history.loss.size < 36
    again = advance(task, reached.train_state, (X, Y), reached.order, 40, VALID, 5)
    assert again.train_state.step == reached.train_state.step


def test_advancing_ends_at_a_step_that_is_not_finite(key):
    poisoned = np.where(np.arange(23)[:, None] == 7, np.nan, X).astype(np.float32)
    first, order = train.start(key, network, optimizer, (3,)), order_of(key, 0, 23, 5)
    orders = np.concatenate([order_of(key, epoch, 23, 5) for epoch in range(3)])
    met = next(step for step, row in enumerate(orders) if 7 in row)
    for on_nonfinite, end in (("raise", met + 1), ("ignore", 12)):
        task = make_task(network, Y, optimizer, cross_entropy, None, on_nonfinite=on_nonfinite)
        reached = advance(task, first, (poisoned, Y), order, 12, None, 1)
        assert reached.train_state.step == end
        np.testing.assert_array_equal(reached.measured["finite"][:end], np.arange(end) < met)


def test_without_a_step_advancing_validates_if_between_epochs_and_changes_nothing(key):
    optimizer = optim.plateau(optim.momentum(0.1), patience=0)
    task = make_task(network, Y, optimizer, cross_entropy, None)
    train_state, order = train.start(key, network, optimizer, (3,)), order_of(key, 0, 23, 5)
    for stop, is_between in ((0, True), (3, False), (4, True)):
        train_state = advance(task, train_state, (X, Y), order, stop, VALID, 5).train_state
        again = advance(task, train_state, (X, Y), order, stop, VALID, 5)
        chex.assert_trees_all_equal(again.train_state[:4], train_state[:4])
        seen = train.evaluate(network, train_state.params, train_state.state, VALID, batch_size=5)
        wanted = {f"valid_{name}": value if is_between else 0 for name, value in seen.items()}
        assert again.validated.keys() == wanted.keys() and {"valid_loss", "valid_accuracy"} <= wanted.keys()
        np.testing.assert_array_equal([again.validated[name][0] for name in wanted], [*map(float, wanted.values())])


def test_what_there_is_no_room_for_is_done_and_not_noted(key):
    """Of steps beyond most_steps nothing is written over what the others measured."""
    task = make_task(network, Y, optimizer, cross_entropy, None)
    first, order = start_on(task, key, (X, Y)), order_of(key, 0, 23, 20)  # a step an epoch
    most = most_steps(1)
    reached = advance(task, first, (X, Y), order, most + 3, VALID, 20)
    wanted = advance(task, first, (X, Y), order, most, VALID, 20)
    assert reached.train_state.step == most + 3
    chex.assert_trees_all_equal((reached.measured, reached.validated), (wanted.measured, wanted.validated))
