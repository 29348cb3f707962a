"""Embeddings, attention and transformer blocks, compared with torch."""

from functools import cache

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
# Options of nn.attention, and the number of axes of its mask after the batch: none, keys, or
# queries and keys.
CASES = {
    "plain": ({}, 0),
    "causal": ({"causal": True}, 0),
    "padded": ({}, 1),
    "causal padded": ({"causal": True}, 1),
    "masked": ({}, 2),
    "grouped": ({"kv_heads": 2}, 2),
    "without bias": ({"use_bias": False, "kv_heads": 1}, 0),
}

# Gains by rank for which the scores of attention are of order 1: a softmax amplifies the errors of
# larger scores, in torch and in fnn.
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
def _attention(case: str):
    options, mask_axes = CASES[case]

    @jax.jit
    def evaluate(weight, mask, x, *arrays):
        def apply(x, *arrays):
            params = _named(arrays, options.get("use_bias", True))
            inputs = (x, mask) if mask_axes else x
            return nn.attention(HEADS, **options).apply(params, {}, inputs)[0]

        return differentiated(apply)(weight, x, *arrays)

    return evaluate


def _named(arrays, use_bias=True):
    """The params of the four projections: a kernel and a bias of each, in order."""
    names = ("kernel", "bias") if use_bias else ("kernel",)
    params = {}
    for index, part in enumerate(PROJECTIONS):
        group = arrays[index * len(names) : (index + 1) * len(names)]
        params[part] = dict(zip(names, group, strict=True))
    return params


@family("torch")
def attention(draw: np.random.Generator, dtype: str):
    """Torch's scaled dot products between torch's linear maps; the keys of a group are repeated."""
    case = list(CASES)[draw.integers(len(CASES))]
    options, mask_axes = CASES[case]
    groups = options.get("kv_heads", HEADS)
    use_bias = options.get("use_bias", True)
    visible = np.ones((BATCH, QUERIES, QUERIES), bool)
    mask = draw.random((BATCH, QUERIES, QUERIES)[: mask_axes + 1]) < 0.6
    mask[..., 0] = True  # a query without keys gives 0 in fnn and NaN in torch
    if mask_axes == 1:
        visible = visible & mask[:, None]
    elif mask_axes == 2:
        visible = visible & mask
    if options.get("causal", False):
        visible = visible & np.tril(np.ones((QUERIES, QUERIES), bool))
    kv_width = WIDTH // HEADS * groups
    shapes = []
    for width in (WIDTH, kv_width, kv_width, WIDTH):
        shapes += [(WIDTH, width), (width,)] if use_bias else [(WIDTH, width)]
    sequences = (BATCH, QUERIES, WIDTH)
    weight, *arguments = normals(draw, dtype, sequences, sequences, *shapes)

    def peer(x, *arrays):
        params = _named(arrays, use_bias)

        def split(part, heads):
            y = linear(x, **params[part]).reshape(BATCH, QUERIES, heads, -1)
            return y.transpose(1, 2)  # (batch, heads, queries, head width)

        key = split("key", groups).repeat_interleave(HEADS // groups, 1)
        value = split("value", groups).repeat_interleave(HEADS // groups, 1)
        mask = torch.tensor(visible)[:, None]
        mixed = F.scaled_dot_product_attention(split("query", HEADS), key, value, mask)
        mixed = mixed.transpose(1, 2).reshape(BATCH, QUERIES, WIDTH)
        return linear(mixed, **params["output"])

    expected = torch_differentiated(peer, weight, *arguments)
    return _attention(case)(weight, mask, *arguments), expected


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
        params = _named(arrays)
        kernels = {part: params[part]["kernel"].T for part in PROJECTIONS}
        biases = torch.cat([params[part]["bias"] for part in PROJECTIONS[:3]])
        memory = memory.transpose(0, 1)
        mixed, _ = F.multi_head_attention_forward(
            x.transpose(0, 1), memory, memory, WIDTH, HEADS,
            None, biases, None, None, False, 0.0,
            kernels["output"], params["output"]["bias"],
            key_padding_mask=torch.tensor(~mask), need_weights=False,
            use_separate_proj_weight=True, q_proj_weight=kernels["query"],
            k_proj_weight=kernels["key"], v_proj_weight=kernels["value"],
        )  # fmt: skip
        return mixed.transpose(0, 1)

    expected = torch_differentiated(peer, weight, *arguments)
    return _cross_attention(weight, mask, *arguments), expected


HIDDEN = 3 * WIDTH
# Names and shapes of the params of torch's block; query, key and value are one array there.
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
    """The params of nn.transformer_block from those of torch."""
    theirs = dict(zip(BLOCK, arrays, strict=True))

    def affine(name):
        return {"kernel": theirs[f"{name}.weight"].T, "bias": theirs[f"{name}.bias"]}

    def norm(name):
        return {"scale": theirs[f"{name}.weight"], "bias": theirs[f"{name}.bias"]}

    kernels = jnp.split(theirs["self_attn.in_proj_weight"].T, 3, axis=1)
    biases = jnp.split(theirs["self_attn.in_proj_bias"], 3)
    attention = {"output": affine("self_attn.out_proj")}
    for part, kernel, bias in zip(PROJECTIONS[:3], kernels, biases, strict=True):
        attention[part] = {"kernel": kernel, "bias": bias}
    return {
        "attention_norm": norm("norm1"),
        "attention": attention,
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
    sizes = (WIDTH, HEADS, HIDDEN)
    options = {"batch_first": True, "norm_first": True, "dtype": getattr(torch, dtype)}
    return torch.nn.TransformerEncoderLayer(*sizes, 0.0, "gelu", **options)


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

    expected = torch_differentiated(peer, weight, *arguments)
    return _block(causal)(weight, mask, *arguments), expected
