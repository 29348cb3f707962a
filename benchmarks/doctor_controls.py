"""Healthy controls of the benchmark of the doctor: every optimizer, every schedule, usual variants.

A control is the healthy run of a network with one sensible change. The rates are usual ones of each
optimizer, scaled so that it reaches the error of the healthy run.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from doctor_cases import NETWORKS, TRAIN, Setup, constant, healthy

from fnn import nn, objective, optim

FULL_BATCH = {"rprop", "lbfgs"}
FREE = {"schedule_free_sgd", "schedule_free_adamw"}  # without a decay of the rate

# By name: the optimizer of a schedule, and the largest rate.
OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "adabelief": (optim.adabelief, 3e-3),
    "adadelta": (optim.adadelta, 1.0),
    "adafactor": (optim.adafactor, 1e-2),
    "adagrad": (optim.adagrad, 3e-2),
    "adam": (optim.adam, 3e-3),
    "adamax": (optim.adamax, 5e-3),
    "adamw": (optim.adamw, 3e-3),
    "amsgrad": (optim.amsgrad, 3e-3),
    "lamb": (optim.lamb, 2e-2),
    "lars": (optim.lars, 10.0),
    "lbfgs": (lambda rate: optim.lbfgs(), 1.0),
    "lion": (optim.lion, 1e-3),
    "momentum": (optim.momentum, 3e-2),
    "muon": (optim.muon, 1e-2),
    "nadam": (optim.nadam, 3e-3),
    "nesterov": (lambda rate: optim.momentum(rate, nesterov=True), 3e-2),
    "novograd": (optim.novograd, 1e-2),
    "prodigy": (optim.prodigy, 1.0),
    "radam": (optim.radam, 5e-3),
    "rmsprop": (optim.rmsprop, 2e-3),
    "rprop": (optim.rprop, 1e-3),
    "schedule_free_adamw": (optim.schedule_free_adamw, 5e-3),
    "schedule_free_sgd": (optim.schedule_free_sgd, 0.5),
    "sgd": (optim.sgd, 0.2),
    "shampoo": (optim.shampoo, 3e-2),
    "sm3": (optim.sm3, 5e-2),
    "soap": (optim.soap, 3e-3),
    "sophia": (lambda rate: optim.sophia(jax.random.key(0), rate), 3e-3),
    "yogi": (optim.yogi, 5e-3),
}

# By name: from the number of steps to a schedule whose largest value is about 1.
SCHEDULES: dict[str, Callable[[int], Any]] = {
    "constant": lambda steps: optim.constant(0.3),
    "cosine": lambda steps: optim.cosine(1.0, steps=steps),
    "cosine_restarts": lambda steps: optim.cosine_restarts(1.0, steps=steps // 4),
    "cyclic": lambda steps: optim.cyclic(1.0, steps=steps // 8, floor=0.1),
    "exponential_decay": lambda steps: optim.exponential_decay(1.0, steps=steps, factor=0.03),
    "inverse_time_decay": lambda steps: optim.inverse_time_decay(1.0, steps=steps, rate=10.0),
    "join": lambda steps: optim.join(
        [optim.linear(1.0, steps=steps // 2, floor=0.3), optim.cosine(0.3, steps=steps // 2)],
        boundaries=[steps // 2],
    ),
    "linear": lambda steps: optim.linear(1.0, steps=steps),
    "one_cycle": lambda steps: optim.one_cycle(2.0, steps=steps),
    "piecewise": lambda steps: optim.piecewise(
        [1.0, 0.2, 0.04], boundaries=[steps * 6 // 10, steps * 8 // 10]
    ),
    "polynomial": lambda steps: optim.polynomial(1.0, steps=steps),
    "rsqrt": lambda steps: optim.rsqrt(1.0, warmup_steps=steps // 10),
    "step_decay": lambda steps: optim.step_decay(1.0, steps=steps // 3, factor=0.2),
    "swa_schedule": lambda steps: optim.swa_schedule(1.0, start=steps, floor=0.1),
    "warmup": lambda steps: optim.warmup(0.5, warmup_steps=steps // 10),
    "wsd": lambda steps: optim.wsd(
        1.0, steps=steps, warmup_steps=steps // 20, decay_steps=steps // 3
    ),
}


def tabled(make: Callable[[int], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Values of a schedule, as a function of the share of the run."""

    def shape(share: np.ndarray) -> np.ndarray:
        schedule = make(len(share))
        return np.asarray(jax.vmap(schedule)(jnp.arange(len(share), dtype=jnp.int32)))

    return shape


