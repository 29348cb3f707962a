"""Wrong gradients that the gradient check must find."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import diagnose, nn

GOAL = 1e-9


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def check(function, *args):
    return diagnose.check_gradients(jax.random.key(0), function, *args)


def error(mutant: str) -> float:
    """The error that the check reports for a correct function with a slightly wrong pullback."""
    (function, args), pullback = MUTANTS[mutant]
    wrong = jax.custom_vjp(function)
    wrong.defvjp(lambda *args: (function(*args), args), lambda args, dy: pullback(dy, args))
    return check(wrong, *args).error


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


def correct(function):
    return lambda dy, args: jax.vjp(function, *args)[1](dy)


def after(change, function=conv):
    return lambda dy, args: change(*correct(function)(dy, args))


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
    "the bias summed over images only": (
        CONV,
        lambda dy, args: (*correct(conv)(dy, args)[:2], dy[:, 0, 0].sum(0)),
    ),
    "the mean over the batch omitted": (
        NORM,
        after(lambda dx, ds, db: (dx, ds / 12, db / 12), norm),
    ),
    "the batch mean held constant": (NORM, correct(constant_mean)),
    "the batch variance held constant": (NORM, correct(constant_variance)),
    "two channels exchanged": (NORM, after(lambda dx, ds, db: (dx, ds[::-1], db), norm)),
    "rounded to float32": (
        NORM,
        after(lambda dx, ds, db: (dx.astype(jnp.float32).astype(float), ds, db), norm),
    ),
}
