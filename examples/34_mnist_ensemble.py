"""An ensemble on MNIST: 99.75 % of the test images by the mean of the probabilities of its members.

Run it with `python examples/34_mnist_ensemble.py [DIRECTORY] [--members 5] [--epochs 15]`.
DIRECTORY contains the four files of MNIST; without it they are downloaded on first use. The members
have the network of 02_mnist.py, every other one with larger filters, and train longer on stronger
augmentation. Each is kept in out/mnist_members, so that a run that was stopped continues. The mean
accuracy of a single member, that of the ensemble and the time of each are printed. The predictor is
saved in out/mnist_ensemble.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from fnn import augment, data, ensemble, lab, nn, optim, train

BATCH, PEAK, DECAY, SIZES = 128, 1e-2, 1e-2, (3, 5)
WIDTHS = (16, 32, 64)
OUT = Path("out")

policy = augment.chain(
    augment.rotate((-12, 12)),
    augment.shear(columns=(-0.2, 0.2)),
    augment.scale((0.85, 1.15)),
    augment.elastic((0.0, 1.5), mode="constant"),
    augment.random_crop(padding=2, mode="constant"),
)


def make_network(size):
    def block(channels):
        return nn.conv(channels, size), nn.batch_norm(), nn.relu()

    low, middle, high = WIDTHS
    return nn.chain(
        *block(low), *block(low), nn.max_pool(),
        *block(middle), *block(middle), nn.max_pool(),
        *block(high), nn.flatten(), nn.dropout(0.4), nn.dense(10),
    )  # fmt: skip


def fit_members(mnist, count, epochs):
    """Train one member after another, each with a key of its own."""
    steps = train.num_steps(mnist.train, epochs=epochs, batch_size=BATCH)
    optimizer = optim.adamw(optim.one_cycle(PEAK, steps=steps), weight_decay=DECAY)
    recipes, states = [], []
    for index in range(count):
        recipe = train.recipe(make_network(SIZES[index % len(SIZES)]), optimizer, augment=policy)
        began = time.perf_counter()
        result = lab.fit(
            jax.random.fold_in(jax.random.key(0), index),
            recipe,
            mnist.train,
            epochs=epochs,
            batch_size=BATCH,
            checkpoints=OUT / "mnist_members" / str(index),
            resume=True,
        )
        print(f"member {index + 1}: {time.perf_counter() - began:.0f} s")
        recipes.append(recipe)
        states.append(result.train_state)
    return ensemble.collect(recipes, states)


def main(directory=None, members=5, epochs=15):
    mnist = data.mnist(directory)
    images, labels = mnist.test
    trained = fit_members(mnist, members, epochs)
    began = time.perf_counter()
    logits = np.asarray(ensemble.predict(trained, images))  # (members, images, classes)
    seconds = time.perf_counter() - began
    single = (logits.argmax(-1) == labels).mean(1)
    # Random ensembles of each size show how far more members would help.
    generator = np.random.default_rng(0)
    for size in range(1, members + 1):
        draws = [generator.choice(members, size, replace=False) for _ in range(20)]
        found = [ensemble.average_probabilities(logits[draw]).argmax(-1) for draw in draws]
        mean = np.mean([(one == labels).mean() for one in found])
        print(f"{size} members: accuracy {mean:.4f}")
    combined = ensemble.average_probabilities(logits)
    accuracy = (combined.argmax(-1) == labels).mean()
    OUT.mkdir(exist_ok=True)
    lab.save_model(OUT / "mnist_ensemble", ensemble.predictor(trained))
    lab.plot_mistakes(images, combined, labels, OUT / "mnist_ensemble.png")
    spread = f"{single.mean():.4f} ({single.min():.4f} to {single.max():.4f})"
    print(f"test accuracy of one member {spread}, of the ensemble {accuracy:.4f}")
    print(f"prediction of {len(labels):,} images by all members: {seconds:.1f} s")
    return single, accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    parser.add_argument("--members", type=int, default=5, help="number of networks")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the images of each")
    arguments = parser.parse_args()
    main(arguments.directory, arguments.members, arguments.epochs)
