"""Schedules match optax and, where the definitions agree, torch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from fnn import optim

pytestmark = pytest.mark.usefixtures("x64")
CONFIGURATIONS = 50
COUNT = 260
T = jnp.arange(COUNT, dtype=jnp.int32)
FLOATS = np.arange(COUNT, dtype=np.float64)  # optax divides whole numbers in float32


def configurations():
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        steps = int(draw.integers(2, 200))
        yield 10 ** draw.uniform(-4, 0), steps, int(draw.integers(0, steps)), draw.uniform(0, 0.5)


@jax.jit
def cosine(peak, steps, warmup, floor):
    return jax.vmap(optim.cosine(peak, steps=steps, warmup_steps=warmup, floor=floor))(T)


@jax.jit
def one_cycle(peak, steps, warmup, start, floor):
    options = {"steps": steps, "warmup_steps": warmup, "start": start, "floor": floor}
    return jax.vmap(optim.one_cycle(peak, **options))(T)


def expect_close(got, wanted, peak):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * peak)


def test_cosine_matches_optax(peer):
    for peak, steps, _, share in configurations():
        with peer():
            wanted = optax.cosine_decay_schedule(peak, steps, alpha=share)(jnp.array(FLOATS))
        expect_close(cosine(peak, float(steps), 0.0, share * peak), wanted, peak)


def test_cosine_with_warmup_matches_optax(peer):
    for peak, steps, warmup, share in configurations():
        with peer():
            theirs = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, share * peak)
            wanted = theirs(jnp.array(FLOATS))
        expect_close(cosine(peak, float(steps), float(warmup), share * peak), wanted, peak)


def test_one_cycle_matches_optax(peer):
    """Optax rounds the end of the warm-up down to a whole step."""
    for peak, steps, warmup, share in configurations():
        rounded, start = int((warmup / steps) * steps), peak * (share + 0.01)
        divisors = (1 / (share + 0.01), 1e3)
        with peer():
            theirs = optax.cosine_onecycle_schedule(steps, peak, warmup / steps, *divisors)
            wanted = jax.vmap(theirs)(FLOATS)
        got = one_cycle(peak, float(steps), float(rounded), start, start / 1e3)
        expect_close(got, wanted, peak)


def test_one_cycle_has_the_defaults_of_optax(peer):
    for peak, steps, _, _ in configurations():
        with peer():
            wanted = jax.vmap(optax.cosine_onecycle_schedule(10 * steps, peak))(FLOATS)
        expect_close(jax.vmap(optim.one_cycle(peak, steps=10 * steps))(T), wanted, peak)


def follow_torch(make, count):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 1.0)
    schedule, rates = make(optimizer), []
    for step in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < count:
            schedule.step()
    return np.array(rates)


def test_cosine_matches_torch_until_its_end():
    """After the last step the rate of torch rises again, ours stays at the floor."""
    for peak, steps, _, share in configurations():

        def make(optimizer, peak=peak, steps=steps, share=share):
            optimizer.param_groups[0] |= {"lr": peak, "initial_lr": peak}
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, share * peak)

        got = cosine(peak, float(steps), 0.0, share * peak)
        expect_close(got[: steps + 1], follow_torch(make, steps + 1), peak)


def test_one_cycle_matches_torch_with_one_step_more():
    """Torch reaches the floor at its last step, fnn one step after the last.

    So a cycle of steps + 1 in torch is one of steps in fnn, and the warm-up of torch ends at step
    pct_start (steps + 1) - 1.
    """
    for peak, steps, warmup, share in configurations():
        warmup, start = max(warmup, 1), peak * (share + 0.01)

        def make(optimizer, peak=peak, steps=steps, warmup=warmup, share=share):
            length = {"total_steps": steps + 1, "pct_start": (warmup + 1) / (steps + 1)}
            divisors = {"div_factor": 1 / (share + 0.01), "final_div_factor": 1e3}
            options = {**length, **divisors, "cycle_momentum": False}
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, **options)

        got = one_cycle(peak, float(steps), float(warmup), start, start / 1e3)
        expect_close(got[: steps + 1], follow_torch(make, steps + 1), peak)


# Schedules of torch by name: fnn's schedule by peak and numbers, torch's scheduler, and functions
# that draw the numbers.
def whole(low, high):
    return lambda draw: float(draw.integers(low, high))


def share(low, high):
    return lambda draw: draw.uniform(low, high)


def cyclic(shape):
    def theirs(optimizer, peak, steps, floor, factor):
        options = {"mode": shape, "gamma": factor, "cycle_momentum": False}
        return lr.CyclicLR(optimizer, floor * peak, peak, int(steps), **options)

    def ours(peak, steps, floor, factor):
        return optim.cyclic(peak, steps=steps, floor=floor * peak, shape=shape, factor=factor)

    return ours, theirs, {"steps": whole(1, 60), "floor": share(0, 0.5), "factor": share(0.98, 1)}


def piecewise(peak, first, more, factor):
    values = [peak, peak * factor, peak * factor**2]
    return optim.piecewise(values, boundaries=[first, first + more])


def multi_step(optimizer, peak, first, more, factor):
    return lr.MultiStepLR(optimizer, [int(first), int(first + more)], factor)


def restarts(peak, steps, growth, floor):
    return optim.cosine_restarts(peak, steps=steps, growth=growth, floor=floor * peak)


def warm_restarts(optimizer, peak, steps, growth, floor):
    return lr.CosineAnnealingWarmRestarts(optimizer, int(steps), int(growth), floor * peak)


lr = torch.optim.lr_scheduler
TORCH = {
    "step_decay": (
        optim.step_decay,
        lambda optimizer, peak, steps, factor: lr.StepLR(optimizer, int(steps), factor),
        {"steps": whole(1, 60), "factor": share(0.1, 1)},
    ),
    "piecewise": (
        piecewise,
        multi_step,
        {"first": whole(1, 90), "more": whole(1, 90), "factor": share(0.1, 1)},
    ),
    "exponential_decay": (
        lambda peak, factor: optim.exponential_decay(peak, steps=1, factor=factor),
        lambda optimizer, peak, factor: lr.ExponentialLR(optimizer, factor),
        {"factor": share(0.9, 1)},
    ),
    "polynomial": (
        optim.polynomial,
        lambda optimizer, peak, steps, exponent: lr.PolynomialLR(optimizer, int(steps), exponent),
        {"steps": whole(1, 200), "exponent": share(0.5, 3)},
    ),
    "linear": (
        lambda peak, steps, floor: optim.linear(peak, steps=steps, floor=floor * peak),
        lambda optimizer, peak, steps, floor: lr.LinearLR(optimizer, 1.0, floor, int(steps)),
        {"steps": whole(1, 200), "floor": share(0, 1)},
    ),
    "cosine_restarts": (
        restarts,
        warm_restarts,
        {"steps": whole(1, 60), "growth": whole(1, 4), "floor": share(0, 0.5)},
    ),
    "triangular": cyclic("triangular"),
    "triangular2": cyclic("triangular2"),
    "exp_range": cyclic("exp_range"),
}


@pytest.mark.parametrize("name", TORCH)
def test_rates_match_torch(name):
    ours, theirs, numbers = TORCH[name]
    path = jax.jit(lambda peak, knobs: jax.vmap(ours(peak, **knobs))(T))
    for seed in range(200):
        draw = np.random.default_rng(seed)
        peak = 10 ** draw.uniform(-4, 0)
        knobs = {number: draw_number(draw) for number, draw_number in numbers.items()}
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], peak)
        schedule, wanted = theirs(optimizer, peak, **knobs), []
        for _ in range(COUNT):
            wanted.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        expect_close(path(peak, knobs), np.array(wanted), peak)
