"""Rate tests: stability limits of quadratics, and laws of the suggested rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, search, train
from fnn.errors import ArgumentError, ConfigError, DTypeError, NonFiniteError, ShapeError

CURVATURES = np.array([4.0, 1.0, 0.25])
# Full batches of rows √(n λ) e_i: the loss ½ mean (x·w)² has the Hessian diag(λ).
QUADRATIC = (np.diag(np.sqrt(3 * CURVATURES)), np.zeros((3, 1)))

RATES = np.geomspace(1e-6, 10, 29)
FEW = np.geomspace(1e-6, 10, 3)


def half_square(outputs, targets):
    return 0.5 * jnp.square(outputs - targets).sum(-1)


def scaled(factor):
    return lambda outputs, targets: factor * half_square(outputs, targets)


def recipe(optimizer, loss=half_square, **options):

    return train.recipe(nn.dense(1, use_bias=False), optimizer, loss=loss, **options)


def rates_of(key, optimizer, loss=half_square, **options):
    options = {"steps": 80, "rates": RATES, "seeds": 2, "lanes": 64} | options
    return search.rate_test(key, recipe(optimizer, loss), QUADRATIC, batch_size=3, **options)


@pytest.mark.parametrize(
    ("optimizer", "limit"),
    [(optim.sgd(1.0), 2 / 4), (optim.momentum(1.0, momentum=0.5), 2 * 1.5 / 4)],
    ids=["sgd: 2/L", "heavy ball: 2 (1 + b)/L"],
)
def test_on_a_quadratic_the_loss_falls_below_the_limit_and_rises_above(x64, key, optimizer, limit):
    found = rates_of(key, optimizer, rates=limit * np.geomspace(0.1, 3, 40))
    falls = found.tail_losses < found.baseline[:, -20:].mean(1)
    np.testing.assert_array_equal(falls, np.repeat(found.rates[:, None] < limit, 2, 1))
    assert found.high == found.rates[found.rates < limit].max()
    assert found.low <= found.suggested <= found.high


def test_each_rate_is_a_run_at_a_constant_rate(x64, key):
    found = rates_of(key, optim.sgd(optim.cosine(0.3, steps=50)), rates=[0.01, 0.03, 0.1])
    for index, rate in enumerate(found.rates):
        single = train.run(
            jax.random.fold_in(key, 1), recipe(optim.sgd(rate)), QUADRATIC, epochs=80, batch_size=3
        )
        np.testing.assert_allclose(found.losses[index, 1], single.history.loss, rtol=1e-12)


@pytest.mark.slow
def test_the_suggestion_of_sgd_moves_by_the_inverse_scale_of_the_loss_and_that_of_adam_stays(
    x64, key
):
    sgd, sgd_scaled = (rates_of(key, optim.sgd(1.0), loss) for loss in (half_square, scaled(100.0)))
    assert sgd.suggested != sgd.rates[0]
    for name in ("low", "suggested", "high"):
        np.testing.assert_allclose(getattr(sgd_scaled, name), getattr(sgd, name) / 100)
    adam, adam_scaled = (
        rates_of(key, optim.adam(1.0, eps=1e-30), loss) for loss in (half_square, scaled(100.0))
    )
    for name in ("low", "suggested", "high"):
        assert getattr(adam_scaled, name) == getattr(adam, name)


def test_the_suggestion_replaces_the_number_at_the_path_and_leaves_the_schedule(key):
    schedule = optim.one_cycle(0.3, steps=50)
    for optimizer, path in [
        (optim.sgd(schedule), "optimizer.rate.peak"),
        (optim.clip_by_global_norm(optim.sgd(schedule), 1.0), "optimizer.optimizer.rate.peak"),
        (optim.sgd(optim.warmup(0.1, warmup_steps=3)), "optimizer.rate.schedule"),
        (optim.sgd(0.1), "optimizer.rate"),
    ]:
        found = rates_of(key, optimizer, rates=np.geomspace(0.01, 10, 5), steps=10)
        assert found.path == path
        assert found.recipe == recipe(optimizer).replace_at(path, found.suggested)
        assert f"{path}: low " in repr(found)


def test_a_run_is_bitwise_the_same_after_a_test(key):
    one = recipe(optim.momentum(0.1))
    before = train.run(key, one, QUADRATIC, epochs=3, batch_size=2)
    rates_of(key, optim.momentum(0.1), rates=FEW)
    after = train.run(key, one, QUADRATIC, epochs=3, batch_size=2)
    assert (before.history.loss == after.history.loss).all()


def test_all_rates_and_seeds_and_later_tests_share_one_compilation(key):
    traces = []

    def counted(outputs, targets):
        if outputs.dtype == jnp.float32 and isinstance(outputs, jax.core.Tracer):
            traces.append(1)
        return half_square(outputs, targets)

    options = {"steps": 5, "lanes": 5}
    four = np.geomspace(1e-6, 10, 4)
    rates_of(key, optim.sgd(1.0), counted, rates=four, seeds=1, **options)
    once = len(traces)
    rates_of(key, optim.sgd(0.1), counted, rates=four * 1e3, seeds=3, **options)
    # The loss is traced again where the data is checked, with the outputs' shapes alone.
    assert len(traces) <= once + 1


@pytest.mark.slow
def test_any_number_of_lanes_gives_the_same_losses(key):
    rates = np.geomspace(1e-6, 10, 4)
    several = [rates_of(key, optim.sgd(1.0), rates=rates, steps=8, lanes=n) for n in (1, 2, "auto")]
    for other in several[1:]:
        np.testing.assert_allclose(other.losses, several[0].losses, rtol=1e-5)


WRONG = {
    "steps": ({"steps": 0}, ConfigError, "rate_test steps: expected >= 1"),
    "seeds": ({"seeds": 0}, ConfigError, "rate_test seeds"),
    "count": ({"rates": 32}, ConfigError, "rate_test rates: expected two or more .*, got 32"),
    "one rate": ({"rates": [0.1]}, ConfigError, "rate_test rates: expected two or more"),
    "rate of 0": ({"rates": [0.0, 0.1]}, ConfigError, "rate_test rates: expected .* > 0"),
    "NaN": ({"rates": [0.1, np.nan, 1.0]}, ConfigError, "rate_test rates: expected .* finite"),
    "reversed": ({"rates": [2.0, 1.0]}, ConfigError, "rate_test rates: expected .* ascending"),
    "names": ({"rates": ["a", "b"]}, ConfigError, "rate_test rates: expected two or more"),
    "path": ({"path": "optimizer"}, ConfigError, "path: expected .* one of optimizer.rate, got"),
    "lanes": ({"lanes": 0}, ConfigError, "lanes"),
    "batch": ({"batch_size": 4}, ConfigError, "batch_size: expected at most the 3 examples"),
    "empty": ({"data": (np.zeros((0, 3)), np.zeros((0, 1)))}, ShapeError, "data: expected"),
    "key": ({"key": 0}, DTypeError, "key: expected a key"),
    "recipe": ({"recipe": nn.dense(1)}, ConfigError, "rate_test recipe: expected a recipe"),
    "function": (
        {"recipe": recipe(optim.sgd(lambda step: 0.1))},
        ConfigError,
        "rate_test recipe: expected an optimizer whose rate is a number or a schedule",
    ),
    "list": (
        {"recipe": recipe(optim.sgd(optim.piecewise([0.1, 0.2], boundaries=[5])))},
        ConfigError,
        r"rate_test path: .* optimizer\.rate\.rates\.0, .*got none",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_raise(key, name):
    options, error, message = WRONG[name]
    given = {"key": key, "recipe": recipe(optim.sgd(0.1)), "data": QUADRATIC, "batch_size": 3}
    given |= options
    first = [given.pop(part) for part in ("key", "recipe", "data")]
    with pytest.raises(error, match=message):
        search.rate_test(*first, **given)


@pytest.mark.slow
def test_early_stopping_and_plateau_do_not_matter(key):
    plain = rates_of(key, optim.sgd(0.1), rates=FEW, steps=4)
    plateau = optim.plateau(optim.sgd(0.1), patience=1)
    one = recipe(plateau, early_stopping=train.early_stopping(1))
    found = search.rate_test(key, one, QUADRATIC, batch_size=3, steps=4, rates=FEW, seeds=2)
    np.testing.assert_allclose(found.losses, plain.losses, rtol=1e-6)
    assert found.path == "optimizer.optimizer.rate"
    assert found.recipe.early_stopping == one.early_stopping


def test_a_path_within_a_list_of_rates_is_a_constant_rate(key):
    optimizer = optim.sgd(optim.piecewise([0.1, 0.2], boundaries=[5]))
    found = rates_of(key, optimizer, path="optimizer.rate.rates.1", rates=[0.01, 0.1, 0.3])
    assert found.recipe["optimizer.rate.rates.0"] == 0.1
    assert found.recipe["optimizer.rate.rates.1"] == found.suggested
    plain = rates_of(key, optim.sgd(1.0), rates=[0.01, 0.1, 0.3])
    np.testing.assert_array_equal(found.losses, plain.losses)


@pytest.mark.slow
def test_without_any_rate_at_which_the_loss_falls_the_test_raises(key):
    with pytest.raises(
        ConfigError, match="rate_test rates: expected a rate at which the loss falls"
    ):
        rates_of(key, optim.sgd(1.0), rates=[10.0, 100.0])
    with pytest.raises(NonFiniteError, match="rate_test loss: expected a finite one before"):
        rates_of(
            key, optim.sgd(1.0), lambda outputs, targets: half_square(outputs, targets) * jnp.nan
        )


def test_an_unknown_option_raises_with_all_that_are_known(key):
    with pytest.raises(
        ArgumentError, match=r"rate_test rate: .*steps, rates, .*lanes.*give rates="
    ):
        rates_of(key, optim.sgd(1.0), rate=3)
