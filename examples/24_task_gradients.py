"""Ways to balance two tasks, compared with a search over fixed weights, on several keys.

Run `python examples/24_task_gradients.py`; it takes less than a minute on two CPU cores. A network
names a digit and estimates by which angle it was turned. A wrong name costs 1, as do 10 degrees.

The weight of the angle is searched by training all candidates at once, on a part of the training
images. Then each method trains on all of them with the same new keys. A method whose difference
from the fixed weights is within two standard errors of the paired differences is a tie. Tuned fixed
weights are a strong baseline [Kurin et al. 2022, arXiv:2201.04122; Xin et al. 2022,
arXiv:2209.11379].
"""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import augment, data, nn, objective, optim, search, train

EPOCHS, BATCH, KEYS, TRIALS, DEGREES = 30, 64, 8, 16, 60.0
LOSSES = {"digit": objective.cross_entropy, "turn": objective.squared_error}
LAYER = "body/dense_3"  # the last layer that both tasks use

body = nn.chain(nn.flatten(), nn.dense(64), nn.relu(), nn.dense(64), nn.relu())
heads = {"digit": nn.dense(10), "turn": nn.dense(1)}
network = nn.chain(body=body, heads=nn.parallel(**heads, join="dict"))
log_variance = nn.parameter(2, init=nn.zeros())
learned = nn.chain(body=body, heads=nn.parallel(**heads, log_variance=log_variance, join="dict"))


@objective.loss()
def cost(outputs, targets):
    wrong = outputs["digit"].argmax(-1) != targets["digit"]
    degrees = DEGREES * jnp.abs(outputs["turn"] - targets["turn"])[:, 0]
    return wrong.astype(degrees.dtype) + degrees / 10


METRICS = {
    "cost": cost,
    "accuracy": objective.of("digit", objective.accuracy),
    "error": objective.of("turn", objective.absolute_error),
}


def turned(key, examples):
    """(images, {"digit": labels, "turn": fractions of DEGREES}), each image turned at random."""
    images, labels = examples
    turn_key, fraction_key = jax.random.split(key)
    fractions = jax.random.uniform(fraction_key, (len(labels), 1), minval=-1, maxval=1)

    def turn(image, fraction):
        return augment.rotate(DEGREES * fraction)(turn_key, image)

    images = jax.vmap(turn)(data.to_float(images), fractions[:, 0])
    return images, {"digit": labels, "turn": fractions}


def recipe_of(steps, model=network, **options):
    loss = objective.multi_task(LOSSES, **options)
    optimizer = optim.adamw(optim.one_cycle(3e-3, steps=steps))
    return train.recipe(model, optimizer, loss=loss, metrics=METRICS)


def best_weight(examples):
    """The weight of the angle with the least cost on 300 of the images, by random search."""
    part, valid = (jax.tree.map(lambda leaf, at=at: leaf[at], examples)
                   for at in (slice(300, None), slice(300)))  # fmt: skip
    steps = train.num_steps(part, epochs=EPOCHS, batch_size=BATCH)
    space = recipe_of(steps, weights={"turn": search.log_uniform(0.1, 1000)})
    run = {"valid": valid, "epochs": EPOCHS, "batch_size": BATCH, "score": "valid_cost"}
    trials = search.random(jax.random.key(1), space, part, trials=TRIALS, seeds=2, **run)
    return float(jax.tree.leaves(trials.best.recipe.loss)[0])


def figures_of(recipe, examples, test):
    """Figures on the test images, one for each key."""

    def run(key):
        options = {"epochs": EPOCHS, "batch_size": BATCH}
        train_state, _ = train.run(key, recipe, examples, **options)
        return train.evaluate(recipe, train_state, test)

    keys = jax.random.split(jax.random.key(2), KEYS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(keys))


def verdict(differences):
    """Better, worse or a tie, by the paired differences of the costs."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    return "tie" if abs(mean) <= 2 * error else "better" if mean < 0 else "worse"


def methods(weight, steps):
    """Options of the recipe for each method; the first is the baseline."""
    shared = objective.pcgrad(("body",))
    return {
        f"weight {weight:.3g}": {"weights": {"turn": weight}},
        "weight 1": {},
        "uncertainty": {"model": learned, "learned": True},
        "gradnorm": {"aggregator": objective.gradnorm(LAYER)},
        "dwa": {"aggregator": objective.dwa(steps // EPOCHS)},
        "pcgrad": {"aggregator": shared},
        "pcgrad, weight": {"aggregator": shared, "weights": {"turn": weight}},
        "mgda": {"aggregator": objective.mgda(("body",))},
    }


def main():
    digits = data.digits()
    examples = turned(jax.random.key(0), digits.train)
    test = turned(jax.random.key(3), digits.test)
    steps = train.num_steps(examples, epochs=EPOCHS, batch_size=BATCH)
    weight = best_weight(examples)
    print(f"test figures of {KEYS} keys: cost, accuracy, error of the angle in degrees")
    baseline = None
    for name, options in methods(weight, steps).items():
        figures = figures_of(recipe_of(steps, **options), examples, test)
        costs = figures["cost"]
        if baseline is None:
            baseline = costs
        line = f"{name:15s}{costs.mean():7.3f} ± {costs.std(ddof=1):.3f}"
        line += f"{figures['accuracy'].mean():8.3f}{DEGREES * figures['error'].mean():7.2f}"
        print(line, "" if costs is baseline else verdict(costs - baseline))


if __name__ == "__main__":
    main()
