"""Overfitting: 300 images, seven layers, and the cures weight decay and dropout.

Run it with `python examples/30_overfitting.py [DIRECTORY]`. DIRECTORY contains the four files of
MNIST; without it the 8 x 8 digits of scikit-learn are used, which takes half a minute on two CPU
cores. A network of six hidden layers learns 300 images by heart: its training accuracy reaches 1,
that of the test images does not. Weight decay and dropout lower the one more than the other.
`diagnose.examine` names the fault, `diagnose.confirm` tries whether weight decay removes it, and
`diagnose.instruments` record the size of the kernels, which weight decay bounds. A picture is in
out/ [Saitoh 2016, Deep Learning from Scratch, chapter 6].
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import data, diagnose, nn, objective, optim, train

WIDTH, DEPTH, IMAGES, KEYS = 100, 6, 300, 3
EPOCHS, BATCH, RATE, DECAY, DROP_RATE = 200, 100, 0.05, 0.01, 0.2
PICTURE = Path("out/overfitting.png")


def recipe(prepare, *, decay=0.0, drop_rate=0.0):
    """Seven layers; recipes of other decays and drop rates share one program."""
    hidden = [nn.dense(WIDTH, kernel_init=nn.he_normal()), nn.relu(), nn.dropout(drop_rate)]
    return train.recipe(
        nn.chain(nn.flatten(), *hidden * DEPTH, nn.dense(10)),
        optim.sgd(RATE),
        prepare=prepare,
        regularizer=objective.l2(decay).on("*kernel"),
        instruments=diagnose.instruments(every=3),
    )


def train_all(keys, recipes, training, valid):
    """The results of each recipe, with an axis of keys."""

    def run(key, own):
        return train.run(key, own, training, valid=valid, epochs=EPOCHS, batch_size=BATCH)

    program = jax.jit(jax.vmap(run, (0, None)))
    return {name: program(keys, own) for name, own in recipes.items()}


def size_of_kernels(own, history, shape):
    """Mean root mean square of the kernels at each measured step, (keys, measurements)."""
    names = diagnose.parameter_names(own, shape)
    columns = [index for index, name in enumerate(names) if name.endswith("kernel")]
    sizes = np.asarray(history.weight_rms)[:, :, columns].mean(2)
    # Steps that are not measured are NaN.
    measured = np.isfinite(sizes[0])
    return np.flatnonzero(measured), sizes[:, measured]


def draw(results, sizes, path):
    """Plot the accuracies of each recipe by epoch, and the size of its kernels."""
    figure, panels = plt.subplots(1, len(results) + 1, figsize=(15, 3.6), layout="constrained")
    for axes, (name, result) in zip(panels, results.items(), strict=False):
        history = result.history
        training = np.asarray(history.accuracy).reshape(KEYS, EPOCHS, -1).mean(2)
        curves = {"training": training, "test": np.asarray(history.valid_accuracy)}
        for (label, values), color in zip(curves.items(), ("#0072B2", "#D55E00"), strict=True):
            epochs = np.arange(1, EPOCHS + 1)
            axes.plot(epochs, values.mean(0), color=color, label=label)
            axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2)
        axes.set_ylim(0, 1.02)
        axes.set_title(name)
        axes.set_xlabel("epoch")
    panels[0].set_ylabel("accuracy (band: range over keys)")
    panels[0].legend(loc="lower right")
    for name, (steps, values) in sizes.items():
        panels[-1].plot(steps * EPOCHS / (IMAGES // BATCH * EPOCHS), values.mean(0), label=name)
    panels[-1].set_title("size of the kernels")
    panels[-1].set_xlabel("epoch")
    panels[-1].set_ylabel("root mean square")
    panels[-1].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(directory=None):
    sets = data.digits() if directory is None else data.mnist(directory)
    training = tuple(array[:IMAGES] for array in sets.train)
    valid = tuple(array[:1000] for array in sets.test)
    prepare = data.standardize(training[0])
    recipes = {
        "no regularization": recipe(prepare),
        "weight decay": recipe(prepare, decay=DECAY),
        "dropout": recipe(prepare, drop_rate=DROP_RATE),
    }
    keys = jax.random.split(jax.random.key(0), KEYS)
    results = train_all(keys, recipes, training, valid)
    options = {"valid": valid, "batch_size": BATCH}
    sizes = {}
    for name, result in results.items():
        own = recipes[name]
        first = jax.tree.map(lambda leaf: leaf[0], result)
        findings = diagnose.examine(own, first, training, **options)
        findings = diagnose.Findings(one for one in findings if one.id == "E01")
        findings = diagnose.confirm(findings, own, first, training, **options)
        verdict = findings[0].certainty if findings else "not found"
        history = result.history
        figures = {
            "training accuracy": np.asarray(history.accuracy)[:, -IMAGES // BATCH :].mean(1),
            "test accuracy": np.asarray(history.valid_accuracy)[:, -1],
            "test loss": np.asarray(history.valid_loss)[:, -1],
        }
        texts = [
            f"{key} {values.mean():.3f} ± {values.std():.3f}" for key, values in figures.items()
        ]
        print(f"{name}: {', '.join(texts)}; overfit: {verdict}")
        for finding in findings:
            print(f"  {finding.experiment}")
        sizes[name] = size_of_kernels(own, history, training[0].shape[1:])
    PICTURE.parent.mkdir(exist_ok=True)
    draw(results, sizes, PICTURE)
    print(f"plotted in {PICTURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
