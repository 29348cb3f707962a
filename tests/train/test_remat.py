"""Runs that recompute intermediate values: the same run and gradient, in less memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, nn, optim, train
from fnn.errors import ConfigError
from fnn.train.remat import nearest_divisor, scan_segments, segment_steps

pytestmark = pytest.mark.slow

digits = data.digits()
few = (digits.train[0][:96], digits.train[1][:96])
some = (digits.test[0][:40], digits.test[1][:40])
# Epochs and batch size: segments of several epochs, of one epoch, and within an epoch.
LENGTHS = {"several epochs": (9, 48), "one epoch": (4, 24), "within an epoch": (2, 6)}


@pytest.mark.parametrize(
    ("epochs", "epoch_length", "steps"),
    [(20, 20, 20), (400, 1, 20), (1, 400, 20), (9, 2, 6), (4, 3, 3), (0, 5, 1), (1, 389, 19)],
)  # fmt: skip
def test_segments_have_about_the_root_of_all_steps(epochs, epoch_length, steps):
    assert segment_steps(epochs, epoch_length) == steps


def test_a_segment_divides_the_length_where_a_divisor_is_near():
    assert [nearest_divisor(length, 10) for length in (100, 96, 97, 15)] == [10, 12, 10, 15]


@pytest.mark.parametrize("segment", [1, 3, 4, 7, 10])
def test_a_scan_in_segments_equals_a_scan(segment):
    def body(carry, x):
        carry = jnp.tanh(carry + x)
        return carry, carry * x

    xs = jnp.linspace(-1, 1, 10)

    def total(scan, start):
        carry, ys = scan(start)
        return carry + jnp.square(ys).sum(), ys

    plain = jax.value_and_grad(
        lambda c: total(lambda s: jax.lax.scan(body, s, xs), c), has_aux=True
    )
    parts = jax.value_and_grad(
        lambda c: total(lambda s: scan_segments(body, s, xs, length=10, segment=segment), c),
        has_aux=True,
    )  # fmt: skip
    chex.assert_trees_all_close(parts(0.3), plain(0.3), rtol=1e-6)


@pytest.mark.parametrize("case", LENGTHS)
def test_the_run_is_the_same_to_the_last_bit(case, key):
    epochs, batch_size = LENGTHS[case]
    network = nn.chain(
        nn.flatten(), nn.dense(8), nn.batch_norm(), nn.relu(), nn.dropout(0.2), nn.dense(10)
    )
    recipe = train.recipe(network, optim.adam(1e-2), augment=augment.random_crop(padding=1))
    options = {"epochs": epochs, "batch_size": batch_size, "valid": some}
    wanted = train.run(key, recipe, few, **options)
    result = train.run(key, recipe, few, remat=True, **options)
    chex.assert_trees_all_equal(result.train_state, wanted.train_state)
    chex.assert_trees_all_equal(dict(result.history), dict(wanted.history))


@pytest.mark.parametrize("case", LENGTHS)
def test_the_gradient_is_the_same_to_rounding(case, x64, key):
    epochs, batch_size = LENGTHS[case]
    network = nn.chain(nn.flatten(), nn.dense(8), nn.tanh(), nn.dropout(0.2), nn.dense(10))
    recipe = train.recipe(network, optim.adamw(1e-2, weight_decay=1e-2))

    def score(remat, recipe):
        options = {"epochs": epochs, "batch_size": batch_size, "valid": some}
        return train.run(key, recipe, few, remat=remat, **options).history.valid_loss.sum()

    wanted = jax.jit(jax.grad(lambda recipe: score(False, recipe)))(recipe)
    slope = jax.jit(jax.grad(lambda recipe: score(True, recipe)))(recipe)
    for path in ("optimizer.rate", "optimizer.weight_decay", "network.3.drop_rate"):
        np.testing.assert_allclose(slope[path], wanted[path], rtol=1e-11)


def test_memory_grows_as_the_root_of_the_number_of_steps(key):
    recipe = train.recipe(
        nn.chain(nn.flatten(), nn.dense(16), nn.relu(), nn.dense(10)), optim.adam(1e-3)
    )

    def memory(epochs, remat):
        def score(recipe):
            return train.run(
                key, recipe, few, epochs=epochs, batch_size=6, valid=some, remat=remat
            ).history.valid_loss[-1]

        compiled = jax.jit(jax.grad(score)).lower(recipe).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(16, True) < memory(16, False) / 6
    assert memory(16, True) < 2.5 * memory(4, True)
    assert memory(16, False) > 3 * memory(4, False)


def test_early_stopping_and_a_callback_work_with_remat(key):
    steps = []
    recipe = train.recipe(
        nn.chain(nn.flatten(), nn.dense(10)),
        optim.adam(1e-2),
        early_stopping=train.early_stopping(2),
    )
    options = {"epochs": 9, "batch_size": 48, "valid": some}
    wanted = train.run(key, recipe, few, **options)
    result = train.run(
        key, recipe, few, remat=True, callback=lambda step, _: steps.append(int(step)), **options
    )
    jax.effects_barrier()
    chex.assert_trees_all_equal(dict(result.history), dict(wanted.history))
    assert sorted(set(steps))[0] == 2


def test_remat_is_a_flag(key):
    recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.adam(1e-2))
    with pytest.raises(ConfigError, match="remat: expected True or False, got 1"):
        train.run(key, recipe, few, epochs=1, batch_size=8, remat=1)
