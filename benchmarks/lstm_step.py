"""What a step of an LSTM costs, and what it costs peers.

One layer of 256 units reads 64 steps of 128 numbers, batch 32, and a dense layer tells one of 10 classes from its last
state; Adam. torch's LSTM is one fused call. Run `python benchmarks/lstm_step.py`.
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
    return Model(
        equinox.nn.LSTMCell(FEATURES, UNITS, key=cell), equinox.nn.Linear(UNITS, CLASSES, key=out)
    )


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
    found = {FNN: inside(*step, WORK), "fnn, a call a step": outside(*step, WORK)}
    found |= {"flax nnx + optax": with_nnx(nnx_model(), WORK)} if nnx else {}
    found |= {"equinox + optax": with_equinox(equinox_model, WORK)} if equinox else {}
    found |= {"torch, eager": with_torch(torch_model(), WORK)} if torch else {}
    return found


def main() -> None:
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; torch's Adam is its fused one."
    chance = (
        f"A guess at random has the loss {math.log(CLASSES):.2f}; what is above, the weights drawn."
    )
    told = rows(programs(), base=FNN, rounds=ROUNDS)
    show(__doc__, method, told, chance, *missing("torch", "flax", "equinox"))


if __name__ == "__main__":
    main()
