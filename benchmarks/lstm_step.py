"""Cost of a step of an LSTM, and in peers.

One layer of 256 units on batches of 32 sequences of 64 steps of 128 features; a dense layer on its
last state has 10 classes; Adam. The LSTM of torch is one fused call. Run
`python benchmarks/lstm_step.py`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, missing, show
from stepping import (
    CLASSES,
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

BATCH, TIME, FEATURES, UNITS, ROUNDS = 32, 64, 128, 256, 7
FNN = "fnn, in a scan"

RANDOM = np.random.default_rng(0)
SEQUENCES = RANDOM.normal(size=(STEPS, BATCH, TIME, FEATURES)).astype(np.float32)
WORK = Work(SEQUENCES, RANDOM.integers(CLASSES, size=(STEPS, BATCH)).astype(np.int32), "adam")


def nnx_model() -> Any:
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(FEATURES, UNITS, rngs=rngs))
            self.out = nnx.Linear(UNITS, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.out(self.rnn(x)[:, -1])

    return Model(nnx.Rngs(0))


def equinox_model(key: jax.Array) -> Any:
    class Model(equinox.Module):
        cell: equinox.nn.LSTMCell
        out: equinox.nn.Linear

        def __call__(self, x, state):
            start = jnp.zeros(UNITS), jnp.zeros(UNITS)
            (last, _), _ = jax.lax.scan(lambda carry, x: (self.cell(x, carry), None), start, x)
            return self.out(last), state

    cell, out = jax.random.split(key)
    lstm = equinox.nn.LSTMCell(FEATURES, UNITS, key=cell)
    return Model(lstm, equinox.nn.Linear(UNITS, CLASSES, key=out))


def torch_model() -> Any:
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(FEATURES, UNITS, batch_first=True)
            self.out = torch.nn.Linear(UNITS, CLASSES)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    return Model()


def programs() -> dict[str, Program]:
    step = fnn_step(nn.chain(nn.lstm(UNITS, last=True), nn.dense(CLASSES)), WORK)
    by_name = {FNN: inside(*step, WORK), "fnn, one call per step": outside(*step, WORK)}
    if nnx:
        by_name["flax nnx + optax"] = with_nnx(nnx_model(), WORK)
    if equinox:
        by_name["equinox + optax"] = with_equinox(equinox_model, WORK)
    if torch:
        by_name["torch, eager"] = with_torch(torch_model(), WORK)
    return by_name


def main() -> None:
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; fused Adam in torch."
    remark = (
        f"A random guess has the loss {math.log(CLASSES):.2f}; "
        "the rest is due to the initial weights."
    )
    table = rows(programs(), base=FNN, rounds=ROUNDS)
    show(__doc__, method, table, remark, *missing("torch", "flax", "equinox"))


if __name__ == "__main__":
    main()
