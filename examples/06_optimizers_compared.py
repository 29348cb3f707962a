"""Every optimizer at its best rate on one small task: digits, with a network of one hidden layer.

Run `python examples/06_optimizers_compared.py`, or name some: `... adam sgd`. For each optimizer,
one program trains 15 rates with 3 keys and evaluates them on held-out images; a second program
trains 10 new keys at the best rate. It takes two minutes on two CPU cores and writes
out/optimizers.png: mean and deviation of the test accuracy over the keys, and the accuracy by rate.
All have the same number of steps and a cosine schedule.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from fnn import data, nn, optim, train

EPOCHS, BATCH, RATES, TRIALS, KEYS = 10, 64, 15, 3, 10
PICTURE = Path("out/optimizers.png")
# The range of each optimizer's rate, in powers of ten.
SPANS = {
    "sgd": (-2, 1),
    "momentum": (-3, 0),
    "rprop": (-4, -1),
    "adagrad": (-2.5, 0.5),
    "adadelta": (-1, 2),
    "rmsprop": (-4, -1),
    "adam": (-4, -1),
    "amsgrad": (-4, -1),
    "adamw": (-4, -1),
    "adamax": (-4, -1),
    "nadam": (-4, -1),
    "radam": (-3, 0),
    "adabelief": (-4, -1),
    "yogi": (-4, -1),
    "lion": (-4, -1),
    "lars": (-1, 2),
    "lamb": (-3, 0),
    "novograd": (-3, 0),
    "adafactor": (-3, 0),
    "sm3": (-2, 1),
    "muon": (-3, 0),
    "shampoo": (-3, 0),
    "soap": (-4, -1),
    "schedule_free_sgd": (-2, 1),
    "schedule_free_adamw": (-4, -1),
    "prodigy": (-2, 1),
}

digits = data.digits()
images, labels = digits.train
is_held_out = jnp.arange(len(labels)) % 5 == 0
part = images[~is_held_out], labels[~is_held_out]
valid = images[is_held_out], labels[is_held_out]
network = nn.chain(nn.flatten(), nn.dense(64), nn.relu(), nn.dense(10))


def run(name, key, peak, examples, valid):
    """A whole run as a function of its key and its peak rate."""
    schedule = optim.cosine(peak, steps=train.num_steps(examples, epochs=EPOCHS, batch_size=BATCH))
    # A rate that is too high may diverge to NaN. Such a run gets a low accuracy and is not stopped.
    recipe = train.recipe(network, getattr(optim, name)(schedule), on_nonfinite="ignore")
    result = train.run(key, recipe, examples, valid=valid, epochs=EPOCHS, batch_size=BATCH)
    return result.history.valid_accuracy[-1]


def compare(name):
    """The rates, their accuracies on held-out images, and the test accuracies at the best rate."""
    rates = jnp.logspace(*SPANS[name], RATES)
    over_keys = jax.vmap(lambda key, rate: run(name, key, rate, part, valid), (0, None))
    trial_keys = jax.random.split(jax.random.key(0), TRIALS)
    # (rates, keys) -> (rates,)
    scores = jax.jit(jax.vmap(over_keys, (None, 0)))(trial_keys, rates).mean(1)
    best = rates[scores.argmax()]
    at_best = jax.vmap(lambda key: run(name, key, best, digits.train, digits.test))
    tested = jax.jit(at_best)(jax.random.split(jax.random.key(1), KEYS))
    return rates, scores, tested


def draw(found):
    """Plot test accuracies at the best rate (left) and held-out accuracy by rate (right)."""
    order = sorted(found, key=lambda name: found[name][2].mean())
    figure = Figure(figsize=(13, 2 + 0.28 * len(order)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row, name in enumerate(order):
        rates, scores, tested = found[name]
        left.plot(tested, np.full(len(tested), row), ".", color="0.7", markersize=5)
        left.errorbar(tested.mean(), row, xerr=tested.std(), fmt="o", color="#0072B2", capsize=3)
        right.plot(rates, np.full(len(rates), row), color="0.9", zorder=0)
        style = {"cmap": "viridis", "vmin": 0.8, "vmax": 1, "s": 24}
        dots = right.scatter(rates, np.full(len(rates), row), c=scores, **style)
        best = rates[scores.argmax()]
        right.plot(best, row, "o", color="#D55E00", fillstyle="none", markersize=9)
    for axes in (left, right):
        axes.set_yticks(range(len(order)), order)
    left.set_title(f"test accuracy at the best rate: {KEYS} keys, mean and deviation")
    right.set_title("accuracy on held-out images by peak rate; the best is circled")
    right.set_xscale("log")
    left.grid(axis="x", alpha=0.3)
    figure.colorbar(dots, ax=right)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main(names):
    found = {}
    for name in names or SPANS:
        rates, scores, tested = found[name] = jax.device_get(compare(name))
        best, spread = rates[scores.argmax()], tested.std()
        print(f"{name}: best rate {best:.1e}, test accuracy {tested.mean():.4f} ± {spread:.4f}")
    draw(found)
    print(f"plotted in {PICTURE}")


if __name__ == "__main__":
    main(sys.argv[1:])
