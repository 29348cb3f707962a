"""Random search against grid search [Bergstra and Bengio 2012, JMLR 13:281].

Run `python examples/19_random_against_grid.py`; it takes a minute on two CPU cores. A network on
digits has four hyperparameters, of which few matter: a grid of 3 values each spends its 81 trials
on 3 values of the rate, where 81 random trials have 81. Whether one of the 3 is good is a matter of
luck. Hence the interval of the rate differs between the repetitions, as guesses of users do: five
decades around the best rate. The example prints the validation and test accuracies of both
searches, and how many random trials expect the accuracy of the grid; and it plots the last search
into out/.
"""

from pathlib import Path

import jax
import numpy as np

from fnn import data, lab, nn, objective, optim, search, train

EPOCHS, BATCH, TRIALS, KEYS, POINTS = 8, 50, 128, 8, 3
FOLDER = Path("out")

digits = data.digits()
images, labels = digits.train
part, valid = (images[:1000], labels[:1000]), (images[1000:], labels[1000:])


def space(shift):
    """Recipes with rates of an interval of five decades, shifted by some decades."""
    rate = search.log_uniform(10 ** (shift - 4), 10 ** (shift + 1))
    return train.recipe(
        nn.chain(
            nn.flatten(), nn.dense(64), nn.relu(),
            nn.dropout(search.uniform(0, 0.8)),
            nn.dense(10),
        ),
        optim.momentum(rate, momentum=search.uniform(0, 0.99)),
        regularizer=objective.l2(search.log_uniform(1e-7, 1e-2)),
    )  # fmt: skip


def compare(key, shift):
    """A grid and a random search. All share one compiled program."""
    options = {"valid": valid, "epochs": EPOCHS, "batch_size": BATCH, "score": "valid_accuracy"}
    grid = search.grid(key, space(shift), part, points=POINTS, **options)
    random = search.random(key, space(shift), part, trials=TRIALS, keep=16, **options)
    return grid, random


def main():
    rows = []
    for seed, shift in enumerate(np.linspace(-1.5, 1.5, KEYS)):
        grid, random = compare(jax.random.key(seed), float(shift))
        expected = random.best_of_n().mean
        # The number of random trials whose expected best accuracy is that of the grid.
        enough = int(np.searchsorted(expected, grid.best.score)) + 1
        same = expected[min(len(grid), TRIALS) - 1]
        tested = random.evaluate(digits.test, valid=valid)
        grid_tested = grid.evaluate(digits.test)
        print(f"rates from 10^{shift - 4:.1f}: grid {grid.best.score:.3f}, random {same:.3f}")
        rows.append([grid.best.score, same, grid_tested.best, tested.best, tested.weighted, enough])
    *accuracies, enough = np.array(rows).T
    names = [
        f"grid of {len(grid)} trials, validation accuracy",
        f"random search of {min(len(grid), TRIALS)} trials, expected validation accuracy",
        "grid, test accuracy",
        f"random search of {TRIALS} trials, test accuracy",
        "the same, weighted by the probability of being the best",
    ]
    for name, values in zip(names, accuracies, strict=True):
        print(f"{name}: {values.mean():.3f} ± {values.std():.3f}")
    print(f"random trials that expect the accuracy of the grid: median {np.median(enough):.0f}")
    print(random.summary())
    FOLDER.mkdir(exist_ok=True)
    lab.plot_search(random, FOLDER / "random_search.png")
    lab.plot_search(grid, FOLDER / "grid_search.png")
    lab.plot_best_of_n(random, FOLDER / "random_best_of_n.png")
    print(f"plotted in {FOLDER}/")


if __name__ == "__main__":
    main()