def _with_optimizer(setup: Setup, name: str) -> Setup:
    optimizer, rate = OPTIMIZERS[name]
    changed = replace(setup, optimizer=optimizer, rate=rate)
    if name in FULL_BATCH:
        # Line searches and signs of gradients are for losses without noise.
        changed = replace(changed, batch_size=TRAIN, epochs=100 if name == "rprop" else 40)
    if name in FREE:
        changed = replace(changed, shape=tabled(lambda steps: optim.warmup(1.0, warmup_steps=20)))
    return changed


def _after_all(setup: Setup, layer: Any) -> Setup:
    return setup.design_with(after=dict.fromkeys(range(1, setup.design.depth + 1), layer))


def _noise(key: jax.Array, image: jax.Array) -> jax.Array:
    return image + 0.05 * jax.random.normal(key, image.shape)


def _smooth(setup: Setup) -> Setup:
    if setup.is_regression:
        return setup.options_with(loss=objective.huber)
    return setup.options_with(loss=objective.cross_entropy(label_smoothing=0.1))


def _he(setup: Setup) -> Setup:
    return setup.design_with(init=nn.he_normal(), head_init=nn.normal(0.01))


# Usual variants of the healthy runs.
VARIANTS: dict[str, Callable[[Setup], Setup]] = {
    "dropout": lambda setup: _after_all(setup, nn.dropout(0.1)),
    "penalty": lambda setup: setup.options_with(regularizer=objective.l2(1e-5)),
    "smooth_loss": _smooth,
    "noise": lambda setup: setup.options_with(augment=_noise),
    "tanh": lambda setup: setup.design_with(activation=nn.tanh()),
    "gelu": lambda setup: setup.design_with(activation=nn.gelu()),
    "leaky_relu": lambda setup: setup.design_with(activation=nn.leaky_relu(0.1)),
    "he_init": _he,
    "layer_norm": lambda setup: setup.design_with(norm=nn.layer_norm()),
    "batch_norm": lambda setup: setup.design_with(norm=nn.batch_norm()),
    "no_norm": lambda setup: setup.design_with(norm=None),
    "small_batch": lambda setup: replace(setup, batch_size=32, rate=setup.rate / 2, epochs=20),
    "large_batch": lambda setup: replace(setup, batch_size=128, epochs=40),
    "clip": lambda setup: replace(
        setup, optimizer=lambda rate: optim.clip_by_global_norm(setup.optimizer(rate), 1.0)
    ),
    "ema": lambda setup: replace(
        setup, optimizer=lambda rate: optim.ema(setup.optimizer(rate), 0.95), shape=constant
    ),
    "wide": lambda setup: setup.design_with(width=2 * setup.design.width),
}


def controls() -> Iterator[tuple[str, Setup]]:
    """Names and setups of all controls.

    Each optimizer and variant is used in one network, each schedule in two, in turn; always with
    all data sets of the network.
    """
    networks = list(NETWORKS)
    for index, name in enumerate(OPTIMIZERS):
        network = networks[index % 4]
        for data in NETWORKS[network]:
            yield f"{name}/{network}/{data}", _with_optimizer(healthy(network, data), name)
    for index, (name, make) in enumerate(SCHEDULES.items()):
        for network in (networks[index % 4], networks[(index + 1 + index // 4 % 3) % 4]):
            for data in NETWORKS[network]:
                setup = replace(healthy(network, data), shape=tabled(make))
                yield f"{name}/{network}/{data}", setup
    for index, (name, change) in enumerate(VARIANTS.items()):
        network = networks[(index + index // 4) % 4]
        if network == "transformer" and name in ("tanh", "batch_norm", "no_norm"):
            network = "mlp"
        for data in NETWORKS[network]:
            yield f"{name}/{network}/{data}", change(healthy(network, data))
