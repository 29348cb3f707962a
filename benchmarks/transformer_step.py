"""What a step of a small transformer costs, and what it costs peers.

Two pre-norm blocks of width 128 and 4 heads, causal, with learned positions; 16 sequences of 128 tokens of 256, the
next of which is foretold; exact gelu, no dropout, Adam. Run `python benchmarks/transformer_step.py`.
"""

import math
from functools import partial

import numpy as np
from measure import Program, missing, show
from stepping import (
    STEPS,
    Work,
    equinox,
    fnn_step,
    inside,
    nnx,
    outside,
    rows,
    torch,
    with_equinox,
    with_nnx,
    with_torch,
)

from fnn import nn
from fnn.types import Layer

SIZES = {"vocabulary": 256, "length": 128, "width": 128, "heads": 4, "depth": 2}
BATCH, ROUNDS = 16, 7
FNN = "fnn, in a scan"

TOKENS = np.random.default_rng(0).integers(
    SIZES["vocabulary"], size=(STEPS, BATCH, SIZES["length"] + 1), dtype=np.int32
)
WORK = Work(TOKENS[..., :-1], TOKENS[..., 1:], "adam")


def network(*, vocabulary: int, length: int, width: int, heads: int, depth: int) -> Layer:
    blocks = [nn.transformer_block(heads, causal=True) for _ in range(depth)]
    ends = (
        nn.embed(vocabulary, width),
        nn.learned_positions(length),
        nn.layer_norm(),
        nn.dense(vocabulary),
    )
    return nn.chain(*ends[:2], *blocks, *ends[2:])


def programs() -> dict[str, Program]:
    step = fnn_step(network(**SIZES), WORK)
    found = {FNN: inside(*step, WORK), "fnn, a call a step": outside(*step, WORK)}
    if nnx:
        from nnx_transformer import Transformer

        found |= {"flax nnx + optax": with_nnx(Transformer(nnx.Rngs(0), **SIZES), WORK)}
    if equinox:
        from equinox_transformer import Transformer

        found |= {"equinox + optax": with_equinox(partial(Transformer, **SIZES), WORK)}
    if torch:
        from torch_transformer import Transformer

        eager, compiled = (
            with_torch(Transformer(**SIZES), WORK, compiled=compiled) for compiled in (False, True)
        )
        found |= {"torch, eager": eager, "torch, compiled": compiled}
    return found


def main() -> None:
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; torch's Adam is its fused one."
    chance = f"A guess at random has the loss {math.log(SIZES['vocabulary']):.2f}; what is above, the weights drawn."
    told = rows(programs(), base=FNN, rounds=ROUNDS)
    show(__doc__, method, told, chance, *missing("torch", "flax", "equinox"))


if __name__ == "__main__":
    main()
