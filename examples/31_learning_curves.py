"""The types of learning curves, each with the verdict of the examination.

Run it with `python examples/31_learning_curves.py [DIRECTORY]`. DIRECTORY contains the four files
of MNIST; without it the 8 x 8 digits of scikit-learn are used, which takes a minute on two CPU
cores. One network is trained in six ways: well; with initial kernels that are too small, so that
the loss is flat at first; at a rate that is too high, or too low; with a rate that is cut while the
loss still falls; and on few images, which it memorizes. `diagnose.examine` names the fault of each
run from its recipe, result and data, for several keys. `diagnose.confirm` then tries the remedy. A
picture of the curves is in out/ [Stanford CS231n, notes on learning].
"""

import argparse
from collections import Counter
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import data, diagnose, nn, optim, train

WIDTH, DEPTH, KEYS = 64, 3, 3
EXAMPLES, EPOCHS, BATCH, FEW = 1024, 16, 32, 96
HIGHEST = 3  # loss in the picture
PICTURE = Path("out/learning_curves.png")
COLORS = {"error": "#D55E00", "warning": "#B8860B", "info": "0.3"}


def recipe(prepare, std=0.15, rate=0.02, cut=None):
    """A network of relu units. All its recipes differ in numbers alone: they share a program."""
    kernel_init = nn.normal(std)
    hidden = [nn.dense(WIDTH, kernel_init=kernel_init), nn.relu()] * DEPTH
    network = nn.chain(nn.flatten(), *hidden, nn.dense(10, kernel_init=kernel_init))
    steps = EXAMPLES // BATCH * EPOCHS
    schedule = optim.piecewise([rate, rate / 100], boundaries=[cut or 0.8 * steps])
    return train.recipe(network, optim.momentum(schedule), prepare=prepare, on_nonfinite="ignore")


def cases(training, prepare):
    """The recipe and the training data of each type of curve."""
    few = training[0][:FEW], training[1][:FEW]
    steps = EXAMPLES // BATCH * EPOCHS
    return {
        "a good run": (recipe(prepare), training),
        "kernels too small": (recipe(prepare, std=0.03), training),
        "rate too high": (recipe(prepare, rate=1.0), training),
        "rate too low": (recipe(prepare, rate=2e-5), training),
        "rate cut too early": (recipe(prepare, rate=2e-3, cut=0.08 * steps), training),
        "few images": (recipe(prepare), few),
    }


def draw(axes, name, history, findings):
    """Plot the loss of one run: each step, a moving average and validation; and the verdict."""
    losses = np.asarray(history.loss)
    width = max(1, len(losses) // 40)
    mean = np.convolve(losses, np.full(width, 1 / width), "valid")
    steps = np.arange(len(losses))
    axes.plot(steps, losses, color="#0072B2", alpha=0.25, linewidth=0.8)
    axes.plot(steps[width - 1 :], mean, color="#0072B2", label="training, moving average")
    valid = np.asarray(history.valid_loss)
    ends = (np.arange(len(valid)) + 1) * len(losses) // len(valid)
    axes.plot(ends, valid, "o-", color="#009E73", markersize=3, label="validation")
    axes.set_ylim(0, HIGHEST)
    axes.set_xlabel("step")
    axes.set_title(name)
    lines = [f"{one.id} {one.name}, {one.certainty}" for one in findings[:3]]
    worst = findings[0].severity if findings else "info"
    axes.text(
        0.97,
        0.62,
        "\n".join(lines) or "no findings",
        transform=axes.transAxes,
        color=COLORS[worst],
        fontsize=9,
        horizontalalignment="right",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none"},
    )


def main(directory=None):
    sets = data.digits() if directory is None else data.mnist(directory)
    training = tuple(array[:EXAMPLES] for array in sets.train)
    valid = tuple(array[:EXAMPLES] for array in sets.test)
    prepare = data.standardize(training[0])
    figure, panels = plt.subplots(2, 3, figsize=(13, 7), layout="constrained", sharey=True)
    for axes, (name, (own, examples)) in zip(
        panels.flat, cases(training, prepare).items(), strict=True
    ):
        epochs = EPOCHS * EXAMPLES // len(examples[0])
        verdicts = Counter()
        lasts = []
        for seed in reversed(range(KEYS)):
            key = jax.random.key(seed)
            result = train.run(key, own, examples, valid=valid, epochs=epochs, batch_size=BATCH)
            options = {"valid": valid, "batch_size": BATCH}
            findings = diagnose.examine(own, result, examples, **options)
            serious = findings.errors + findings.warnings
            verdicts.update(set(serious.ids[:1]) or {"none"})
            lasts.append(float(result.history.valid_loss[-1]))
        # The last key is that of the picture.
        serious = diagnose.confirm(serious[:3], own, result, examples, **options)
        counts = ", ".join(f"{id} {count} of {KEYS}" for id, count in verdicts.most_common())
        loss = f"{np.mean(lasts):.3g} ± {np.std(lasts):.2g}"
        print(f"{name}: first finding {counts}; validation loss {loss}")
        for finding in serious:
            print(f"  {finding.id} {finding.name}, {finding.certainty}: {finding.experiment}")
        draw(axes, name, result.history, serious)
    for axes in panels[:, 0]:
        axes.set_ylabel("loss")
    panels[0, 0].legend(fontsize=8)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120)
    plt.close(figure)
    print(f"plotted in {PICTURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
