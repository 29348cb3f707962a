"""Which predictions to trust: ensembles, MC dropout and calibration over 20 resamplings.

Run it with `python examples/33_known_unknown.py [DIRECTORY]`. Without a directory with the four
files of MNIST, the small digits are used. As in the figure of Lakshminarayanan et al. 2017
[arXiv:1612.01474], an ensemble of M networks is compared with M samples of MC dropout, here on
20 resamplings of the training set. The table shows the mean test loss and error. The entropy of the
prediction separates digits from unknown images, the upper half of one digit on the lower half of
another. A temperature is fitted to held-out digits. The pictures are in out/known_unknown.png and
out/known_unknown_reliability.png.
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import data, ensemble, lab, nn, objective, optim, train

SIZES, RESAMPLINGS, EXAMPLES, EPOCHS, BATCH, RATE = (1, 2, 3, 5, 10), 20, 200, 60, 50, 5e-3
HELD_OUT, TEST, WIDTH, DROP_RATE = 400, 1_000, 64, 0.1
OUT = Path("out")

network = nn.chain(
    nn.flatten(),
    *[part for _ in range(3) for part in (nn.dense(WIDTH), nn.relu(), nn.dropout(DROP_RATE))],
    nn.dense(10),
)
calibration_error = objective.calibration_error()


def mixed_halves(images, labels):
    """Unknown images: the upper half of each digit on the lower half of one of another class."""
    order = np.random.default_rng(0).permutation(len(images))
    half = images.shape[1] // 2
    mixed = np.concatenate([images[:, :half], images[order, half:]], 1)
    return mixed[labels != labels[order]]


def figures(logits, labels):
    """Loss, error and calibration error of combined logits."""
    loss = objective.cross_entropy(logits, labels).mean()
    error = (logits.argmax(-1) != labels).mean()
    return float(loss), float(error), float(calibration_error(logits, labels))


def unknown_area(known, unknown):
    """Area under the ROC curve of unknown images, by the entropy of the mean prediction."""
    entropies = [ensemble.entropy_decomposition(one).total for one in (known, unknown)]
    is_unknown = np.repeat([0, 1], [len(one) for one in entropies])
    return float(objective.roc_auc()(np.concatenate(entropies), is_unknown))


def resample(index, recipe, pool, test, unknown):
    """Train on other examples with other keys; return the figures and the logits of the test."""
    key = jax.random.key(index)
    images, labels = pool
    order = np.random.default_rng(index).permutation(len(labels))
    own, held_out = order[:EXAMPLES], order[EXAMPLES:][:HELD_OUT]
    few = images[own], labels[own]
    most = SIZES[-1]
    members = ensemble.train(key, recipe, few, n=most, epochs=EPOCHS, batch_size=BATCH).members
    one = members[0].weights
    samples = {
        "ensemble": [ensemble.predict(members, x) for x in (test[0], unknown, images[held_out])],
        "MC dropout": [
            ensemble.mc_dropout(key, recipe, one, x, n=most) for x in (test[0], unknown)
        ],
    }
    found = {}
    for name, (known, others, *_) in samples.items():
        found[name] = []
        for size in SIZES:
            combined = ensemble.average_probabilities(known[:size])
            area = unknown_area(known[:size], others[:size])
            found[name].append((*figures(combined, test[1]), area))
    # One temperature for a single member and one for the combined prediction.
    logits = {}
    known, _, held = samples["ensemble"]
    for size in (1, most):
        before = ensemble.average_probabilities(known[:size])
        scale = ensemble.fit_temperature(
            ensemble.average_probabilities(held[:size]), labels[held_out]
        )
        logits[size] = np.asarray(before), np.asarray(scale(before))
    return found, logits


def main(directory=None):
    digits = data.digits() if directory is None else data.mnist(directory)
    test = digits.test[0][:TEST], digits.test[1][:TEST]
    unknown = mixed_halves(*test)
    steps = EPOCHS * (EXAMPLES // BATCH)
    recipe = train.recipe(network, optim.adam(optim.one_cycle(RATE, steps=steps)))
    every = [resample(i, recipe, digits.train, test, unknown) for i in range(RESAMPLINGS)]
    table = {
        # (resamplings, sizes, figures)
        name: np.array([found[name] for found, _ in every])
        for name in ("ensemble", "MC dropout")
    }
    print("method        M   loss             error            calibration  unknown")
    for name, values in table.items():
        for size, one in zip(SIZES, values.swapaxes(0, 1), strict=True):
            loss, error, ece, area = one.mean(0)
            deviations = one.std(0, ddof=1)
            cells = f"{loss:.3f} +- {deviations[0]:.3f}  {error:.3f} +- {deviations[1]:.3f}"
            print(f"{name:12s} {size:2d}   {cells}   {ece:.3f}        {area:.3f}")
    losses = table["ensemble"][:, :, 0]
    fewer = (losses[:, -1] < losses[:, 0]).sum()
    print(f"{SIZES[-1]} members have a lower loss than one in {fewer} of {RESAMPLINGS} resamplings")
    OUT.mkdir(exist_ok=True)
    # All resamplings together, so that each bin has enough examples.
    labels = np.tile(test[1], RESAMPLINGS)
    tables = {}
    for size in (1, SIZES[-1]):
        for place, name in enumerate(("before", "after")):
            joined = np.concatenate([logits[size][place] for _, logits in every])
            tables[f"M = {size}, {name}"] = ensemble.reliability(joined, labels)
    for name, one in tables.items():
        print(f"{name} a temperature: calibration error {one.expected_error:.3f}")
    lab.plot_reliability(tables, OUT / "known_unknown_reliability.png")
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5), layout="constrained")
    titles = {0: "test loss (nats)", 1: "test error", 3: "area under ROC of unknown images"}
    for one, (place, title) in zip(axes, titles.items(), strict=True):
        for marker, (name, values) in zip("os", table.items(), strict=True):
            own = values[:, :, place]
            error = own.std(0, ddof=1) / np.sqrt(RESAMPLINGS)
            one.errorbar(SIZES, own.mean(0), error, marker=marker, label=name)
        one.set(xlabel="M: members or samples", ylabel=title)
    axes[0].legend()
    figure.savefig(OUT / "known_unknown.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
