"""Sharding is invisible: runs on 1, 2 and 4 devices have the same draws and the same results."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import augment, nn, optim, train
from fnn.errors import ConfigError, NonFiniteError
from fnn.train import programs
from fnn.train.devices import as_layout, place_data, place_state, use_layout
from fnn.train.run import run_epochs
from fnn.train.step import start_on_data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (53, 8, 8, 1), np.uint8)
LABELS = (IMAGES.mean((1, 2, 3)) > 127).astype(np.int32)
DATA = IMAGES, LABELS
VALID = IMAGES[:13], LABELS[:13]
KEY = jax.random.key(0)
BATCH = 16
CONVOLUTIONS = nn.chain(
    nn.conv(8),
    nn.batch_norm(),
    nn.relu(),
    nn.max_pool(),
    nn.flatten(),
    nn.dropout(0.2),
    nn.dense(2),
)
POINTS = RNG.normal(size=(50, 3)).astype(np.float32)
SIGNS = (POINTS[:, 0] > 0).astype(np.int32)
DENSE = train.recipe(nn.chain(nn.dense(8), nn.tanh(), nn.dense(2)), optim.adam(1e-2))


def mesh_of(devices):
    """A mesh with the axes of type Explicit that JAX makes by default."""
    return jax.make_mesh(
        (devices,), ("data",), devices=jax.devices()[:devices], axis_types=(AxisType.Explicit,)
    )


def images_recipe():
    return train.recipe(CONVOLUTIONS, optim.momentum(0.05), augment=augment.random_crop(padding=1))


def run_images(mesh):
    recipe = images_recipe()
    return train.run(KEY, recipe, DATA, valid=VALID, epochs=1, batch_size=BATCH, mesh=mesh)


@pytest.fixture(scope="module")
def one():
    return run_images(None)


@pytest.fixture(scope="module")
def four():
    return run_images(mesh_of(4))


def distance(a, b):
    """The largest difference of two trees."""
    gaps = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - np.asarray(y)).max(), a, b)
    return max(map(float, jax.tree.leaves(gaps)))


def test_four_devices_give_the_run_of_one(one, four):
    """With augmentation, batch norm, dropout, and sets whose lengths 4 does not divide."""
    assert abs(four.history.loss[0] - one.history.loss[0]) <= 1e-6
    for name, values in one.history.items():
        np.testing.assert_allclose(four.history[name], values, atol=1e-5)
    assert distance(four.train_state.params, one.train_state.params) < 1e-5


def test_statistics_of_batch_norm_are_those_of_the_whole_batch(one, four):
    assert distance(four.train_state.state, one.train_state.state) < 1e-6


def test_the_train_state_is_the_same_on_all_devices(four):
    for leaf in jax.tree.leaves(four.train_state):
        assert leaf.sharding.is_fully_replicated
        assert len(leaf.sharding.device_set) == 4


@pytest.mark.slow
@pytest.mark.parametrize("devices", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_200_steps_on_several_devices_stay_near_those_of_one(devices):
    options = {"epochs": 67, "batch_size": BATCH}
    one = train.run(KEY, DENSE, (POINTS, SIGNS), **options)
    several = train.run(KEY, DENSE, (POINTS, SIGNS), mesh=mesh_of(devices), **options)
    assert len(one.history.loss) == 201
    np.testing.assert_allclose(several.history.loss, one.history.loss, rtol=1e-4)
    np.testing.assert_allclose(several.history.loss[:1], one.history.loss[:1], rtol=1e-6)


@pytest.mark.slow
def test_the_compiled_run_divides_its_work_and_gathers_nothing():
    """No array of the size of a batch or of the data passes from one device to all."""
    layout = as_layout("mesh", mesh_of(4))
    recipe = images_recipe()
    with use_layout(layout):
        state = place_state(layout, start_on_data(recipe, KEY, DATA))
        placed = place_data(layout, DATA), place_data(layout, VALID)
        static = (4, 5, 6, 7, 8)
        options = (1, BATCH, None, False, None)
        lowered = programs.lower(run_epochs.__wrapped__, static, recipe, state, *placed, *options)
        text = lowered.compile().as_text()
    # Activations are (batch, 8, 8, channels): each device has those of its part of a batch.
    assert re.search(rf"f32\[{BATCH // 4},8,8,8\]", text)
    assert not re.search(rf"f32\[{BATCH},8,8,", text)
    gathered = re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-gather", text)
    # Keys and indices of a batch are small.
    assert all(np.prod([*map(int, shape.split(","))]) <= 4 * BATCH for shape in gathered if shape)
    assert "reduce-scatter" in text


def test_each_device_holds_its_part_of_the_data():
    rows = place_data(as_layout("mesh", mesh_of(4)), IMAGES)
    assert rows.shape == IMAGES.shape
    assert {shard.data.shape for shard in rows.array.addressable_shards} == {(14, 8, 8, 1)}
    np.testing.assert_array_equal(np.asarray(rows), IMAGES)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool, np.float32])
def test_examples_are_taken_bit_for_bit(dtype):
    array = RNG.integers(-2, 2, (13, 3)).astype(dtype)
    if dtype == np.float32:
        array[1] = np.nan
    rows = place_data(as_layout("mesh", mesh_of(4)), array)
    for indices in ([12, 0, 5, 5], [3, 1, 12, 7, 0]):
        taken = jax.jit(lambda rows, indices: rows.take(indices))(rows, jnp.array(indices))
        assert taken.dtype == dtype
        np.testing.assert_array_equal(taken, array[indices])


def test_13_examples_on_four_devices_are_evaluated_as_on_one(one):
    recipe = images_recipe()
    mesh = mesh_of(4)
    wanted = train.evaluate(recipe, one.train_state, VALID)
    found = train.evaluate(recipe, one.train_state, VALID, mesh=mesh)
    assert distance(found, wanted) < 1e-6
    outputs = train.predict(recipe, one.train_state, VALID[0], mesh=mesh, batch_size=6)
    wanted = train.predict(recipe, one.train_state, VALID[0], batch_size=6)
    np.testing.assert_allclose(outputs, wanted, atol=1e-6)


def test_evaluation_uses_the_devices_of_the_weights(four, monkeypatch):
    seen = []
    place = train.evaluate.__globals__["place_data"]

    def watch(layout, data):
        seen.append(layout)
        return place(layout, data)

    monkeypatch.setitem(train.evaluate.__globals__, "place_data", watch)
    train.evaluate(images_recipe(), four.train_state, VALID)
    assert seen[0].parts == 4


def test_a_batch_of_13_on_four_devices_trains_as_on_one():
    """A step takes batches of any size, with sums over the examples alone."""
    batch = POINTS[:13], SIGNS[:13]
    state = train.start(KEY, DENSE, (3,))
    after, figures = train.step(DENSE, state, batch)
    layout = as_layout("mesh", mesh_of(4))
    with use_layout(layout):
        other, others = train.step(DENSE, place_state(layout, state), batch)
    assert distance(other.params, after.params) < 1e-6
    assert abs(others["loss"] - figures["loss"]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_data_that_is_divided_already_needs_no_argument(kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    data = POINTS[:48], SIGNS[:48]
    divided = jax.device_put(data, NamedSharding(mesh, P("data")))
    state = train.start(KEY, DENSE, (3,))
    wanted, _ = train.step(DENSE, state, data)
    found, _ = train.step(DENSE, state, divided)
    assert distance(found.params, wanted.params) < 1e-6
    assert len(found.step.sharding.device_set) == 4
    figures = train.evaluate(DENSE, state, divided)
    assert distance(figures, train.evaluate(DENSE, state, data)) < 1e-6
    # The state is on the devices now, so that arrays of the host are divided too.
    wanted, _ = train.step(DENSE, wanted, data)
    found, _ = train.step(DENSE, found, data)
    assert distance(found.params, wanted.params) < 1e-6
    after, _ = train.epoch(DENSE, state, divided, batch_size=BATCH)
    run = train.run(KEY, DENSE, divided, epochs=1, batch_size=BATCH)
    assert distance(after.params, run.train_state.params) < 1e-6
    one = train.run(KEY, DENSE, data, epochs=1, batch_size=BATCH)
    assert distance(run.train_state.params, one.train_state.params) < 1e-6
    with pytest.raises(ConfigError, match="batch_size: expected a multiple of the 4 devices"):
        train.run(KEY, DENSE, divided, epochs=1, batch_size=18)


@pytest.mark.slow
def test_micro_batches_are_those_of_one_device():
    network = nn.chain(nn.dense(4), nn.batch_norm(), nn.tanh(), nn.dense(2))
    recipe = train.recipe(network, optim.sgd(0.1), micro_batch_size=8)
    options = {"epochs": 1, "batch_size": 16}
    one = train.run(KEY, recipe, (POINTS, SIGNS), **options)
    two = train.run(KEY, recipe, (POINTS, SIGNS), mesh=mesh_of(2), **options)
    assert distance(two.train_state.params, one.train_state.params) < 1e-6


@pytest.mark.slow
def test_lanes_of_vmap_are_divided_too():
    keys = jax.random.split(KEY, 2)

    def run(key, mesh=None):
        options = {"epochs": 1, "batch_size": BATCH, "mesh": mesh}
        return train.run(key, DENSE, (POINTS, SIGNS), **options).train_state.params

    wanted = jax.vmap(run)(keys)
    found = jax.vmap(lambda key: run(key, mesh_of(4)))(keys)
    assert distance(found, wanted) < 1e-6


@pytest.mark.slow
def test_an_axis_of_a_larger_mesh_is_named_by_a_sharding():
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    options = {"epochs": 1, "batch_size": BATCH}
    one = train.run(KEY, DENSE, (POINTS, SIGNS), **options)
    sharding = NamedSharding(mesh, P("data"))
    found = train.run(KEY, DENSE, (POINTS, SIGNS), mesh=sharding, **options)
    assert distance(found.train_state.params, one.train_state.params) < 1e-6


@pytest.mark.slow
def test_a_run_on_four_devices_resumes_on_one_and_on_two():
    options = {"batch_size": BATCH}
    whole = train.run(KEY, DENSE, (POINTS, SIGNS), epochs=2, **options)
    first = train.run(KEY, DENSE, (POINTS, SIGNS), epochs=1, mesh=mesh_of(4), **options)
    second = train.run(
        KEY, DENSE, (POINTS, SIGNS), epochs=1, resume=first, mesh=mesh_of(2), **options
    )
    np.testing.assert_allclose(second.history.loss, whole.history.loss, rtol=1e-5)


@pytest.mark.slow
def test_callbacks_and_errors_of_steps_are_those_of_one_device():
    calls = []
    options = {"epochs": 2, "batch_size": BATCH, "mesh": mesh_of(4)}
    result = train.run(
        KEY,
        DENSE,
        (POINTS, SIGNS),
        callback=lambda step, figures: calls.append((int(step), float(figures["loss"]))),
        **options,
    )
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert sorted(step for step, _ in calls) == [3, 6]
    # The logarithm of a negative number is NaN.
    diverging = train.recipe(nn.chain(nn.dense(2), nn.elementwise(jnp.log)), optim.sgd(0.1))
    with pytest.raises(NonFiniteError, match=r"step 0: .* non-finite loss"):
        train.run(KEY, diverging, (POINTS, SIGNS), **options)


@pytest.mark.parametrize(
    ("mesh", "batch_size", "message"),
    [
        (4, 16, "run mesh: expected a jax.sharding.Mesh, got 4"),
        ("data", 16, "run mesh: expected a jax.sharding.Mesh"),
        (mesh_of(4), 18, "batch_size: expected a multiple of the 4 devices .* use 16 or 20"),
        (mesh_of(4), 3, "batch_size: expected a multiple of the 4 devices .* use 4"),
        (
            jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2),
            16,
            "run mesh: .* got the axes a of 2, b of 2",
        ),
        (NamedSharding(mesh_of(4), P()), 16, "run mesh: expected a sharding of the first axis"),
        (NamedSharding(mesh_of(4), P(None, "data")), 16, "run mesh: expected a sharding of the"),
    ],
)
def test_a_mesh_that_cannot_divide_the_batch_raises(mesh, batch_size, message):
    with pytest.raises(ConfigError, match=message):
        train.run(KEY, DENSE, (POINTS, SIGNS), epochs=1, batch_size=batch_size, mesh=mesh)
