"""Deep ensembles: ten LeNet-5 trained as one program, calibrated, and tried on unknown images.

Run it with `python examples/25_ensembles.py [DIRECTORY]`. DIRECTORY contains the four files of
MNIST; without it they are downloaded on first use. The log-likelihood of the test images rises with
the number of members. A temperature is fitted to held-out images. The entropy of the prediction
separates digits from unknown images: the upper half of one digit on the lower half of another. The
predictor is saved in out/ensemble.
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import augment, data, ensemble, lab, nn, objective, optim, train

MEMBERS, EPOCHS, BATCH, RATE, HELD_OUT = 10, 10, 128, 2e-3, 5_000
OUT = Path("out")
METRICS = {"accuracy": objective.accuracy, "ece": objective.calibration_error()}


def mixed_halves(images, labels):
    """Unknown images: the upper half of each digit on the lower half of one of another class."""
    order = np.random.default_rng(0).permutation(len(images))
    half = images.shape[1] // 2
    mixed = np.concatenate([images[:, :half], images[order, half:]], 1)
    return mixed[labels != labels[order]]


def by_size(members, test, draws=10):
    """Mean figures of random ensembles of each size."""
    generator = np.random.default_rng(0)
    rows = []
    for size in range(1, len(members) + 1):
        figures = []
        for _ in range(draws if size < len(members) else 1):
            chosen = generator.choice(len(members), size, replace=False)
            figures.append(ensemble.evaluate(members[chosen], test).combined)
        rows.append({name: np.mean([one[name] for one in figures]) for name in figures[0]})
    return rows


def main(directory=None):
    mnist = data.mnist(directory)
    images, labels = mnist.train
    held_out = images[-HELD_OUT:], labels[-HELD_OUT:]
    known = images[:-HELD_OUT], labels[:-HELD_OUT]
    steps = train.num_steps(known, epochs=EPOCHS, batch_size=BATCH)
    recipe = train.recipe(
        nn.lenet5(),
        optim.adamw(optim.one_cycle(RATE, steps=steps), weight_decay=1e-2),
        metrics=METRICS,
        prepare=data.standardize(known[0]),
        augment=augment.random_crop(padding=1, mode="constant"),
    )
    key = jax.random.key(0)
    trained = ensemble.train(key, recipe, known, n=MEMBERS, epochs=EPOCHS, batch_size=BATCH)
    members = trained.members
    rows = by_size(members, mnist.test)
    print("members  loss    accuracy  calibration error")
    for size, row in enumerate(rows, 1):
        print(f"{size:7d}  {row['loss']:.4f}  {row['accuracy']:.4f}    {row['ece']:.4f}")

    # A temperature for the combined prediction, fitted to images that no member was trained on.
    logits = ensemble.average_probabilities(ensemble.predict(members, held_out[0]))
    temperature = ensemble.fit_temperature(logits, held_out[1])
    model = ensemble.predictor(members, calibration=temperature)
    calibrated = model.predict(mnist.test[0])
    loss = objective.cross_entropy(calibrated, mnist.test[1]).mean()
    error = METRICS["ece"](calibrated, mnist.test[1])
    print(f"calibrated by {temperature}: loss {loss:.4f}, calibration error {error:.4f}")

    # Uncertainty of digits and of unknown images.
    unknown = mixed_halves(*mnist.test)
    scores = {}
    for name, some in (("one network", members[:1]), (f"{len(members)} members", members)):
        entropies = [
            np.asarray(ensemble.entropy_decomposition(ensemble.predict(some, x)).total)
            for x in (mnist.test[0], unknown)
        ]
        is_unknown = np.repeat([0, 1], [len(one) for one in entropies])
        area = objective.roc_auc()(np.concatenate(entropies), is_unknown)
        print(f"{name}: area under the ROC curve of unknown images {area:.4f}")
        scores[name] = entropies

    OUT.mkdir(exist_ok=True)
    lab.save_model(OUT / "ensemble", model)
    before = ensemble.average_probabilities(ensemble.predict(members, mnist.test[0]))
    tables = {
        "before": ensemble.reliability(before, mnist.test[1]),
        "after": ensemble.reliability(calibrated, mnist.test[1]),
    }
    lab.plot_reliability(tables, OUT / "ensemble_reliability.png")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(range(1, len(rows) + 1), [row["loss"] for row in rows], "o-")
    left.set(xlabel="members", ylabel="test loss (nats)")
    for name, (digits, others) in scores.items():
        for kind, values in (("digits", digits), ("no digits", others)):
            line = "-" if kind == "digits" else "--"
            share = np.arange(1, len(values) + 1) / len(values)
            right.plot(np.sort(values), share, line, label=f"{kind}, {name}")
    right.set(xlabel="entropy (nats)", ylabel="share of images below")
    right.legend()
    figure.savefig(OUT / "ensemble.png", dpi=120)
    plt.close(figure)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
