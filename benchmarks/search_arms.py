"""The workloads of search.py, and its arms: searches of fnn and of other libraries."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from measure import Program

from fnn import augment, data, nn, objective, optim, search, train

LANES = 64
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
jax.config.update("jax_num_cpu_devices", CORES)
KEY = jax.random.key(0)
DIGITS = data.digits()


def flat(part: Any) -> Any:
    images, labels = part
    return (np.asarray(images, np.float32) / 255).reshape(len(images), -1), np.asarray(labels)


MLP = {"data": flat(DIGITS.train), "valid": flat(DIGITS.test), "epochs": 5, "batch_size": 32}
CNN = {"data": DIGITS.train, "valid": DIGITS.test, "epochs": 2, "batch_size": 64}


def mlp(rate: Any, drop_rate: Any, decay: Any) -> train.Recipe:
    network = nn.chain(nn.dense(32), nn.relu(), nn.dropout(drop_rate), nn.dense(10))
    return train.recipe(network, optim.adamw(rate, weight_decay=decay))


def cnn(rate: Any, drop_rate: Any, decay: Any) -> train.Recipe:
    network = nn.chain(
        nn.conv(24), nn.batch_norm(), nn.relu(),
        nn.conv(24), nn.batch_norm(), nn.relu(), nn.max_pool(),
        nn.residual(nn.chain(nn.conv(24), nn.batch_norm(), nn.relu())),
        nn.flatten(), nn.dropout(drop_rate), nn.dense(10),
    )  # fmt: skip
    smooth = objective.cross_entropy(label_smoothing=0.1)
    shift = augment.random_crop(padding=1, mode="constant")
    optimizer = optim.adamw(rate, weight_decay=decay)
    return train.recipe(network, optimizer, loss=smooth, augment=shift)


def space(make: Callable[..., train.Recipe]) -> train.Recipe:
    rate = search.log_uniform(1e-4, 1e-1)
    return make(rate, search.uniform(0, 0.6), search.log_uniform(1e-6, 1e-1))


def jitted(work: dict[str, Any]) -> Callable[[train.Recipe], jax.Array]:
    """The run as users compile it: one program, which takes the recipe as its argument."""
    options = {name: work[name] for name in ("valid", "epochs", "batch_size")}

    @jax.jit
    def run(recipe: train.Recipe) -> jax.Array:
        return train.run(KEY, recipe, work["data"], **options).history.valid_loss[-1]

    return run


def by_search(
    make: Callable[..., Any], work: dict[str, Any], trials: int, **options: Any
) -> Program:
    options |= {name: work[name] for name in ("valid", "epochs", "batch_size")}
    drawn = space(make)
    return lambda: search.random(KEY, drawn, work["data"], trials=trials, **options)


def by_loop(make: Callable[..., Any], work: dict[str, Any], trials: int) -> Program:
    run = jitted(work)
    generator = np.random.default_rng(0)
    recipes = [
        make(10 ** -generator.uniform(1, 4), generator.uniform(0, 0.6), 1e-3) for _ in range(trials)
    ]
    return lambda: [float(run(recipe)) for recipe in recipes]


def by_optuna(make: Callable[..., Any], work: dict[str, Any], trials: int) -> Program:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run = jitted(work)

    def objective(trial: Any) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        drop_rate = trial.suggest_float("drop_rate", 0, 0.6)
        decay = trial.suggest_float("decay", 1e-6, 1e-1, log=True)
        return float(run(make(rate, drop_rate, decay)))

    def program() -> None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=trials)

    return program


def by_hyperoptax(make: Callable[..., Any], work: dict[str, Any], trials: int) -> Program:
    from hyperoptax import LinearSpace, LogSpace, RandomSearch

    run = jitted(work)
    ranges = {
        "rate": LogSpace(1e-4, 1e-1),
        "drop_rate": LinearSpace(0, 0.6),
        "decay": LogSpace(1e-6, 1e-1),
    }

    def train_one(_: Any, params: dict[str, Any]) -> jax.Array:
        return run(make(params["rate"], params["drop_rate"], params["decay"]))

    lanes = min(trials, LANES)
    state, optimizer = RandomSearch.init(ranges, n_parallel=lanes)

    def program() -> None:
        key = jax.random.PRNGKey(0)
        result = optimizer.optimize(state, key, train_one, n_iterations=trials // lanes)
        jax.block_until_ready(result)

    return program


def by_torch(trials: int) -> Program:
    """The MLP in an eager loop of PyTorch, for some of the trials."""
    import torch

    (images, labels), epochs, size = MLP["data"], MLP["epochs"], MLP["batch_size"]
    x, y = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))

    def run(rate: float) -> float:
        layers = [torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.3)]
        network = torch.nn.Sequential(*layers, torch.nn.Linear(32, 10))
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-3)
        for _ in range(epochs):
            order = torch.randperm(len(x))
            for batch in order[: len(x) // size * size].split(size):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
        return float(network(x).sum())

    return lambda: [run(rate) for rate in np.geomspace(1e-4, 1e-1, trials)]


def by_torch_func(trials: int, lanes: int = LANES) -> Program:
    """The MLP with stacked models in PyTorch: one step of all of them by torch.func.vmap."""
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap

    (images, labels), epochs, size = MLP["data"], MLP["epochs"], MLP["batch_size"]
    x, y = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))

    def make() -> Any:
        layers = [torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.3)]
        return torch.nn.Sequential(*layers, torch.nn.Linear(32, 10))

    base = make()

    def loss(params: Any, inputs: Any, targets: Any) -> Any:
        outputs = functional_call(base, params, (inputs,))
        return torch.nn.functional.cross_entropy(outputs, targets)

    # The models share the batch.
    gradients = vmap(grad(loss), (0, None, None), randomness="different")

    losses = vmap(loss, (0, None, None), randomness="different")

    def run(rates: Any) -> list[float]:
        params, _ = stack_module_state([make() for _ in range(len(rates))])
        params = {name: leaf.detach() for name, leaf in params.items()}
        # AdamW, whose rates differ between models.
        first = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
        second = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
        steps = itertools.count(1)
        for _ in range(epochs):
            order = torch.randperm(len(x))
            for batch in order[: len(x) // size * size].split(size):
                found = gradients(params, x[batch], y[batch])
                step = next(steps)
                for name, leaf in params.items():
                    rate = rates.view(-1, *[1] * (leaf.dim() - 1))
                    first[name].mul_(0.9).add_(found[name], alpha=0.1)
                    second[name].mul_(0.999).addcmul_(found[name], found[name], value=0.001)
                    root = (second[name] / (1 - 0.999**step)).sqrt_().add_(1e-8)
                    leaf.mul_(1 - rate * 1e-3)
                    leaf.sub_(rate * first[name] / (1 - 0.9**step) / root)
        return losses(params, x, y).tolist()

    all_rates = torch.from_numpy(np.geomspace(1e-4, 1e-1, trials).astype(np.float32))
    return lambda: [run(rates) for rates in all_rates.split(lanes)]
