"""Transfer by the number of examples: from scratch, probe, neighbors, last block or all?

Run it with `python examples/27_transfer_sizes.py [DIRECTORY]`. DIRECTORY contains the four files of
MNIST; without it they are downloaded on first use. A network that was trained on the digits 0 to 4
learns 5 to 9 from 10 to 5,000 examples. The table shows the mean test accuracy over several draws
of the examples, and from which size on one way is better than another. The picture is in
out/transfer_sizes.png.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import data, nn, optim, train, transfer

SIZES, KEYS, STEPS, BATCH, EPOCHS, KNOWN = (10, 30, 100, 300, 1000, 5000), 5, 300, 50, 3, 20_000
OUT = Path("out")

body = nn.chain(
    nn.conv(16), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.conv(32), nn.batch_norm(), nn.relu(), nn.max_pool(), nn.flatten(),
    nn.dense(64), nn.relu(),
)  # fmt: skip
network = nn.chain(body=body, head=nn.dense(5))


def select(examples, first, most=None):
    """The images of five digits from a first one on, with labels from 0."""
    images, labels = examples
    chosen = (first <= labels) & (labels < first + 5)
    return images[chosen][:most], labels[chosen][:most] - first


def accuracy_of(recipe, test, size):
    """The mean and the standard error of the test accuracy of trained networks."""
    batch_size = min(BATCH, size)
    epochs = max(1, STEPS * batch_size // size)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0))
    def accuracies(key, few):
        state = train.run(key, recipe, few, epochs=epochs, batch_size=batch_size).train_state
        return train.evaluate(recipe, state, test)["accuracy"]

    return lambda keys, samples: np.asarray(accuracies(keys, samples))


def beaten(ours, theirs):
    """The sizes at which the first is better by more than two standard errors, paired by draws."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    is_better = [gap.mean() > 2 * gap.std(ddof=1) / np.sqrt(KEYS) for gap in gaps]
    found = [f"{size:,}" for size, better in zip(SIZES, is_better, strict=True) if better]
    return ", ".join(found) or "no number of"


def main(directory=None):
    mnist = data.mnist(directory)
    known, new = select(mnist.train, 0, KNOWN), select(mnist.train, 5)
    test = select(mnist.test, 5)
    key = jax.random.key(0)
    source = train.recipe(network, optim.adam(1e-3))
    run = train.run(key, source, known, epochs=EPOCHS, batch_size=128)
    weights = train.weights(source, run.train_state)
    test_features = transfer.features(source, weights, test[0])
    recipes = {
        "scratch": source,
        "last block": transfer.last_blocks(source, weights, 2, classes=5),
        "fine-tuning": transfer.fine_tune(source, weights, decay=0.5, classes=5),
    }
    table = {name: [] for name in ("scratch", "neighbors", "probe", "last block", "fine-tuning")}
    keys = jax.random.split(jax.random.key(1), KEYS)
    for size in SIZES:
        draws = [np.random.default_rng(i).permutation(len(new[1]))[:size] for i in range(KEYS)]
        samples = [(new[0][draw], new[1][draw]) for draw in draws]
        found = {"neighbors": [], "probe": []}
        for images, labels in samples:
            features = transfer.features(source, weights, images)
            nearest = transfer.nearest_neighbors(
                features, labels, test_features, k=min(5, size), classes=5
            )
            found["neighbors"].append((nearest.labels == test[1]).mean())
            probe = transfer.linear_probe(features, labels, l2=1e-2, classes=5)
            found["probe"].append((probe.predict(test_features).argmax(-1) == test[1]).mean())
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *samples)
        for name, recipe in recipes.items():
            found[name] = accuracy_of(recipe, test, size)(keys, stacked)
        for name, values in found.items():
            table[name].append(np.array(values))

    print(f"{'examples':12s}" + "".join(f"{size:>8d}" for size in SIZES))
    for name, values in table.items():
        print(f"{name:12s}" + "".join(f"{one.mean():8.3f}" for one in values))
    for name in ("scratch", "last block", "fine-tuning"):
        for fixed in ("neighbors", "probe"):
            print(f"{name} beats {fixed} at {beaten(table[name], table[fixed])} examples")

    OUT.mkdir(exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for marker, (name, values) in zip("osv^D", table.items(), strict=True):
        means = [1 - one.mean() for one in values]
        errors = [one.std(ddof=1) / np.sqrt(KEYS) for one in values]
        axes.errorbar(SIZES, means, errors, marker=marker, label=name)
    axes.set(xscale="log", yscale="log", xlabel="examples", ylabel="test error")
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.minorticks_off()
    ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
    axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.legend()
    figure.savefig(OUT / "transfer_sizes.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
