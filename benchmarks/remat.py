"""Memory and time of a training step with `nn.remat`, by policy.

Goal: half the memory at 1.33 times the time or less. A GPT of 8 blocks of width 128, which run in a
scan, on 16 sequences of 128 tokens; a perceptron of 16 layers of 512 units, in pairs, on 2,048
examples; ResNet-20 by blocks on 64 images of 32 x 32. Memory is that of the temporaries in XLA's
account of the compiled program, operations are those of the program before compilation. Run
`python benchmarks/remat.py`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from measure import Timing, compare, judge, show, table
from stepping import STEPS, Work, fnn_step

from fnn import nn
from fnn.nn.flops import count
from fnn.types import Layer

ROUNDS = 5
PLAIN = "without"
MEMORY_GOAL, TIME_GOAL = 0.5, 1.33
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(256, size=(STEPS, 16, 129), dtype=np.int32)
VECTORS = RANDOM.normal(size=(STEPS, 2048, 512)).astype(np.float32)
IMAGES = RANDOM.normal(size=(STEPS, 64, 32, 32, 3)).astype(np.float32)
PAIR = nn.chain(nn.dense(512), nn.gelu(), nn.dense(512), nn.gelu())


class Case(NamedTuple):
    """A network, the paths of the layers that are recomputed, and its batches."""

    network: Layer
    paths: tuple[str, ...]
    work: Work


def labels(inputs: np.ndarray) -> np.ndarray:
    return RANDOM.integers(10, size=inputs.shape[:2], dtype=np.int32)


CASES = {
    "GPT, 8 blocks": Case(
        nn.gpt(256, length=128, depth=8),
        ("body/blocks/body",),
        Work(TOKENS[..., :-1], TOKENS[..., 1:], "adam"),
    ),
    "perceptron, 16 layers": Case(
        nn.chain(*[PAIR] * 8, head=nn.dense(10)),
        ("chain_*",),
        Work(VECTORS, labels(VECTORS), "adam"),
    ),
    "ResNet-20": Case(
        nn.resnet_cifar(20),
        ("stage_?/block_?",),
        Work(IMAGES, labels(IMAGES), "momentum"),
    ),
}
POLICIES = ("nothing_saveable", "dots_with_no_batch_dims_saveable", "dots_saveable")


class Step:
    """Steps in a scan, compiled: they run when called.

    Attributes:
        megabytes: Temporaries of the program.
        operations: Floating-point operations.
    """

    def __init__(self, network: Layer, work: Work):
        step, self.start = fnn_step(network, work)
        self.batches = jax.device_put(work[:2])
        loop = jax.jit(partial(jax.lax.scan, step))
        traced = loop.trace(self.start, self.batches)
        self.program = traced.lower().compile()
        self.operations = sum(count(traced.jaxpr).values())
        self.megabytes = self.program.memory_analysis().temp_size_in_bytes / 1e6

    def __call__(self) -> Any:
        return jax.block_until_ready(self.program(self.start, self.batches))


def steps(case: Case) -> dict[str, Step]:
    networks = {PLAIN: case.network}
    for policy in POLICIES:
        networks[policy] = nn.remat(case.network, *case.paths, policy=policy)
    return {name: Step(network, case.work) for name, network in networks.items()}


def rows(title: str, programs: dict[str, Step], times: dict[str, Timing]) -> list[dict[str, str]]:
    plain = programs[PLAIN]
    found = []
    for name, program in programs.items():
        row = {
            title: name,
            "MB": f"{program.megabytes:.1f}",
            "memory": f"{program.megabytes / plain.megabytes:.2f}",
            "operations": f"{program.operations / plain.operations:.2f}",
            "time": f"{times[name].ratio:.2f}",
        }
        found.append(row)
    return found


def main() -> None:
    tables = []
    verdicts = []
    for title, case in CASES.items():
        programs = steps(case)
        times = compare(programs, base=PLAIN, rounds=ROUNDS)
        tables.append(table(rows(title, programs, times)))
        plain = programs[PLAIN].megabytes
        policy = POLICIES[0]
        memory = programs[policy].megabytes / plain
        verdicts.append(judge(f"{title}, {policy}: memory", memory, MEMORY_GOAL, form=".2f"))
        verdicts.append(judge("time", times[policy].ratio, TIME_GOAL, form=".2f"))
    method = f"{STEPS} steps in a scan, warm, median of {ROUNDS} alternating rounds."
    show(__doc__, method, [], *tables, *verdicts)


if __name__ == "__main__":
    main()
