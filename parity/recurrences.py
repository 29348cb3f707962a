"""Recurrent layers, compared with torch on packed sequences of different lengths."""

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
DIRECTIONS = {False: [""], True: ["forward", "backward"]}


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
    """One direction or two: all outputs, the last one, and the gradients by x and the params."""
    both = bool(draw.integers(2))

    def normal(*shape: int, scale: float = 1.0):
        return (scale * draw.normal(size=shape)).astype(dtype)

    def params():
        width = GATES[name] * UNITS
        arrays = {
            "kernel": normal(FEATURES, width, scale=0.5),
            "recurrent_kernel": normal(UNITS, width, scale=0.5),
            "bias": normal(width),
        }
        if name == "gru":
            arrays["recurrent_bias"] = normal(UNITS)
        return arrays

    x = normal(BATCH, TIME, FEATURES)
    lengths = draw.integers(1, TIME + 1, BATCH)
    by_direction = [params() for _ in DIRECTIONS[both]]
    outputs = UNITS * len(by_direction)
    weights = normal(BATCH, TIME, outputs), normal(BATCH, outputs)
    got = _evaluation(name, both)(weights, by_direction, x, lengths)
    return got, _torch(name, weights, by_direction, x, lengths)


@cache
def _evaluation(name: str, both: bool):
    layers = [getattr(nn, name)(UNITS, bidirectional=both, last=last) for last in (False, True)]

    def apply(by_direction, x, lengths):
        params = dict(zip(DIRECTIONS[both], by_direction, strict=True)) if both else by_direction[0]
        return tuple(layer.apply(params, {}, (x, lengths))[0] for layer in layers)

    @jax.jit
    def evaluate(weights, by_direction, x, lengths):
        y, pull = jax.vjp(lambda params, x: apply(params, x, lengths), by_direction, x)
        return y, *pull(weights)

    return evaluate


def _torch(name: str, weights, by_direction, x, lengths):
    options = {"batch_first": True, "bidirectional": len(by_direction) == 2}
    module = PEERS[name](FEATURES, UNITS, **options, dtype=torch.tensor(x).dtype)
    for params, names in zip(by_direction, module._all_weights, strict=True):
        # Torch has a second bias of all gates, of which fnn has only the last, in the GRU.
        zeros = np.zeros_like(params["bias"][:-UNITS])
        second = np.concatenate([zeros, params.get("recurrent_bias", np.zeros(UNITS))])
        arrays = params["kernel"].T, params["recurrent_kernel"].T, params["bias"], second
        for torch_name, array in zip(names, arrays, strict=True):
            getattr(module, torch_name).data.copy_(torch.tensor(array))
    leaf = torch.tensor(x, requires_grad=True)
    lengths = torch.tensor(lengths)
    sequences = pack_padded_sequence(leaf, lengths, batch_first=True, enforce_sorted=False)
    packed, last = module(sequences)
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=TIME)
    hidden = last[0] if name == "lstm" else last
    last = torch.cat(list(hidden), dim=-1)  # (batch, directions * units)
    pairs = zip((y, last), weights, strict=True)
    total = sum((part * torch.tensor(weight)).sum() for part, weight in pairs)
    total.backward()
    return (y, last), [_grads(name, module, names) for names in module._all_weights], leaf.grad


def _grads(name: str, module, names):
    kernel, recurrent, bias, second = (getattr(module, torch_name).grad for torch_name in names)
    grads = {"kernel": kernel.T, "recurrent_kernel": recurrent.T, "bias": bias}
    if name == "gru":
        grads["recurrent_bias"] = second[-UNITS:]
    return grads
