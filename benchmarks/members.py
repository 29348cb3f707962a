"""Cost of a step of eight convolutional networks at once, relative to eight steps of one.

The network of `cnn_step.py`, in a scan, with whole batches and in parts of 32. Goal: 1.1 as lanes
of `vmap`. Its arrays are eight times as large, so that only parts fit the cache; `jax.lax.map`
trains the members in sequence. Run `python benchmarks/members.py`.
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

    single, lanes = jax.jit(run), jax.jit(jax.vmap(run))
    mapped = jax.jit(lambda starts: jax.lax.map(run, starts))
    return {
        f"one{suffix}": lambda: jax.block_until_ready(single(start)),
        f"eight, vmap{suffix}": lambda: jax.block_until_ready(lanes(starts)),
        f"eight, lax.map{suffix}": lambda: jax.block_until_ready(mapped(starts)),
    }


def main() -> None:
    by_name: dict[str, Program] = {}
    for suffix, micro_batch_size in PARTS.items():
        by_name |= programs(suffix, micro_batch_size)
    timings = compare(by_name, base="one", rounds=ROUNDS)
    rows, goals = [], []
    for name, timing in timings.items():
        milliseconds = f"{1e3 * timing.seconds / STEPS:.1f}"
        rows.append({"a step of": name, "ms": milliseconds, "× one": f"{timing.ratio:.2f}"})
        if name.startswith("eight"):
            label = f"{name} relative to eight steps of one:"
            goals.append(judge(label, timing.ratio / MEMBERS, 1.1, form=".2f"))
    show(__doc__, f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds.", rows, *goals)


if __name__ == "__main__":
    main()
