"""Cost of N runs as lanes of one program, as N calls of `jit(run)`, and as N runs of torch.

A run is 5 epochs of a 64-32-10 network on the digits with Adam; the runs have different learning
rates, as in a search. Lanes are `jit(vmap(run))`. Goal: 64 lanes take at most 0.06 of the time of
64 runs of torch's eager loop. Run `python benchmarks/lanes.py`.
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


SINGLE, LANES = jax.jit(run), jax.jit(jax.vmap(run))


def torch_data(inputs: np.ndarray, labels: np.ndarray) -> tuple:
    pixels = np.asarray(inputs, np.float32).reshape(len(inputs), -1) / 255
    return torch.from_numpy(pixels), torch.from_numpy(np.asarray(labels)).long()


def torch_run(rate: float) -> float:
    """The same run, written as in the tutorials of torch."""
    layers = torch.nn
    images, labels = torch_data(*DIGITS.train)
    test_images, test_labels = torch_data(*DIGITS.test)
    hidden, out = layers.Linear(images.shape[1], 32), layers.Linear(32, 10)
    model = layers.Sequential(hidden, layers.ReLU(), out)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loss_of = layers.CrossEntropyLoss()
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
    """One run per rate, on one thread: a second one does not pay for arrays of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for rate in rates:
        torch_run(rate)
    torch.set_num_threads(threads)


def programs(count: int) -> dict[str, Program]:
    keys = jax.random.split(jax.random.key(0), count)
    rates = jnp.geomspace(1e-4, 1e-1, count)
    pairs = [(keys[i], rates[i]) for i in range(count)]
    by_name: dict[str, Program] = {
        "calls": lambda: jax.block_until_ready([SINGLE(*pair) for pair in pairs]),
        "lanes": lambda: jax.block_until_ready(LANES(keys, rates)),
    }
    if torch:
        by_name["torch"] = lambda: with_torch([float(rate) for rate in rates])
    return by_name


def main() -> None:
    rows, goals = [], []
    for count in COUNTS:
        timings = compare(programs(count), base="lanes", rounds=ROUNDS if count <= JUDGED else 1)
        columns = {"calls": "N calls, s", "lanes": "N lanes, s", "torch": "N runs of torch, s"}
        row = {"runs": str(count)}
        for name, timing in timings.items():
            row[columns[name]] = f"{timing.seconds:.3f}"
        for name, timing in timings.items():
            if name != "lanes":
                row[f"{name} / lanes"] = f"{timing.ratio:.1f}"
        rows.append(row)
        if torch and count == JUDGED:
            ratio = 1 / timings["torch"].ratio
            goals.append(judge(f"{count} lanes relative to torch:", ratio, 0.06))
    method = f"Warm, median of {ROUNDS} alternating rounds; 256 runs once."
    show(__doc__, method, rows, *goals, *missing("torch"))


if __name__ == "__main__":
    main()
