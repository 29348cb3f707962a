"""Population-based training on a problem that no constant hyperparameters solve.

Run `python examples/22_population.py`; it takes about 20 seconds and writes out/population.png. The
score is Q = 1.2 - a² - b², from a = b = 0.9. Two members minimize h₀ a² + h₁ b² in its place. With
h = (1, 0) a member moves a alone, with h = (0, 1) b alone, so both end at Q = 0.39. Members that
copy the better one and change h reach the optimum [Jaderberg et al. 2017, Figure 2].
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fnn import lab, optim, search, train
from fnn.types import Layer, Number
from fnn.values import maker

ROUNDS, REPEATS = 50, 10
MEMBERS = [{"network.first": 1.0, "network.second": 0.0}]
MEMBERS += [{"network.first": 0.0, "network.second": 1.0}]
PICTURE = Path("out/population.png")


@maker
def surrogate(first: Number, second: Number) -> Layer:
    """Two parameters, and as output -Q; in training with a weight of each coordinate."""

    def init(key, shape):
        return {"point": jnp.full(2, 0.9)}, {}, ()

    def apply(params, state, x, *, key=None, train=False):
        weights = jnp.stack([jnp.asarray(first), jnp.asarray(second)]) if train else jnp.ones(2)
        value = (weights * params["point"] ** 2).sum() - 1.2
        return jnp.broadcast_to(value, (len(x),)), state

    return Layer(init, apply)


def output(outputs, targets):
    return outputs


weight = search.uniform(0, 1), search.uniform(0, 1)
space = train.recipe(surrogate(*weight), optim.sgd(0.02), loss=output, metrics={})
DATA = np.zeros((4, 1), np.float32), np.zeros(4, np.float32)  # an epoch has 4 steps
RUN = {"epochs": ROUNDS, "batch_size": 1, "valid": DATA}


def fixed(key):
    """The best Q of the two members without copies: each keeps its hyperparameters."""
    recipes = [
        train.recipe(surrogate(*member.values()), optim.sgd(0.02), loss=output, metrics={})
        for member in MEMBERS
    ]
    runs = [train.run(key, recipe, DATA, **RUN) for recipe in recipes]
    return max(-float(run.history.valid_loss[-1]) for run in runs)


def evolve(key, **options):
    return search.population(
        key, space, DATA, interval=1, members=2, initial=MEMBERS, lanes=2, **RUN, **options
    )


def main():
    keys = list(jax.random.split(jax.random.key(0), REPEATS))
    print(f"constant hyperparameters: Q = {fixed(keys[0]):.3f}")
    populations = [evolve(key) for key in keys]
    best = np.array([-population.best.score for population in populations])
    print(f"population: Q = {best.mean():.4f} ± {best.std(ddof=1):.4f}, lowest {best.min():.4f}")
    population = populations[0]
    result = search.replay(
        keys[0], space, population.schedule(population.best.index), DATA, batch_size=1, valid=DATA
    )
    same = population.kept[population.best.index][0].params["point"]
    print("replayed bitwise:", bool((result.train_state.params["point"] == same).all()))
    PICTURE.parent.mkdir(exist_ok=True)
    lab.plot_population(population, PICTURE)
    print(f"members plotted in {PICTURE}")


if __name__ == "__main__":
    main()
