"""Trials per second of a search: lanes by the same jitted run in a loop, and by other libraries.

The workloads are an MLP 64-32-10 on the digits (256 trials) and the network of the demo, a CNN (16
trials). All arms train the same number of steps on the same data. The times are warm: each program
was compiled before. Compilation is reported on its own.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, compare, judge, show

from fnn import augment, data, nn, objective, optim, search, train

ROUNDS = 3
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


def by_search(make: Callable[..., Any], work: dict[str, Any], trials: int, lanes: Any) -> Program:
    options = {name: work[name] for name in ("valid", "epochs", "batch_size")}
    drawn = space(make)
    return lambda: search.random(KEY, drawn, work["data"], trials=trials, lanes=lanes, **options)


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


def seconds(program: Program) -> float:
    before = time.perf_counter()
    program()
    return time.perf_counter() - before


def main() -> None:
    pass


if __name__ == "__main__":
    main()
