"""Hypergradients against closed forms, differences and each other, in float64."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import augment, data, nn, objective, optim, search, train
from fnn.errors import ConfigError, FnnError, NonFiniteError
from fnn.types import Layer, Loss, Number

pytestmark = pytest.mark.slow

digits = data.digits()
few = (digits.train[0][:96], digits.train[1][:96])
some = (digits.test[0][:40], digits.test[1][:40])
MODES = ("forward", "reverse")

# One weight from 1.5, with the loss w², whose gradient is 2 w. The score is w² / 2.
weight = Layer(
    lambda key, shape: ({"w": jnp.full((), 1.5)}, {}, ()),
    lambda params, state, x, *, key=None, train=False: (
        jnp.broadcast_to(params["w"], (len(x),)),
        state,
    ),
    "weight",
)


def square(outputs, targets):
    return jnp.square(outputs)


def half_square(recipe, result):
    return jnp.square(result.train_state.params["w"]) / 2


def descend(key, optimizer, *, epochs=10, examples=1, **options):
    recipe = train.recipe(weight, optimizer, loss=square, metrics={})
    zeros = (jnp.zeros((examples, 1)), jnp.zeros(examples))
    return search.hypergradient(
        key, recipe, zeros, epochs=epochs, batch_size=1, score=half_square, **options
    )


@pytest.mark.parametrize("mode", MODES)
def test_gradient_descent_equals_its_closed_form(x64, key, mode):
    found = descend(key, optim.sgd(0.1), mode=mode)
    np.testing.assert_allclose(found.value, 0.8**20 * 1.5**2 / 2, rtol=1e-12)
    slope = found.gradient["optimizer.rate"]
    np.testing.assert_allclose(slope, -20 * 0.8**19 * 1.5**2, rtol=1e-12)
    np.testing.assert_allclose(slope, -0.6485183463, rtol=1e-9)
    assert (found.mode, found.steps, found.is_biased) == (mode, 10, False)
    assert found.paths == ("optimizer.rate",)
    # T (1 - 2 rate)^(2 T - 1) at 10 against 5 steps.
    np.testing.assert_allclose(found.growth, 2 * 0.8**10, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_heavy_ball_equals_its_closed_form(x64, key, mode):
    found = descend(key, optim.momentum(0.1, momentum=0.9), mode=mode)
    np.testing.assert_allclose(found.value, 2.1778719e-5, rtol=1e-7)
    np.testing.assert_allclose(found.gradient["optimizer.rate"], 0.150209032, rtol=1e-8)
    np.testing.assert_allclose(found.gradient["optimizer.momentum"], 0.00296457257, rtol=1e-8)


@pytest.mark.parametrize("steps", [1, 4, 7, 9])
def test_truncated_gradient_is_the_share_of_the_last_steps(x64, key, steps):
    """Each step has the same part in the closed form; an epoch has three of the nine steps."""
    found = descend(
        key, optim.sgd(0.1), epochs=3, examples=3, mode=search.truncated(steps), growth=True
    )
    wanted = -2 * steps * 0.8**17 * 1.5**2
    np.testing.assert_allclose(found.gradient["optimizer.rate"], wanted, rtol=1e-12)
    np.testing.assert_allclose(found.value, 0.8**18 * 1.5**2 / 2, rtol=1e-12)
    assert (found.mode, found.steps, found.is_biased) == ("truncated forward", steps, True)
    assert found.growth is None


def test_truncated_reverse_mode_equals_forward_mode(x64, key):
    rates = optim.table(jnp.linspace(0.1, 0.2, 9))
    found = descend(key, optim.sgd(rates), epochs=3, examples=3, mode=search.truncated(4))
    assert found.mode == "truncated reverse"
    slopes = found.gradient["optimizer.rate.rates"]
    whole = descend(key, optim.sgd(rates), epochs=3, examples=3, mode="forward")
    np.testing.assert_array_equal(slopes[:5], 0)
    np.testing.assert_allclose(slopes[5:], whole.gradient["optimizer.rate.rates"][5:], rtol=1e-12)


def sixth_order(function, x, step):
    """The central difference of sixth order."""
    weights = {1: 45, 2: -9, 3: 1}
    total = sum(w * (function(x + i * step) - function(x - i * step)) for i, w in weights.items())
    return total / (60 * step)


def smooth(peak=0.1, momentum=0.9, std=0.1):
    network = nn.chain(
        nn.flatten(), nn.dense(8, kernel_init=nn.normal(std)), nn.batch_norm(), nn.tanh(),
        nn.dropout(0.2), nn.dense(10),
    )  # fmt: skip
    return train.recipe(network, optim.momentum(optim.cosine(peak, steps=6), momentum=momentum))


def test_both_modes_equal_central_differences(x64, key):
    """With batch norm and dropout, by the schedule, the optimizer and the initialization."""
    options = {"epochs": 3, "batch_size": 48, "valid": some}
    score = jax.jit(lambda recipe: train.run(key, recipe, few, **options).history.valid_loss[-1])
    places = {
        "optimizer.rate.peak": ("peak", 0.1),
        "optimizer.momentum": ("momentum", 0.9),
        "network.1.kernel_init.std": ("std", 0.1),
    }
    found = {
        mode: search.hypergradient(
            key, smooth(), few, paths=list(places), mode=mode, growth=False, **options
        )
        for mode in MODES
    }
    np.testing.assert_allclose(found["reverse"].value, score(smooth()), rtol=1e-14)
    for path, (name, x) in places.items():
        central = sixth_order(lambda x, name=name: score(smooth(**{name: x})), x, 3e-3 * x)
        for one in found.values():
            np.testing.assert_allclose(one.gradient[path], central, rtol=1e-9)


def test_both_modes_agree_on_a_rich_run(x64, key):
    """With augmentation, noise and Adam, by every number of the recipe."""
    network = nn.chain(
        nn.conv(3), nn.batch_norm(), nn.tanh(), nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10)
    )
    policy = augment.chain(augment.brightness(0.5), augment.random_crop(padding=1))
    optimizer = optim.adamw(optim.one_cycle(1e-2, steps=6), weight_decay=1e-2)
    recipe = train.recipe(network, optimizer, augment=policy)
    forward, reverse = (
        search.hypergradient(key, recipe, few, mode=mode, epochs=3, batch_size=48, valid=some)
        for mode in MODES
    )
    assert len(forward.paths) == 5
    for path in forward.paths:
        one, other = (found.gradient[path] for found in (forward, reverse))
        # The gradient of a bias before batch norm is 0, and Adam divides its rounding errors by
        # their own size.
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-14)


def test_without_a_rate_the_decay_has_no_effect(x64, key):
    found = descend(key, optim.adamw(0.0, weight_decay=0.1))
    assert found.gradient["optimizer.weight_decay"] == 0
    assert found.gradient["optimizer.rate"] != 0


@fnn.maker
def scaled(factor: Number) -> Loss:
    return Loss(lambda outputs, targets: factor * jnp.square(outputs))


@pytest.mark.parametrize("mode", MODES)
def test_adam_is_invariant_to_the_scale_of_the_loss(x64, key, mode):
    recipe = train.recipe(weight, optim.adam(0.1, eps=1e-300), loss=scaled(3.0), metrics={})
    zeros = (jnp.zeros((1, 1)), jnp.zeros(1))
    found = search.hypergradient(
        key, recipe, zeros, epochs=10, batch_size=1, score=half_square, paths=["loss"], mode=mode
    )
    assert abs(found.gradient["loss.factor"]) < 1e-14
    assert found.gradient["optimizer.rate"] == 0  # not among the paths


def test_automatic_mode_depends_on_the_number_of_scalars(key):
    modes = [
        descend(key, optim.sgd(optim.table(jnp.full(count, 0.1))), epochs=2).mode
        for count in (8, 9)
    ]
    assert modes == ["forward", "reverse"]


def test_forward_mode_of_many_numbers_equals_reverse_mode(x64, key):
    rates = optim.table(jnp.linspace(0.1, 0.2, 20))
    one, other = (descend(key, optim.sgd(rates), epochs=20, mode=mode) for mode in MODES)
    path = "optimizer.rate.rates"
    np.testing.assert_allclose(one.gradient[path], other.gradient[path], rtol=1e-12)
    np.testing.assert_allclose(one.growth, other.growth, rtol=1e-12)


def test_an_exploding_gradient_warns(key):
    with pytest.warns(UserWarning, match=r"grew by a factor of .* explodes"):
        found = descend(key, optim.sgd(1.25), epochs=20)
    np.testing.assert_allclose(found.growth, 2 * 1.5**20, rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        descend(key, optim.sgd(1.25), epochs=20, growth=False)


def test_several_seeds_are_averaged_and_their_signs_compared():
    linear = train.recipe(nn.dense(1), optim.sgd(0.1), loss=objective.squared_error)
    x = jax.random.normal(jax.random.key(1), (16, 3))
    examples = (x, x[:, :1])
    options = {"epochs": 2, "batch_size": 8, "valid": examples}
    many = search.hypergradient(jax.random.key(0), linear, examples, seeds=3, **options)
    single = [
        search.hypergradient(key, linear, examples, **options)
        for key in jax.random.split(jax.random.key(0), 3)
    ]
    slopes = np.array([one.gradient["optimizer.rate"] for one in single])
    np.testing.assert_allclose(many.gradient["optimizer.rate"], slopes.mean(), rtol=1e-5)
    np.testing.assert_allclose(many.value, np.mean([one.value for one in single]), rtol=1e-5)
    wanted = (np.sign(slopes) == np.sign(slopes.mean())).mean()
    np.testing.assert_allclose(many.agreement["optimizer.rate"], wanted, rtol=1e-6)
    assert single[0].agreement is None


def test_within_jit_the_gradient_is_the_same(key):
    def slope(key, rate):
        return descend(key, optim.momentum(rate)).gradient["optimizer.rate"]

    np.testing.assert_allclose(
        jax.jit(slope)(key, 0.1), slope(jax.random.clone(key), 0.1), rtol=1e-5
    )


def test_reverse_mode_uses_less_memory_than_the_gradient_of_a_run(key):
    recipe = train.recipe(
        nn.chain(nn.flatten(), nn.dense(32), nn.relu(), nn.dense(10)), optim.adam(1e-3)
    )
    options = {"epochs": 16, "batch_size": 8, "valid": some}

    def memory(epochs, mode):
        given = options | {"epochs": epochs}
        found = search.hypergradient(key, recipe, few, mode=mode, growth=False, **given)
        return found.memory

    def score(recipe):
        return train.run(key, recipe, few, **options).history.valid_loss[-1]

    plain = jax.jit(jax.grad(score)).lower(recipe).compile().memory_analysis().temp_size_in_bytes
    reverse = memory(16, "reverse")
    assert reverse < plain / 4
    assert reverse < 3 * memory(4, "reverse")
    assert memory(16, "forward") < 1.05 * memory(4, "forward")


# Descent: a recipe is the parameters of an optimizer.

x = jax.random.normal(jax.random.key(2), (24, 4))
y = jnp.tanh(x @ jnp.array([[1.0], [-1.0], [0.5], [2.0]]))
regression = (x, y)


@fnn.maker
def blurred(width: Number) -> fnn.types.Augmentation:
    def blur(key, row):
        return row + width * jax.random.normal(key, row.shape)

    return blur


@fnn.maker
def weighted(logits: Number) -> Loss:
    """Squared errors, each with a weight of its own; a target is (value, index)."""

    def errors(outputs, targets):
        value, index = targets
        return jax.nn.sigmoid(logits)[index] * jnp.square(outputs - value)[:, 0]

    return Loss(errors)


@fnn.maker
def looked_up(table: jax.Array) -> fnn.types.Prepare:
    """Inputs are rows of a table, which can be learned."""
    return lambda rows: table[rows[:, 0].astype(jnp.int32)]


def error_on_all(recipe, result):
    plain = recipe.replace(loss=objective.squared_error, prepare=data.to_float, augment=None)
    return train.evaluate(plain, result.train_state, regression)["loss"]


index = jnp.arange(24)
linear = nn.dense(1)
KINDS = {
    "a table of rates": (
        train.recipe(
            linear, optim.sgd(optim.table(jnp.full(12, 0.05))), loss=objective.squared_error
        ),
        regression,
    ),
    "the gain of an initializer": (
        train.recipe(
            nn.dense(1, kernel_init=nn.normal(0.5)), optim.sgd(0.01), loss=objective.squared_error
        ),
        regression,
    ),
    "the magnitude of an augmentation": (
        train.recipe(linear, optim.sgd(0.05), loss=objective.squared_error, augment=blurred(0.5)),
        regression,
    ),
    "weights of examples": (
        train.recipe(linear, optim.sgd(0.05), loss=weighted(jnp.zeros(24)), metrics={}),
        (x, (y, index)),
    ),
    "learned data": (
        train.recipe(
            linear, optim.sgd(0.05), loss=objective.squared_error, prepare=looked_up(0.1 * x)
        ),
        (index[:, None], y),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_descends_on_a_recipe(kind, key):
    recipe, examples = KINDS[kind]
    outer = optim.adam(0.02)
    opt_state = outer.init(recipe)
    values = []
    for _ in range(4):
        slope = search.hypergradient(
            key, recipe, examples, epochs=2, batch_size=4, score=error_on_all, growth=False
        )
        assert all(np.any(slope.gradient[path]) for path in slope.paths)
        values.append(slope.value)
        recipe, opt_state = optim.step(outer, slope.gradient, opt_state, recipe)
    assert (np.diff(values) < 0).all()


# Bad input.

plain = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.momentum(0.1))
WRONG = {
    "a wrong path": (
        {"paths": ["optimizer.speed"]},
        "hypergradient paths: expected the path of a number of the recipe, got "
        "'optimizer.speed'; choose among optimizer.rate",
    ),
    "a static value": (
        {"paths": ["network.1.units"]},
        "hypergradient paths: expected the path of a number of the recipe, got "
        "'network.1.units', the static value 10; choose",
    ),
    "a default": (
        {"paths": ["optimizer.momentum"]},
        "hypergradient paths: expected the path of a number of the recipe, got "
        "'optimizer.momentum', which is left at its default and is therefore static; choose",
    ),
    "a part without numbers": (
        {"paths": ["network"]},
        "hypergradient paths: expected the path of a number of the recipe, got 'network', "
        "a part without numbers; choose",
    ),
    "one text": ({"paths": "optimizer.rate"}, "hypergradient paths: expected at least one path"),
    "no paths": ({"paths": []}, "hypergradient paths: expected at least one path of a number"),
    "an unknown score": (
        {"score": "valid_lost"},
        "hypergradient score: expected one of valid_loss, valid_accuracy, or a function",
    ),
    "no validation": ({"valid": None}, "valid: expected validation data, whose loss is the score"),
    "several numbers": (
        {"score": lambda recipe, result: result.history.valid_loss},
        "hypergradient score: expected one number, got",
    ),
    "a text as the score": (
        {"score": lambda recipe, result: "low"},
        "hypergradient score: expected one number, got 'low'",
    ),
    "a constant": (
        {"score": lambda recipe, result: 1.0},
        "hypergradient score: expected a function of the run, got the constant 1.0",
    ),
    "an integer": (
        {"score": lambda recipe, result: result.train_state.step},
        "hypergradient score: expected a floating-point number, got int32",
    ),
    "an unknown mode": (
        {"mode": "backward"},
        "hypergradient mode: expected one of auto, forward, reverse, implicit, got 'backward'",
    ),
    "too many steps": (
        {"mode": search.truncated(13)},
        "truncated steps: expected at most the 12 steps of the run, got 13",
    ),
    "no epochs": ({"epochs": 0}, "hypergradient epochs: expected >= 1, got 0"),
    "no seeds": ({"seeds": 0}, "hypergradient seeds: expected >= 1, got 0"),
    "large batches": ({"batch_size": 97}, "batch_size: expected at most the 96 examples, got 97"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_raise(case, key):
    options, message = WRONG[case]
    given = {"epochs": 2, "batch_size": 16, "valid": some} | options
    with pytest.raises(FnnError) as caught:
        search.hypergradient(key, plain, few, **given)
    assert str(caught.value).startswith(message)


def test_truncated_mode_refuses_the_scale_of_the_initialization(key):
    network = nn.chain(nn.flatten(), nn.dense(10, kernel_init=nn.normal(0.1)))
    recipe = plain.replace(network=network)
    options = {"epochs": 1, "batch_size": 16, "valid": some, "mode": search.truncated(2)}
    message = r"got network.1.kernel_init.std, by .* paths=\('optimizer.rate',\)"
    with pytest.raises(ConfigError, match=message):
        search.hypergradient(key, recipe, few, **options)


def test_a_recipe_without_numbers_raises(key):
    blank = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.prodigy())
    with pytest.raises(ConfigError, match="expected a recipe with at least one number"):
        search.hypergradient(key, blank, few, epochs=1, batch_size=16, valid=some)


def test_a_score_that_is_not_finite_raises(key):
    with pytest.raises(NonFiniteError, match="hypergradient score: expected a finite number"):
        descend(key, optim.sgd(1e30), epochs=20)


def test_steps_of_a_truncation_are_whole():
    with pytest.raises(ConfigError, match="truncated steps: expected >= 1, got 0"):
        search.truncated(0)
