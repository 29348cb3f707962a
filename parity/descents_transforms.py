"""Transforms of optimizers, compared with torch and optax."""

import jax.numpy as jnp
import optax
import torch
from descents import BETAS, DESCENTS, EPS, against_optax, against_torch, near_one, power

from fnn import optim

BEFORE = set(DESCENTS)
LIMIT, STRENGTH = {"limit": power(-2, 2)}, {"strength": power(-4, -0.5)}


def clipped(clip, make):
    """An optimizer of torch whose gradients are clipped in place before each step."""

    def make_clipped(params, rate, limit):
        optimizer = make(params, rate)
        optimizer.register_step_pre_hook(lambda *_: clip(params, limit) and None)
        return optimizer

    return make_clipped


def accumulated(optimizer):
    """optax's accumulation of three gradients, in the precision of the run."""
    dtype = jnp.result_type(float)
    return optax.MultiSteps(optimizer, 3, accumulator_dtype=dtype).gradient_transformation()


def adam_with_l2(rate, strength, **knobs):
    return optim.weight_decay(optim.adam(rate, **knobs), strength, decoupled=False)


def chain_in_transform(rate, limit, decay):
    chain = optax.chain(optax.trace(decay), optax.scale_by_learning_rate(rate))
    return optim.ema(optim.clip_by_global_norm(chain, limit))


def two_groups(rate):
    groups = {"few": optax.sgd(rate / 3), "many": optax.adam(rate)}
    return optax.partition(groups, {"bias": "few", "kernel": "many"})


against_torch(
    "clip_by_value",
    lambda rate, limit: optim.clip_by_value(optim.adam(rate), limit),
    clipped(torch.nn.utils.clip_grad_value_, torch.optim.Adam),
    **LIMIT,
)
against_torch(
    "clip_by_global_norm",
    lambda rate, limit: optim.clip_by_global_norm(optim.adam(rate), limit, eps=1e-6),
    clipped(torch.nn.utils.clip_grad_norm_, torch.optim.Adam),
    **LIMIT,
)
against_torch(
    "weight_decay in the gradient",
    adam_with_l2,
    lambda p, rate, strength, b1, b2, eps: torch.optim.Adam(p, rate, (b1, b2), eps, strength),
    **STRENGTH,
    **BETAS,
    **EPS,
)
against_optax(
    "weight_decay, optax",
    lambda rate, strength, **knobs: optim.weight_decay(optim.adam(rate, **knobs), strength),
    lambda rate, strength, **knobs: optax.adamw(rate, **knobs, weight_decay=strength),
    **STRENGTH,
    **BETAS,
    **EPS,
)
against_optax(
    "clip_by_value, optax",
    lambda rate, limit: optim.clip_by_value(optim.momentum(rate), limit),
    lambda rate, limit: optax.chain(optax.clip(limit), optax.sgd(rate, momentum=0.9)),
    **LIMIT,
)
against_optax(
    "clip_by_global_norm, optax",
    lambda rate, limit: optim.clip_by_global_norm(optim.momentum(rate), limit),
    lambda rate, limit: optax.chain(
        optax.clip_by_global_norm(limit), optax.sgd(rate, momentum=0.9)
    ),
    **LIMIT,
)
against_optax(
    "adaptive_clip, optax",
    lambda rate, limit, floor: optim.adaptive_clip(optim.sgd(rate), limit, floor=floor),
    lambda rate, limit, floor: optax.chain(optax.adaptive_grad_clip(limit, floor), optax.sgd(rate)),
    limit=power(-3, 0),
    floor=power(-4, 0.5),
)
against_optax(
    "centralize, optax",
    lambda rate: optim.centralize(optim.momentum(rate), axis=0),
    lambda rate: optax.chain(optax.centralize(), optax.sgd(rate, momentum=0.9)),
)
against_optax(
    "accumulate, optax",
    lambda rate: optim.accumulate(optim.adam(rate), 3),
    lambda rate: accumulated(optax.adam(rate)),
)
against_optax(
    "partition, optax",
    lambda rate: optim.partition({"bias": optim.sgd(rate / 3)}, optim.adam(rate)),
    two_groups,
)
against_optax(
    "a chain of optax in a transform of fnn",
    chain_in_transform,
    lambda rate, limit, decay: optax.chain(
        optax.clip_by_global_norm(limit), optax.sgd(rate, momentum=decay)
    ),
    **LIMIT,
    decay=near_one(-2.5, -0.05),
)
against_optax(
    "an optimizer of fnn in a chain of optax",
    lambda rate, limit: optim.clip_by_global_norm(optim.adam(rate), limit),
    lambda rate, limit: optax.chain(optax.clip_by_global_norm(limit), optim.adam(rate)),
    **LIMIT,
)

NAMES = sorted(set(DESCENTS) - BEFORE)
