"""Compile time by the depth of `nn.repeat`.

Goal: 48 blocks compile within 1.5 times the time of 2. A training step (loss, gradients, Adam) is
traced, lowered and compiled with cleared caches each time. For comparison, the compile time of a
chain of the same blocks grows with depth. Run `python benchmarks/repeat.py`.
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
CHAINED = (2, 8)  # a chain of 48 takes a minute


def block() -> Layer:
    hidden = [nn.dense(4 * WIDTH), nn.batch_norm(), nn.gelu(), nn.dropout(0.1)]
    return nn.residual(nn.chain(*hidden, nn.dense(WIDTH)))


def compiling(network: Layer) -> Callable[[], object]:
    """A program that traces, lowers and compiles one training step."""
    recipe = train.recipe(nn.chain(network, nn.dense(10)), optim.adam(1e-3))
    start = jax.eval_shape(lambda: train.start(jax.random.key(0), recipe, (WIDTH,)))
    inputs = jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.float32)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)

    def compile_step() -> object:
        jax.clear_caches()
        return jax.jit(partial(train.step, recipe)).lower(start, (inputs, labels)).compile()

    return compile_step


def main() -> None:
    repeated = {f"repeat, {n} blocks": compiling(nn.repeat(block(), n)) for n in (SHALLOW, DEEP)}
    chained = {f"chain, {n} blocks": compiling(nn.chain(*[block()] * n)) for n in CHAINED}
    base, deep = repeated
    timings = compare(repeated | chained, base=base, rounds=ROUNDS)
    rows = []
    for name, timing in timings.items():
        row = {"network": name, "seconds to compile": f"{timing.seconds:.2f}"}
        rows.append(row | {"× repeat of 2": f"{timing.ratio:.2f}"})
    method = (
        f"A step of residual blocks of width {WIDTH}, batch {BATCH}; "
        f"medians of {ROUNDS} alternating rounds."
    )
    label = f"compile time of {DEEP} blocks relative to {SHALLOW} blocks:"
    show(__doc__, method, rows, judge(label, timings[deep].ratio, 1.5, form=".2f"))


if __name__ == "__main__":
    main()
