"""Recurrent layers, held against torch, which reads packed sequences of different lengths."""

from functools import cache

import jax
import numpy as np
import torch
from harness import family
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fnn import nn

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 3
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
PEERS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
WAYS = {False: [""], True: ["forward", "backward"]}


@family("torch")
def rnn(draw: np.random.Generator, dtype: str):
    return _problem("rnn", draw, dtype)


@family("torch")
def lstm(draw: np.random.Generator, dtype: str):
    return _problem("lstm", draw, dtype)


@family("torch")
def gru(draw: np.random.Generator, dtype: str):
    return _problem("gru", draw, dtype)


def _problem(name: str, draw: np.random.Generator, dtype: str):
    """From one end or from both: all outputs and the last, and the gradients by x and by all params."""
    both = bool(draw.integers(2))

    def normal(*shape: int, scale: float = 1.0):
        return (scale * draw.normal(size=shape)).astype(dtype)

    def params():
        width = GATES[name] * UNITS
        kernels = {
            "kernel": normal(FEATURES, width, scale=0.5),
            "recurrent_kernel": normal(UNITS, width, scale=0.5),
        }
        return (
            kernels
            | {"bias": normal(width)}
            | ({"recurrent_bias": normal(UNITS)} if name == "gru" else {})
        )

    x, lengths = normal(BATCH, TIME, FEATURES), draw.integers(1, TIME + 1, BATCH)
    own = [params() for _ in WAYS[both]]
    outputs = UNITS * len(own)
    weights = normal(BATCH, TIME, outputs), normal(BATCH, outputs)
    got = _reader(name, both)(weights, own, x, lengths)
    return got, _torch(name, weights, own, x, lengths)


@cache
def _reader(name: str, both: bool):
    layers = [getattr(nn, name)(UNITS, bidirectional=both, last=last) for last in (False, True)]

    def apply(own, x, lengths):
        params = dict(zip(WAYS[both], own, strict=True)) if both else own[0]
        return tuple(layer.apply(params, {}, (x, lengths))[0] for layer in layers)

    @jax.jit
    def evaluate(weights, own, x, lengths):
        y, pull = jax.vjp(lambda own, x: apply(own, x, lengths), own, x)
        return y, *pull(weights)

    return evaluate


def _torch(name: str, weights, own, x, lengths):
    module = PEERS[name](
        FEATURES, UNITS, batch_first=True, bidirectional=len(own) == 2, dtype=torch.tensor(x).dtype
    )
    for params, names in zip(own, module._all_weights, strict=True):
        extra = np.concatenate(
            [np.zeros_like(params["bias"][:-UNITS]), params.get("recurrent_bias", np.zeros(UNITS))]
        )
        arrays = params["kernel"].T, params["recurrent_kernel"].T, params["bias"], extra
        for own_name, array in zip(names, arrays, strict=True):
            getattr(module, own_name).data.copy_(torch.tensor(array))
    leaf = torch.tensor(x, requires_grad=True)
    packed, last = module(
        pack_padded_sequence(leaf, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    )
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=TIME)
    last = torch.cat(list(last[0] if name == "lstm" else last), dim=-1)
    total = sum(
        (part * torch.tensor(weight)).sum() for part, weight in zip((y, last), weights, strict=True)
    )
    total.backward()
    return (y, last), [_grads(name, module, names) for names in module._all_weights], leaf.grad


def _grads(name: str, module, names):
    kernel, recurrent, bias, extra = (getattr(module, own_name).grad for own_name in names)
    grads = {"kernel": kernel.T, "recurrent_kernel": recurrent.T, "bias": bias}
    return grads | ({"recurrent_bias": extra[-UNITS:]} if name == "gru" else {})
