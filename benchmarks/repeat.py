"""What does the depth of `nn.repeat` cost to compile?

Goal: 48 blocks within 1.5 times of 2. A step of training (loss, gradients, adam) is traced, lowered and compiled anew
each time; beside it stands the chain of the same blocks, which grows with depth. Run `python benchmarks/repeat.py`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from measure import compare, judge, show

from fnn import nn, optim, train
from fnn.types import Layer

ROUNDS = 3
WIDTH, BATCH = 32, 16
SHALLOW, DEEP = 2, 48
CHAINED = (2, 8)  # as a chain of 48 takes a minute


def block() -> Layer:
    body = nn.chain(
        nn.dense(4 * WIDTH), nn.batch_norm(), nn.gelu(), nn.dropout(0.1), nn.dense(WIDTH)
    )
    return nn.residual(body)


def compiling(network: Layer) -> Callable[[], object]:
    """A program that traces, lowers and compiles one step of training."""
    recipe = train.recipe(nn.chain(network, nn.dense(10)), optim.adam(1e-3))
    start = jax.eval_shape(lambda: train.start(jax.random.key(0), recipe, (WIDTH,)))
    batch = (
        jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.float32),
        jax.ShapeDtypeStruct((BATCH,), jnp.int32),
    )

    def compile_anew() -> object:
        jax.clear_caches()
        return jax.jit(partial(train.step, recipe)).lower(start, batch).compile()

    return compile_anew


def main() -> None:
    repeated = {f"repeat, {n} blocks": compiling(nn.repeat(block(), n)) for n in (SHALLOW, DEEP)}
    chained = {f"chain, {n} blocks": compiling(nn.chain(*[block()] * n)) for n in CHAINED}
    base, deep = repeated
    timings = compare(repeated | chained, base=base, rounds=ROUNDS)
    rows = [
        {
            "network": name,
            "seconds to compile": f"{t.seconds:.2f}",
            "by repeat of 2": f"{t.ratio:.2f}",
        }
        for name, t in timings.items()
    ]
    method = f"A step of residual blocks of width {WIDTH}, batch {BATCH}; medians of {ROUNDS} rounds in turns."
    verdict = judge(
        f"to compile {DEEP} blocks by {SHALLOW} blocks:", timings[deep].ratio, 1.5, form=".2f"
    )
    show(__doc__, method, rows, verdict)


if __name__ == "__main__":
    main()
