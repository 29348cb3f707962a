"""One training step, against the same step in NumPy."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from fnn import augment, nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError
from fnn.types import Layer, Weighted

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array([0, 1, 2, 3, 0, 1])
linear = nn.chain(head=nn.dense(4))


def test_step_of_sgd_is_gradient_descent_on_the_mean_loss(x64):
    recipe = train.recipe(linear, optim.sgd(0.5))
    before = train.start(jax.random.key(0), recipe, (3,))
    after, measured = train.step(recipe, before, (X, Y))
    kernel, bias = (np.asarray(before.params["head"][name]) for name in ("kernel", "bias"))
    log_p = scipy.special.log_softmax(X @ kernel + bias, axis=1)
    error = (np.exp(log_p) - np.eye(4)[Y]) / len(Y)
    np.testing.assert_allclose(
        after.params["head"]["kernel"], kernel - 0.5 * X.T @ error, rtol=1e-12
    )
    np.testing.assert_allclose(
        after.params["head"]["bias"], bias - 0.5 * error.sum(0), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(measured["loss"], -log_p[np.arange(6), Y].mean(), rtol=1e-12)
    np.testing.assert_allclose(measured["accuracy"], (log_p.argmax(1) == Y).mean())
    assert measured["rate"] == 0.5 and measured["finite"] and after.step == 1


def test_steps_on_simulated_devices_do_not_queue(key):
    """XLA on CPU ends the process when many steps wait for the threads of one another."""
    recipe = train.recipe(nn.chain(nn.dense(512), nn.dense(4)), optim.sgd(0.1))
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, split = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in ((), ("d",))
    )
    train_state = jax.device_put(train.start(key, recipe, (64,)), whole)
    batch = jax.device_put((np.ones((512, 64), np.float32), np.zeros(512, np.int32)), split)
    for _ in range(8):
        before = train_state
        train_state, _ = train.step(recipe, before, batch)
        assert before.step.is_ready()


def test_start_depends_on_the_key_and_returns_arrays(key):
    recipe = train.recipe(linear, optim.adam(1e-3))
    first, second = (train.start(k, recipe, (3,)) for k in (key, jax.random.clone(key)))
    chex.assert_trees_all_equal(first.params, second.params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(first))
    assert first.step == 0


def test_steps_of_one_shape_compile_once(key):
    network = nn.chain(
        part=nn.elementwise(chex.assert_max_traces(lambda x: x + 1, n=1)), head=nn.dense(4)
    )
    recipe = train.recipe(network, optim.adam(1e-3))
    train_state = train.start(key, recipe, (3,))
    for _ in range(3):
        train_state, _ = train.step(recipe, train_state, (X.astype(np.float32), Y))
    assert train_state.step == 3


def test_the_owner_of_a_batch_may_overwrite_it_after_the_call(key):
    recipe = train.recipe(linear, optim.sgd(0.5))
    train_state = train.start(key, recipe, (3,))
    # Arrays of this size and alignment are used without a copy by a compiled program.
    inputs, targets = np.tile(np.float32(X), (1024, 1)), np.tile(np.int32(Y), 1024)
    expected, _ = train.step(recipe, train_state, jax.device_put((inputs + 0, targets + 0)))
    after, _ = train.step(recipe, train_state, (inputs, targets))
    inputs[:], targets[:] = np.nan, -1
    chex.assert_trees_all_equal(after.params, expected.params)


def test_skipped_step_changes_only_the_step_count(key):
    network = nn.chain(bn=nn.batch_norm(), drop=nn.dropout(0.1), head=nn.dense(4))
    recipe = train.recipe(network, optim.adam(optim.one_cycle(1e-2, steps=9)), on_nonfinite="skip")
    good = X.astype(np.float32)
    first = train.start(key, recipe, (3,))
    before, _ = train.step(recipe, first, (good, Y))
    skipped, measured = train.step(recipe, before, (good * np.nan, Y))
    assert not measured["finite"] and skipped.step == before.step + 1
    chex.assert_trees_all_equal(skipped[:3], before[:3])
    went_on, _ = train.step(recipe, skipped, (good, Y))
    chex.assert_tree_all_finite(went_on[:3])


def test_wrong_label_within_jit_gives_nan(key):
    recipe = train.recipe(linear, optim.sgd(0.1))
    train_state = train.start(key, recipe, (3,))
    step = jax.jit(partial(train.step, recipe))
    batch = X.astype(np.float32), np.array([0, 1, 4, 3, 0, 1])
    after, measured = step(train_state, batch)
    assert not measured["finite"] and jnp.isnan(measured["loss"])
    assert jnp.isnan(after.params["head"]["bias"]).all()


def test_inputs_are_augmented_then_prepared(key):
    images = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 1), np.uint8)
    recipe = train.recipe(nn.chain(flat=nn.flatten(), head=nn.dense(4)), optim.sgd(0.1))
    train_state = train.start(key, recipe, (4, 4, 1))
    flipped, _ = train.step(recipe.replace(augment=augment.flip_lr(1.0)), train_state, (images, Y))
    by_hand, _ = train.step(recipe, train_state, (images[:, :, ::-1] / np.float32(255), Y))
    chex.assert_trees_all_close(flipped.params, by_hand.params, rtol=1e-5, atol=1e-7)


def test_batch_policy_changes_targets_too(key):
    def swap(key, batch):
        targets = jax.nn.one_hot(batch.targets, 4)
        return batch._replace(images=batch.images[::-1], targets=targets[::-1])

    images = np.random.default_rng(1).random((6, 4, 4, 1), np.float32)
    recipe = train.recipe(nn.chain(flat=nn.flatten(), head=nn.dense(4)), optim.sgd(0.1))
    train_state = train.start(key, recipe, (4, 4, 1))
    policy = augment.batch_chain(augment.flip_lr(1.0), augment.BatchPolicy(swap))
    mixed, measured = train.step(recipe.replace(augment=policy), train_state, (images, Y))
    by_hand, same = train.step(recipe, train_state, (images[::-1, :, ::-1], Y[::-1]))
    chex.assert_trees_all_close(mixed.params, by_hand.params, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(measured["accuracy"], same["accuracy"])


def plain(outputs, targets):
    return objective.cross_entropy(outputs, targets)


@pytest.mark.parametrize(("targets", "options", "names"), [
    (Y, {}, ["loss", "accuracy"]),
    (np.eye(4, dtype=np.float32)[Y], {}, ["loss", "accuracy"]),
    (np.eye(4, dtype=np.float32)[Y], {"metrics": {"hits": objective.accuracy}}, ["loss", "hits"]),
    (Y, {"metrics": {}}, ["loss"]),
    (Y, {"loss": plain}, ["loss"]),
])  # fmt: skip
def test_metrics_default_to_those_of_the_loss(targets, options, names, key):
    recipe = train.recipe(linear, optim.sgd(0.1), **options)
    train_state = train.start(key, recipe, (3,))
    _, measured = train.step(recipe, train_state, (X.astype(np.float32), targets))
    assert measured.keys() == {*names, "rate", "finite"}


@pytest.mark.parametrize(
    ("examples", "epochs", "batch_size", "wanted"), [(10, 3, 4, 6), (10, 1, 10, 1), (7, 0, 2, 0)]
)
def test_num_steps_counts_full_batches(examples, epochs, batch_size, wanted):
    assert (
        train.num_steps(
            (np.zeros(examples), np.zeros(examples)), epochs=epochs, batch_size=batch_size
        )
        == wanted
    )


def test_regularizer_is_minimized_with_the_loss(x64):
    """The gradient of λ Σ θ² is 2 λ θ."""
    recipe = train.recipe(linear, optim.sgd(0.5))
    before = train.start(jax.random.key(0), recipe, (3,))
    plain, bare = train.step(recipe, before, (X, Y))
    decayed, measured = train.step(recipe.replace(regularizer=square), before, (X, Y))
    kernel = before.params["head"]["kernel"]
    np.testing.assert_allclose(measured["loss"], bare["loss"], rtol=1e-15)
    np.testing.assert_allclose(
        measured["penalty"], 0.1 * (np.asarray(kernel) ** 2).sum(), rtol=1e-14
    )
    wanted = plain.params["head"]["kernel"] - 0.5 * 0.2 * kernel
    np.testing.assert_allclose(decayed.params["head"]["kernel"], wanted, rtol=1e-13, atol=1e-15)
    assert "penalty" not in bare


def square(params):
    return 0.1 * jnp.square(params["head"]["kernel"]).sum()


def test_the_state_of_a_part_called_penalty_is_not_minimized(key):
    count = Layer(
        lambda key, shape: ({}, jnp.zeros(()), shape),
        lambda params, state, x, *, key=None, train=False: (x, state + 1),
    )
    recipe = train.recipe(nn.chain(dense=nn.dense(4), penalty=count), optim.sgd(0.5))
    _, measured = train.step(recipe, train.start(key, recipe, (3,)), (jnp.float32(X), Y))
    assert "penalty" not in measured


def test_penalties_in_the_state_are_minimized(x64):
    def apply(params, state, x, *, key=None, train=False):
        return x, {"penalty": jnp.square(x).mean()}

    tap = Layer(lambda key, shape: ({}, {"penalty": jnp.zeros(())}, shape), apply)
    recipe = train.recipe(nn.chain(head=nn.dense(4), tap=tap), optim.sgd(0.5))
    before = train.start(jax.random.key(0), recipe, (3,))
    after, measured = train.step(recipe, before, (X, Y))
    kernel, bias = (np.asarray(before.params["head"][name]) for name in ("kernel", "bias"))
    logits = X @ kernel + bias
    np.testing.assert_allclose(measured["penalty"], (logits**2).mean(), rtol=1e-13)
    error = (scipy.special.softmax(logits, axis=1) - np.eye(4)[Y]) / len(
        Y
    ) + 2 * logits / logits.size
    np.testing.assert_allclose(
        after.params["head"]["kernel"], kernel - 0.5 * X.T @ error, rtol=1e-12
    )


def test_non_finite_penalty_clears_the_finite_flag():
    recipe = train.recipe(
        linear, optim.sgd(0.5), regularizer=lambda params: square(params) * jnp.inf
    )
    before = train.start(jax.random.key(0), recipe, (3,))
    _, measured = train.step(recipe, before, (X.astype(np.float32), Y))
    assert not measured["finite"]


def test_weighted_loss_is_divided_by_the_sum_of_weights(x64):
    weights = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 1.0])

    def loss(outputs, targets):
        return Weighted(objective.cross_entropy(outputs, targets), jnp.asarray(weights))

    recipe = train.recipe(linear, optim.sgd(0.5), loss=loss)
    before = train.start(jax.random.key(0), recipe, (3,))
    after, measured = train.step(recipe, before, (X, Y))
    kernel, bias = (np.asarray(before.params["head"][name]) for name in ("kernel", "bias"))
    log_p = scipy.special.log_softmax(X @ kernel + bias, axis=1)
    share = weights / weights.sum()
    np.testing.assert_allclose(
        measured["loss"], -(share * log_p[np.arange(6), Y]).sum(), rtol=1e-13
    )
    error = (np.exp(log_p) - np.eye(4)[Y]) * share[:, None]
    np.testing.assert_allclose(
        after.params["head"]["kernel"], kernel - 0.5 * X.T @ error, rtol=1e-12
    )


def test_zero_weights_give_zero_loss_and_no_update():
    def loss(outputs, targets):
        return Weighted(objective.cross_entropy(outputs, targets), jnp.zeros(6))

    recipe = train.recipe(linear, optim.sgd(0.5), loss=loss)
    before = train.start(jax.random.key(0), recipe, (3,))
    after, measured = train.step(recipe, before, (X.astype(np.float32), Y))
    assert measured["loss"] == 0 and measured["finite"]
    chex.assert_trees_all_equal(after.params, before.params)


def test_donating_a_train_state_keeps_the_key_of_the_caller(key):
    recipe = train.recipe(linear, optim.sgd(0.1))
    batch = X.astype(np.float32), Y
    for train_state in (
        train.start(key, recipe, (3,)),
        train.run(key, recipe, batch, epochs=1, batch_size=6).train_state,
    ):
        step = jax.jit(lambda train_state: train.step(recipe, train_state, batch), donate_argnums=0)
        step(train_state)
        assert not key.is_deleted()


@pytest.mark.parametrize("shape", [3, "3", np.ones((2, 3)), (3.0,), None])
def test_start_takes_the_shape_of_an_example(shape, key):
    recipe = train.recipe(linear, optim.sgd(0.1))
    with pytest.raises(ShapeError, match="start shape: expected the shape of one example"):
        train.start(key, recipe, shape)


def test_start_refuses_channels_first(key):
    recipe = train.recipe(nn.chain(nn.conv(2)), optim.sgd(0.1))
    with pytest.raises(ShapeError, match=r"channels last.*, got \(3, 32, 32\); transpose"):
        train.start(key, recipe, (3, 32, 32))


def test_a_stacked_train_state_is_refused_with_a_way_out(key):
    recipe = train.recipe(nn.dense(2), optim.sgd(0.1))
    states = jax.vmap(lambda key: train.start(key, recipe, (3,)))(jax.random.split(key, 4))
    batch = jnp.zeros((8, 3)), jnp.zeros(8, jnp.int32)
    states = states._replace(step=jnp.zeros(4, jnp.int32))
    with pytest.raises(ConfigError, match="step train_state: expected that of one run, got 4 lan"):
        train.step(recipe, states, batch)
