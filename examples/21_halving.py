"""Successive halving against random search, at equal compute and at three times as much.

Run `python examples/21_halving.py`; it takes less than a minute and writes out/halving.png. Four
hyperparameters of a small network on digits are searched. Halving begins with 81 trials and trains
3 of them to the end; with the same number of steps, random search trains 9. All have the same keys.
"""

from pathlib import Path

import jax
import numpy as np

from fnn import data, lab, nn, optim, search, train

EPOCHS, TRIALS, REPEATS, LANES = 27, 81, 20, 9
PICTURE = Path("out/halving.png")

network = nn.chain(
    nn.flatten(),
    nn.dense(32),
    nn.relu(),
    nn.dropout(search.uniform(0, 0.8)),
    nn.dense(10),
)
space = train.recipe(
    network,
    optim.adamw(
        search.log_uniform(1e-5, 1),
        b1=search.uniform(0, 0.99),
        weight_decay=search.log_uniform(1e-5, 10),
    ),
)


def compare(key, digits):
    """The best scores of one repeat by method, and the trials of halving."""
    run = {"valid": digits.test, "epochs": EPOCHS, "batch_size": 64, "lanes": LANES}
    halved = search.halving(key, space, digits.train, trials=TRIALS, **run)
    count = halved.total_epochs // EPOCHS
    # The first trials of the same search, and three times as many.
    trials = search.random(key, space, digits.train, trials=3 * count, **run)
    scores = trials.figure.cost(trials.mean_scores)
    best = {
        f"halving, {halved.total_epochs} epochs": halved.best.score,
        f"random, {count * EPOCHS} epochs": scores[:count].min(),
        f"random, {3 * count * EPOCHS} epochs": scores.min(),
    }
    return best, halved


def main():
    digits = data.digits()
    repeats = [compare(key, digits) for key in jax.random.split(jax.random.key(0), REPEATS)]
    for name in repeats[0][0]:
        best = np.array([scores[name] for scores, _ in repeats])
        error = best.std(ddof=1) / np.sqrt(REPEATS)
        print(f"{name}: best valid_loss {best.mean():.4f} ± {error:.4f} (standard error)")
    halving, _, more = (np.array([list(one.values()) for one, _ in repeats])).T
    wins = int((halving <= more).sum())
    print(f"halving is not worse than 3 times the steps of random in {wins} of {REPEATS} repeats")
    PICTURE.parent.mkdir(exist_ok=True)
    lab.plot_rungs(repeats[0][1], PICTURE)
    print(f"rungs plotted in {PICTURE}")


if __name__ == "__main__":
    main()
