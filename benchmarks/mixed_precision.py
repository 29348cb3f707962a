"""Accuracy of mixed precision: ResNet-20 on the digits, in float32 and with `nn.cast` in bfloat16.

Goal: the mean test accuracies differ by at most half a point. Both networks have the same recipe
and keys. A CPU without bfloat16 units is slower in bfloat16; an accelerator is faster. Run
`python benchmarks/mixed_precision.py`.
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
    """Compile one program and run it from several keys."""
    digits = data.digits()
    steps = train.num_steps(digits.train, epochs=EPOCHS, batch_size=BATCH)
    optimizer = optim.adamw(optim.one_cycle(PEAK, steps=steps), weight_decay=DECAY)
    crop = augment.random_crop(padding=1, mode="constant")
    recipe = train.recipe(network, optimizer, augment=crop)
    options = {"epochs": EPOCHS, "batch_size": BATCH, "valid": digits.test}

    def run(key: jax.Array) -> jax.Array:
        result = train.run(key, recipe, digits.train, **options)
        return result.history.valid_accuracy[-1]

    began = time.perf_counter()
    compiled = jax.jit(run).lower(jax.random.key(0)).compile()
    training = Training(time.perf_counter() - began, [], [])
    for seed in range(KEYS):
        began = time.perf_counter()
        training.accuracies.append(float(compiled(jax.random.key(seed))))
        training.run_seconds.append(time.perf_counter() - began)
    return training


def row(name: str, training: Training) -> dict[str, str]:
    return {
        "ResNet-20 computed in": name,
        "test accuracy, mean": f"{statistics.fmean(training.accuracies):.4f}",
        "lowest": f"{min(training.accuracies):.4f}",
        "highest": f"{max(training.accuracies):.4f}",
        "one run, s": f"{statistics.median(training.run_seconds):.1f}",
        "compile, s": f"{training.compile_seconds:.1f}",
    }


def main() -> None:
    network = nn.resnet_cifar(20)
    results = {"float32": trained(network), "bfloat16": trained(nn.cast(network))}
    single, half = (statistics.fmean(training.accuracies) for training in results.values())
    method = (
        f"{EPOCHS} epochs of batches of {BATCH}, AdamW, one cycle; "
        f"{KEYS} keys, one compiled program each."
    )
    points = 100 * abs(single - half)
    goal = judge("points of accuracy between the means:", points, GOAL, form=".2f")
    show(__doc__, method, [row(*item) for item in results.items()], goal)


if __name__ == "__main__":
    main()
