"""What N runs cost as lanes of one program, `jit(vmap(run))`, and as N calls of `jit(run)`.

A run is 5 epochs of a 64-32-10 network on the digits under Adam, and each has a learning rate of its own: a search.
Run `python benchmarks/lanes.py`.
"""

import jax
import jax.numpy as jnp
from measure import Program, compare, show

import fnn
from fnn import nn, optim, train

EPOCHS, BATCH = 5, 32
COUNTS = (1, 4, 16, 64)
ROUNDS = 5

DIGITS = fnn.data.digits()
NETWORK = nn.chain(nn.flatten(), nn.dense(32), nn.relu(), nn.dense(10))


def run(key: jax.Array, rate: jax.Array) -> jax.Array:
    """The validation accuracy at the end of a run."""
    options = {"epochs": EPOCHS, "batch_size": BATCH, "valid": DIGITS.test}
    return train.run(key, NETWORK, optim.adam(rate), DIGITS.train, **options).history.valid_accuracy[-1]


ALONE, TOGETHER = jax.jit(run), jax.jit(jax.vmap(run))


def programs(count: int) -> dict[str, Program]:
    keys, rates = jax.random.split(jax.random.key(0), count), jnp.geomspace(1e-4, 1e-1, count)
    pairs = [(keys[i], rates[i]) for i in range(count)]
    return {
        "calls": lambda: jax.block_until_ready([ALONE(*pair) for pair in pairs]),
        "lanes": lambda: jax.block_until_ready(TOGETHER(keys, rates)),
    }


def row(count: int) -> dict[str, str]:
    timings = compare(programs(count), base="lanes", rounds=ROUNDS)
    return {
        "runs": str(count),
        "N calls, s": f"{timings['calls'].seconds:.3f}",
        "N lanes, s": f"{timings['lanes'].seconds:.3f}",
        "calls by lanes": f"{timings['calls'].ratio:.1f}",
    }


def main() -> None:
    show(__doc__, f"Warm, median of {ROUNDS} alternating rounds.", [row(count) for count in COUNTS])


if __name__ == "__main__":
    main()
