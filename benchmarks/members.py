"""What a step of eight convolutional networks at once costs, by eight steps of one.

The network of `cnn_step.py`, in a scan, with batches at once and in parts of 32. Goal: 1.1 as lanes of `vmap`, whose
arrays are eight times as large, so that it takes parts to find them in the cache; `jax.lax.map` has the members one
after another. Run `python benchmarks/members.py`.
"""

from typing import Any

import jax
from measure import Program, compare, judge, show
from stepping import IMAGES, LABELS, convolutional, fnn_step

MEMBERS, STEPS, ROUNDS = 8, 4, 5
PARTS = {"": None, ", in parts of 32": 32}  # micro_batch_size


def programs(suffix: str, micro_batch_size: int | None) -> dict[str, Program]:
    step, start = fnn_step(convolutional(), micro_batch_size=micro_batch_size)
    batches = jax.device_put((IMAGES[:STEPS], LABELS[:STEPS]))
    starts = jax.tree.map(lambda leaf: jax.numpy.stack([leaf] * MEMBERS), start)

    def run(start: Any) -> Any:
        return jax.lax.scan(step, start, batches)[0]

    alone, lanes, mapped = (
        jax.jit(run),
        jax.jit(jax.vmap(run)),
        jax.jit(lambda starts: jax.lax.map(run, starts)),
    )
    return {
        f"one{suffix}": lambda: jax.block_until_ready(alone(start)),
        f"eight, vmap{suffix}": lambda: jax.block_until_ready(lanes(starts)),
        f"eight, lax.map{suffix}": lambda: jax.block_until_ready(mapped(starts)),
    }


def main() -> None:
    every = {name: program for parts in PARTS.items() for name, program in programs(*parts).items()}
    timings = compare(every, base="one", rounds=ROUNDS)
    rows = [
        {"a step of": name, "ms": f"{1e3 * t.seconds / STEPS:.1f}", "× one": f"{t.ratio:.2f}"}
        for name, t in timings.items()
    ]
    goals = [
        judge(f"{name} by eight steps of one:", timings[name].ratio / MEMBERS, 1.1, form=".2f")
        for name in timings
        if name.startswith("eight")
    ]
    show(__doc__, f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds.", rows, *goals)


if __name__ == "__main__":
    main()
