"""A whole run: its results, gradients through it, and resuming."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poisoning import poison, poisoned

from fnn import augment, data, nn, objective, optim, train
from fnn.errors import ConfigError, NonFiniteError

digits = data.digits()
few = (digits.train[0][:128], digits.train[1][:128])
some = (digits.test[0][:50], digits.test[1][:50])
network = nn.chain(
    nn.conv(4), nn.batch_norm(), nn.tanh(), nn.max_pool(),
    nn.residual(nn.chain(nn.conv(4), nn.batch_norm(), nn.tanh())),
    nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10),
)  # fmt: skip


def test_history_has_an_entry_for_each_step_and_epoch(key):
    recipe = train.recipe(network, optim.adam(1e-3))
    result = train.run(key, recipe, few, epochs=3, batch_size=50, valid=some)
    shapes = {name: array.shape for name, array in result.history.items()}
    steps, epochs = (6,), (3,)
    assert list(shapes) == ["loss", "accuracy", "rate", "finite", "valid_accuracy", "valid_loss"]
    assert list(shapes.values()) == [steps] * 4 + [epochs] * 2
    final = train.evaluate(recipe, result.train_state, some)
    np.testing.assert_allclose(result.history.valid_loss[-1], final["loss"], rtol=1e-6)
    assert result.train_state.step == 6 and result.history["loss"] is result.history.loss
    with pytest.raises(AttributeError, match="expected one of loss, accuracy"):
        _ = result.history.valid_recall


def test_history_without_validation(key):
    history = train.run(
        key, train.recipe(network, optim.adam(1e-3)), few, epochs=1, batch_size=64
    ).history
    assert "valid_loss" not in history


def test_run_overfits_a_few_images(key):
    perceptron = nn.chain(nn.flatten(), nn.dense(32), nn.relu(), nn.dense(10))
    result = train.run(
        key, train.recipe(perceptron, optim.adam(1e-2)), few, epochs=40, batch_size=64, valid=few
    )
    assert result.history.valid_accuracy[-1] == 1


class Foreign(NamedTuple):
    """An optimizer of another JAX library."""

    init: Any
    update: Any


@pytest.mark.slow
def test_optimizer_of_another_library_without_a_rate(key):
    def update(grads, opt_state, params):
        return jax.tree.map(lambda g: -0.1 * g, grads), opt_state

    recipes = [
        train.recipe(network, own) for own in (Foreign(lambda params: (), update), optim.sgd(0.1))
    ]
    theirs, ours = (train.run(key, recipe, few, epochs=2, batch_size=64) for recipe in recipes)
    chex.assert_trees_all_close(
        theirs.train_state.params, ours.train_state.params, rtol=1e-5, atol=1e-6
    )
    assert jnp.isnan(theirs.history.rate).all()


@pytest.mark.slow
def test_hypergradient_equals_the_central_difference(x64, key):
    """d valid_loss / d peak through every step, with augmentation, dropout and batch norm."""
    policy = augment.chain(augment.random_crop(padding=1), augment.cutout(2))
    small = nn.chain(
        nn.conv(4), nn.batch_norm(), nn.tanh(), nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10)
    )

    def final_loss(peak):
        optimizer = optim.adamw(optim.one_cycle(peak, steps=6), weight_decay=1e-2)
        recipe = train.recipe(small, optimizer, augment=policy)
        return train.run(key, recipe, few, epochs=3, batch_size=64, valid=some).history.valid_loss[
            -1
        ]

    final_loss = jax.jit(final_loss)
    peak, step = 1e-2, 1e-6
    central = (final_loss(peak + step) - final_loss(peak - step)) / (2 * step)
    reverse, forward = jax.jit(jax.grad(final_loss))(peak), jax.jit(jax.jacfwd(final_loss))(peak)
    assert abs(central) > 1e-2
    np.testing.assert_allclose(reverse, central, rtol=1e-3)
    np.testing.assert_allclose(forward, reverse, rtol=1e-8)


@pytest.mark.slow
def test_non_finite_step_raises_is_skipped_or_ignored(key):
    hurt = (poisoned(few[0]), few[1])
    small = nn.chain(nn.flatten(), nn.dense(8), nn.batch_norm(), nn.tanh(), nn.dense(10))
    recipe = train.recipe(small, optim.momentum(0.1), prepare=poison)

    def run(recipe):
        return train.run(key, recipe, hurt, epochs=2, batch_size=32)

    ignored = run(recipe.replace(on_nonfinite="ignore"))
    met = int(jnp.argmin(ignored.history.finite))
    assert (
        not ignored.history.finite.all()
        and jnp.isnan(ignored.train_state.params["dense_4"]["bias"]).all()
    )
    with pytest.raises(
        NonFiniteError, match=f"step {met}: .* non-finite state/batch_norm_2/mean"
    ) as caught:
        run(recipe)
    assert caught.value.step == met
    skipped = run(recipe.replace(on_nonfinite="skip"))
    chex.assert_tree_all_finite(skipped.train_state[:3])
    assert (~skipped.history.finite).sum() == 2  # once per epoch


@pytest.mark.slow
def test_traced_run_records_non_finite_steps(key):
    def run(rate):
        return train.run(key, train.recipe(network, optim.sgd(rate)), few, epochs=2, batch_size=64)

    result = jax.jit(run)(jnp.inf)
    assert result.history.finite[0] and not result.history.finite[1:].any()


def test_data_is_copied(key):
    images = few[0].copy()
    recipe = train.recipe(network, optim.sgd(0.1))
    wanted = train.run(key, recipe, (images.copy(), few[1]), epochs=2, batch_size=64)
    result = train.run(key, recipe, (images, few[1]), epochs=2, batch_size=64)
    images[:] = 0
    chex.assert_trees_all_equal(result.train_state.params, wanted.train_state.params)


def test_regression(key):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    y = x @ np.float32([[1.0], [-2.0], [0.5]])
    recipe = train.recipe(nn.dense(1), optim.adam(0.1), loss=objective.squared_error)
    result = train.run(key, recipe, (x, y), epochs=60, batch_size=16)
    np.testing.assert_allclose(
        result.train_state.params["kernel"][:, 0], [1.0, -2.0, 0.5], atol=1e-2
    )


noisy = nn.chain(
    nn.flatten(), nn.dense(16), nn.batch_norm(), nn.relu(), nn.dropout(0.2), nn.dense(10)
)
policy = augment.random_crop(padding=1)
falling = optim.plateau(optim.ema(optim.momentum(0.5), 0.9), patience=0, factor=0.5, threshold=0.1)
resumable = train.recipe(noisy, falling, augment=policy, regularizer=objective.l2(1e-3))


def run(key, recipe, epochs, **options):
    """Epochs of two steps."""
    return train.run(
        key, recipe, few, **{"epochs": epochs, "batch_size": 64, "valid": some} | options
    )


def in_parts(key, recipe, parts, resume=lambda result: result):
    """Run each part, resuming from the result of the one before, or from a value of it."""
    results = [run(key, recipe, parts[0])]
    for epochs in parts[1:]:
        results.append(run(key, recipe, epochs, resume=resume(results[-1])))
    return results


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(2, 3), (1, 1, 3), (0, 5), (5, 0)], ids=str)
def test_run_resumed_from_a_result_is_bitwise_the_whole_run(parts, key):
    whole, last = run(key, resumable, 5), in_parts(key, resumable, parts)[-1]
    chex.assert_trees_all_equal(last.train_state, whole.train_state)
    assert list(last.history) == list(whole.history)
    chex.assert_trees_all_equal(dict(last.history), dict(whole.history))
    assert whole.history.rate[-1] < 0.5  # the plateau fell, by validation


@pytest.mark.parametrize("parts", [(2, 3), (1, 1, 3), (0, 5), (5, 0)], ids=str)
def test_run_resumed_from_a_train_state_has_the_rest_of_the_history(parts, key):
    whole, results = (
        run(key, resumable, 5),
        in_parts(key, resumable, parts, lambda result: result.train_state),
    )
    chex.assert_trees_all_equal(results[-1].train_state, whole.train_state)
    assert [result.history.valid_loss.size for result in results] == list(parts)
    for name, figures in whole.history.items():
        np.testing.assert_array_equal(
            np.concatenate([result.history[name] for result in results]), figures
        )


@pytest.mark.slow
def test_run_resumed_after_single_epochs(key):
    plain = train.recipe(noisy, optim.momentum(0.1), augment=policy)
    whole, state = run(key, plain, 3), train.start(jax.random.clone(key), plain, (8, 8, 1))
    for _ in range(2):
        state, _ = train.epoch(plain, state, few, batch_size=64)
    rest = run(key, plain, 1, resume=state)
    chex.assert_trees_all_close(rest.train_state[:4], whole.train_state[:4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rest.history.loss, whole.history.loss[-2:], rtol=1e-5)


@pytest.mark.slow
def test_resume_within_jit_and_vmap():
    def whole(key, rate):
        recipe = train.recipe(noisy, optim.momentum(rate), augment=policy)
        return run(key, recipe, 4)

    def parts(key, rate):
        recipe = train.recipe(noisy, optim.momentum(rate), augment=policy)
        return in_parts(key, recipe, (1, 3))[-1]

    key = jax.random.key(0)
    chex.assert_trees_all_equal(jax.jit(parts)(key, 0.1), jax.jit(whole)(key, 0.1))
    keys, rates = jax.random.split(jax.random.key(1), 2), jnp.array([0.1, 0.3])
    wanted, got = (jax.jit(jax.vmap(function))(keys, rates) for function in (whole, parts))
    chex.assert_trees_all_close(dict(got.history), dict(wanted.history), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_callback_of_a_resumed_run_counts_all_steps(key):
    steps = []
    result = run(key, resumable, 2)
    run(key, resumable, 2, resume=result, callback=lambda step, figures: steps.append(int(step)))
    jax.effects_barrier()
    assert steps == [6, 8]


STOPPINGS = {
    "last": train.early_stopping(3, restore_best=False),
    "best": train.early_stopping(3),
    "ends at the whole": train.early_stopping(9, min_delta=0.05),
}
overfitting = nn.chain(nn.flatten(), nn.dense(32), nn.batch_norm(), nn.relu(), nn.dense(10))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(2, 14), (5, 1, 1, 9), (8, 0, 8), (14, 2)], ids=str)
@pytest.mark.parametrize("stopping", STOPPINGS.values(), ids=STOPPINGS)
def test_resumed_run_continues_early_stopping(stopping, parts, key):
    """Also where the first part ended within the patience, or by early stopping."""
    recipe = train.recipe(overfitting, optim.ema(optim.momentum(0.5), 0.5), early_stopping=stopping)
    whole, last = run(key, recipe, 16), in_parts(key, recipe, parts)[-1]
    chex.assert_trees_all_equal(last.train_state[:4], whole.train_state[:4])
    chex.assert_trees_all_equal(dict(last.history), dict(whole.history))
    of_states = in_parts(key, recipe, parts, lambda result: result.train_state)
    chex.assert_trees_all_equal(of_states[-1].train_state[:4], whole.train_state[:4])
    for name, figures in whole.history.items():
        np.testing.assert_array_equal(
            np.concatenate([result.history[name] for result in of_states]), figures
        )


@pytest.mark.slow
def test_early_stopping_begins_at_the_resume(key):
    recipe = train.recipe(overfitting, optim.ema(optim.momentum(0.5), 0.5))
    first = run(key, recipe, 8)
    stopped = run(key, recipe.replace(early_stopping=train.early_stopping(2)), 20, resume=first)
    losses = run(key, recipe, 28).history.valid_loss
    best, ended = 8, None
    for epoch in range(8, 28):
        best = epoch if losses[epoch] < losses[8:epoch].min(initial=np.inf) else best
        if epoch - best >= 2 and ended is None:
            ended = epoch + 1, best + 1
            break
    assert (stopped.history.valid_loss.size, int(stopped.train_state.step) // 2) == ended
    np.testing.assert_array_equal(stopped.history.valid_loss, losses[: ended[0]])


def within_an_epoch(key, recipe):
    state = run(key, recipe, 1).train_state
    return train.step(recipe, state, (few[0][:64], few[1][:64]))[0]


WRONG = {
    "another key": (
        lambda key: {"resume": run(jax.random.key(1), resumable, 1)},
        "resume: expected a train state of a run with this key, got one of another key; "
        "give the run's own key",
    ),
    "another key of a state": (
        lambda key: {"resume": run(jax.random.key(1), resumable, 1).train_state},
        "resume: expected a train state of a run with this key, got one of another key",
    ),
    "within an epoch": (
        lambda key: {"resume": within_an_epoch(key, resumable)},
        "resume: expected a train state at the end of an epoch of 2 steps, got step 3; "
        "use lab.fit to continue within an epoch",
    ),
    "other batches": (
        lambda key: {"resume": run(key, resumable, 1), "batch_size": 10},
        "resume: expected a train state at the end of an epoch of 12 steps, got step 2",
    ),
    "no validation": (
        lambda key: {"resume": run(key, plain, 1), "valid": None},
        "resume: expected a run that measures loss, accuracy, rate, finite, valid_accuracy, "
        "valid_loss, got loss, acc",
    ),
    "parameters": (
        lambda key: {"resume": {}},
        "resume: expected a TrainState or a Result, got dict",
    ),
    "True": (lambda key: {"resume": True}, "resume: expected a TrainState or a Result, got bool"),
}  # fmt: skip
plain = train.recipe(noisy, optim.momentum(0.1))


@pytest.mark.parametrize("case", WRONG)
def test_invalid_resumes_raise(case, key):
    options, message = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        run(key, plain if case == "no validation" else resumable, 1, **options(key))
    assert str(caught.value).startswith(message)
