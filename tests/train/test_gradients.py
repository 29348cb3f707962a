"""Micro-batches against the whole batch."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn import augment, lab, nn, objective, optim, train
from fnn.errors import ConfigError, TreeMismatchError
from fnn.train.inputs import NOISE, derive_key
from fnn.types import Layer

pytestmark = pytest.mark.slow

DRAWN = np.random.default_rng(0)
X = DRAWN.normal(size=(24, 6, 6, 2))
Y = DRAWN.integers(4, size=24)
MASK = np.tile([0, 1, 0.5, 1], 6)  # with four micro-batches, all weights of one are 0

quiet = nn.chain(nn.conv(4), nn.relu(), nn.flatten(), nn.dense(4))
optimizer = optim.clip_by_global_norm(optim.momentum(0.1), 1.0)
LOSSES = {
    "plain": (objective.cross_entropy, Y),
    "ignoring": (objective.ignoring(objective.cross_entropy, 2), Y),
    "by class": (objective.class_weighted(objective.cross_entropy, jnp.arange(1.0, 5.0)), Y),
    "masked": (objective.masked(objective.cross_entropy), (Y, MASK)),
}


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", LOSSES)
def test_step_of_micro_batches_equals_the_whole_step(name, size, x64, key):
    loss, targets = LOSSES[name]
    metrics = (
        {"cost": loss}
        if name == "masked"
        else {"accuracy": objective.accuracy, "f1": objective.f1()}
    )
    recipe = train.recipe(
        quiet, optimizer, loss=loss, metrics=metrics, regularizer=objective.l2(1e-2)
    )
    before = train.start(key, recipe, (6, 6, 2))
    wanted = numbers(train.step(recipe, before, (X, targets)))
    got = numbers(train.step(recipe.replace(micro_batch_size=size), before, (X, targets)))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, wanted)


def numbers(result):
    """Return all results of a step but the key."""
    train_state, measured = result
    return train_state[:3], measured


def test_penalties_of_layers_are_averaged_like_the_loss(x64, key):
    network = nn.chain(nn.flatten(), nn.activity_regularizer(nn.dense(4), objective.l2(0.1)))
    recipe = train.recipe(network, optimizer)
    before = train.start(key, recipe, (6, 6, 2))
    wanted = train.step(recipe, before, (X, Y))
    (after, measured) = train.step(recipe.replace(micro_batch_size=8), before, (X, Y))
    chex.assert_trees_all_close(
        (after.params, measured), (wanted[0].params, wanted[1]), rtol=1e-12, atol=1e-14
    )


def test_penalty_is_kept_if_all_weights_are_zero(x64, key):
    options = {
        "loss": objective.masked(objective.cross_entropy),
        "metrics": {},
        "regularizer": objective.l2(1.0),
    }
    recipe = train.recipe(quiet, optimizer, **options)
    before = train.start(key, recipe, (6, 6, 2))
    batch = X, (Y, np.zeros(24))
    wanted = numbers(train.step(recipe, before, batch))
    got = numbers(train.step(recipe.replace(micro_batch_size=8), before, batch))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-14)
    assert got[1]["loss"] == 0 and got[1]["penalty"] > 0


def test_state_passes_on_and_noise_differs_between_micro_batches(x64, key):
    """Compare with a loop in which each micro-batch has its key and the state of the last one."""
    network = nn.chain(nn.flatten(), nn.batch_norm(), nn.dropout(0.3), nn.dense(4))
    recipe = train.recipe(network, optimizer, micro_batch_size=6)
    start = train.start(key, recipe, (6, 6, 2))
    after, measured = train.step(recipe, start, (X, Y))
    step_key = derive_key(start, NOISE, start.step)

    def value(params, state, number):
        noise = jax.random.fold_in(step_key, number)
        outputs, state = network.apply(params, state, X[number::4], key=noise, train=True)
        return objective.cross_entropy(outputs, Y[number::4]).mean(), state

    state, grads, losses = start.state, [], []
    for number in range(4):
        (loss, state), own = jax.value_and_grad(value, has_aux=True)(start.params, state, number)
        grads, losses = [*grads, own], [*losses, loss]
    mean = jax.tree.map(lambda *own: sum(own) / 4, *grads)
    params, _ = optim.step(optimizer, mean, start.opt_state, start.params)
    np.testing.assert_allclose(measured["loss"], np.mean(losses), rtol=1e-12)
    chex.assert_trees_all_close(
        (after.params, after.state), (params, state), rtol=1e-11, atol=1e-13
    )


def test_sam_on_micro_batches_equals_sam_on_the_batch(x64, key):
    """sam takes a second gradient, by way of value_fn."""
    recipe = train.recipe(quiet, optim.sam(optim.momentum(0.1), 0.05))
    before = train.start(key, recipe, (6, 6, 2))
    wanted, got = (
        numbers(train.step(recipe.replace(micro_batch_size=size), before, (X, Y)))
        for size in (None, 6)
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "own", [optim.momentum(0.1), optim.sam(optim.momentum(0.1), 0.05)], ids=["momentum", "sam"]
)
def test_memory_is_that_of_one_micro_batch(own, key):
    network = nn.chain(
        *[nn.chain(nn.conv(8), nn.tanh()) for _ in range(4)], nn.flatten(), nn.dense(4)
    )
    images = jnp.zeros((64, 16, 16, 3))

    def temporary(size):
        recipe = train.recipe(network, own, micro_batch_size=size)
        start = train.start(key, recipe, images.shape[1:])
        batch = images, jnp.zeros(64, int)
        call = jax.jit(lambda now: train.step(recipe, now, batch))
        return call.lower(start).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < 0.3 * temporary(None)


def test_mixed_targets_are_split_like_inputs(key):
    whole = train.recipe(quiet, optimizer, augment=augment.mixup(0.4, classes=4))
    start = train.start(key, whole, (6, 6, 2))
    data = X.astype(np.float32), Y
    recipes = whole, whole.replace(micro_batch_size=4)
    wanted, got = (train.epoch(recipe, start, data, batch_size=12) for recipe in recipes)
    np.testing.assert_allclose(got[1]["loss"], wanted[1]["loss"], rtol=1e-5)


def test_vmap_and_grad_of_a_run_with_micro_batches(x64, key):
    """Map over keys, and differentiate the last loss by the rate."""

    def last(rate, key, size):
        recipe = train.recipe(
            quiet, optim.momentum(rate), micro_batch_size=size, on_nonfinite="ignore"
        )
        return train.run(key, recipe, (X, Y), epochs=2, batch_size=12).history.loss[-1]

    several = jax.random.split(key, 3)
    lanes = [
        jax.vmap(jax.value_and_grad(partial(last, size=size)), (None, 0)) for size in (None, 4)
    ]
    chex.assert_trees_all_close(
        *(lane(0.1, jax.random.clone(several)) for lane in lanes), rtol=1e-9
    )


def test_fit_equals_run_with_micro_batches(key):
    data = X.astype(np.float32), Y
    recipe = train.recipe(quiet, optimizer, micro_batch_size=4)
    wanted = train.run(jax.random.clone(key), recipe, data, epochs=3, batch_size=12)
    result = lab.fit(key, recipe, data, show=False, epochs=3, batch_size=12)
    chex.assert_trees_all_equal(result.history, wanted.history)


@pytest.mark.parametrize("size", [0, -4, 2.5, "all"])
def test_invalid_sizes_raise(size):
    with pytest.raises(ConfigError, match="recipe micro_batch_size"):
        train.recipe(quiet, optimizer, micro_batch_size=size)


def test_micro_batches_of_a_sharded_batch(x64, key):
    """By jit, and by shard_map, in which the batch of each device is split."""
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    recipe = train.recipe(quiet, optimizer)
    before = train.start(key, recipe, (6, 6, 2))
    spread = jax.device_put((X, Y), NamedSharding(mesh, PartitionSpec("batch")))
    wanted = numbers(train.step(recipe, before, (X, Y)))
    got = numbers(train.step(recipe.replace(micro_batch_size=8), before, spread))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-14)

    def loss(x, y):
        _, measured = train.step(recipe.replace(micro_batch_size=2), before, (x, y))
        return jax.lax.pmean(measured["loss"], "batch")

    split = PartitionSpec("batch")
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=(split, split), out_specs=PartitionSpec())
    np.testing.assert_allclose(mapped(X, Y), wanted[1]["loss"], rtol=1e-12)


@pytest.mark.parametrize("entrance", ["step", "run"])
@pytest.mark.parametrize(
    ("changed", "got"),
    [
        (lambda count: {"count": count.astype(jnp.float32)}, "got float32"),
        (lambda count: {"number": count}, "no such leaf"),
    ],
)
def test_a_state_that_changes_its_dtype_or_its_names_raises(changed, got, entrance, key):
    def init(key, shape):
        return {}, {"count": jnp.zeros((), jnp.int32)}, shape

    def apply(params, state, x, *, key=None, train=False):
        return x, changed(state["count"])

    network = nn.chain(Layer(init, apply, "counter"), nn.flatten(), nn.dense(4))
    recipe = train.recipe(network, optim.sgd(0.1))
    batch = np.float32(X), Y
    with pytest.raises(TreeMismatchError, match=f"state of the network counter_0/count.*{got}"):
        if entrance == "step":
            train.step(recipe, train.start(key, recipe, X.shape[1:]), batch)
        else:
            train.run(key, recipe, batch, epochs=1, batch_size=4)
