"""Embeddings, attention and the blocks of transformers, held against torch."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import nn

BATCH, QUERIES, KEYS, WIDTH, MEMORY, HEADS = 2, 4, 5, 8, 6, 4
VOCABULARY = 7
PROJECTIONS = ("query", "key", "value", "output")
# How nn.attention is called, and how much its mask tells: of keys, of queries and keys, or nothing.
LOOKS = {
    "plain": ({}, 0),
    "causal": ({"causal": True}, 0),
    "padded": ({}, 1),
    "causal padded": ({"causal": True}, 1),
    "masked": ({}, 2),
    "grouped": ({"kv_heads": 2}, 2),
    "without bias": ({"use_bias": False, "kv_heads": 1}, 0),
}


# So the scores of attention are of order 1: a softmax passes the errors of larger ones on, in torch as in fnn.
GAINS = {1: lambda shape: 0.3, 2: lambda shape: 0.7 * shape[0] ** -0.5, 3: lambda shape: 1.0}


def normals(draw: np.random.Generator, dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Biases, kernels and sequences, by their rank."""
    return [(GAINS[len(shape)](shape) * draw.normal(size=shape)).astype(dtype) for shape in shapes]


def linear(x, kernel, bias=None):
    return F.linear(x, kernel.T, bias)


@jax.jit
def _embed(weight, table, tokens):
    def apply(table):
        x, _ = nn.embed(VOCABULARY, WIDTH).apply({"table": table}, {}, tokens)
        params = {"embedding": {"table": table}}
        return nn.unembed(nn.embed(VOCABULARY, WIDTH), VOCABULARY).apply(params, {}, jnp.tanh(x))[0]

    return differentiated(apply)(weight, table)


@family("torch")
def embed(draw: np.random.Generator, dtype: str):
    """One table at both ends."""
    tokens = draw.integers(0, VOCABULARY, (BATCH, 5))
    weight, table = normals(draw, dtype, (BATCH, 5, VOCABULARY), (VOCABULARY, WIDTH))

    def peer(table):
        return F.linear(torch.tanh(F.embedding(torch.tensor(tokens), table)), table)

    return _embed(weight, table, tokens), torch_differentiated(peer, weight, table)


@cache
def _looking(look: str):
    options, masked = LOOKS[look]

    @jax.jit
    def evaluate(weight, mask, x, *arrays):
        def apply(x, *arrays):
            params = _named(arrays, options.get("use_bias", True))
            return nn.attention(HEADS, **options).apply(params, {}, (x, mask) if masked else x)[0]

        return differentiated(apply)(weight, x, *arrays)

    return evaluate


def _named(arrays, use_bias=True):
    names = ("kernel", "bias") if use_bias else ("kernel",)
    groups = [arrays[start : start + len(names)] for start in range(0, len(arrays), len(names))]
    return {
        part: dict(zip(names, group, strict=True))
        for part, group in zip(PROJECTIONS, groups, strict=True)
    }


