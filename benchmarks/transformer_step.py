"""Cost of a step of a small transformer, and in peers.

Two causal pre-norm blocks of width 128 with 4 heads and learned positions; batches of 16 sequences
of 128 tokens from a vocabulary of 256; next-token prediction, exact gelu, no dropout, Adam. Run
`python benchmarks/transformer_step.py`.
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
    first = [nn.embed(vocabulary, width), nn.learned_positions(length)]
    blocks = [nn.transformer_block(heads, causal=True) for _ in range(depth)]
    return nn.chain(*first, *blocks, nn.layer_norm(), nn.dense(vocabulary))


def programs() -> dict[str, Program]:
    step = fnn_step(network(**SIZES), WORK)
    by_name = {FNN: inside(*step, WORK), "fnn, one call per step": outside(*step, WORK)}
    if nnx:
        from nnx_transformer import Transformer

        by_name["flax nnx + optax"] = with_nnx(Transformer(nnx.Rngs(0), **SIZES), WORK)
    if equinox:
        from equinox_transformer import Transformer

        by_name["equinox + optax"] = with_equinox(partial(Transformer, **SIZES), WORK)
    if torch:
        from torch_transformer import Transformer

        by_name["torch, eager"] = with_torch(Transformer(**SIZES), WORK)
        by_name["torch, compiled"] = with_torch(Transformer(**SIZES), WORK, compiled=True)
    return by_name


def main() -> None:
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; fused Adam in torch."
    remark = (
        f"A random guess has the loss {math.log(SIZES['vocabulary']):.2f}; "
        "the rest is due to the initial weights."
    )
    table = rows(programs(), base=FNN, rounds=ROUNDS)
    show(__doc__, method, table, remark, *missing("torch", "flax", "equinox"))


if __name__ == "__main__":
    main()
