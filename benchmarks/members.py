"""What a step of eight convolutional networks at once costs, by eight steps of one.

The network of `cnn_step.py`, in a scan. Goal: 1.1 as lanes of `vmap`, whose arrays are eight times as large. One after
another inside of the program, by `jax.lax.map`, they find theirs in the cache. Run `python benchmarks/members.py`.
"""

from typing import Any

import jax
from measure import Program, compare, judge, show
from stepping import IMAGES, LABELS, convolutional, fnn_step

MEMBERS, STEPS, ROUNDS = 8, 4, 5


def programs() -> dict[str, Program]:
    step, start = fnn_step(convolutional())
    batches = jax.device_put((IMAGES[:STEPS], LABELS[:STEPS]))
    starts = jax.tree.map(lambda leaf: jax.numpy.stack([leaf] * MEMBERS), start)

    def run(start: Any) -> Any:
        return jax.lax.scan(step, start, batches)[0]

    alone, lanes, mapped = jax.jit(run), jax.jit(jax.vmap(run)), jax.jit(lambda starts: jax.lax.map(run, starts))
    return {
        "one": lambda: jax.block_until_ready(alone(start)),
        "eight, vmap": lambda: jax.block_until_ready(lanes(starts)),
        "eight, lax.map": lambda: jax.block_until_ready(mapped(starts)),
    }


def main() -> None:
    timings = compare(programs(), base="one", rounds=ROUNDS)
    rows = [
        {"a step of": name, "ms": f"{1e3 * t.seconds / STEPS:.1f}", "× one": f"{t.ratio:.2f}"}
        for name, t in timings.items()
    ]
    goals = [
        judge(f"{name} by eight steps of one:", timings[name].ratio / MEMBERS, 1.1, form=".2f")
        for name in ("eight, vmap", "eight, lax.map")
    ]
    show(__doc__, f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds.", rows, *goals)


if __name__ == "__main__":
    main()
