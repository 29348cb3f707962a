"""Schedules are those of optax and, where they are defined alike, of torch."""

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
    return jax.vmap(
        optim.one_cycle(peak, steps=steps, warmup_steps=warmup, start=start, floor=floor)
    )(T)


def expect_close(got, wanted, peak):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * peak)


def test_cosine_is_that_of_optax(peer):
    for peak, steps, _, share in configurations():
        with peer():
            wanted = optax.cosine_decay_schedule(peak, steps, alpha=share)(jnp.array(FLOATS))
        expect_close(cosine(peak, float(steps), 0.0, share * peak), wanted, peak)


def test_cosine_after_a_warmup_is_that_of_optax(peer):
    for peak, steps, warmup, share in configurations():
        with peer():
            wanted = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, share * peak)(
                jnp.array(FLOATS)
            )
        expect_close(cosine(peak, float(steps), float(warmup), share * peak), wanted, peak)


def test_one_cycle_is_that_of_optax(peer):
    """Optax rounds the end of the warm-up down to a whole step."""
    for peak, steps, warmup, share in configurations():
        turn, start = int((warmup / steps) * steps), peak * (share + 0.01)
        with peer():
            theirs = optax.cosine_onecycle_schedule(
                steps, peak, warmup / steps, 1 / (share + 0.01), 1e3
            )
            wanted = jax.vmap(theirs)(FLOATS)
        expect_close(one_cycle(peak, float(steps), float(turn), start, start / 1e3), wanted, peak)


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


def test_cosine_is_that_of_torch_until_it_ends():
    """Torch's goes up again after the last step, ours stays at the floor."""
    for peak, steps, _, share in configurations():

        def make(optimizer, peak=peak, steps=steps, share=share):
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["initial_lr"] = peak
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, share * peak)

        got = cosine(peak, float(steps), 0.0, share * peak)
        expect_close(got[: steps + 1], follow_torch(make, steps + 1), peak)


def test_one_cycle_is_that_of_torch_of_one_step_more():
    """Torch reaches its floor at the last of its steps, ours at the step after the last, which is not taken.

    So torch's cycle of steps + 1 is ours of steps, and its warm-up ends at pct_start (steps + 1) - 1.
    """
    for peak, steps, warmup, share in configurations():
        warmup, start = max(warmup, 1), peak * (share + 0.01)

        def make(optimizer, peak=peak, steps=steps, warmup=warmup, share=share):
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                peak,
                total_steps=steps + 1,
                pct_start=(warmup + 1) / (steps + 1),
                cycle_momentum=False,
                div_factor=1 / (share + 0.01),
                final_div_factor=1e3,
            )

        got = one_cycle(peak, float(steps), float(warmup), start, start / 1e3)
        expect_close(got[: steps + 1], follow_torch(make, steps + 1), peak)


# Those of torch: name -> (fnn's rates by peak and numbers, torch's scheduler, how the numbers are drawn).
def whole(low, high):
    return lambda draw: float(draw.integers(low, high))


def share(low, high):
    return lambda draw: draw.uniform(low, high)


def cyclic(shape):
    def theirs(optimizer, peak, steps, floor, factor):
        return torch.optim.lr_scheduler.CyclicLR(
            optimizer,
            floor * peak,
            peak,
            int(steps),
            mode=shape,
            gamma=factor,
            cycle_momentum=False,
        )

    def ours(peak, steps, floor, factor):
        return optim.cyclic(peak, steps=steps, floor=floor * peak, shape=shape, factor=factor)

    return ours, theirs, {"steps": whole(1, 60), "floor": share(0, 0.5), "factor": share(0.98, 1)}


lr = torch.optim.lr_scheduler
TORCH = {
    "step_decay": (
        optim.step_decay,
        lambda optimizer, peak, steps, factor: lr.StepLR(optimizer, int(steps), factor),
        {"steps": whole(1, 60), "factor": share(0.1, 1)},
    ),
    "piecewise": (
        lambda peak, first, more, factor: optim.piecewise(
            [peak, peak * factor, peak * factor**2], boundaries=[first, first + more]
        ),
        lambda optimizer, peak, first, more, factor: lr.MultiStepLR(
            optimizer, [int(first), int(first + more)], factor
        ),
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
        lambda peak, steps, growth, floor: optim.cosine_restarts(
            peak, steps=steps, growth=growth, floor=floor * peak
        ),
        lambda optimizer, peak, steps, growth, floor: lr.CosineAnnealingWarmRestarts(
            optimizer, int(steps), int(growth), floor * peak
        ),
        {"steps": whole(1, 60), "growth": whole(1, 4), "floor": share(0, 0.5)},
    ),
    "triangular": cyclic("triangular"),
    "triangular2": cyclic("triangular2"),
    "exp_range": cyclic("exp_range"),
}


@pytest.mark.parametrize("name", TORCH)
def test_rates_are_those_of_torch(name):
    ours, theirs, numbers = TORCH[name]
    path = jax.jit(lambda peak, knobs: jax.vmap(ours(peak, **knobs))(T))
    for seed in range(200):
        draw = np.random.default_rng(seed)
        peak, knobs = (
            10 ** draw.uniform(-4, 0),
            {number: drawn(draw) for number, drawn in numbers.items()},
        )
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], peak)
        schedule, wanted = theirs(optimizer, peak, **knobs), []
        for _ in range(COUNT):
            wanted.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        expect_close(path(peak, knobs), np.array(wanted), peak)
