"""A search whose space is too small, and the statistics that say so.

Run `python examples/20_book_search.py`; it takes a minute on two CPU cores. The space is that of
the search in chapter 6 of "Deep Learning from Scratch" [Saito 2016]: 400 images, six hidden layers,
rates of SGD from 1e-6 to 1e-2, weight decay from 1e-8 to 1e-4. The best rates are all in the
highest decade. 16 trials are enough to see that: the verdict is to widen the interval of the rate
above 0.01. The example repeats this search for several keys, repeats it with a wider interval, and
plots both into out/.
"""

from collections import Counter
from pathlib import Path

import jax
import numpy as np

from fnn import data, lab, nn, objective, optim, search, train

EPOCHS, BATCH, TRIALS, KEYS = 50, 100, 16, 10
FOLDER = Path("out")
RATE, DECAY = "optimizer.rate", "regularizer.strength"

images, labels = data.digits().train
part, valid = (images[:400], labels[:400]), (images[400:700], labels[400:700])


def space(low, high):
    """Recipes with a rate of this interval."""
    hidden = [layer for _ in range(6) for layer in (nn.dense(100), nn.relu())]
    return train.recipe(
        nn.chain(nn.flatten(), *hidden, nn.dense(10)),
        optim.sgd(search.log_uniform(low, high)),
        regularizer=objective.l2(search.log_uniform(1e-8, 1e-4)),
    )


def repeat(space):
    """The searches of all keys. They share one compilation."""
    # By the loss, which differs also between trials that are right as often as a guess.
    options = {"valid": valid, "epochs": EPOCHS, "batch_size": BATCH, "score": "valid_loss"}
    keys = jax.random.split(jax.random.key(0), KEYS)
    return [search.random(key, space, part, trials=TRIALS, **options) for key in keys]


def report(name, searches):
    accuracies = [
        trials.histories["valid_accuracy"][trials.best.index, 0, -1] for trials in searches
    ]
    mean, spread = np.mean(accuracies), np.std(accuracies)
    print(f"{name}: best of {TRIALS} trials, accuracy {mean:.3f} ± {spread:.3f}")
    for path in (RATE, DECAY):
        verdicts = Counter(str(trials.boundaries()[path]) for trials in searches)
        shares = np.array([trials.importance()[path].share for trials in searches])
        counts = ", ".join(f"{count} x {verdict}" for verdict, count in verdicts.most_common())
        print(f"  {path}: {counts}; importance {shares.mean():.2f} ± {shares.std():.2f}")


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, ends in (("book", (1e-6, 1e-2)), ("wider", (1e-4, 10))):
        searches = repeat(space(*ends))
        report(f"rates from {ends[0]:g} to {ends[1]:g}", searches)
        lab.plot_search(searches[0], FOLDER / f"search_{name}.png")
    print(f"plotted in {FOLDER}/")


if __name__ == "__main__":
    main()
