"""Optimizers take the steps that torch's and optax's take, on the same gradients with the same numbers."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from fnn import nn, optim, train

CONFIGURATIONS, STEPS, SHAPE = 50, 20, (2, 3)
TOLERANCES = {"float64": 1e-13, "float32": 2e-5}

FNN = {
    "sgd": optim.sgd,
    "momentum": optim.momentum,
    "nesterov": partial(optim.momentum, nesterov=True),
    "rmsprop": optim.rmsprop,
    "adam": optim.adam,
    "adamw": optim.adamw,
}
TORCH = {
    "sgd": lambda params, rate: torch.optim.SGD(params, rate),
    "momentum": lambda params, rate, decay: torch.optim.SGD(params, rate, momentum=decay),
    "nesterov": lambda params, rate, decay: torch.optim.SGD(params, rate, momentum=decay, nesterov=True),
    "rmsprop": lambda params, rate, decay, eps: torch.optim.RMSprop(params, rate, alpha=decay, eps=eps),
    "adam": lambda params, rate, b1, b2, eps: torch.optim.Adam(params, rate, (b1, b2), eps),
    "adamw": lambda params, rate, b1, b2, eps, weight_decay: torch.optim.AdamW(
        params, rate, (b1, b2), eps, weight_decay
    ),
}
OPTAX = {
    "sgd": optax.sgd,
    "momentum": lambda rate, decay: optax.sgd(rate, momentum=decay),
    "nesterov": lambda rate, decay: optax.sgd(rate, momentum=decay, nesterov=True),
    "rmsprop": lambda rate, decay, eps: optax.rmsprop(rate, decay=decay, eps=eps, eps_in_sqrt=False),
    "adam": optax.adam,
    "adamw": optax.adamw,
}
KNOBS = {
    "sgd": (),
    "momentum": ("decay",),
    "nesterov": ("decay",),
    "rmsprop": ("decay", "eps"),
    "adam": ("b1", "b2", "eps"),
    "adamw": ("b1", "b2", "eps", "weight_decay"),
}
DRAWS = {
    "decay": lambda draw: 1 - 10 ** draw.uniform(-2.5, -0.05),
    "b1": lambda draw: 1 - 10 ** draw.uniform(-2.5, -0.05),
    "b2": lambda draw: 1 - 10 ** draw.uniform(-3.5, -0.5),
    "eps": lambda draw: 10 ** draw.uniform(-9, -1),
    "weight_decay": lambda draw: 10 ** draw.uniform(-4, -0.5),
}

every_optimizer = pytest.mark.parametrize("name", FNN)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCES)


def configurations(name):
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        knobs = {knob: DRAWS[knob](draw) for knob in KNOBS[name]}
        scale = 10 ** draw.uniform(-3, 3, size=SHAPE)
        yield 10 ** draw.uniform(-3, -0.5), knobs, draw.normal(size=SHAPE), scale * draw.normal(size=(STEPS, *SHAPE))


def follow(optimizer, params, grads):
    """The params after every step."""

    def one(carry, grads):
        params, opt_state = carry
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, opt_state), params

    return jax.lax.scan(one, (params, optimizer.init(params)), grads)[1]


def follow_torch(make, params, grads):
    param = torch.nn.Parameter(torch.tensor(params))
    optimizer, path = make([param]), []
    for grad in grads:
        param.grad = torch.tensor(grad)
        optimizer.step()
        path.append(param.detach().numpy().copy())
    return np.stack(path)


def expect_close(got, wanted, tolerance):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.usefixtures("x64")
@every_optimizer
@every_dtype
def test_steps_are_those_of_torch(name, dtype):
    ours = jax.jit(lambda rate, knobs, params, grads: follow(FNN[name](rate, **knobs), params, grads))
    for rate, knobs, *arrays in configurations(name):
        params, grads = (array.astype(dtype) for array in arrays)
        wanted = follow_torch(lambda params, rate=rate, knobs=knobs: TORCH[name](params, rate, **knobs), params, grads)
        expect_close(ours(rate, knobs, params, grads), wanted, TOLERANCES[dtype])


@pytest.mark.usefixtures("x64")
@every_optimizer
def test_steps_are_those_of_optax(name, peer):
    ours, theirs = (
        jax.jit(lambda rate, knobs, params, grads, make=make: follow(make(rate, **knobs), params, grads))
        for make in (FNN[name], OPTAX[name])
    )
    for rate, knobs, params, grads in configurations(name):
        with peer():
            wanted = theirs(rate, knobs, params, grads)
        expect_close(ours(rate, knobs, params, grads), wanted, 1e-13)


@pytest.mark.usefixtures("x64")
@every_optimizer
def test_an_optimizer_of_fnn_is_a_link_of_a_chain_of_optax(name, peer):
    for rate, knobs, params, grads in list(configurations(name))[:3]:
        ours, theirs = (
            optax.chain(optax.clip_by_global_norm(1.0), make(rate, **knobs), optax.scale(0.5))
            for make in (FNN[name], OPTAX[name])
        )
        with peer():
            expect_close(follow(ours, params, grads), follow(theirs, params, grads), 1e-12)


def blobs():
    draw = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int32) % 3
    return jnp.float32(draw.normal(size=(64, 5)) + 2 * np.eye(3, 5)[labels]), jnp.array(labels)


@every_optimizer
def test_an_optimizer_of_optax_trains_in_a_run_of_fnn(name, peer):
    network = nn.chain(nn.dense(8), nn.tanh(), nn.dense(3))
    knobs = {
        knob: {"decay": 0.9, "b1": 0.9, "b2": 0.99, "eps": 1e-3, "weight_decay": 0.01}[knob] for knob in KNOBS[name]
    }

    def run(make):
        return train.run(
            jax.random.key(0), network, make(0.01, **knobs), blobs(), epochs=3, batch_size=16, valid=blobs()
        )

    ours = run(FNN[name])
    with peer():
        theirs = run(OPTAX[name])
    assert ours.history.loss[-1] < ours.history.loss[0]
    chex.assert_trees_all_close(theirs.history.loss, ours.history.loss, rtol=1e-5)
    chex.assert_trees_all_close(theirs.history.valid_loss, ours.history.valid_loss, rtol=1e-5)
    chex.assert_trees_all_close(theirs.train_state.params, ours.train_state.params, rtol=1e-4, atol=1e-5)
