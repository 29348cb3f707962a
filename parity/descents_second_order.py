"""Optimizers of matrices and optimizers without a rate, compared with optax."""

from functools import partial

import optax
from descents import BETAS, DESCENTS, against_optax, near_one, power

from fnn import optim

BEFORE = set(DESCENTS)

WEIGHT_DECAY = {"weight_decay": power(-4, -1)}
MOMENTUM = {"momentum": near_one(-2, -0.05)}

# In the Nesterov form optax corrects the bias of m and of g with different weights; without it, the
# direction of both libraries is the same.
against_optax(
    "muon, optax",
    partial(optim.muon, nesterov=False, scale="spectral", eps=1e-30),
    lambda rate, momentum, weight_decay: optax.contrib.muon(
        rate,
        beta=momentum,
        nesterov=False,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        eps=1e-30,
    ),
    **MOMENTUM,
    **WEIGHT_DECAY,
)
against_optax(
    "muon like Adam, optax",
    partial(optim.muon, nesterov=False, eps=1e-30),
    lambda rate, momentum: optax.contrib.muon(
        rate, beta=momentum, nesterov=False, consistent_rms=0.2, eps=1e-30
    ),
    **MOMENTUM,
)
against_optax(
    "prodigy, optax",
    optim.prodigy,
    lambda rate, b1, b2, b3, eps, start, weight_decay: optax.contrib.prodigy(
        rate, (b1, b2), b3, eps, start, weight_decay=weight_decay
    ),
    rate=power(-1, 0),
    # d is the largest ratio so far of a sum whose terms cancel: in float32 the errors of fnn and
    # optax against float64 are up to 1e-2, and their difference is a hundredth of that.
    float32=5e-4,
    **BETAS,
    b3=near_one(-3.5, -1),
    eps=power(-9, -3),
    start=power(-6, -2),
    weight_decay=power(-4, -2),
)
against_optax(
    "schedule_free_sgd, optax",
    optim.schedule_free_sgd,
    lambda rate, b1: optax.contrib.schedule_free_sgd(rate, b1=b1),
    rate=power(-4, -2),
    b1=lambda draw: draw.uniform(0.5, 0.98),
)
against_optax(
    "schedule_free_adamw, optax",
    optim.schedule_free_adamw,
    lambda rate, b1, b2, eps, weight_decay: optax.contrib.schedule_free_adamw(
        rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    ),
    b1=lambda draw: draw.uniform(0.5, 0.98),
    b2=near_one(-3.5, -0.5),
    eps=power(-9, -1),
    **WEIGHT_DECAY,
)

NAMES = sorted(set(DESCENTS) - BEFORE)
