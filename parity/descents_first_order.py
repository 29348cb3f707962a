"""First-order optimizers, compared with torch and optax."""

from functools import partial

import optax
import torch
from descents import BETAS, DESCENTS, EPS, against_optax, against_torch, near_one, power

from fnn import optim

BEFORE = set(DESCENTS)

DECAY = {"decay": near_one(-2.5, -0.05)}
MOMENTUM = {"momentum": near_one(-2.5, -0.05)}

against_torch("sgd", optim.sgd, torch.optim.SGD)
against_torch(
    "momentum",
    optim.momentum,
    lambda p, rate, momentum: torch.optim.SGD(p, rate, momentum=momentum),
    **MOMENTUM,
)
against_torch(
    "nesterov",
    partial(optim.momentum, nesterov=True),
    lambda p, rate, momentum: torch.optim.SGD(p, rate, momentum=momentum, nesterov=True),
    **MOMENTUM,
)
against_torch(
    "rmsprop",
    optim.rmsprop,
    lambda p, rate, decay, eps: torch.optim.RMSprop(p, rate, decay, eps),
    **DECAY,
    **EPS,
)
against_torch(
    "adam",
    optim.adam,
    lambda p, rate, b1, b2, eps: torch.optim.Adam(p, rate, (b1, b2), eps),
    **BETAS,
    **EPS,
)
against_torch(
    "adamw",
    optim.adamw,
    lambda p, rate, b1, b2, eps, weight_decay: torch.optim.AdamW(
        p, rate, (b1, b2), eps, weight_decay
    ),
    **BETAS,
    **EPS,
    weight_decay=power(-4, -0.5),
    # torch multiplies by the rounded 1 - rate weight_decay at each step: its error against float64
    # is 2.2e-5, that of fnn 1.3e-6.
    float32=4e-5,
)
against_optax("sgd, optax", optim.sgd, optax.sgd)
against_optax(
    "momentum, optax",
    optim.momentum,
    lambda rate, momentum: optax.sgd(rate, momentum=momentum),
    **MOMENTUM,
)
against_optax(
    "nesterov, optax",
    partial(optim.momentum, nesterov=True),
    lambda rate, momentum: optax.sgd(rate, momentum=momentum, nesterov=True),
    **MOMENTUM,
)
against_optax(
    "rmsprop, optax",
    optim.rmsprop,
    lambda rate, decay, eps: optax.rmsprop(rate, decay, eps, eps_in_sqrt=False),
    **DECAY,
    **EPS,
)
against_optax("adam, optax", optim.adam, optax.adam, **BETAS, **EPS)
against_optax("adamw, optax", optim.adamw, optax.adamw, **BETAS, **EPS, weight_decay=power(-4, -1))

WEIGHT_DECAY = {"weight_decay": power(-4, -0.5)}
T = torch.optim

against_torch(
    "rmsprop, centered, momentum",
    partial(optim.rmsprop, centered=True),
    lambda p, rate, decay, eps, momentum: T.RMSprop(
        p, rate, decay, eps, momentum=momentum, centered=True
    ),
    **DECAY,
    eps=power(-2, 0),  # at eps = 1e-8, g / √(s - a²) is a rounding error for a constant g
    momentum=near_one(-1.5, -0.05),
)
against_torch(
    "adagrad",
    optim.adagrad,
    lambda p, rate, initial, eps: T.Adagrad(p, rate, initial_accumulator_value=initial, eps=eps),
    initial=power(-3, 0),
    **EPS,
)
against_torch(
    "adadelta",
    optim.adadelta,
    lambda p, rate, decay, eps: T.Adadelta(p, rate, decay, eps),
    **DECAY,
    eps=power(-7, -3),
)
against_torch(
    "amsgrad",
    optim.amsgrad,
    lambda p, rate, b1, b2, eps: T.Adam(p, rate, (b1, b2), eps, amsgrad=True),
    **BETAS,
    **EPS,
)
against_torch(
    "adamax",
    optim.adamax,
    lambda p, rate, b1, b2, eps: T.Adamax(p, rate, (b1, b2), eps),
    **BETAS,
    **EPS,
)
against_torch(
    "nadam",
    optim.nadam,
    lambda p, rate, b1, b2, eps, momentum_decay: T.NAdam(
        p, rate, (b1, b2), eps, momentum_decay=momentum_decay
    ),
    **BETAS,
    **EPS,
    momentum_decay=power(-4, -1),
)
against_torch(
    "radam",
    optim.radam,
    lambda p, rate, b1, b2, eps: T.RAdam(p, rate, (b1, b2), eps),
    **BETAS,
    **EPS,
)
against_torch(
    "rprop",
    optim.rprop,
    lambda p, rate, shrink, grow: T.Rprop(p, rate, (shrink, grow)),
    shrink=lambda draw: draw.uniform(0.3, 0.9),
    grow=lambda draw: draw.uniform(1.05, 1.5),
)
against_torch(
    "adafactor",
    partial(optim.adafactor, relative_step=True),
    lambda p, rate, exponent, clip, weight_decay: T.Adafactor(
        p, rate, -exponent, d=clip, weight_decay=weight_decay
    ),
    exponent=lambda draw: draw.uniform(0.5, 1),
    clip=lambda draw: draw.uniform(1, 2),
    **WEIGHT_DECAY,
)
against_optax(
    "adagrad, optax",
    lambda rate, initial, eps: optim.adagrad(rate, initial=initial, eps=1e-30, eps_root=eps),
    lambda rate, initial, eps: optax.adagrad(rate, initial, eps),
    initial=power(-3, 0),
    **EPS,
)
against_optax(
    "adadelta, optax",
    optim.adadelta,
    lambda rate, decay, eps: optax.adadelta(rate, decay, eps),
    **DECAY,
    eps=power(-7, -3),
)
against_optax("adamax, optax", optim.adamax, optax.adamax, **BETAS, **EPS)
against_optax(
    "adabelief, optax",
    optim.adabelief,
    optax.adabelief,
    **BETAS,
    eps=power(-12, -3),
    eps_root=power(-12, -3),
)
against_optax("yogi, optax", optim.yogi, optax.yogi, **BETAS, eps=power(-4, -1))
against_optax(
    "lion, optax", optim.lion, optax.lion, **{**BETAS, "b2": near_one(-2.5, -0.5)}, **WEIGHT_DECAY
)
against_optax(
    "lars, optax",
    optim.lars,
    lambda rate, momentum, weight_decay, coefficient: optax.lars(
        rate, weight_decay, momentum=momentum, trust_coefficient=coefficient
    ),
    **MOMENTUM,
    **WEIGHT_DECAY,
    coefficient=power(-3, 0),
)
against_optax("lamb, optax", optim.lamb, optax.lamb, **BETAS, eps=power(-7, -1), **WEIGHT_DECAY)
against_optax(
    "novograd, optax",
    optim.novograd,
    optax.novograd,
    **{**BETAS, "b2": near_one(-2, -0.1)},
    eps=power(-7, -1),
    **WEIGHT_DECAY,
)
against_optax("sm3, optax", optim.sm3, lambda rate, decay: optax.sm3(rate, decay), **DECAY)
against_optax(
    "adafactor, optax",
    lambda rate, exponent, clip: optim.adafactor(rate, exponent=exponent, clip=clip),
    lambda rate, exponent, clip: optax.adafactor(rate, 1, exponent, clipping_threshold=clip),
    exponent=lambda draw: draw.uniform(0.5, 1),
    clip=lambda draw: draw.uniform(0.5, 2),
)

NAMES = sorted(set(DESCENTS) - BEFORE)
