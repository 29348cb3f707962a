"""What N runs cost as lanes of one program, `jit(vmap(run))`, as N calls of `jit(run)`, and as N runs of torch.

A run is 5 epochs of a 64-32-10 network on the digits under Adam, and each has a learning rate of its own: a search.
Goal: 64 lanes take at most 0.06 of the time of 64 runs of torch's eager loop. Run `python benchmarks/lanes.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, compare, judge, missing, show

import fnn
from fnn import nn, optim, train

try:
    import torch
except ImportError:
    torch = None

EPOCHS, BATCH = 5, 32
COUNTS = (1, 4, 16, 64, 256)
JUDGED = 64
ROUNDS = 5

DIGITS = fnn.data.digits()
NETWORK = nn.chain(nn.flatten(), nn.dense(32), nn.relu(), nn.dense(10))


def run(key: jax.Array, rate: jax.Array) -> jax.Array:
    """The validation accuracy at the end of a run."""
    recipe = train.recipe(NETWORK, optim.adam(rate))
    result = train.run(
        key, recipe, DIGITS.train, epochs=EPOCHS, batch_size=BATCH, valid=DIGITS.test
    )
    return result.history.valid_accuracy[-1]


ALONE, TOGETHER = jax.jit(run), jax.jit(jax.vmap(run))


def torch_run(rate: float) -> float:
    """The same as torch's own tutorials write it, on one thread: arrays this small are not worth a second one."""
    layers = torch.nn
    (images, labels), (test_images, test_labels) = (
        (
            torch.from_numpy(np.asarray(x, np.float32).reshape(len(x), -1) / 255),
            torch.from_numpy(np.asarray(y)).long(),
        )
        for x, y in (DIGITS.train, DIGITS.test)
    )
    model = layers.Sequential(
        layers.Linear(images.shape[1], 32), layers.ReLU(), layers.Linear(32, 10)
    )
    optimizer, loss_of = torch.optim.Adam(model.parameters(), lr=rate), layers.CrossEntropyLoss()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for step in range(len(images) // BATCH):
            batch = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(test_images).argmax(1) == test_labels).float().mean()
    return float(accuracy)


def with_torch(rates: list[float]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for rate in rates:
        torch_run(rate)
    torch.set_num_threads(threads)


def programs(count: int) -> dict[str, Program]:
    keys, rates = jax.random.split(jax.random.key(0), count), jnp.geomspace(1e-4, 1e-1, count)
    pairs = [(keys[i], rates[i]) for i in range(count)]
    found = {
        "calls": lambda: jax.block_until_ready([ALONE(*pair) for pair in pairs]),
        "lanes": lambda: jax.block_until_ready(TOGETHER(keys, rates)),
    }
    return found | ({"torch": lambda: with_torch([float(rate) for rate in rates])} if torch else {})


def main() -> None:
    rows, goals = [], []
    for count in COUNTS:
        timings = compare(programs(count), base="lanes", rounds=ROUNDS if count <= JUDGED else 1)
        calls = {"N calls, s": "calls", "N lanes, s": "lanes"} | (
            {"N runs of torch, s": "torch"} if torch else {}
        )
        rows.append(
            {"runs": str(count)}
            | {column: f"{timings[name].seconds:.3f}" for column, name in calls.items()}
            | {
                f"{name} by lanes": f"{t.ratio:.1f}"
                for name, t in timings.items()
                if name != "lanes"
            }
        )
        if torch and count == JUDGED:
            goals.append(judge(f"{count} lanes by torch:", 1 / timings["torch"].ratio, 0.06))
    method = f"Warm, median of {ROUNDS} alternating rounds, of 256 once."
    show(__doc__, method, rows, *goals, *missing("torch"))


if __name__ == "__main__":
    main()