@family("torch")
def attention(draw: np.random.Generator, dtype: str):
    """Torch's scaled dot products between torch's linear maps, the keys of a group repeated."""
    look = list(LOOKS)[draw.integers(len(LOOKS))]
    options, masked = LOOKS[look]
    causal, groups, use_bias = (
        options.get("causal", False),
        options.get("kv_heads", HEADS),
        options.get("use_bias", 1),
    )
    seen = np.ones((BATCH, QUERIES, QUERIES), bool)
    mask = draw.random((BATCH, QUERIES, QUERIES)[: masked + 1]) < 0.6
    mask[..., 0] = True  # a query that sees nothing is 0 here and NaN there
    seen = seen & (mask[:, None] if masked == 1 else mask if masked else True)
    seen = seen & np.tril(np.ones((QUERIES, QUERIES), bool)) if causal else seen
    narrow = WIDTH // HEADS * groups
    shapes = [
        s
        for n in (WIDTH, narrow, narrow, WIDTH)
        for s in ([(WIDTH, n), (n,)] if use_bias else [(WIDTH, n)])
    ]
    weight, *arguments = normals(
        draw, dtype, (BATCH, QUERIES, WIDTH), (BATCH, QUERIES, WIDTH), *shapes
    )

    def peer(x, *arrays):
        maps = {part: partial(linear, **own) for part, own in _named(arrays, use_bias).items()}

        def split(part, heads):
            return maps[part](x).reshape(BATCH, QUERIES, heads, -1).transpose(1, 2)

        key, value = (
            split(part, groups).repeat_interleave(HEADS // groups, 1) for part in ("key", "value")
        )
        mixed = F.scaled_dot_product_attention(
            split("query", HEADS), key, value, torch.tensor(seen)[:, None]
        )
        return maps["output"](mixed.transpose(1, 2).reshape(BATCH, QUERIES, WIDTH))

    return _looking(look)(weight, mask, *arguments), torch_differentiated(peer, weight, *arguments)


@jax.jit
def _cross_attention(weight, mask, x, memory, *arrays):
    def apply(x, memory, *arrays):
        layer = nn.cross_attention(HEADS, head_width=WIDTH // HEADS)
        return layer.apply(_named(arrays), {}, (x, memory, mask))[0]

    return differentiated(apply)(weight, x, memory, *arrays)


@family("torch")
def cross_attention(draw: np.random.Generator, dtype: str):
    """Torch's MultiheadAttention, with a mask of keys."""
    mask = draw.random((BATCH, KEYS)) < 0.6
    mask[:, 0] = True
    inputs = {"query": WIDTH, "key": MEMORY, "value": MEMORY, "output": WIDTH}
    shapes = [shape for width in inputs.values() for shape in ((width, WIDTH), (WIDTH,))]
    x, memory = (BATCH, QUERIES, WIDTH), (BATCH, KEYS, MEMORY)
    weight, *arguments = normals(draw, dtype, x, x, memory, *shapes)

    def peer(x, memory, *arrays):
        own = _named(arrays)
        mixed, _ = F.multi_head_attention_forward(
            x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1), WIDTH, HEADS,
            None, torch.cat([own[part]["bias"] for part in PROJECTIONS[:3]]), None, None, False, 0.0,
            own["output"]["kernel"].T, own["output"]["bias"], key_padding_mask=torch.tensor(~mask), need_weights=False,
            use_separate_proj_weight=True, q_proj_weight=own["query"]["kernel"].T,
            k_proj_weight=own["key"]["kernel"].T, v_proj_weight=own["value"]["kernel"].T,
        )  # fmt: skip
        return mixed.transpose(0, 1)

    return _cross_attention(weight, mask, *arguments), torch_differentiated(
        peer, weight, *arguments
    )


HIDDEN = 3 * WIDTH
# Where each leaf of the block lies in torch's, and its shape; query, key and value are one array there.
BLOCK = {
    "self_attn.in_proj_weight": (3 * WIDTH, WIDTH),
    "self_attn.in_proj_bias": (3 * WIDTH,),
    "self_attn.out_proj.weight": (WIDTH, WIDTH),
    "self_attn.out_proj.bias": (WIDTH,),
    "linear1.weight": (HIDDEN, WIDTH),
    "linear1.bias": (HIDDEN,),
    "linear2.weight": (WIDTH, HIDDEN),
    "linear2.bias": (WIDTH,),
    "norm1.weight": (WIDTH,),
    "norm1.bias": (WIDTH,),
    "norm2.weight": (WIDTH,),
    "norm2.bias": (WIDTH,),
}


def _block_params(arrays):
    own = dict(zip(BLOCK, arrays, strict=True))

    def affine(name):
        return {"kernel": own[f"{name}.weight"].T, "bias": own[f"{name}.bias"]}

    def norm(name):
        return {"scale": own[f"{name}.weight"], "bias": own[f"{name}.bias"]}

    kernels = jnp.split(own["self_attn.in_proj_weight"].T, 3, axis=1)
    biases = jnp.split(own["self_attn.in_proj_bias"], 3)
    look = {
        part: {"kernel": kernel, "bias": bias}
        for part, kernel, bias in zip(PROJECTIONS[:3], kernels, biases, strict=True)
    }
    return {
        "attention_norm": norm("norm1"),
        "attention": look | {"output": affine("self_attn.out_proj")},
        "mlp_norm": norm("norm2"),
        "mlp": {"up": affine("linear1"), "down": affine("linear2")},
    }


@cache
def _block(causal: bool):
    @jax.jit
    def evaluate(weight, mask, x, *arrays):
        def apply(x, *arrays):
            layer = nn.transformer_block(HEADS, expansion=3, causal=causal)
            return layer.apply(_block_params(arrays), {}, (x, mask), train=True)[0][0]

        return differentiated(apply)(weight, x, *arrays)

    return evaluate


@cache
def _torch_block(dtype: str):
    return torch.nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        HIDDEN,
        0.0,
        "gelu",
        batch_first=True,
        norm_first=True,
        dtype=getattr(torch, dtype),
    )


@family("torch")
def transformer_block(draw: np.random.Generator, dtype: str):
    causal = bool(draw.integers(2))
    mask = draw.random((BATCH, QUERIES)) < 0.6
    mask[:, 0] = True
    shape = (BATCH, QUERIES, WIDTH)
    weight, *arguments = normals(draw, dtype, shape, shape, *BLOCK.values())
    later = torch.triu(torch.ones(QUERIES, QUERIES, dtype=bool), 1) if causal else None

    def peer(x, *arrays):
        options = {"src_mask": later, "src_key_padding_mask": torch.tensor(~mask)}
        params = dict(zip(BLOCK, arrays, strict=True))
        return torch.func.functional_call(_torch_block(dtype), params, (x,), options)

    return _block(causal)(weight, mask, *arguments), torch_differentiated(peer, weight, *arguments)
