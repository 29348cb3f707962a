"""All schedules against closed forms in NumPy, and properties of each."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.optim.schedules.base import as_schedule, power
from fnn.types import Schedule

float64 = pytest.mark.usefixtures("x64")
T = np.arange(60)


def rates(schedule, steps=T):
    return jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32))


def triangle(t, half):
    cycle = t // (2 * half)
    return cycle, 1 - np.abs(t / half - 2 * cycle - 1)


def restarts(t, steps, growth):
    """The number of the cycle of each step, and the progress in it, by counting."""
    begin, length, cycle, rows = 0.0, steps, 0, []
    for now in t:
        while now >= begin + length - 1e-9:
            begin, length, cycle = begin + length, length * growth, cycle + 1
        rows.append((cycle, (now - begin) / length))
    return np.array(rows).T


def falling(progress):
    return (1 + np.cos(np.pi * progress)) / 2


def sgdr(peak, steps, growth, factor, floor):
    cycle, progress = restarts(T, steps, growth)
    return floor + (peak - floor) * factor**cycle * falling(progress)


def wsd(shape):
    share = np.clip((T - 40) / 15, 0, 1)
    down = {"linear": 1 - share, "cosine": falling(share), "rsqrt": 1 - np.sqrt(share)}[shape]
    return np.where(T < 10, 0.3 * T / 10, 0.03 + (0.3 - 0.03) * down)


LEFT = 1 - np.minimum(T, 40) / 40
CASES = {
    "step_decay": (optim.step_decay(0.3, steps=7, factor=0.5), 0.3 * 0.5 ** (T // 7)),
    "exponential_decay": (optim.exponential_decay(0.3, steps=7, factor=0.5), 0.3 * 0.5 ** (T / 7)),
    "decay to nothing": (optim.step_decay(0.3, steps=7, factor=0.0), np.where(T < 7, 0.3, 0)),
    "inverse_time_decay": (
        optim.inverse_time_decay(0.3, steps=7, rate=0.5),
        0.3 / (1 + 0.5 * T / 7),
    ),
    "rsqrt": (
        optim.rsqrt(0.3, warmup_steps=9),
        0.3 * np.minimum(T / 9, np.sqrt(9 / np.maximum(T, 1))),
    ),
    "polynomial": (optim.polynomial(0.3, steps=40, exponent=1.7, floor=0.1), 0.1 + 0.2 * LEFT**1.7),
    "linear": (optim.linear(0.3, steps=40, floor=0.1), 0.1 + 0.2 * LEFT),
    "swa_schedule": (
        optim.swa_schedule(0.3, start=40, floor=0.1),
        0.3 - 0.2 * np.clip((T / 40 - 0.5) / 0.4, 0, 1),
    ),
    "piecewise": (
        optim.piecewise([0.3, 0.1, 0.2], boundaries=[5, 20]),
        np.select([T < 5, T < 20], [0.3, 0.1], 0.2),
    ),
    "cosine_restarts": (
        optim.cosine_restarts(0.3, steps=7, factor=0.8, floor=0.1),
        sgdr(0.3, 7, 1, 0.8, 0.1),
    ),
    "that grow": (
        optim.cosine_restarts(0.3, steps=5, growth=2, factor=0.8),
        sgdr(0.3, 5, 2, 0.8, 0),
    ),
    "by a tenth": (optim.cosine_restarts(0.3, steps=10, growth=1.1), sgdr(0.3, 10, 1.1, 1, 0)),
    "triangular": (optim.cyclic(0.3, steps=8, floor=0.1), 0.1 + 0.2 * triangle(T, 8)[1]),
    "triangular2": (
        optim.cyclic(0.3, steps=8, floor=0.1, shape="triangular2"),
        0.1 + 0.2 * triangle(T, 8)[1] * 0.5 ** triangle(T, 8)[0],
    ),
    "exp_range": (
        optim.cyclic(0.3, steps=8, floor=0.1, shape="exp_range", factor=0.99),
        0.1 + 0.2 * triangle(T, 8)[1] * 0.99**T,
    ),
    "warmup": (
        optim.warmup(optim.step_decay(0.3, steps=7, factor=0.5), warmup_steps=10, start=0.1),
        np.where(T < 10, 0.1 + 0.2 * T / 10, 0.3 * 0.5 ** ((T - 10) // 7.0)),
    ),
    "warmup of a number": (optim.warmup(0.3, warmup_steps=10), 0.3 * np.minimum(T / 10, 1)),
    "no warmup": (optim.warmup(0.3, warmup_steps=0), np.full(60, 0.3)),
    "wsd linear": (
        optim.wsd(0.3, steps=55, warmup_steps=10, decay_steps=15, floor=0.03),
        wsd("linear"),
    ),
    "wsd cosine": (
        optim.wsd(0.3, steps=55, warmup_steps=10, decay_steps=15, floor=0.03, shape="cosine"),
        wsd("cosine"),
    ),
    "wsd rsqrt": (
        optim.wsd(0.3, steps=55, warmup_steps=10, decay_steps=15, floor=0.03, shape="rsqrt"),
        wsd("rsqrt"),
    ),
    "join": (
        optim.join(
            [0.1, optim.linear(0.3, steps=10), lambda step: 0.01 * step], boundaries=[5, 20]
        ),
        np.select([T < 5, T < 20], [0.1, 0.3 * np.maximum(1 - (T - 5) / 10, 0)], 0.01 * (T - 20)),
    ),
    "table": (
        optim.table(jnp.array([0.3, 0.1, 0.2])),
        np.select([T == 0, T == 1], [0.3, 0.1], 0.2),
    ),
}


@float64
@pytest.mark.parametrize("name", CASES)
def test_rates_have_their_closed_form(name):
    schedule, wanted = CASES[name]
    np.testing.assert_allclose(
        rates(schedule), wanted, rtol=1e-13 if name != "table" else 1e-7, atol=1e-15
    )


@pytest.mark.parametrize("name", CASES)
def test_rates_in_float32_are_accurate_and_finite_at_any_step(name):
    """Rounding moves no beginning of a cycle, and rates far beyond the end are finite."""
    schedule, wanted = CASES[name]
    np.testing.assert_allclose(rates(schedule), wanted, rtol=2e-4, atol=1e-6)
    chex.assert_tree_all_finite(rates(schedule, [10**6, 2**31 - 1]))


@pytest.mark.parametrize(
    ("steps", "growth"), [(3, 1.0), (7, 1.0), (10, 1.1), (9, 1.3), (10, 1.5), (7, 2.0), (4, 3.0)]
)
def test_the_first_step_of_a_cycle_has_its_peak(steps, growth):
    lengths = steps * growth ** np.arange(12)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    whole = begins[np.abs(begins - begins.round()) < 1e-9]
    path = rates(optim.cosine_restarts(0.3, steps=steps, growth=growth), whole.round())
    np.testing.assert_allclose(path, 0.3, rtol=1e-5)


LAST = 2**31 - 1


def sampled_steps(begins):
    """Steps up to 2³¹, and the first and last step of each cycle or phase."""
    draw = np.random.default_rng(0)
    steps = [*draw.integers(0, LAST, 200), *draw.integers(0, 2**24, 200), 974847, LAST]
    for begin in begins:
        steps += [begin - 1, begin]
    return [int(step) for step in steps if 0 <= step <= LAST]


def restart_begins(first, growth):
    begins = [0]
    length = first
    while begins[-1] <= LAST and len(begins) < 40:
        begins.append(begins[-1] + length)
        length *= growth
    # Cycles of equal length are sampled, up to the last one.
    return begins if growth > 1 else [first * (LAST // first - 10007 * i) for i in range(40)]


@pytest.mark.parametrize(
    ("first", "growth"), [(7, 1), (5000, 1), (1000, 2), (7, 3), (1, 2), (10, 5)]
)
def test_restarts_follow_integer_arithmetic_up_to_the_last_step(first, growth):
    def wanted(step):
        begin, length = 0, first
        if growth == 1:
            begin = step // first * first
        while growth > 1 and begin + length <= step:
            begin += length
            length *= growth
        return (1 + np.cos(np.pi * ((step - begin) / length))) / 2

    steps = sampled_steps(restart_begins(first, growth))
    got = rates(optim.cosine_restarts(1.0, steps=first, growth=growth), steps)
    np.testing.assert_allclose(got, [wanted(step) for step in steps], atol=1e-6)


def wave(step, half=7):
    return 1 - abs(step % (2 * half) / half - 1)


def last_decay(step):
    return min(1, max(0, (2**30 - step) / 1024))


LATE = 2**24 - 1  # from here on a float32 does not count every step
LONG = {
    "cyclic": (optim.cyclic(1.0, steps=7), wave, ()),
    "cyclic of halves": (optim.cyclic(1.0, steps=2.5), lambda step: wave(step, 2.5), ()),
    "step_decay": (
        optim.step_decay(1.0, steps=1_000_003, factor=0.99),
        lambda step: 0.99 ** (step // 1_000_003),
        [1_000_003 * i for i in range(1, 2000, 97)],
    ),
    "piecewise": (
        optim.piecewise([0.0, 1.0], boundaries=[LATE]),
        lambda step: float(step >= LATE),
        [LATE, LATE + 1, LATE + 2],
    ),
    "wsd": (
        optim.wsd(1.0, steps=2.0**30, decay_steps=1024),
        last_decay,
        [2**30 - 1024, 2**30 - 511, 2**30 - 3, 2**30],
    ),
    "warmup": (
        optim.warmup(optim.cyclic(1.0, steps=7), warmup_steps=1001),
        lambda step: 0.0 if step < 1001 else wave(step - 1001),
        (),
    ),
    "join": (
        optim.join([0.5, optim.cyclic(1.0, steps=7)], boundaries=[LATE]),
        lambda step: 0.5 if step < LATE else wave(step - LATE),
        [LATE, LATE + 1, LATE + 2],
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_schedules_count_every_step_up_to_the_last_one(name):
    schedule, wanted, begins = LONG[name]
    steps = sampled_steps(begins)
    np.testing.assert_allclose(
        rates(schedule, steps), [wanted(step) for step in steps], rtol=2e-4, atol=1e-6
    )


@pytest.mark.parametrize("growth", [1.0, 2.0, 2.5])
def test_slopes_by_the_length_of_cycles_are_those_of_the_formula(growth):
    def rate(steps):
        return optim.cosine_restarts(1.0, steps=steps, growth=growth)(jnp.int32(25))

    bump = 1e-2
    wanted = (rate(7.0 + bump) - rate(7.0 - bump)) / (2 * bump)
    np.testing.assert_allclose(jax.jit(jax.grad(rate))(7.0), wanted, rtol=1e-2)


@float64
def test_the_gradient_reaches_every_rate_of_a_table():
    def total(table):
        return rates(optim.table(table), range(5)) @ jnp.arange(1.0, 6.0)

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(jnp.ones(4)), [1.0, 2.0, 3.0, 9.0])


@float64
def test_power_is_exact_and_has_finite_derivatives_at_zero():
    x = np.array([0.3, 1.0, 2.0])
    np.testing.assert_allclose(power(jnp.array(x), jnp.array(1.7)), x**1.7, rtol=1e-14)
    at_zero = [power(jnp.array(0.0), jnp.array(exponent)) for exponent in (0.0, 0.5, 2.0)]
    np.testing.assert_array_equal(at_zero, [1.0, 0.0, 0.0])
    chex.assert_tree_all_finite(
        jax.jit(jax.jacfwd(lambda pair: power(*pair)))((jnp.array(0.0), jnp.array(0.5)))
    )


# The field `steps` of a schedule: the step after which it no longer changes.

STEP_DECAY = optim.step_decay(0.3, steps=7, factor=0.5)
ENDS = {
    "cosine": (optim.cosine(0.3, steps=20, warmup_steps=5), 20),
    "one_cycle": (optim.one_cycle(0.3, steps=20), 20),
    "linear": (optim.linear(0.3, steps=40, floor=0.1), 40),
    "polynomial": (optim.polynomial(0.3, steps=40, exponent=1.7), 40),
    "wsd": (optim.wsd(0.3, steps=55, warmup_steps=10, decay_steps=15), 55),
    "piecewise": (optim.piecewise([0.3, 0.1, 0.2], boundaries=[5, 20]), 20),
    "table": (optim.table(jnp.array([0.3, 0.1, 0.2])), 2),
    "warmup of a number": (optim.warmup(0.3, warmup_steps=10), 10),
    "warmup of cosine": (optim.warmup(optim.cosine(0.3, steps=20), warmup_steps=10), 30),
    "warmup of one_cycle": (optim.warmup(optim.one_cycle(0.3, steps=20), warmup_steps=5), 25),
    "join of numbers": (optim.join([0.1, 0.2, 0.3], boundaries=[5, 20]), 20),
    "join that ends in a schedule": (
        optim.join([0.1, optim.linear(0.3, steps=10)], boundaries=[5]),
        15,
    ),
    "join that begins without end": (
        optim.join([STEP_DECAY, lambda step: 0.01 * step, 0.3], boundaries=[5, 20]),
        20,
    ),
    "join of warmups": (
        optim.join(
            [0.1, optim.warmup(optim.cosine(0.3, steps=20), warmup_steps=4)], boundaries=[6]
        ),
        30,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_steps_is_the_step_after_which_the_rate_is_constant(name):
    schedule, steps = ENDS[name]
    assert isinstance(schedule, Schedule) and schedule.steps == steps
    before, *after = rates(schedule, [steps - 1, steps, steps + 1, steps + 100, 10**6]).tolist()
    assert len({*after}) == 1 and before not in after


def test_constant_schedules_have_zero_steps():
    for schedule in (
        optim.constant(0.3),
        optim.piecewise([0.3], boundaries=[]),
        optim.table(jnp.array([0.3])),
    ):
        assert schedule.steps == 0 and len({*rates(schedule, [0, 1, 10**6]).tolist()}) == 1
    assert as_schedule("sgd", 0.3).steps == optim.join([0.3], boundaries=[]).steps == 0


def tenth(step):
    return 0.1 * jnp.asarray(step, float)


ENDLESS = {
    "step_decay": STEP_DECAY,
    "exponential_decay": optim.exponential_decay(0.3, steps=7, factor=0.5),
    "inverse_time_decay": optim.inverse_time_decay(0.3, steps=7, rate=0.5),
    "rsqrt": optim.rsqrt(0.3, warmup_steps=9),
    "cosine_restarts": optim.cosine_restarts(0.3, steps=7),
    "cyclic": optim.cyclic(0.3, steps=8),
    "a function": as_schedule("sgd", tenth),
    "warmup of restarts": optim.warmup(optim.cosine_restarts(0.3, steps=7), warmup_steps=5),
    "join that ends in a function": optim.join(
        [0.1, optim.linear(0.3, steps=10), tenth], boundaries=[5, 20]
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_schedule_without_end_has_steps_none(name):
    assert isinstance(ENDLESS[name], Schedule) and ENDLESS[name].steps is None
    assert len({*rates(ENDLESS[name], range(30, 60)).tolist()}) > 1


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_steps_of_any_type_add_up(dtype):
    for warmup_steps, steps in (
        (np.array(5, dtype), 20.5),
        (5.5, jnp.array(20, dtype)),
        (jnp.float32(5), jnp.int32(20)),
    ):
        after = optim.cosine(0.3, steps=steps)
        both = (
            optim.warmup(after, warmup_steps=warmup_steps),
            optim.join([0.1, after], boundaries=[warmup_steps]),
        )
        assert [schedule.steps for schedule in both] == [float(warmup_steps) + float(steps)] * 2


def test_steps_may_be_traced():
    """The steps of one schedule are traced then; the sum of several is None."""
    np.testing.assert_array_equal(jax.jit(lambda schedule: schedule.steps)(ENDS["cosine"][0]), 20)
    np.testing.assert_array_equal(
        jax.vmap(lambda n: optim.linear(0.3, steps=n).steps)(jnp.array([3.0, 4.0])), [3, 4]
    )
    assert jax.jit(lambda schedule: schedule.steps)(ENDS["warmup of cosine"][0]) is None


@float64
@pytest.mark.parametrize("name", ["cosine", "one_cycle", "warmup of cosine", "join of numbers"])
def test_gradient_by_the_leaves_of_a_schedule_equals_finite_differences(name):
    schedule = ENDS[name][0]
    leaves, structure = jax.tree.flatten(schedule)
    t, h = jnp.array([1, 3, 7, 12, 17]), 1e-6
    slope = jax.jit(jax.jacrev(lambda schedule: jax.vmap(schedule)(t)))(schedule)

    def moved(i, by):
        """The rates with leaf i moved by a small number."""
        changed = [*leaves[:i], leaves[i] + by, *leaves[i + 1 :]]
        return jax.vmap(structure.unflatten(changed))(t)

    for i, leaf_slope in enumerate(jax.tree.leaves(slope)):
        wanted = (moved(i, h) - moved(i, -h)) / (2 * h)
        np.testing.assert_allclose(leaf_slope, wanted, rtol=1e-6, atol=1e-9)


def test_schedules_of_the_same_call_are_equal():
    made = (
        optim.one_cycle(0.3, steps=20),
        optim.one_cycle(0.3, steps=20.0),
        optim.one_cycle(0.3, steps=21),
    )
    assert made[0] == made[1] != made[2] and len({*made}) == 2
    assert repr(made[0]) == "optim.one_cycle(0.3, steps=20)"
    assert made[0].replace(steps=21) == made[2]


INVALID = [
    (
        lambda: optim.step_decay(-0.1, steps=5, factor=0.5),
        ConfigError,
        r"step_decay start: expected a number in \[0",
    ),
    (lambda: optim.step_decay(0.1, steps=0, factor=0.5), ConfigError, "step_decay steps: expected"),
    (
        lambda: optim.exponential_decay(0.1, steps=5, factor=1.5),
        ConfigError,
        "exponential_decay factor: expected",
    ),
    (
        lambda: optim.inverse_time_decay(0.1, steps=5, rate=-1),
        ConfigError,
        "inverse_time_decay rate: expected",
    ),
    (lambda: optim.rsqrt(0.1, warmup_steps=0), ConfigError, "rsqrt warmup_steps: expected"),
    (
        lambda: optim.polynomial(0.1, steps=5, exponent=0),
        ConfigError,
        "polynomial exponent: expected",
    ),
    (lambda: optim.linear(0.1, steps=-5), ConfigError, "linear steps: expected"),
    (
        lambda: optim.swa_schedule(0.1, start=9, floor=0.0, decay_start=0.9, decay_end=0.5),
        ConfigError,
        "swa_schedule decay_end: expected at least decay_start=0.9, got 0.5",
    ),
    (
        lambda: optim.piecewise([0.1], boundaries=[5]),
        ConfigError,
        "piecewise rates: expected one more than the 1",
    ),
    (
        lambda: optim.piecewise([0.1, -0.2], boundaries=[5]),
        ConfigError,
        "piecewise rates 1: expected",
    ),
    (
        lambda: optim.piecewise([1, 2, 3], boundaries=[5, 5]),
        ConfigError,
        "piecewise boundaries: expected steps that",
    ),
    (
        lambda: optim.cosine_restarts(0.1, steps=5, growth=0.5),
        ConfigError,
        "cosine_restarts growth: expected",
    ),
    (
        lambda: optim.cyclic(0.1, steps=5, shape="square"),
        ConfigError,
        "cyclic shape: expected one of triangular",
    ),
    (
        lambda: optim.warmup("fast", warmup_steps=5),
        ConfigError,
        "warmup schedule rate: expected one number",
    ),
    (lambda: optim.warmup(0.1, warmup_steps=-5), ConfigError, "warmup warmup_steps: expected"),
    (
        lambda: optim.wsd(0.1, steps=5, warmup_steps=9, decay_steps=1),
        ConfigError,
        "wsd warmup_steps: expected fewer",
    ),
    (
        lambda: optim.wsd(0.1, steps=9, warmup_steps=5, decay_steps=5),
        ConfigError,
        "decay_steps: expected at most .* 4",
    ),
    (
        lambda: optim.join([0.1, 0.2], boundaries=[]),
        ConfigError,
        "join schedules: expected one more than the 0",
    ),
    (
        lambda: optim.join([0.1, None], boundaries=[3]),
        ConfigError,
        "join schedules 1 rate: expected one number",
    ),
    (lambda: optim.table([0.1, 0.2]), DTypeError, "table rates: expected an array"),
    (lambda: optim.table(jnp.ones((2, 2))), ShapeError, "table rates: expected one axis"),
    (
        lambda: optim.table(jnp.array([0.1, -0.2])),
        ConfigError,
        "table rates: expected rates >= 0, got -0.2",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), INVALID, ids=[message for *_, message in INVALID]
)
def test_invalid_arguments_raise(call, error, message):
    with pytest.raises(error, match=message):
        call()
