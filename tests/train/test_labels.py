"""What integer targets are to each loss, and what training makes of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.errors import LabelError
from fnn.train.labels import are_classes, default_metrics, ignored

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.arange(12, dtype=np.int32) % 4
padded = np.where(Y == 3, -100, Y).astype(np.int32)
ignoring = objective.ignoring(partial(objective.cross_entropy, label_smoothing=0.1), -100)


def run(network, targets, **options):
    key = jax.random.key(0)
    return train.run(key, network, optim.sgd(0.1), (X, targets), valid=(X, targets), epochs=2, batch_size=4, **options)


def test_integers_number_classes_except_for_the_losses_that_take_them_otherwise():
    assert are_classes(objective.cross_entropy, Y) and are_classes(ignoring, Y) and are_classes(lambda o, t: o, Y)
    assert not are_classes(objective.cross_entropy, X)
    for loss in (objective.nt_xent, partial(objective.binary_cross_entropy, label_smoothing=0.1), objective.triplet):
        assert not are_classes(loss, Y) and default_metrics(loss, Y) == {}
    assert ignored(ignoring) == {-100} and ignored(objective.cross_entropy) == set()


def test_ignored_labels_count_neither_in_the_loss_nor_in_the_accuracy():
    history = run(nn.dense(4), padded, loss=ignoring).history
    kept = np.flatnonzero(padded != -100)
    alone = train.run(
        jax.random.key(0), nn.dense(4), optim.sgd(0.0), (X, Y), valid=(X[kept], Y[kept]), epochs=1, batch_size=4
    ).history
    still = train.run(
        jax.random.key(0), nn.dense(4), optim.sgd(0.0), (X, padded), valid=(X, padded), epochs=1, batch_size=4,
        loss=objective.ignoring(objective.cross_entropy, -100),
    ).history  # fmt: skip
    np.testing.assert_allclose(still.valid_loss, alone.valid_loss, rtol=1e-6)
    np.testing.assert_allclose(still.valid_accuracy, alone.valid_accuracy, rtol=1e-6)
    assert np.isfinite(history.loss).all()


def test_a_wrong_label_is_told_beside_ignored_ones():
    with pytest.raises(LabelError, match=r"labels: expected 0 <= label < 4, got -1 at index 5"):
        run(nn.dense(4), np.where(np.arange(12) == 5, -1, padded).astype(np.int32), loss=ignoring)


def test_names_of_things_may_be_any_integers():
    assert "accuracy" not in run(nn.dense(2), Y + 1000, loss=objective.nt_xent).history


def test_yes_and_no_may_be_integers():
    answers = (np.random.default_rng(1).random((12, 2)) < 0.5).astype(np.int32)
    history = run(nn.dense(2), answers, loss=objective.binary_cross_entropy).history
    assert np.isfinite(history.loss).all() and "accuracy" not in history


def test_a_wrong_label_of_a_head_is_told():
    network = nn.parallel(digit=nn.dense(4), side=nn.dense(2), join="dict")
    loss = objective.multi_task({"digit": objective.cross_entropy, "side": objective.squared_error})
    targets = {"digit": Y, "side": X[:, :2]}
    assert jnp.isfinite(run(network, targets, loss=loss).history.loss).all()
    with pytest.raises(LabelError, match="labels: expected 0 <= label < 4, got 7 at index 2"):
        run(network, targets | {"digit": np.where(np.arange(12) == 2, 7, Y).astype(np.int32)}, loss=loss)
