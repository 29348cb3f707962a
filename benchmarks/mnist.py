"""Time to 99 % test accuracy on MNIST: the same network and recipe in fnn and in torch.

Images are shifted by up to two pixels, Adam follows a one-cycle schedule, and the 10,000 test
images are evaluated after each epoch. Goal: fnn takes at most 0.7 of the time of torch, compilation
included. Run `python benchmarks/mnist.py`; MNIST=folder names the folder of the files, which are
otherwise downloaded on first use.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from measure import judge, missing, race, show

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import DatasetUnavailableError
from fnn.types import Layer

try:
    import torch
except ImportError:
    torch = None

SHIFT, DROP_RATE, CLASSES = 2, 0.3, 10
GOAL, ROUNDS = 0.99, 3  # goal of the accuracy


class Setup(NamedTuple):
    """A network in both libraries, and how it is trained."""

    network: Layer
    module: Callable[[], object]
    epochs: int
    batch: int
    peak: float


def convolutions() -> object:
    from torch import nn as tnn

    body = [tnn.Conv2d(1, 32, 5, 2, 2), tnn.ReLU(), tnn.Conv2d(32, 64, 3, 2, 1), tnn.ReLU()]
    hidden = [tnn.Flatten(), tnn.Linear(64 * 7 * 7, 128), tnn.ReLU(), tnn.Dropout(DROP_RATE)]
    network = tnn.Sequential(*body, *hidden, tnn.Linear(128, CLASSES))
    return network.to(memory_format=torch.channels_last)


def perceptron() -> object:
    from torch import nn as tnn

    def block(inputs: int) -> list[object]:
        return [tnn.Linear(inputs, 512), tnn.BatchNorm1d(512), tnn.ReLU(), tnn.Dropout(DROP_RATE)]

    return tnn.Sequential(tnn.Flatten(), *block(784), *block(512), tnn.Linear(512, CLASSES))


def dense_block() -> list[Layer]:
    return [nn.dense(512), nn.batch_norm(), nn.relu(), nn.dropout(DROP_RATE)]


SETUPS = {
    "two convolutions": Setup(
        nn.chain(
            nn.conv(32, 5, stride=2), nn.relu(), nn.conv(64, stride=2), nn.relu(), nn.flatten(),
            nn.dense(128), nn.relu(), nn.dropout(DROP_RATE), nn.dense(CLASSES),
        ), convolutions, epochs=4, batch=64, peak=3e-3,
    ),
    "a perceptron": Setup(
        nn.chain(nn.flatten(), *dense_block(), *dense_block(), nn.dense(CLASSES)), perceptron,
        epochs=20, batch=128, peak=5e-3,
    ),
}  # fmt: skip


def with_fnn(setup: Setup, mnist: data.DataSet, seed: int) -> float:
    """The test accuracy after a run."""
    length = {"epochs": setup.epochs, "batch_size": setup.batch}
    schedule = optim.one_cycle(setup.peak, steps=train.num_steps(mnist.train, **length))
    shift = augment.random_crop(padding=SHIFT, mode="constant")
    recipe = train.recipe(setup.network, optim.adam(schedule), augment=shift)
    key = jax.random.key(seed)
    result = lab.fit(key, recipe, mnist.train, valid=mnist.test, show=False, **length)
    return float(result.history.valid_accuracy[-1])


def as_tensors(inputs: np.ndarray, labels: np.ndarray) -> tuple:
    """Floats in [0, 1] with channels first, and labels."""
    images = torch.from_numpy(inputs).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(labels).long()


def with_torch(setup: Setup, mnist: data.DataSet, seed: int) -> float:
    """The same in torch: data in memory, each batch shifted by one gather, a fused optimizer."""
    from torch.nn import functional

    torch.manual_seed(seed)
    model = setup.module()
    images, labels = as_tensors(*mnist.train)
    tests, answers = as_tensors(*mnist.test)
    padded = functional.pad(images, (SHIFT,) * 4)[:, 0]
    length = len(images) // setup.batch
    schedule = optim.one_cycle(setup.peak, steps=setup.epochs * length)
    rates = iter(np.asarray(jax.vmap(schedule)(np.arange(setup.epochs * length))).tolist())
    optimizer = torch.optim.Adam(model.parameters(), lr=setup.peak, fused=True)
    pixels = torch.arange(images.shape[-1])
    for _ in range(setup.epochs):
        model.train()
        for batch in torch.randperm(len(images))[: length * setup.batch].split(setup.batch):
            shape = (setup.batch, 1)
            rows = torch.randint(2 * SHIFT + 1, shape) + pixels
            columns = torch.randint(2 * SHIFT + 1, shape) + pixels
            x = padded[batch[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), labels[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            batches = zip(tests.split(500), answers.split(500), strict=True)
            correct = [(model(x).argmax(1) == y).sum() for x, y in batches]
    return float(sum(correct)) / len(tests)


def main() -> None:
    try:
        mnist = data.mnist(os.environ.get("MNIST"))
    except DatasetUnavailableError:
        method = "Not measured: no files, and no download. MNIST=folder names their folder."
        show(__doc__, method, [])
        return
    rows, goals = [], []
    for name, setup in SETUPS.items():
        runs = {"fnn": partial(with_fnn, setup, mnist)}
        if torch:
            runs["torch"] = partial(with_torch, setup, mnist)
        finishes = race(runs, base="fnn", rounds=ROUNDS)
        rows += [finish.row(f"{name}, {library}") for library, finish in finishes.items()]
        if torch:
            ratio = 1 / finishes["torch"].ratio
            goals.append(judge(f"{name}, fnn relative to torch:", ratio, 0.7, form=".2f"))
        label = f"{name}, lowest accuracy of fnn:"
        goals.append(judge(label, finishes["fnn"].lowest, GOAL, at_least=True, form=".4f"))
    method = f"{ROUNDS} seeds, in alternating rounds; medians."
    show(__doc__, method, rows, *goals, *missing("torch"))


if __name__ == "__main__":
    main()
