"""Tests of restore: leaves by path, with checks of shape and dtype."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fnn import lab, nn, optim, train
from fnn.errors import CheckpointMismatchError, ConfigError
from fnn.lab.checkpoints.restore import fill


class Pair(NamedTuple):
    left: object
    right: object


SAVED = {
    "body": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "head": {"bias": np.ones(4, np.float32)},
}


@pytest.fixture
def weights(tmp_path):
    lab.save(tmp_path, SAVED)
    return tmp_path


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


# Matching leaves.


def test_a_train_state_is_restored(tmp_path):
    recipe = train.recipe(
        nn.chain(nn.flatten(), nn.dense(4), nn.batch_norm(), nn.dense(10)), optim.adam(1e-3)
    )
    first, other = (train.start(jax.random.key(n), recipe, (8, 8, 1)) for n in (0, 1))
    lab.save(tmp_path, {"train_state": first})
    back = lab.restore(tmp_path, other, prefix="train_state")
    assert jax.tree.structure(back) == jax.tree.structure(first)
    for saved, found in zip(jax.tree.leaves(first), jax.tree.leaves(back), strict=True):
        if jnp.issubdtype(saved.dtype, jax.dtypes.prng_key):
            saved, found = jax.random.key_data(saved), jax.random.key_data(found)
        np.testing.assert_array_equal(saved, found, strict=True)
    params = lab.restore(
        tmp_path, jax.eval_shape(lambda: first).params, prefix="train_state/params/"
    )
    np.testing.assert_array_equal(params["dense_3"]["kernel"], first.params["dense_3"]["kernel"])


def test_a_source_may_be_a_directory_a_checkpoint_or_leaves_by_path(weights):
    checkpoint = lab.read(weights)
    for source in (weights, str(weights), checkpoint, checkpoint.leaves):
        back = lab.restore(source, zeros(SAVED))
        np.testing.assert_array_equal(back["body"]["kernel"], SAVED["body"]["kernel"], strict=True)
    with pytest.raises(
        ConfigError, match=r"source: expected a directory, to choose .* from, got Checkpoint"
    ):
        lab.restore(checkpoint, zeros(SAVED), step=0)


def test_leaves_are_found_by_path_not_by_order():
    tree = fill(
        Pair(left=np.zeros(2), right=[np.zeros(1)]),
        {"right/0": np.ones(1), "left": np.full(2, 3.0)},
    )
    assert tree.left.tolist() == [3, 3] and tree.right[0].tolist() == [1]


def test_restored_arrays_share_no_memory_with_the_checkpoint(weights):
    checkpoint = lab.read(weights)
    for like in (SAVED, zeros(SAVED)):
        back = lab.restore(checkpoint, like)
        checkpoint.leaves["body/kernel"][:] = -1
        assert float(back["body"]["kernel"][0, 1]) == 1.0
        checkpoint.leaves["body/kernel"][:] = SAVED["body"]["kernel"]


@pytest.mark.parametrize(("saved_on", "restored_on"), [(4, 1), (4, 2), (1, 4), (2, 4)])
def test_restored_arrays_have_the_sharding_of_like(saved_on, restored_on, tmp_path):
    def placed(array, devices):
        mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))

    array = jnp.arange(8.0)
    lab.save(tmp_path, {"x": placed(array, saved_on)})
    like = placed(jnp.zeros(8), restored_on)
    shaped = jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=like.sharding)
    for one in (like, shaped):
        back = lab.restore(tmp_path, {"x": one})["x"]
        assert back.sharding == like.sharding
        np.testing.assert_array_equal(back, array)
    assert not lab.restore(tmp_path, {"x": jnp.zeros(8)})["x"].committed


# Mismatches.


KERNEL, BIAS = SAVED["body"]["kernel"], SAVED["head"]["bias"]


@pytest.mark.parametrize(
    ("kernel", "rest", "message"),
    [
        (
            KERNEL.T,
            {"head": {"bias": BIAS}},
            r"body/kernel: expected float32\[3,2\], got float32\[2,3\] saved",
        ),
        (
            KERNEL.astype(np.float16),
            {"head": {"bias": BIAS}},
            r"body/kernel: expected float16\[2,3\], got float32",
        ),
        (KERNEL, {}, r"head/bias: expected no such leaf, got float32\[4\] saved"),
        (
            KERNEL,
            {"tail": np.ones(2)},
            r"tail: .*no such leaf saved \(2 leaves do not fit: tail, head/bias\)",
        ),
        (
            KERNEL,
            {"head": {"bias": jax.random.key(0)}},
            r"head/bias: expected key<fry>\[\], got float32\[4\] saved",
        ),
    ],
)
def test_a_mismatch_raises_with_path_saved_and_expected_leaf(kernel, rest, message, weights):
    with pytest.raises(CheckpointMismatchError, match=f"restore {message}"):
        lab.restore(weights, {"body": {"kernel": kernel}} | rest)


def test_an_error_lists_the_first_of_many_mismatches():
    with pytest.raises(
        CheckpointMismatchError, match=r"\(30 leaves do not fit: a0, a1, .* and 22 more\)"
    ):
        fill({f"a{index}": np.ones(1) for index in range(30)}, {})


def test_keys_of_another_implementation_do_not_fit(tmp_path):
    lab.save(tmp_path, {"key": jax.random.key(0, impl="rbg")})
    for cast in (False, True):
        with pytest.raises(
            CheckpointMismatchError, match=r"key: expected key<fry>\[\], got key<rbg>\[\] saved"
        ):
            lab.restore(tmp_path, {"key": jax.random.key(0)}, cast=cast)


def test_a_prefix_without_leaves_raises(weights):
    with pytest.raises(
        ConfigError,
        match="prefix: expected the beginning of a path among body/kernel, head/bias, got",
    ):
        lab.restore(weights, {}, prefix="hea")


# Other dtypes.


def test_float64_is_not_rounded_silently(tmp_path):
    lab.save(tmp_path, {"x": np.array([0.1])})
    like = {"x": jax.ShapeDtypeStruct((1,), np.float64)}
    with pytest.raises(
        CheckpointMismatchError, match=r"x: expected float32\[1\], got float64\[1\] saved"
    ):
        lab.restore(tmp_path, {"x": jnp.zeros(1)})
    for cast in (False, True):
        with pytest.raises(
            CheckpointMismatchError, match="float64, which JAX has only with jax_enable_x64"
        ):
            lab.restore(tmp_path, like, cast=cast)
    assert lab.restore(tmp_path, {"x": np.zeros(1)})["x"].tolist() == [
        0.1
    ]  # NumPy always has float64
    assert lab.restore(tmp_path, {"x": jnp.zeros(1)}, cast=True)["x"][0] == np.float32(0.1)
    with jax.enable_x64(True):
        assert lab.restore(tmp_path, like)["x"].tolist() == [0.1]


@pytest.mark.parametrize(
    ("saved", "dtype", "fits"),
    [
        (np.array([0.1, np.nan, np.inf]), jnp.bfloat16, True),
        (np.array([1e5]), np.float16, False),
        (np.array([1e39]), np.float32, False),
        (np.array([300], np.int32), np.int64, True),
        (np.array([300], np.int32), np.uint8, False),
        (np.array([-1], np.int8), np.uint32, False),
        (np.array([1.0]), np.int32, False),
        (np.array([1], np.int32), np.float32, False),
        (np.array([True]), np.int32, False),
        (np.array([1j]), np.float32, False),
        (np.array([1.5]), np.complex64, False),
    ],
)
def test_a_cast_keeps_the_kind_and_overflows_nothing(saved, dtype, fits):
    like = {"x": np.zeros(saved.shape, dtype)}
    if fits:
        back = fill(like, {"x": saved}, cast=True)["x"]
        assert back.dtype == like["x"].dtype
        np.testing.assert_array_equal(back.astype(float), saved.astype(dtype).astype(float))
    else:
        with pytest.raises(CheckpointMismatchError, match="able to hold its numbers"):
            fill(like, {"x": saved}, cast=True)


# Transfer learning.


def test_leaves_named_in_partial_may_differ_and_keep_their_values(weights):
    like = {"body": zeros(SAVED["body"]), "head": {"bias": jnp.full(7, 5.0)}, "extra": jnp.ones(1)}
    back = lab.restore(weights, like, partial=["head", "extra"])
    np.testing.assert_array_equal(back["body"]["kernel"], SAVED["body"]["kernel"])
    assert back["head"]["bias"].tolist() == [5.0] * 7 and back["extra"].tolist() == [1.0]
    assert lab.restore(weights, {"body": zeros(SAVED["body"])}, partial="head").keys() == {"body"}
    with pytest.raises(CheckpointMismatchError, match="extra: expected"):
        lab.restore(weights, like, partial=["head"])
    with pytest.raises(ConfigError, match=r"partial: expected a path among .*, got 'haed'"):
        lab.restore(weights, like, partial=["haed"])


def test_partial_true_warns_with_the_paths_that_differ(weights):
    like = {"body": zeros(SAVED["body"]), "tail": jnp.full(7, 5.0)}
    with pytest.warns(
        UserWarning, match="restore: 1 leaves taken; left, 2: tail, head/bias"
    ) as caught:
        back = lab.restore(weights, like, partial=True)
    assert len(caught) == 1
    np.testing.assert_array_equal(back["body"]["kernel"], SAVED["body"]["kernel"])
    lab.restore(weights, SAVED, partial=True)  # all leaves fit, so there is no warning


def test_partial_true_raises_if_nothing_fits(weights):
    with pytest.raises(CheckpointMismatchError, match="3 leaves do not fit"):
        lab.restore(weights, {"other": jnp.ones(1)}, partial=True)


def test_a_leaf_that_keeps_its_value_must_have_one(weights):
    like = {"body": SAVED["body"], "tail": jax.ShapeDtypeStruct((1,), np.float32)}
    with pytest.raises(ConfigError, match="like tail: expected values to keep, got a shape only"):
        lab.restore(weights, like, partial=["tail", "head"])


# Weights for inference.


@pytest.mark.slow
def test_weights_are_loaded_without_a_tree_of_their_structure(tmp_path, key):
    network = nn.chain(
        nn.flatten(), nn.dense(4), nn.batch_norm(), body=nn.residual(nn.dense(4)), head=nn.dense(3)
    )
    recipe = train.recipe(network, optim.ema(optim.sgd(0.1), 0.5))
    images = np.random.default_rng(0).random((16, 4, 4, 1), np.float32)
    labels = np.arange(16, dtype=np.int32) % 3
    result = train.run(key, recipe, (images, labels), epochs=2, batch_size=4)
    lab.save(tmp_path, train.weights(recipe, result.train_state))
    loaded = lab.load(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded, train.weights(recipe, result.train_state))
    wanted = train.predict(recipe, result.train_state, images)
    np.testing.assert_array_equal(train.predict(train.recipe(network), loaded, images), wanted)
    # The loaded weights are the average over the steps.
    last_kernel = result.train_state.params["head"]["kernel"]
    assert not np.allclose(loaded.params["head"]["kernel"], last_kernel)


def test_loading_a_checkpoint_without_weights_raises(weights):
    with pytest.raises(
        CheckpointMismatchError, match=r"expected params and state, got body/kernel; save train"
    ):
        lab.load(weights)
