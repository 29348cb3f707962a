"""A batch in parts, against the same batch at once."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn import augment, lab, nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.train import keys

DRAWN = np.random.default_rng(0)
X = DRAWN.normal(size=(24, 6, 6, 2))
Y = DRAWN.integers(4, size=24)
MASK = np.tile([0, 1, 0.5, 1], 6)  # of four parts one counts nothing

quiet = nn.chain(nn.conv(4), nn.relu(), nn.flatten(), nn.dense(4))
optimizer = optim.clip_by_global_norm(optim.momentum(0.1), 1.0)
LOSSES = {
    "plain": (objective.cross_entropy, Y),
    "ignoring": (objective.ignoring(objective.cross_entropy, 2), Y),
    "by class": (objective.class_weighted(objective.cross_entropy, jnp.arange(1.0, 5.0)), Y),
    "masked": (objective.masked(objective.cross_entropy), (Y, MASK)),
}


@pytest.mark.parametrize("most", [1, 7])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_in_parts_is_the_step(name, most, x64, key):
    loss, targets = LOSSES[name]
    metrics = {"cost": loss} if name == "masked" else {"accuracy": objective.accuracy, "f1": objective.f1()}
    options = {"loss": loss, "metrics": metrics, "regularizer": objective.l2(1e-2)}
    before = train.start(key, quiet, optimizer, (6, 6, 2))
    wanted = numbers(train.step(before, quiet, optimizer, (X, targets), **options))
    got = numbers(train.step(before, quiet, optimizer, (X, targets), micro_batch_size=most, **options))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, wanted)


def numbers(stepped):
    """Of a step's result all but the key."""
    train_state, measured = stepped
    return train_state[:3], measured


def test_penalties_of_layers_are_averaged_as_the_loss_is(x64, key):
    network = nn.chain(nn.flatten(), nn.activity(nn.dense(4), objective.l2(0.1)))
    before = train.start(key, network, optimizer, (6, 6, 2))
    wanted = train.step(before, network, optimizer, (X, Y))
    (after, measured) = train.step(before, network, optimizer, (X, Y), micro_batch_size=8)
    chex.assert_trees_all_close((after.params, measured), (wanted[0].params, wanted[1]), rtol=1e-12, atol=1e-14)


def test_where_nothing_counts_penalties_stand(x64, key):
    options = {"loss": objective.masked(objective.cross_entropy), "metrics": {}, "regularizer": objective.l2(1.0)}
    before = train.start(key, quiet, optimizer, (6, 6, 2))
    batch = X, (Y, np.zeros(24))
    wanted = numbers(train.step(before, quiet, optimizer, batch, **options))
    got = numbers(train.step(before, quiet, optimizer, batch, micro_batch_size=8, **options))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-14)
    assert got[1]["loss"] == 0 and got[1]["penalty"] > 0


def test_state_and_noise_go_from_part_to_part(x64, key):
    """Written out: each part with a key of its own, on the state that the last one left."""
    network = nn.chain(nn.flatten(), nn.batch_norm(), nn.dropout(0.3), nn.dense(4))
    start = train.start(key, network, optimizer, (6, 6, 2))
    after, measured = train.step(start, network, optimizer, (X, Y), micro_batch_size=6)
    own_key = keys.own_key(start, keys.NOISE, start.step)

    def value(params, state, number):
        noise = jax.random.fold_in(own_key, number)
        outputs, state = network.apply(params, state, X[number::4], key=noise, train=True)
        return objective.cross_entropy(outputs, Y[number::4]).mean(), state

    state, grads, losses = start.state, [], []
    for number in range(4):
        (loss, state), own = jax.value_and_grad(value, has_aux=True)(start.params, state, number)
        grads, losses = [*grads, own], [*losses, loss]
    mean = jax.tree.map(lambda *own: sum(own) / 4, *grads)
    params, _ = optim.step(optimizer, mean, start.opt_state, start.params)
    np.testing.assert_allclose(measured["loss"], np.mean(losses), rtol=1e-12)
    chex.assert_trees_all_close((after.params, after.state), (params, state), rtol=1e-11, atol=1e-13)


