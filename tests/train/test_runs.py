"""A whole run: what it returns, that it learns, and that gradients go through it."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poisoning import poison, poisoned

from fnn import augment, data, nn, objective, optim, train
from fnn.errors import NonFiniteError

digits = data.digits()
few = (digits.train[0][:128], digits.train[1][:128])
some = (digits.test[0][:50], digits.test[1][:50])
network = nn.chain(
    nn.conv(4), nn.batch_norm(), nn.tanh(), nn.max_pool(),
    nn.residual(nn.chain(nn.conv(4), nn.batch_norm(), nn.tanh())),
    nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10),
)  # fmt: skip


def test_the_history_has_an_entry_for_each_step_and_epoch(key):
    result = train.run(key, network, optim.adam(1e-3), few, epochs=3, batch_size=50, valid=some)
    shapes = {name: array.shape for name, array in result.history.items()}
    steps, epochs = (6,), (3,)
    assert list(shapes) == ["loss", "accuracy", "rate", "finite", "valid_accuracy", "valid_loss"]
    assert list(shapes.values()) == [steps] * 4 + [epochs] * 2
    final = train.evaluate(network, result.train_state.params, result.train_state.state, some)
    np.testing.assert_allclose(result.history.valid_loss[-1], final["loss"], rtol=1e-6)
    assert result.train_state.step == 6 and result.history["loss"] is result.history.loss
    with pytest.raises(AttributeError, match="expected one of loss, accuracy"):
        _ = result.history.valid_recall


def test_without_validation_there_is_none(key):
    history = train.run(key, network, optim.adam(1e-3), few, epochs=1, batch_size=64).history
    assert "valid_loss" not in history


def test_a_run_learns_a_few_images_by_heart(key):
    perceptron = nn.chain(nn.flatten(), nn.dense(32), nn.relu(), nn.dense(10))
    result = train.run(key, perceptron, optim.adam(1e-2), few, epochs=40, batch_size=64, valid=few)
    assert result.history.valid_accuracy[-1] == 1


def test_an_optimizer_of_another_library_with_no_rate_to_tell_runs_too(key):
    def update(grads, opt_state, params):
        return jax.tree.map(lambda g: -0.1 * g, grads), opt_state

    foreign = optim.sgd(0.1)._replace(init=lambda params: (), update=update)
    options = {"epochs": 2, "batch_size": 64}
    theirs, ours = (train.run(key, network, o, few, **options) for o in (foreign, optim.sgd(0.1)))
    chex.assert_trees_all_close(theirs.train_state.params, ours.train_state.params, rtol=1e-5, atol=1e-6)
    assert jnp.isnan(theirs.history.rate).all()


def test_the_hypergradient_is_the_central_difference(x64, key):
    """d valid_loss / d peak, through every step of a run with augmentation, dropout and batch norm."""
    policy = augment.chain(augment.random_crop(padding=1), augment.cutout(2))
    small = nn.chain(nn.conv(4), nn.batch_norm(), nn.tanh(), nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10))

    def final_loss(peak):
        optimizer = optim.adamw(optim.one_cycle(peak, steps=6), weight_decay=1e-2)
        result = train.run(key, small, optimizer, few, epochs=3, batch_size=64, valid=some, augment=policy)
        return result.history.valid_loss[-1]

    final_loss = jax.jit(final_loss)
    peak, step = 1e-2, 1e-6
    central = (final_loss(peak + step) - final_loss(peak - step)) / (2 * step)
    reverse, forward = jax.grad(final_loss)(peak), jax.jacfwd(final_loss)(peak)
    assert abs(central) > 1e-2
    np.testing.assert_allclose(reverse, central, rtol=1e-3)
    np.testing.assert_allclose(forward, reverse, rtol=1e-8)


def test_a_poisoned_batch_is_named_skipped_or_let_in(key):
    hurt = (poisoned(few[0]), few[1])
    small = nn.chain(nn.flatten(), nn.dense(8), nn.batch_norm(), nn.tanh(), nn.dense(10))
    run = partial(train.run, key, small, optim.momentum(0.1), hurt, epochs=2, batch_size=32, prepare=poison)
    ignored = run(on_nonfinite="ignore")
    met = int(jnp.argmin(ignored.history.finite))
    assert not ignored.history.finite.all() and jnp.isnan(ignored.train_state.params["dense_4"]["bias"]).all()
    with pytest.raises(NonFiniteError, match=f"step {met}: .* non-finite state/batch_norm_2/mean") as caught:
        run()
    assert caught.value.step == met
    skipped = run(on_nonfinite="skip")
    chex.assert_tree_all_finite(skipped.train_state[:3])
    assert (~skipped.history.finite).sum() == 2  # once an epoch


def test_a_traced_run_flags_what_it_cannot_raise(key):
    result = jax.jit(lambda rate: train.run(key, network, optim.sgd(rate), few, epochs=2, batch_size=64))(jnp.inf)
    assert result.history.finite[0] and not result.history.finite[1:].any()


def test_the_caller_may_refill_the_arrays(key):
    images = few[0].copy()
    optimizer = optim.sgd(0.1)
    wanted = train.run(key, network, optimizer, (images.copy(), few[1]), epochs=2, batch_size=64)
    result = train.run(key, network, optimizer, (images, few[1]), epochs=2, batch_size=64)
    images[:] = 0
    chex.assert_trees_all_equal(result.train_state.params, wanted.train_state.params)


def test_a_regression_runs_as_well(key):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    y = x @ np.float32([[1.0], [-2.0], [0.5]])
    result = train.run(
        key, nn.dense(1), optim.adam(0.1), (x, y), epochs=60, batch_size=16, loss=objective.squared_error
    )
    np.testing.assert_allclose(result.train_state.params["kernel"][:, 0], [1.0, -2.0, 0.5], atol=1e-2)
