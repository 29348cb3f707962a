"""At equal cost: one long run, snapshots of a cyclic run, SWA, and independent short members.

Run it with `python examples/26_one_run.py`. Every method trains for the same number of steps on
digits whose training labels are wrong in one of ten cases, with several keys. The table shows mean
and standard deviation over the keys, and the paired difference to the long run. SWA is shown with
and without new statistics of batch norm. The picture is in out/one_run.png.
"""

from functools import partial
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import data, ensemble, nn, objective, optim, train

KEYS, EPOCHS, CYCLES, BATCH, PEAK, NOISE = 5, 60, 6, 64, 0.05, 0.1
OUT = Path("out")


def make(schedule, wrap=lambda optimizer: optimizer):
    network = nn.chain(
        nn.conv(16), nn.batch_norm(), nn.relu(), nn.max_pool(),
        nn.conv(32), nn.batch_norm(), nn.relu(), nn.flatten(), nn.dense(10),
    )  # fmt: skip
    return train.recipe(network, wrap(optim.momentum(schedule)), regularizer=objective.l2(5e-4))


def noisy_digits():
    """The digits, with a share of wrong labels in the training set."""
    digits = data.digits()
    images, labels = digits.train
    generator = np.random.default_rng(0)
    is_wrong = generator.random(len(labels)) < NOISE
    labels = np.where(is_wrong, generator.integers(0, 10, len(labels)), labels)
    return (images, labels), digits.test


def figures(members, test):
    """Test loss and accuracy of an ensemble."""
    found = ensemble.evaluate(members, test).combined
    return float(found["loss"]), float(found["accuracy"])


def main():
    training, test = noisy_digits()
    count = partial(train.num_steps, training, batch_size=BATCH)
    steps, start = count(epochs=EPOCHS), count(epochs=EPOCHS * 9 // 16)
    key = jax.random.key(0)
    # The runs of all keys are lanes of one program.
    long = make(optim.cosine(PEAK, steps=steps))
    average = make(
        optim.swa_schedule(PEAK, start=start, floor=PEAK / 5),
        lambda optimizer: optim.swa(optimizer, start=start, every=count(epochs=1)),
    )
    options = {"n": KEYS, "epochs": EPOCHS, "batch_size": BATCH}
    long_runs = ensemble.train(key, long, training, **options).members
    stale = ensemble.train(key, average, training, **options).members
    fresh = ensemble.refresh_members(key, stale, training, batch_size=BATCH)
    short = make(optim.cosine(PEAK, steps=steps // CYCLES))
    cyclic = make(optim.cosine_restarts(PEAK, steps=steps // CYCLES))

    rows = {"one long run": [], "SWA": [], "SWA, stale statistics": [], "last snapshot": []}
    rows |= {f"last {m} snapshots": [] for m in range(2, CYCLES + 1)}
    rows["independent members"] = []
    for index in range(KEYS):
        own = jax.random.fold_in(key, index)
        one = slice(index, index + 1)
        rows["one long run"].append(figures(long_runs[one], test))
        rows["SWA"].append(figures(fresh[one], test))
        rows["SWA, stale statistics"].append(figures(stale[one], test))
        found = ensemble.snapshots(
            own, cyclic, training, epochs=EPOCHS, batch_size=BATCH, cycles=CYCLES
        ).members
        rows["last snapshot"].append(figures(found[-1:], test))
        for m in range(2, CYCLES + 1):
            rows[f"last {m} snapshots"].append(figures(found[-m:], test))
        several = ensemble.train(
            own, short, training, n=CYCLES, epochs=EPOCHS // CYCLES, batch_size=BATCH
        ).members
        rows["independent members"].append(figures(several, test))

    table = {name: np.array(values) for name, values in rows.items()}  # (keys, 2) each
    base = table["one long run"][:, 0]
    print(f"{'method':24s}  loss            accuracy        loss to the long run")
    for name, values in table.items():
        (loss, accuracy), (loss_sd, accuracy_sd) = values.mean(0), values.std(0, ddof=1)
        gap = values[:, 0] - base
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        spread = f"{loss:.3f} +- {loss_sd:.3f}  {accuracy:.4f} +- {accuracy_sd:.4f}"
        print(f"{name:24s}  {spread}  {gap.mean():+.3f} +- {error:.3f}")

    OUT.mkdir(exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for place, values in enumerate(table.values()):
        axes.plot(values[:, 0], np.full(len(values), place), "o", fillstyle="none", color="C0")
        axes.plot(values[:, 0].mean(), place, "|", markersize=18, color="C1")
    axes.set_yticks(range(len(table)), list(table))
    axes.invert_yaxis()
    axes.set(xlabel="test loss (nats): each key, and the mean")
    figure.savefig(OUT / "one_run.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    main()
