"""Cost of the tiers of instruments, relative to a run without them.

Goals: economy at most 5 % of the step, full at most 25 %, on the network of the digits demo and on
a perceptron. Run `python benchmarks/instruments.py`.
"""

from functools import partial

import jax
import numpy as np
from measure import compare, judge, show

from fnn import data, diagnose, nn, optim, train
from fnn.types import Layer

ROUNDS = 15
EPOCHS, BATCH = 9, 64
TIERS = ("economy", "business", "full")
GOALS = {"economy": 0.05, "full": 0.25}
DIGITS = data.digits()


def convolutional() -> Layer:
    return nn.chain(
        nn.conv(24), nn.batch_norm(), nn.relu(),
        nn.conv(24), nn.batch_norm(), nn.relu(), nn.max_pool(),
        nn.residual(nn.chain(nn.conv(24), nn.batch_norm(), nn.relu())),
        nn.flatten(), nn.dropout(0.4), nn.dense(10),
    )  # fmt: skip


def perceptron() -> Layer:
    hidden = [layer for _ in range(3) for layer in (nn.dense(256), nn.relu())]
    return nn.chain(nn.flatten(), *hidden, nn.dense(10))


def train_with(network: Layer, tier: str | None) -> object:
    instruments = None if tier is None else diagnose.instruments(tier)
    recipe = train.recipe(network, optim.adam(1e-3), instruments=instruments)
    result = train.run(jax.random.key(0), recipe, DIGITS.train, epochs=EPOCHS, batch_size=BATCH)
    return jax.block_until_ready(result)


def main() -> None:
    steps = train.num_steps(DIGITS.train, epochs=EPOCHS, batch_size=BATCH)
    rows, goals = [], []
    for name, network in {"demo": convolutional(), "perceptron": perceptron()}.items():
        programs = {"none": partial(train_with, network, None)}
        programs |= {tier: partial(train_with, network, tier) for tier in TIERS}
        timings = compare(programs, base="none", rounds=ROUNDS)
        row = {"network": name, "ms per step": f"{1e3 * timings['none'].seconds / steps:.2f}"}
        rows.append(row | {tier: f"{timings[tier].ratio - 1:+.1%}" for tier in TIERS})
        for tier, goal in GOALS.items():
            overhead = timings[tier].ratio - 1
            goals.append(judge(f"{tier}, {name}:", overhead, goal, form=".1%"))
    measured = int(np.ceil(steps / diagnose.instruments().every))
    method = (
        f"{steps} steps of {BATCH} digits, {measured} of them measured; "
        f"median of {ROUNDS} alternating rounds, warm."
    )
    show(__doc__, method, rows, *goals)


if __name__ == "__main__":
    main()