def test_an_optimizer_that_looks_again_sees_the_same(x64, key):
    """sam takes a second gradient, of the function that is made smaller."""
    own = optim.sam(optim.momentum(0.1), 0.05)
    before = train.start(key, quiet, own, (6, 6, 2))
    wanted, got = (numbers(train.step(before, quiet, own, (X, Y), micro_batch_size=most)) for most in (None, 6))
    chex.assert_trees_all_close(got, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("own", [optim.momentum(0.1), optim.sam(optim.momentum(0.1), 0.05)], ids=["momentum", "sam"])
def test_memory_is_that_of_one_part(own, key):
    network = nn.chain(*[nn.chain(nn.conv(8), nn.tanh()) for _ in range(4)], nn.flatten(), nn.dense(4))
    images = jnp.zeros((64, 16, 16, 3))

    def temporary(most):
        start = train.start(key, network, own, images.shape[1:])
        batch = images, jnp.zeros(64, int)
        call = jax.jit(lambda now: train.step(now, network, own, batch, micro_batch_size=most))
        return call.lower(start).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < 0.3 * temporary(None)


def test_mixed_targets_are_cut_as_inputs_are(key):
    options = {"batch_size": 12, "augment": augment.mixup(0.4, classes=4)}
    start = train.start(key, quiet, optimizer, (6, 6, 2))
    data = X.astype(np.float32), Y
    wanted, got = (train.epoch(start, quiet, optimizer, data, micro_batch_size=most, **options) for most in (None, 4))
    np.testing.assert_allclose(got[1]["loss"], wanted[1]["loss"], rtol=1e-5)


def test_transforms_work_on_a_run_in_parts(x64, key):
    """Runs as lanes, and the gradient of the last loss by the rate."""

    def last(rate, key, most):
        options = {"epochs": 2, "batch_size": 12, "micro_batch_size": most, "on_nonfinite": "ignore"}
        return train.run(key, quiet, optim.momentum(rate), (X, Y), **options).history.loss[-1]

    several = jax.random.split(key, 3)
    lanes = [jax.vmap(jax.value_and_grad(partial(last, most=most)), (None, 0)) for most in (None, 4)]
    chex.assert_trees_all_close(*(lane(0.1, jax.random.clone(several)) for lane in lanes), rtol=1e-9)


def test_fit_in_parts_is_the_run_in_parts(key):
    data = X.astype(np.float32), Y
    options = {"epochs": 3, "batch_size": 12, "micro_batch_size": 4}
    wanted = train.run(jax.random.clone(key), quiet, optimizer, data, **options)
    chex.assert_trees_all_equal(lab.fit(key, quiet, optimizer, data, show=False, **options).history, wanted.history)


@pytest.mark.parametrize("most", [0, -4, 2.5, "all"])
def test_what_is_no_size_is_refused(most, key):
    start = train.start(key, quiet, optimizer, (6, 6, 2))
    with pytest.raises(ConfigError, match="micro_batch_size"):
        train.step(start, quiet, optimizer, (X, Y), micro_batch_size=most)


def test_parts_of_a_batch_that_is_spread_over_devices(x64, key):
    """By jit, and by shard_map, where the step of each device's examples is one in parts."""
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    before = train.start(key, quiet, optimizer, (6, 6, 2))
    spread = jax.device_put((X, Y), NamedSharding(mesh, PartitionSpec("batch")))
    wanted = numbers(train.step(before, quiet, optimizer, (X, Y)))
    got = numbers(train.step(before, quiet, optimizer, spread, micro_batch_size=8))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-14)

    def loss(x, y):
        _, measured = train.step(before, quiet, optimizer, (x, y), micro_batch_size=2)
        return jax.lax.pmean(measured["loss"], "batch")

    split = PartitionSpec("batch")
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=(split, split), out_specs=PartitionSpec())
    np.testing.assert_allclose(mapped(X, Y), wanted[1]["loss"], rtol=1e-12)
