"""Trials per second of a search: lanes by the same jitted run in a loop, and by other libraries.

The workloads are an MLP 64-32-10 on the digits (256 trials) and the network of the demo, a CNN (16
trials). All arms train the same number of steps on the same data. The times are warm: each program
was compiled before. Compilation is reported on its own.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from measure import Program, compare, judge, missing, show, version

from fnn import augment, data, nn, objective, optim, search, train

ROUNDS = 5
LANES = 64
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


def compilation(program: Program) -> str:
    """Seconds of the first call, which compiles, without those of a warm one."""
    jax.clear_caches()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        program()
        seconds.append(time.perf_counter() - began)
    return f"{seconds[0] - seconds[1]:.1f}"


def main() -> None:
    rows, remarks = [], []
    cases = {"MLP 64-32-10": (mlp, MLP, 256, 2.0), "CNN of the demo": (cnn, CNN, 16, 1.0)}
    for name, (make, work, trials, goal) in cases.items():
        arms = {
            "jitted run in a loop": by_loop(make, work, trials),
            "search.random": by_search(make, work, trials, "auto"),
            "search.random, one after another": by_search(make, work, trials, 1),
            f"search.random, {LANES} lanes": by_search(make, work, trials, min(trials, LANES)),
        }
        if version("optuna"):
            arms["Optuna, random"] = by_optuna(make, work, trials)
        if version("hyperoptax"):
            arms["hyperoptax, random"] = by_hyperoptax(make, work, trials)
        compiled = {arm: compilation(program) for arm, program in arms.items()}
        timings = compare(arms, base="jitted run in a loop", rounds=ROUNDS, settle=False)
        for arm, timing in timings.items():
            rows.append(
                {
                    "trials": f"{trials} of {name}: {arm}",
                    "compile, s": compiled[arm],
                    "warm, s": f"{timing.seconds:.2f}",
                    "trials a second": f"{trials / timing.seconds:.0f}",
                    "speed by the loop": f"{1 / timing.ratio:.2f}",
                }
            )
        speed = 1 / timings["search.random"].ratio
        remarks.append(judge(f"{name}: speed by the loop", speed, goal, at_least=True))
        if "Optuna, random" in timings and trials == 256:
            ratio = timings["Optuna, random"].ratio / timings["search.random"].ratio
            remarks.append(judge(f"{name}: speed by Optuna", ratio, 3.0, at_least=True))
    if version("torch"):
        few = 8
        timing = compare({"torch": by_torch(few)}, base="torch", rounds=ROUNDS, settle=False)
        rate = few / timing["torch"].seconds
        remarks.append(f"PyTorch, eager, in a loop: {rate:.1f} trials a second of the MLP.")
    remarks += missing("optuna", "hyperoptax", "torch")
    method = f"Median of {ROUNDS} alternating rounds; the speed is taken within a round."
    show(__doc__, method, rows, "\n".join(remarks))


if __name__ == "__main__":
    main()
