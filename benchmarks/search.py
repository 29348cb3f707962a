"""Trials per second of a search: lanes by the same jitted run in a loop, and by other libraries.

The workloads are an MLP 64-32-10 on the digits (256 trials) and the network of the demo, a CNN (16
trials). All arms train the same number of steps on the same data. The times are warm: each program
was compiled before. Compilation is reported on its own.

Further tables have the speed by the number of lanes with the memory of a trial, the time until a
trial reaches a target, and the overhead of lab.search.

JAX makes a device of each core, and one arm divides the trials over them.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import Program, compare, judge, missing, show, table, version
from search_arms import (
    CNN,
    CORES,
    KEY,
    LANES,
    MLP,
    by_hyperoptax,
    by_loop,
    by_optuna,
    by_search,
    by_torch,
    by_torch_func,
    cnn,
    jitted,
    mlp,
    space,
)

from fnn import lab, search
from fnn.search.lanes import Lanes, prepare_task

ROUNDS = 5
COUNTS = (1, 4, 16, 64, 256)  # numbers of lanes
TARGET_SHARE = 0.02  # of random trials, which reach the target
REPEATS = 5  # searches for a target
LONG = 40  # epochs of a trial, where the overhead of a search is measured


def speedup(counts: Sequence[int] = COUNTS, rounds: int = ROUNDS) -> str:
    """A table of the speed of N lanes by N runs in a loop, and the memory of a trial."""
    rows = []
    for name, (make, work, most) in {"MLP": (mlp, MLP, 256), "CNN": (cnn, CNN, 16)}.items():
        task = prepare_task(
            [make(1e-3, 0.1, 1e-3)],
            work["data"],
            work["valid"],
            epochs=1,
            batch_size=work["batch_size"],
        )
        for count in [count for count in counts if count <= most]:
            arms = {
                "loop": by_loop(make, work, 1),
                "lanes": by_search(make, work, count, lanes=count),
            }
            for program in arms.values():
                program()
            timings = compare(arms, base="loop", rounds=rounds, settle=False)
            _, memory = Lanes(make(1e-3, 0.1, 1e-3), task, count, count).measure(count)
            rows.append(
                {
                    "lanes": f"{name}, {count}",
                    "seconds": f"{timings['lanes'].seconds:.3f}",
                    "speed by a loop": f"{count / timings['lanes'].ratio:.2f}",
                    "memory a trial, MB": f"{memory / 1e6:.2f}",
                }
            )
    return table(rows)


def seed_of(key: jax.Array) -> int:
    return int(jax.random.key_data(key)[-1])


def time_to_target(repeats: int = REPEATS, trials: int = 256) -> str:
    """A table of the seconds until a trial reaches a valid_loss that few random trials reach."""
    options = {name: MLP[name] for name in ("valid", "epochs", "batch_size")}
    drawn = space(mlp)
    known = search.random(jax.random.key(99), drawn, MLP["data"], trials=trials, **options)
    target = np.nanquantile(known.mean_scores, TARGET_SHARE)
    run = jitted(MLP)

    def by_lanes(key: jax.Array) -> None:
        for part in range(100):
            part_key = jax.random.fold_in(key, part)
            found = search.random(part_key, drawn, MLP["data"], trials=LANES, **options)
            if found.best.score <= target:
                return

    def one_by_one(key: jax.Array) -> None:
        generator = np.random.default_rng(seed_of(key))
        for _ in range(100 * LANES):
            rate, decay = 10 ** -generator.uniform(1, 4), 10 ** -generator.uniform(1, 6)
            if run(mlp(rate, generator.uniform(0, 0.6), decay)) <= target:
                return

    def by_study(key: jax.Array) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed_of(key)))

        def objective(trial: Any) -> float:
            rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
            decay = trial.suggest_float("decay", 1e-6, 1e-1, log=True)
            loss = float(run(mlp(rate, trial.suggest_float("drop_rate", 0, 0.6), decay)))
            if loss <= target:
                study.stop()
            return loss

        study.optimize(objective, n_trials=100 * LANES)

    arms = {"search.random": by_lanes, "jitted run in a loop, random": one_by_one}
    if version("optuna"):
        arms["jitted run in a loop, TPE of Optuna"] = by_study
    rows = []
    for name, arm in arms.items():
        seconds = []
        # The first search compiles.
        for repeat in range(-1, repeats):
            key = jax.random.key(1000 + repeat)
            began = time.perf_counter()
            arm(key)
            seconds.append(time.perf_counter() - began)
        median = statistics.median(seconds[1:])
        spread = f"{min(seconds[1:]):.2f} to {max(seconds[1:]):.2f}"
        rows.append({f"until {target:.4f}": name, "median, s": f"{median:.2f}", "s": spread})
    return table(rows)


def overhead(rounds: int = ROUNDS, trials: int = 256, epochs: int = LONG) -> tuple[str, float]:
    """A table of the time of lab.search by that of the search alone; and the overhead."""
    options = {"valid": MLP["valid"], "batch_size": MLP["batch_size"], "epochs": epochs}
    options |= {"trials": trials, "lanes": min(trials, LANES)}
    arguments = search.random, KEY, space(mlp), MLP["data"]

    def saved() -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = lab.jsonl_log(Path(folder) / "log.jsonl")
            lab.search(*arguments, checkpoints=Path(folder) / "saved", log=log, **options)

    arms = {
        "search.random": lambda: search.random(*arguments[1:], **options),
        "lab.search": lambda: lab.search(*arguments, **options),
        "lab.search with log and checkpoints": saved,
    }
    arms["search.random"]()
    timings = compare(arms, base="search.random", rounds=rounds, settle=False)
    rows = [
        {
            f"{trials} trials, {epochs} epochs": arm,
            "seconds": f"{timing.seconds:.2f}",
            "overhead": f"{timing.ratio - 1:+.1%}",
        }
        for arm, timing in timings.items()
    ]
    return table(rows), timings["lab.search with log and checkpoints"].ratio - 1


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
            "search.random": by_search(make, work, trials),
            "search.random, one after another": by_search(make, work, trials, lanes=1),
            f"search.random, {LANES} lanes": by_search(
                make, work, trials, lanes=min(trials, LANES)
            ),
        }
        if CORES > 1:
            mesh = jax.make_mesh((CORES,), ("core",))
            arms[f"search.random, {CORES} devices"] = by_search(make, work, trials, mesh=mesh)
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
        torch_arms = {"loop": by_torch(few), "func": by_torch_func(LANES)}
        timing = compare(torch_arms, base="loop", rounds=ROUNDS, settle=False)
        loop, together = few / timing["loop"].seconds, LANES / timing["func"].seconds
        remarks.append(
            f"PyTorch, MLP, trials a second: {loop:.1f} in an eager loop, {together:.1f} with "
            f"{LANES} stacked models and torch.func.vmap."
        )
    remarks += missing("optuna", "hyperoptax", "torch")
    overheads, share = overhead()
    remarks.append(judge("overhead of lab.search", share, 0.02, form=".1%"))
    titles = {
        "Speed of N lanes by N times a jitted run, and XLA's account of the memory of a trial.": (
            speedup()
        ),
        "Time until a trial has the valid_loss that 2 % of random trials reach, warm, "
        f"{REPEATS} searches.": time_to_target(),
        "Overhead of lab.search.": overheads,
    }
    remarks += [f"{title}\n\n{found}" for title, found in titles.items()]
    method = f"Median of {ROUNDS} alternating rounds; the speed is taken within a round."
    show(__doc__, method, rows, "\n\n".join(remarks))


if __name__ == "__main__":
    main()
