"""An epoch is its steps, one after another, on the batches of its own permutation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fnn import data, nn, optim, train
from fnn.objective import cross_entropy
from fnn.train.epochs import advance, order_of, whole_epoch
from fnn.train.steps import ORDER
from fnn.train.task import make_task

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
network, optimizer = nn.chain(nn.batch_norm(), nn.dense(4)), optim.momentum(0.1)


def test_an_epoch_is_its_steps(key):
    train_state = train.start(key, network, optimizer, (3,))
    for number in range(2):
        rows = data.batches(jax.random.fold_in(key, ORDER), number, examples=23, batch_size=5)
        by_hand, losses = train_state, []
        for row in np.asarray(rows):
            by_hand, measured = train.step(by_hand, network, optimizer, (X[row], Y[row]))
            losses.append(measured["loss"])
        train_state, records = train.epoch(train_state, network, optimizer, (X, Y), batch_size=5)
        chex.assert_trees_all_close(train_state[:4], by_hand[:4], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(records["loss"], np.stack(losses), rtol=1e-6)


def test_advancing_in_any_parts_is_the_epoch_bit_for_bit(key):
    task = make_task(network, Y, optimizer, cross_entropy, None)
    first = train.start(key, network, optimizer, (3,))
    whole, records = whole_epoch(task, first, (X, Y), 5)
    parts, losses = first, []
    order = order_of(key, 0, 23, 5)
    for stop in (1, 3, 4):
        begin = int(parts.step)
        parts, measured, _ = advance(task, parts, (X, Y), order, jnp.int32(stop), None, 1)
        losses.append(measured["loss"][begin:stop])
    chex.assert_trees_all_equal(parts[:4], whole[:4])
    np.testing.assert_array_equal(np.concatenate(losses), records["loss"])


def test_advancing_ends_at_a_step_that_is_not_finite(key):
    poisoned = np.where(np.arange(23)[:, None] == 7, np.nan, X).astype(np.float32)
    task = make_task(network, Y, optimizer, cross_entropy, None)
    first = train.start(key, network, optimizer, (3,))
    rows = np.asarray(data.batches(jax.random.fold_in(key, ORDER), 0, examples=23, batch_size=5))
    np.testing.assert_array_equal(order_of(key, 0, 23, 5), rows)
    met = [step for step, row in enumerate(rows) if 7 in row]
    after, measured, _ = advance(task, first, (poisoned, Y), rows, jnp.int32(4), None, 1)
    assert int(after.step) == (met[0] + 1 if met else 4)
    np.testing.assert_array_equal(np.flatnonzero(~np.asarray(measured["finite"])), met)


def test_between_epochs_advancing_validates_and_within_one_it_does_not(key):
    task = make_task(network, Y, optimizer, cross_entropy, None)
    train_state, order, valid = train.start(key, network, optimizer, (3,)), order_of(key, 0, 23, 5), (X[:7], Y[:7])
    for stop, is_between in ((0, True), (1, False), (3, False), (4, True)):
        train_state, _, figures = advance(task, train_state, (X, Y), order, jnp.int32(stop), valid, 5)
        seen = train.evaluate(network, train_state.params, train_state.state, valid, batch_size=5)
        wanted = {f"valid_{name}": value if is_between else 0 for name, value in seen.items()}
        assert figures.keys() == wanted.keys() and {"valid_loss", "valid_accuracy"} <= wanted.keys()
        np.testing.assert_array_equal([figures[name] for name in wanted], [float(value) for value in wanted.values()])
