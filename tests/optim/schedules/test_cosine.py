"""Constant, cosine and one-cycle schedules: closed forms in NumPy, end points, derivatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import optim
from fnn.errors import ConfigError
from fnn.optim.schedules.base import as_schedule

float64 = pytest.mark.usefixtures("x64")

MAKERS = {"constant": optim.constant, "cosine": optim.cosine, "one_cycle": optim.one_cycle}
NUMBERS = {
    "constant": {"value": 0.3},
    "cosine": {"peak": 0.3, "steps": 20.0, "warmup_steps": 5.0, "floor": 0.01},
    "one_cycle": {"peak": 0.3, "steps": 20.0, "warmup_steps": 5.0, "start": 0.02, "floor": 0.01},
}
NAMES_AND_NUMBERS = [(name, number) for name, numbers in NUMBERS.items() for number in numbers]
each_number = pytest.mark.parametrize(("name", "number"), NAMES_AND_NUMBERS)
every_schedule = pytest.mark.parametrize("name", MAKERS)


def rates(schedule, steps):
    return jax.vmap(schedule)(jnp.asarray(steps, jnp.int32))


def half_cosine(begin, end, progress):
    return begin + (end - begin) * np.sin(np.pi / 2 * progress) ** 2


@float64
def test_constant_is_constant():
    np.testing.assert_array_equal(rates(optim.constant(0.3), range(5)), np.full(5, 0.3))


@float64
def test_cosine_has_its_closed_form():
    t = np.arange(31)
    wanted = 0.01 + (0.3 - 0.01) * (1 + np.cos(np.pi * np.minimum(t, 20) / 20)) / 2
    np.testing.assert_allclose(
        rates(optim.cosine(0.3, steps=20, floor=0.01), t), wanted, rtol=1e-14
    )


@float64
def test_cosine_warms_up_linearly():
    t = np.arange(31)
    falling = half_cosine(0.3, 0.01, np.clip((t - 5) / 15, 0, 1))
    wanted = np.where(t < 5, 0.3 * t / 5, falling)
    np.testing.assert_allclose(
        rates(optim.cosine(0.3, steps=20, warmup_steps=5, floor=0.01), t), wanted, rtol=1e-13
    )


@float64
def test_one_cycle_has_its_closed_form():
    t = np.arange(31)
    rising, falling = (
        half_cosine(0.02, 0.3, t / 8),
        half_cosine(0.3, 0.01, np.clip((t - 8) / 12, 0, 1)),
    )
    schedule = optim.one_cycle(0.3, steps=20, warmup_steps=8, start=0.02, floor=0.01)
    np.testing.assert_allclose(rates(schedule, t), np.where(t < 8, rising, falling), rtol=1e-13)


@float64
def test_one_cycle_has_its_defaults():
    wanted = optim.one_cycle(0.5, steps=20, warmup_steps=6, start=0.02, floor=2e-6)
    t = range(25)
    np.testing.assert_allclose(
        rates(optim.one_cycle(0.5, steps=20), t), rates(wanted, t), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.0), (5, 0.25), (20, 0.125), (21, 0.125), (10**9, 0.125)]
)
def test_cosine_is_exact_at_its_ends(step, rate):
    assert optim.cosine(0.25, steps=20, warmup_steps=5, floor=0.125)(step) == rate


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.125), (5, 0.25), (20, 0.0625), (21, 0.0625), (10**9, 0.0625)]
)
def test_one_cycle_is_exact_at_its_ends(step, rate):
    schedule = optim.one_cycle(0.25, steps=20, warmup_steps=5, start=0.125, floor=0.0625)
    assert schedule(step) == rate


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_without_warmup_the_first_rate_is_the_peak(name):
    assert MAKERS[name](0.25, steps=20, warmup_steps=0)(0) == 0.25


@every_schedule
@pytest.mark.parametrize(
    "step", [7, np.int64(7), np.int32(7), jnp.int32(7), jnp.uint8(7), jnp.float32(7)]
)
def test_a_step_may_have_any_type(name, step):
    schedule = MAKERS[name](**NUMBERS[name])
    rate = schedule(step)
    chex.assert_shape(rate, ())
    chex.assert_type(rate, jnp.float32)
    np.testing.assert_allclose(rate, rates(schedule, [7])[0], rtol=1e-6)


@each_number
def test_a_traced_number_compiles_once_and_may_be_mapped(name, number):
    t = jnp.arange(0, 25, 3)

    def path(value):
        return rates(MAKERS[name](**(NUMBERS[name] | {number: value})), t)

    values = [scale * NUMBERS[name][number] for scale in (1.0, 0.5, 0.4, 1.5)]
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(path, n=1))
    looped = jnp.stack([traced(value) for value in values])
    chex.assert_trees_all_close(
        looped, jnp.stack([path(value) for value in values]), rtol=1e-5, atol=1e-7
    )
    chex.assert_trees_all_close(jax.vmap(path)(jnp.array(values)), looped, rtol=1e-5, atol=1e-7)


STEP_COUNTS = [
    ("cosine", "steps"),
    ("cosine", "warmup_steps"),
    ("one_cycle", "steps"),
    ("one_cycle", "warmup_steps"),
]


@pytest.mark.parametrize(("name", "number"), STEP_COUNTS)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_step_counts_may_be_arrays_of_integers_or_floats(name, number, dtype):
    count = int(NUMBERS[name][number])
    others = {other: value for other, value in NUMBERS[name].items() if other != number}
    wanted = rates(MAKERS[name](**others, **{number: count}), range(25))
    array = jnp.asarray(count, dtype)
    chex.assert_trees_all_close(
        rates(MAKERS[name](**others, **{number: array}), range(25)), wanted, rtol=1e-5
    )
    traced = jax.jit(lambda count: rates(MAKERS[name](**others, **{number: count}), range(25)))
    chex.assert_trees_all_close(traced(array), wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_one_cycle_takes_its_defaults_from_a_traced_count(dtype):
    traced = jax.jit(lambda steps: rates(optim.one_cycle(0.3, steps=steps), range(25)))
    wanted = rates(optim.one_cycle(0.3, steps=20), range(25))
    chex.assert_trees_all_close(traced(jnp.asarray(20, dtype)), wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
@pytest.mark.parametrize(
    ("steps", "warmup"), [(20.0, 0.0), (20.0, 20.0), (5.0, 20.0), (1.0, 0.0), (0.0, 0.0)]
)
def test_any_traced_counts_give_finite_rates_and_gradients(name, steps, warmup):
    """Traced numbers cannot be checked, so that invalid ones must give finite values too."""

    @jax.jit
    def slopes(steps, warmup):
        def rate(step, steps, warmup):
            return MAKERS[name](0.3, steps=steps, warmup_steps=warmup)(step)

        return jax.vmap(jax.value_and_grad(rate, (1, 2)), (0, None, None))(
            jnp.arange(25), steps, warmup
        )

    values, gradients = slopes(steps, warmup)
    chex.assert_tree_all_finite(gradients)
    assert values.min() >= 0 and values.max() <= jnp.float32(0.3)


@float64
@each_number
def test_gradient_by_a_number_equals_finite_differences(name, number):
    t, h = jnp.array([1, 4, 6, 13, 19, 22]), 1e-5

    def path(value):
        return rates(MAKERS[name](**(NUMBERS[name] | {number: value})), t)

    both_modes = jax.jit(
        lambda value: (path(value), jax.jacrev(path)(value), jax.jacfwd(path)(value))
    )
    value = NUMBERS[name][number]
    wanted = (both_modes(value + h)[0] - both_modes(value - h)[0]) / (2 * h)
    _, reverse, forward = both_modes(value)
    np.testing.assert_allclose([reverse, forward], [wanted, wanted], rtol=1e-6, atol=1e-9)


@each_number
def test_gradient_by_a_number_is_finite_at_the_corners(name, number):
    t = jnp.array([0, 5, 20])
    slopes = jax.jacrev(lambda value: rates(MAKERS[name](**(NUMBERS[name] | {number: value})), t))
    chex.assert_tree_all_finite(jax.jit(slopes)(NUMBERS[name][number]))


counts = st.integers(1, 400)
shares = st.floats(0, 1, exclude_max=True)
few_examples = settings(max_examples=30, deadline=None, derandomize=True)
grid = jnp.linspace(0, 500, 126).round().astype(jnp.int32)


@jax.jit
def cosine_path(peak, steps, warmup, floor):
    return rates(optim.cosine(peak, steps=steps, warmup_steps=warmup, floor=floor), grid)


@jax.jit
def one_cycle_path(peak, steps, warmup, start, floor):
    schedule = optim.one_cycle(peak, steps=steps, warmup_steps=warmup, start=start, floor=floor)
    return rates(schedule, grid)


def expect_rise_then_fall(path, warmup, low, peak):
    """It rises until the warm-up ends, then falls, and stays between low and peak."""
    slack, change = 1e-6 * peak, np.diff(path)
    assert path.min() >= max(low - slack, 0) and path.max() <= peak + slack
    assert (change[np.asarray(grid)[1:] <= warmup] >= -slack).all()
    assert (change[np.asarray(grid)[:-1] >= warmup] <= slack).all()


@few_examples
@given(st.floats(1e-6, 10), counts, shares, shares)
def test_cosine_rises_then_falls(peak, steps, warmup, floor):
    warmup = int(warmup * steps)
    path = np.asarray(cosine_path(peak, float(steps), float(warmup), floor * peak))
    expect_rise_then_fall(path, warmup, floor * peak if warmup == 0 else 0.0, peak)


@few_examples
@given(st.floats(1e-6, 10), counts, shares, shares, shares)
def test_one_cycle_rises_then_falls(peak, steps, warmup, start, floor):
    warmup = int(warmup * steps)
    path = np.asarray(one_cycle_path(peak, float(steps), float(warmup), start * peak, floor * peak))
    expect_rise_then_fall(path, warmup, min(start, floor) * peak, peak)


def test_a_number_becomes_a_constant_schedule():
    assert as_schedule("sgd", 0.25)(10) == 0.25


def test_as_schedule_returns_a_schedule_unchanged():
    schedule = optim.cosine(0.1, steps=10)
    assert as_schedule("sgd", schedule) is schedule


OUT_OF_RANGE = [
    ("constant", {"value": -0.1}, "constant value"),
    ("cosine", {"peak": -0.1}, "cosine peak"),
    ("cosine", {"floor": -0.1}, "cosine floor"),
    ("cosine", {"steps": 0}, "cosine steps"),
    ("cosine", {"warmup_steps": -1}, "cosine warmup_steps"),
    ("cosine", {"warmup_steps": 20}, "cosine warmup_steps: expected fewer than steps=20"),
    ("one_cycle", {"peak": float("nan")}, "one_cycle peak"),
    ("one_cycle", {"peak": "0.1"}, "one_cycle peak"),
    ("one_cycle", {"start": -0.1}, "one_cycle start"),
    ("one_cycle", {"floor": -0.1}, "one_cycle floor"),
    ("one_cycle", {"steps": -5}, "one_cycle steps"),
    ("one_cycle", {"warmup_steps": 25}, "one_cycle warmup_steps: expected fewer than steps=20"),
]


@pytest.mark.parametrize(("name", "numbers", "message"), OUT_OF_RANGE)
def test_a_number_out_of_range_raises(name, numbers, message):
    with pytest.raises(ConfigError, match=message):
        MAKERS[name](**(NUMBERS[name] | {"steps": 20} if name != "constant" else {}) | numbers)


def test_a_negative_rate_raises_with_the_name_of_the_optimizer():
    with pytest.raises(ConfigError, match="sgd rate: expected a number in"):
        as_schedule("sgd", -0.1)
