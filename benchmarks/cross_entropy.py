"""Memory and time of the gradient of cross-entropy with integer labels.

1,024 rows of 50,257 logits in float32, the vocabulary of GPT-2, as the product of 64 features and a
kernel: value and gradients by both, in one program. The memory is that of temporary arrays by XLA's
account, divided by that of the logits; results do not count. Run
`python benchmarks/cross_entropy.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from measure import compare, judge, missing, show, version

from fnn import objective

ROWS, CLASSES, WIDTH, ROUNDS = 1024, 50257, 64, 7
MEMORY_GOAL, TIME_GOAL = 1.01, 1.03
FNN, OPTAX = "fnn", "optax"

optax: Any = None
if version("optax"):
    import optax


def compiled(loss: Callable[[Any, Any], Any], *arrays: jax.Array) -> Any:
    """The program of the mean loss of features, kernel and labels, and its gradients."""

    def mean_loss(features: jax.Array, kernel: jax.Array, labels: jax.Array) -> jax.Array:
        return loss(features @ kernel, labels).mean()

    return jax.jit(jax.value_and_grad(mean_loss, (0, 1))).lower(*arrays).compile()


def main() -> None:
    features = jax.random.normal(jax.random.key(0), (ROWS, WIDTH))
    kernel = jax.random.normal(jax.random.key(1), (WIDTH, CLASSES)) / WIDTH**0.5
    arrays = features, kernel, jnp.arange(ROWS) * 7 % CLASSES
    logits_bytes = ROWS * CLASSES * features.dtype.itemsize
    losses = {FNN: objective.cross_entropy}
    if optax:
        losses[OPTAX] = optax.softmax_cross_entropy_with_integer_labels
    compiled_losses = {name: compiled(loss, *arrays) for name, loss in losses.items()}
    programs = {
        name: lambda program=program: jax.block_until_ready(program(*arrays))
        for name, program in compiled_losses.items()
    }
    timings = compare(programs, base=FNN, rounds=ROUNDS)
    shares = {
        name: program.memory_analysis().temp_size_in_bytes / logits_bytes
        for name, program in compiled_losses.items()
    }
    rows = [
        {
            "value and gradients": name,
            "temporary arrays / logits": f"{shares[name]:.3f}",
            "ms": f"{1e3 * timing.seconds:.1f}",
            "fnn's time by it": f"{1 / timing.ratio:.2f}",
        }
        for name, timing in timings.items()
    ]
    goals = []
    if OPTAX in timings:
        goals.append(judge("memory by optax's", shares[FNN] / shares[OPTAX], MEMORY_GOAL))
        goals.append(judge("time by optax's", 1 / timings[OPTAX].ratio, TIME_GOAL))
    method = f"{ROWS:,} rows of {CLASSES:,} logits of {logits_bytes / 1e6:.0f} MB, n = {ROUNDS}."
    show(__doc__, method, rows, *goals, *missing("optax"))


if __name__ == "__main__":
    main()
