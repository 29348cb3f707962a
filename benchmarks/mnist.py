"""How long MNIST takes to 99 % of the test images: the same network and recipe in fnn and in torch.

Images are moved by up to two pixels, Adam follows a one-cycle schedule, and the 10,000 test images are looked at after
each epoch. Goal: fnn takes at most 0.7 of the time of torch, the time for compiling included. Run
`python benchmarks/mnist.py`, with MNIST=folder for where its files are; else they are downloaded on first use.
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

MOVED, DROPPED, CLASSES = 2, 0.3, 10
WANTED, ROUNDS = 0.99, 3


class Setup(NamedTuple):
    """A network in both libraries, and how it is trained."""

    network: Layer
    module: Callable[[], object]
    epochs: int
    batch: int
    peak: float


def convolutions() -> object:
    from torch import nn as tnn

    return tnn.Sequential(
        tnn.Conv2d(1, 32, 5, 2, 2), tnn.ReLU(), tnn.Conv2d(32, 64, 3, 2, 1), tnn.ReLU(), tnn.Flatten(),
        tnn.Linear(64 * 7 * 7, 128), tnn.ReLU(), tnn.Dropout(DROPPED), tnn.Linear(128, CLASSES),
    ).to(memory_format=torch.channels_last)  # fmt: skip


def perceptron() -> object:
    from torch import nn as tnn

    def block(inputs: int) -> list[object]:
        return [tnn.Linear(inputs, 512), tnn.BatchNorm1d(512), tnn.ReLU(), tnn.Dropout(DROPPED)]

    return tnn.Sequential(tnn.Flatten(), *block(784), *block(512), tnn.Linear(512, CLASSES))


def dense_block() -> list[Layer]:
    return [nn.dense(512), nn.batch_norm(), nn.relu(), nn.dropout(DROPPED)]


SETUPS = {
    "two convolutions": Setup(
        nn.chain(
            nn.conv(32, 5, stride=2), nn.relu(), nn.conv(64, stride=2), nn.relu(), nn.flatten(),
            nn.dense(128), nn.relu(), nn.dropout(DROPPED), nn.dense(CLASSES),
        ), convolutions, epochs=4, batch=64, peak=3e-3,
    ),
    "a perceptron": Setup(
        nn.chain(nn.flatten(), *dense_block(), *dense_block(), nn.dense(CLASSES)), perceptron,
        epochs=20, batch=128, peak=5e-3,
    ),
}  # fmt: skip


def with_fnn(setup: Setup, mnist: data.DataSet, seed: int) -> float:
    """The accuracy after a run."""
    length = {"epochs": setup.epochs, "batch_size": setup.batch}
    schedule = optim.one_cycle(setup.peak, steps=train.num_steps(mnist.train, **length))
    moved = augment.random_crop(padding=MOVED, mode="constant")
    recipe = train.recipe(setup.network, optim.adam(schedule), augment=moved)
    result = lab.fit(
        jax.random.key(seed), recipe, mnist.train, valid=mnist.test, show=False, **length
    )
    return float(result.history.valid_accuracy[-1])


def with_torch(setup: Setup, mnist: data.DataSet, seed: int) -> float:
    """The same in torch: data in memory, each batch moved by one gather, a fused optimizer."""
    from torch.nn import functional

    torch.manual_seed(seed)
    model = setup.module()
    (images, labels), (tests, answers) = (
        (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(y).long())
        for x, y in mnist
    )
    padded = functional.pad(images, (MOVED,) * 4)[:, 0]
    length = len(images) // setup.batch
    schedule = optim.one_cycle(setup.peak, steps=setup.epochs * length)
    rates = iter(np.asarray(jax.vmap(schedule)(np.arange(setup.epochs * length))).tolist())
    optimizer = torch.optim.Adam(model.parameters(), lr=setup.peak, fused=True)
    pixels = torch.arange(images.shape[-1])
    for _ in range(setup.epochs):
        model.train()
        for batch in torch.randperm(len(images))[: length * setup.batch].split(setup.batch):
            rows, columns = (
                torch.randint(2 * MOVED + 1, (setup.batch, 1)) + pixels for _ in range(2)
            )
            x = padded[batch[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), labels[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = [
                (model(x).argmax(1) == y).sum()
                for x, y in zip(tests.split(500), answers.split(500), strict=True)
            ]
    return float(sum(right)) / len(tests)


def main() -> None:
    try:
        mnist = data.mnist(os.environ.get("MNIST"))
    except DatasetUnavailableError:
        show(
            __doc__,
            "Not measured: the files are not here, nor to be fetched. MNIST=folder tells where they are.",
            [],
        )
        return
    rows, goals = [], []
    for name, setup in SETUPS.items():
        runs = {"fnn": partial(with_fnn, setup, mnist)}
        runs |= {"torch": partial(with_torch, setup, mnist)} if torch else {}
        finishes = race(runs, base="fnn", rounds=ROUNDS)
        rows += [finish.row(f"{name}, {own}") for own, finish in finishes.items()]
        goals += (
            [judge(f"{name}, fnn by torch:", 1 / finishes["torch"].ratio, 0.7, form=".2f")]
            if torch
            else []
        )
        least = finishes["fnn"].least
        goals.append(
            judge(f"{name}, least accuracy of fnn:", least, WANTED, at_least=True, form=".4f")
        )
    show(
        __doc__, f"{ROUNDS} seeds, in alternating rounds; medians.", rows, *goals, *missing("torch")
    )


if __name__ == "__main__":
    main()
