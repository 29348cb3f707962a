"""Transforms of optimizers match torch and optax, and combine with optimizers of optax."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from descents import GOALS, worst
from descents_transforms import NAMES

from fnn import nn, objective, optim, train

float64 = pytest.mark.usefixtures("x64")
CONFIGURATIONS = 200


@float64
@pytest.mark.parametrize("dtype", GOALS)
@pytest.mark.parametrize("name", NAMES)
def test_steps_match_the_peer(name, dtype):
    assert worst(name, dtype) <= GOALS[dtype]


def problem(steps, seed=0):
    draw = np.random.default_rng(seed)
    shapes = {"bias": (3,), "kernel": (2, 2, 4, 3)}
    params = {name: jnp.asarray(draw.normal(size=shape)) for name, shape in shapes.items()}
    grads = {}
    for name, shape in shapes.items():
        grads[name] = jnp.asarray(draw.normal(size=(steps, *shape)))
    return params, grads


def follow(optimizer, params, grads):
    """The params after every step, and the optimizer's last state."""

    @jax.jit
    def whole(params, grads):
        def one(carry, grads):
            updates, opt_state = optimizer.update(grads, carry[1], carry[0])
            params = jax.tree.map(jnp.add, carry[0], updates)
            return (params, opt_state), params

        (_, opt_state), path = jax.lax.scan(one, (params, optimizer.init(params)), grads)
        return path, opt_state

    return whole(params, grads)


@float64
def test_convolutions_are_clipped_and_centered_per_unit(peer):
    """optax centers along the first axis, so the last axis of its kernels is moved there."""
    params, grads = problem(20)
    got, _ = follow(optim.adaptive_clip(optim.sgd(0.1), 0.05), params, grads)
    with peer():
        clipped = optax.chain(optax.adaptive_grad_clip(0.05), optax.sgd(0.1))
        wanted, _ = follow(clipped, params, grads)
    chex.assert_trees_all_close(got, wanted, rtol=1e-13)
    got, _ = follow(optim.centralize(optim.sgd(0.1)), params, grads)

    def units_first(leaf):
        return jnp.moveaxis(leaf, -1, leaf.ndim - 4) if leaf.ndim > 3 else leaf

    all_units_first = partial(jax.tree.map, units_first)
    with peer():
        centered = optax.chain(optax.centralize(), optax.sgd(0.1))
        wanted, _ = follow(centered, all_units_first(params), all_units_first(grads))
    chex.assert_trees_all_close(all_units_first(got), wanted, rtol=1e-12)


@float64
@pytest.mark.parametrize(("steps", "share"), [(5, 0.5), (3, 0.8), (1, 0.3)])
def test_lookahead_matches_optax(steps, share, peer):
    params, grads = problem(300)
    ours = optim.lookahead(optim.adam(0.1), steps=steps, share=share)
    got, opt_state = follow(ours, params, grads)
    theirs = optax.lookahead(optax.adam(0.1), steps, share)

    def one(carry, grads):
        updates, opt_state = theirs.update(grads, carry[1], carry[0])
        params = optax.apply_updates(carry[0], updates)
        return (params, opt_state), params.fast

    with peer():
        both = optax.LookaheadParams.init_synced(params)
        (last, _), wanted = jax.jit(lambda: jax.lax.scan(one, (both, theirs.init(both)), grads))()
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-12)
    chex.assert_trees_all_close(opt_state.slow, last.slow, rtol=1e-12, atol=1e-12)


@float64
def test_skipped_steps_match_optax(peer):
    params, grads = problem(300)
    is_nan = jax.random.bernoulli(jax.random.key(0), 0.3, (300, 1))
    grads["bias"] = jnp.where(is_nan, jnp.nan, grads["bias"])
    got, ours = follow(optim.skip_nonfinite(optim.adam(0.1)), params, grads)
    with peer():
        wanted, theirs = follow(optax.apply_if_finite(optax.adam(0.1), 1000), params, grads)
    chex.assert_trees_all_close(got, wanted, rtol=1e-13, atol=1e-14)
    assert (ours.skipped, ours.in_a_row) == (theirs.total_notfinite, theirs.notfinite_count)
    assert 50 < ours.skipped < 150


@float64
def test_averages_match_torch():
    params, grads = problem(300)
    got, opt_state = follow(optim.ema(optim.sgd(0.1), 0.95, debias=False), params, grads)
    tensors = {name: torch.tensor(np.asarray(leaf)) for name, leaf in params.items()}
    net = torch.nn.ParameterDict(tensors)
    swa = torch.optim.swa_utils
    average = swa.AveragedModel(net, multi_avg_fn=swa.get_ema_multi_avg_fn(0.95))
    average.update_parameters(net)
    for step in range(300):
        with torch.no_grad():
            for name, leaf in net.items():
                leaf.copy_(torch.tensor(np.asarray(got[name][step])))
        average.update_parameters(net)
    mean = optim.averaged_params(opt_state, {name: leaf[-1] for name, leaf in got.items()})
    for name, leaf in average.module.items():
        np.testing.assert_allclose(mean[name], leaf.detach().numpy(), rtol=1e-12, atol=1e-13)


