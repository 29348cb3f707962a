"""The checker passes what is right and finds every planted error, however small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, objective
from fnn.errors import DTypeError

pytestmark = pytest.mark.usefixtures("x64")
GOAL = 1e-9


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def check(function, *args):
    return diagnose.check_gradients(jax.random.key(0), function, *args)


@pytest.mark.parametrize("power", range(1, 7))
def test_differences_are_exact_for_polynomials_to_the_sixth_degree(power):
    assert check(lambda x: x**power, draw(5)).error < 1e-12


def test_every_leaf_is_named_and_integers_are_passed_by():
    network = nn.chain(nn.dense(3), nn.tanh(), head=nn.dense(2))
    params, state, _ = network.init(jax.random.key(1), (4,))
    checked = check(
        lambda params, x, labels: objective.cross_entropy(network.apply(params, state, x)[0], labels),
        params,
        draw(5, 4),
        jnp.array([0, 1, 1, 0, 1]),
    )
    assert set(checked.errors) == {"0/dense_0/bias", "0/dense_0/kernel", "0/head/bias", "0/head/kernel", "1"}
    assert checked.error <= GOAL and checked.worst in checked.errors


def test_a_gradient_that_is_zero_is_right():
    assert check(lambda x: 0 * x + 1, draw(3)).error == 0


def test_a_gradient_that_is_not_a_number_is_wrong():
    checked = check(lambda x: jnp.where(x > 10, jnp.sqrt(x - 10), x), draw(3))
    assert np.isnan(checked.error) and checked.worst == "0"


def test_a_kink_is_seen():
    assert check(jax.nn.relu, jnp.array([0.004, 1.0])).error > 1e-3
    assert check(jax.nn.relu, jnp.array([0.02, 1.0])).error < 1e-12


def test_half_precision_is_refused():
    with pytest.raises(DTypeError, match="check_gradients 0/kernel: expected float64, got float32; run under"):
        check(lambda params: params["kernel"], {"kernel": jnp.ones(3, jnp.float32)})


# Planted errors: a right function, and the pullback (dx, dkernel, dbias) -> the same, a little wrong.


def conv(x, kernel, bias):
    return nn.conv(3).apply({"kernel": kernel, "bias": bias}, {}, x)[0]


def norm(x, scale, bias):
    state = {"mean": jnp.zeros(2), "var": jnp.ones(2)}
    return nn.batch_norm().apply({"scale": scale, "bias": bias}, state, x, train=True)[0]


CONV = conv, (draw(2, 4, 5, 2), draw(3, 3, 2, 3, seed=1), draw(3, seed=2))
NORM = norm, (draw(4, 3, 2), draw(2, seed=1), draw(2, seed=2))


def off_by_one(dy, args):
    """The gradient by the image as if the padding were one pixel to the side."""
    _, pull = jax.vjp(conv, *args)
    dx, dkernel, dbias = pull(dy)
    return jnp.roll(dx, 1, 1), dkernel, dbias


def transposed(dy, args):
    """The gradient by the image through a kernel whose height and width are swapped."""
    x, kernel, bias = args
    return jax.vjp(conv, x, kernel.swapaxes(0, 1), bias)[1](dy)


def right(function):
    return lambda dy, args: jax.vjp(function, *args)[1](dy)


def after(change, function=conv):
    return lambda dy, args: change(*right(function)(dy, args))


def constant_mean(x, scale, bias):
    mean = jax.lax.stop_gradient(x.mean((0, 1), keepdims=True))
    var = jnp.square(x - mean).mean((0, 1), keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale[None, None] + bias[None, None]


def constant_variance(x, scale, bias):
    mean = x.mean((0, 1), keepdims=True)
    var = jax.lax.stop_gradient(jnp.square(x - mean).mean((0, 1), keepdims=True))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale[None, None] + bias[None, None]


MUTANTS = {
    "a factor of 1 + 1e-6": (CONV, after(lambda dx, dk, db: (dx * (1 + 1e-6), dk, db))),
    "1 % too much": (CONV, after(lambda dx, dk, db: (dx, dk * 1.01, db))),
    "twice too much": (CONV, after(lambda dx, dk, db: (dx, dk, 2 * db))),
    "one coordinate zero": (CONV, after(lambda dx, dk, db: (dx.at[1, 2, 3, 0].set(0), dk, db))),
    "one sign": (CONV, after(lambda dx, dk, db: (dx, dk.at[0, 1, 1, 2].multiply(-1), db))),
    "no gradient by the bias": (CONV, after(lambda dx, dk, db: (dx, dk, 0 * db))),
    "the kernel flipped": (CONV, after(lambda dx, dk, db: (dx, dk[::-1, ::-1], db))),
    "the kernel transposed": (CONV, transposed),
    "the padding off by one": (CONV, off_by_one),
    "the bias summed over images only": (CONV, lambda dy, args: (*right(conv)(dy, args)[:2], dy[:, 0, 0].sum(0))),
    "the mean over the batch forgotten": (NORM, after(lambda dx, ds, db: (dx, ds / 12, db / 12), norm)),
    "the batch mean held constant": (NORM, right(constant_mean)),
    "the batch variance held constant": (NORM, right(constant_variance)),
    "two channels exchanged": (NORM, after(lambda dx, ds, db: (dx, ds[::-1], db), norm)),
    "rounded to float32": (NORM, after(lambda dx, ds, db: (dx.astype(jnp.float32).astype(float), ds, db), norm)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_error_is_found(mutant):
    (function, args), pullback = MUTANTS[mutant]
    wrong = jax.custom_vjp(function)
    wrong.defvjp(lambda *args: (function(*args), args), lambda args, dy: pullback(dy, args))
    assert check(wrong, *args).error > GOAL
    assert check(function, *args).error <= GOAL
