"""Ten LeNet-5 as an ensemble: one call, ten runs, and ten runs of other libraries.

Each member trains for one epoch on 2,560 images of 28 x 28 in batches of 128, with Adam, from an
initialization and in an order of its own. Prediction is of 10,000 images. All programs were
compiled before. `flax, vmap` is the ensemble that a user of flax and optax writes by hand.
Run `python benchmarks/ensembles.py`.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from measure import Program, Timing, compare, judge, missing, show, table, version

from fnn import ensemble, nn, optim, train
from fnn.search.lanes import Lanes, prepare_task

MEMBERS, EXAMPLES, BATCH, RATE, ROUNDS, UNKNOWN = 10, 2560, 128, 1e-3, 3, 10_000
KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, MEMBERS)
generator = np.random.default_rng(0)
X = generator.random((EXAMPLES, 28, 28, 1), np.float32)
Y = generator.integers(0, 10, EXAMPLES).astype(np.int32)
INPUTS = generator.random((UNKNOWN, 28, 28, 1), np.float32)
RECIPE = train.recipe(nn.lenet5(), optim.adam(RATE), metrics={})
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": BATCH}
STEPS = EXAMPLES // BATCH


def by_fnn() -> tuple[dict[str, Program], dict[str, Program]]:
    """Training and prediction by one call, and by a loop over members."""

    @jax.jit
    def run(key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        return train.run(key, RECIPE, (x, y), **OPTIONS).train_state.params

    data = jax.device_put((X, Y))
    members = ensemble.train(KEY, RECIPE, (X, Y), n=MEMBERS, **OPTIONS).members
    training = {
        "fnn, ensemble.train": lambda: ensemble.train(KEY, RECIPE, data, n=MEMBERS, **OPTIONS),
        "fnn, ten runs": lambda: jax.block_until_ready([run(key, *data) for key in KEYS]),
    }
    inputs = jax.device_put(INPUTS)
    prediction = {
        "fnn, ensemble.predict": lambda: jax.block_until_ready(ensemble.predict(members, inputs)),
        "fnn, ten calls": lambda: jax.block_until_ready(
            [train.predict(*member, inputs) for member in members]
        ),
    }
    return training, prediction


def by_flax() -> tuple[dict[str, Program], dict[str, Program]]:
    """The same network of flax, trained by optax within one jitted function."""
    import optax
    from flax import linen

    class LeNet(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for channels in (6, 16):
                x = linen.tanh(linen.Conv(channels, (5, 5), padding="VALID")(x))
                x = linen.avg_pool(x, (2, 2), (2, 2))
            x = x.reshape(len(x), -1)
            for width in (120, 84):
                x = linen.tanh(linen.Dense(width)(x))
            return linen.Dense(10)(x)

    network = LeNet()
    optimizer = optax.adam(RATE)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = network.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def run(key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        first, second = jax.random.split(key)
        params = network.init(first, x[:1])
        order = jax.random.permutation(second, EXAMPLES).reshape(STEPS, BATCH)

        def step(carry: Any, rows: jax.Array) -> Any:
            params, state = carry
            grads = jax.grad(loss)(params, x[rows], y[rows])
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), order)
        return params

    x, y = jax.device_put((X, Y))
    inputs = jax.device_put(INPUTS)
    single = jax.jit(run)
    lanes = jax.jit(jax.vmap(run, (0, None, None)))
    stacked = lanes(KEYS, x, y)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(MEMBERS)]
    apply = jax.jit(network.apply)
    mapped = jax.jit(jax.vmap(network.apply, (0, None)))
    training = {
        "flax, vmap": lambda: jax.block_until_ready(lanes(KEYS, x, y)),
        "flax, ten runs": lambda: jax.block_until_ready([single(key, x, y) for key in KEYS]),
    }
    prediction = {
        "flax, vmap": lambda: jax.block_until_ready(mapped(stacked, inputs)),
        "flax, ten calls": lambda: jax.block_until_ready([apply(one, inputs) for one in parts]),
    }
    return training, prediction


def by_torch() -> tuple[dict[str, Program], dict[str, Program]]:
    """Ten runs in eager PyTorch."""
    import torch

    x = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(Y.astype(np.int64))
    inputs = torch.from_numpy(INPUTS).permute(0, 3, 1, 2).contiguous()

    def make() -> Any:
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 5), torch.nn.Tanh(), torch.nn.AvgPool2d(2),
            torch.nn.Conv2d(6, 16, 5), torch.nn.Tanh(), torch.nn.AvgPool2d(2),
            torch.nn.Flatten(), torch.nn.Linear(256, 120), torch.nn.Tanh(),
            torch.nn.Linear(120, 84), torch.nn.Tanh(), torch.nn.Linear(84, 10),
        )  # fmt: skip

    def run() -> Any:
        network = make()
        optimizer = torch.optim.Adam(network.parameters(), RATE)
        for rows in torch.randperm(EXAMPLES).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
        return network

    networks = [make() for _ in range(MEMBERS)]

    def predict() -> Any:
        with torch.no_grad():
            return [torch.cat([one(part) for part in inputs.split(256)]) for one in networks]

    return (
        {"torch, ten runs": lambda: [run() for _ in range(MEMBERS)]},
        {"torch, ten calls": predict},
    )


def memory() -> list[dict[str, str]]:
    """Bytes of memory of a member, from the compiled programs."""
    task = prepare_task([RECIPE], (X, Y), None, epochs=1, batch_size=BATCH)
    rows = []
    for width in (1, MEMBERS):
        _, size = Lanes(RECIPE, task, MEMBERS, width).measure(width)
        rows.append({"members at a time": str(width), "MB a member": f"{size / 1e6:.1f}"})
    return rows


def rows_of(timings: dict[str, Timing], count: int) -> list[dict[str, str]]:
    return [
        {
            "ten members": name,
            "s": f"{one.seconds:.2f}",
            "examples a second": f"{MEMBERS * count / one.seconds:,.0f}",
            "× the first": f"{one.ratio:.2f}",
        }
        for name, one in timings.items()
    ]


def main() -> None:
    arms = [by_fnn()]
    if version("flax") and version("optax"):
        arms.append(by_flax())
    if version("torch"):
        arms.append(by_torch())
    training: dict[str, Program] = {}
    prediction: dict[str, Program] = {}
    for train_arm, predict_arm in arms:
        training |= train_arm
        prediction |= predict_arm
    timed = partial(compare, rounds=ROUNDS)
    trained = timed(training, base="fnn, ensemble.train")
    predicted = timed(prediction, base="fnn, ensemble.predict")
    goals = []
    for name in ("fnn, ten runs", "flax, vmap", "flax, ten runs", "torch, ten runs"):
        if name in trained:
            goals.append(judge(f"time of {name}, training:", trained[name].ratio, 1, at_least=True))
    show(
        __doc__,
        f"Warm, median of {ROUNDS} alternating rounds.",
        rows_of(trained, EXAMPLES),
        *goals,
        "Prediction:",
        table(rows_of(predicted, UNKNOWN)),
        "Memory of training, temporary and carried values:",
        table(memory()),
        *missing("flax", "optax", "torch"),
    )


if __name__ == "__main__":
    main()
