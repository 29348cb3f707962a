"""Time of a generated token with a cache of keys and values, by that of a full pass.

A GPT of 2 and of 4 blocks of width 128 with 4 heads and 96 tokens, one sequence in a context of 256
tokens; a full pass computes all positions for each token. The token with the cache is the mean of
the last 128. torch passes over all positions too. Run `python benchmarks/generation.py`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, compare, judge, missing, show, version

from fnn import nn

VOCABULARY, LENGTH, WIDTH, HEADS, PROMPT, ROUNDS = 96, 256, 128, 4, 128, 7
DEPTHS = (2, 4)
CACHED, FULL, TORCH = "fnn, with the cache", "fnn, a full pass", "torch, a full pass"
GOAL = 0.1

TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (1, LENGTH)).astype(np.int32)


def fnn_programs(depth: int) -> dict[str, Program]:
    network = nn.gpt(VOCABULARY, length=LENGTH, width=WIDTH, depth=depth, heads=HEADS)
    params, state, _ = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (LENGTH,))
    prompt = jnp.asarray(TOKENS[:, :PROMPT])
    key = jax.random.key(1)

    @jax.jit
    def full(params: Any, tokens: jax.Array) -> jax.Array:
        logits, _ = network.apply(params, state, tokens)
        return logits[:, -1].argmax(-1)

    def generated(count: int) -> jax.Array:
        made = nn.generate(key, network, (params, state), prompt, tokens=count, temperature=0.0)
        return jax.block_until_ready(made.tokens)

    whole = jnp.asarray(TOKENS)
    return {
        CACHED: partial(generated, LENGTH - PROMPT + 1),
        FULL: lambda: jax.block_until_ready(full(params, whole)),
    }


def torch_program(depth: int) -> Program:
    import torch

    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, activation="gelu", batch_first=True, norm_first=True
    )
    body = torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()
    embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
    positions = torch.nn.Embedding(LENGTH, WIDTH)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)
    tokens = torch.from_numpy(TOKENS).long()

    @torch.no_grad()
    def full() -> object:
        x = embedding(tokens) + positions.weight
        y = body(x, mask=mask, is_causal=True)
        return (y[:, -1] @ embedding.weight.T).argmax(-1)

    return full


def main() -> None:
    rows = []
    verdicts = []
    for depth in DEPTHS:
        programs = fnn_programs(depth)
        if version("torch"):
            programs[TORCH] = torch_program(depth)
        timings = compare(programs, base=FULL, rounds=ROUNDS)
        # The first pass of the prompt counts as one of the tokens.
        per_call = {CACHED: LENGTH - PROMPT + 1}
        for name, timing in timings.items():
            tokens = per_call.get(name, 1)
            milliseconds = 1e3 * timing.seconds / tokens
            rows.append(
                {
                    "blocks": str(depth),
                    "token": name,
                    "ms": f"{milliseconds:.3f}",
                    "× full pass": f"{timing.ratio / tokens:.3f}",
                }
            )
        ratio = timings[CACHED].ratio / per_call[CACHED]
        verdicts.append(judge(f"{depth} blocks: cache by full pass", ratio, GOAL))
    method = f"Context {LENGTH}, batch 1, warm, median of {ROUNDS} alternating rounds."
    show(__doc__, method, rows, *verdicts, *missing("torch"))


if __name__ == "__main__":
    main()
