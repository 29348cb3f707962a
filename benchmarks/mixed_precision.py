"""Whether mixed precision costs accuracy: ResNet-20 on the digits, in float32 and, by `nn.cast`, at work in bfloat16.

Goal: the mean test accuracies differ by at most half a point. Both have one recipe and the same keys. A CPU without
bfloat16 units takes longer for it; what it saves shows on an accelerator. Run `python benchmarks/mixed_precision.py`.
"""

import statistics
import time
from typing import NamedTuple

import jax
from measure import judge, show

from fnn import augment, data, nn, optim, train
from fnn.types import Layer

EPOCHS, BATCH, PEAK, DECAY = 15, 64, 1e-2, 1e-2
KEYS = 5
GOAL = 0.5  # points of accuracy


class Training(NamedTuple):
    compile_seconds: float
    run_seconds: list[float]
    accuracies: list[float]


def trained(network: Layer) -> Training:
    """One program, run from several keys."""
    digits = data.digits()
    steps = train.num_steps(digits.train, epochs=EPOCHS, batch_size=BATCH)
    optimizer = optim.adamw(optim.one_cycle(PEAK, steps=steps), weight_decay=DECAY)
    recipe = train.recipe(
        network, optimizer, augment=augment.random_crop(padding=1, mode="constant")
    )

    def run(key: jax.Array) -> jax.Array:
        result = train.run(
            key, recipe, digits.train, epochs=EPOCHS, batch_size=BATCH, valid=digits.test
        )
        return result.history.valid_accuracy[-1]

    began = time.perf_counter()
    compiled = jax.jit(run).lower(jax.random.key(0)).compile()
    found = Training(time.perf_counter() - began, [], [])
    for seed in range(KEYS):
        began = time.perf_counter()
        found.accuracies.append(float(compiled(jax.random.key(seed))))
        found.run_seconds.append(time.perf_counter() - began)
    return found


def row(name: str, found: Training) -> dict[str, str]:
    return {
        "ResNet-20 at work in": name,
        "test accuracy, mean": f"{statistics.fmean(found.accuracies):.4f}",
        "lowest": f"{min(found.accuracies):.4f}",
        "highest": f"{max(found.accuracies):.4f}",
        "one run, s": f"{statistics.median(found.run_seconds):.1f}",
        "compile, s": f"{found.compile_seconds:.1f}",
    }


def main() -> None:
    network = nn.resnet_cifar(20)
    results = {"float32": trained(network), "bfloat16": trained(nn.cast(network))}
    single, half = (statistics.fmean(found.accuracies) for found in results.values())
    method = f"{EPOCHS} epochs of batches of {BATCH}, AdamW, one cycle; {KEYS} keys, one compiled program each."
    goal = judge(
        "points of accuracy between the means:", 100 * abs(single - half), GOAL, form=".2f"
    )
    show(__doc__, method, [row(*item) for item in results.items()], goal)


if __name__ == "__main__":
    main()