@float64
def test_rates_on_a_plateau_match_torch():
    epochs = 100

    @jax.jit
    @jax.vmap
    def ours(knobs, losses):
        opt_state = optim.plateau(optim.sgd(1.0), **knobs).init(jnp.ones(1))

        def one(opt_state, loss):
            opt_state = optim.observe_loss(opt_state, loss)
            return opt_state, opt_state.share

        return jax.lax.scan(one, opt_state, losses)[1]

    rows, curves, wanted = [], [], []
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        knobs = {
            "factor": draw.uniform(0.1, 0.95),
            "patience": int(draw.integers(0, 6)),
            "threshold": 10 ** draw.uniform(-4, -0.5),
            "cooldown": int(draw.integers(0, 4)),
        }
        floor = 10 ** draw.uniform(-4, -1)
        losses = np.exp(-np.arange(epochs) / draw.uniform(3, 30)) + 0.3 + 0.1 * draw.random(epochs)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0)
        options = {**knobs, "min_lr": floor, "eps": 0}
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        rates = []
        for loss in losses:
            plateau.step(loss)
            rates.append(optimizer.param_groups[0]["lr"])
        rows.append({name: float(knob) for name, knob in knobs.items()} | {"floor": floor})
        curves.append(losses)
        wanted.append(rates)
    got = ours(jax.tree.map(lambda *values: jnp.array(values), *rows), jnp.array(curves))
    np.testing.assert_allclose(got, wanted, rtol=1e-13)
    assert len(np.unique(wanted)) > CONFIGURATIONS


@pytest.mark.parametrize("seed", range(10))
def test_scales_and_steps_match_torchs_grad_scaler(seed):
    draw = np.random.default_rng(seed)
    knobs = {"growth": draw.choice([1.5, 2.0, 4.0]), "backoff": draw.choice([0.25, 0.5, 0.8])}
    steps, start, count = int(draw.integers(1, 9)), 2.0 ** draw.integers(0, 17), 300
    grads = np.float32(draw.normal(size=(count, 4)))
    grads[draw.random(count) < 0.1, 2] = np.inf

    optimizer = optim.loss_scale(optim.adam(0.01), start, steps=steps, **knobs)
    params = jnp.ones(4)

    def one(carry, g):
        params, opt_state = carry
        scaled = g * opt_state.scale
        updates, opt_state = optimizer.update(scaled, opt_state, params)
        return (params + updates, opt_state), (params + updates, opt_state.scale)

    @jax.jit
    def run():
        return jax.lax.scan(one, (params, optimizer.init(params)), jnp.array(grads))[1]

    got, scales = run()

    leaf = torch.nn.Parameter(torch.ones(4))
    theirs = torch.optim.Adam([leaf], 0.01)
    scaler = torch.amp.GradScaler("cpu", start, knobs["growth"], knobs["backoff"], steps)
    for step in range(count):
        leaf.grad = scaler.scale(torch.tensor(grads[step]))
        scaler.step(theirs)
        scaler.update()
        np.testing.assert_allclose(scales[step], scaler.get_scale(), rtol=2e-5)
        np.testing.assert_allclose(got[step], leaf.detach().numpy(), rtol=2e-5, atol=2e-5)


WITHIN = {
    "accumulate": lambda inner: optim.accumulate(inner, 2),
    "chain": lambda inner: optim.chain(optax.clip(1.0), inner, optax.scale(0.5)),
    "clip_by_global_norm": lambda inner: optim.clip_by_global_norm(inner, 0.5),
    "ema": partial(optim.ema, decay=0.9),
    "lookahead": optim.lookahead,
    "loss_scale": optim.loss_scale,
    "noise": partial(optim.noise, jax.random.key(1)),
    "partition": lambda inner: optim.partition({"*bias": None}, inner),
    "plateau": lambda inner: optim.plateau(inner, patience=0, threshold=0.5),
    "project": lambda inner: optim.project(inner, objective.max_norm(1.0)),
    "scale_by_depth": lambda inner: optim.scale_by_depth(inner, 0.5, paths=("body", "head")),
    "skip_nonfinite": optim.skip_nonfinite,
    "weight_decay": lambda inner: optim.weight_decay(inner, 0.1, decoupled=False),
}


@pytest.mark.parametrize("transform", WITHIN.values(), ids=WITHIN)
def test_optax_optimizer_trains_in_a_transform_of_fnn(transform, peer):
    draw = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int32) % 3
    data = np.float32(draw.normal(size=(64, 5)) + 2 * np.eye(3, 5)[labels]), labels
    network = nn.chain(body=nn.dense(8), bend=nn.tanh(), head=nn.dense(3))

    def run(inner):
        recipe = train.recipe(network, transform(inner), on_nonfinite="skip")
        return train.run(jax.random.key(0), recipe, data, epochs=3, batch_size=16, valid=data)

    ours = run(optim.adam(0.05))
    with peer():
        theirs = run(optax.adam(0.05))
    chex.assert_trees_all_close(theirs.history.valid_loss, ours.history.valid_loss, rtol=1e-4)
    got, wanted = theirs.train_state.params, ours.train_state.params
    chex.assert_trees_all_close(got, wanted, rtol=1e-3, atol=1e-4)
    assert ours.history.valid_loss[-1] < ours.history.valid_loss[0]
    assert jnp.isnan(theirs.history.rate).all()


# loss_scale must be the first of a chain.
LINKS = {name: transform for name, transform in WITHIN.items() if name != "loss_scale"}


@pytest.mark.parametrize("transform", LINKS.values(), ids=LINKS)
def test_transform_of_fnn_works_in_a_chain_of_optax(transform, peer):
    params, grads = ({"body": tree} for tree in problem(6))
    params["head"], grads["head"] = problem(6, 1)
    plain = transform(optim.adam(0.05))
    linked = optax.chain(optax.scale(2.0), plain, optax.scale(0.5))
    wanted, _ = follow(optim.chain(optax.scale(2.0), plain, optax.scale(0.5)), params, grads)
    with peer():
        got, _ = follow(linked, params, grads)
    chex.assert_trees_all_close(got, wanted, rtol=1e-6)
