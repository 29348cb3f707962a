"""Hyper-cleaning: half of the training labels are wrong, and gradients of whole runs find which.

Run it with `python examples/18_hyper_cleaning.py [DIRECTORY]`; it takes about a minute on two CPU
cores. DIRECTORY contains the four files of MNIST; without it they are downloaded on first use.

Each of 5,000 training examples has a weight in its loss. The weights are hyperparameters: the loss
of 5,000 clean validation examples, after training a linear classifier by gradient descent, is
differentiated by all of them at once. After a few steps of Adam on the weights, most examples with
a wrong label have a small one [Franceschi et al. 2017, arXiv:1703.01785]. Classifiers on three sets
are compared: all examples (baseline), those kept by their weights (cleaned), and those whose label
is right (oracle), each with the validation examples, as in the paper. Figures are means and
standard deviations over repeats.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnn
from fnn import data, nn, objective, optim, search, train
from fnn.types import Loss, Number

EXAMPLES, INNER_STEPS, OUTER_STEPS, REPEATS = 5000, 50, 20, 3
PICTURE = Path("out/hyper_cleaning.png")
network = nn.chain(nn.flatten(), nn.dense(10, kernel_init=nn.zeros()))
inner = optim.momentum(0.3, momentum=0.9)


@fnn.maker
def weighted(logits: Number) -> Loss:
    """Cross entropy times sigmoid(logits[index]); a target is (label, index), -1 for weight 1."""

    def losses(outputs, targets):
        labels, index = targets
        weights = jnp.where(index < 0, 1, jax.nn.sigmoid(logits)[index])
        return weights * objective.cross_entropy(outputs, labels)

    return Loss(losses)


def corrupt(rng, labels):
    """Replace half of the labels, chosen at random, by wrong ones."""
    is_wrong = rng.permutation(len(labels)) < len(labels) // 2
    shifted = (labels + rng.integers(1, 10, len(labels))) % 10
    return np.where(is_wrong, shifted, labels).astype(np.int32), is_wrong


def learn_weights(key, training, valid):
    """Descend on the weights of the examples; returns them, and the loss at each step."""
    index = np.arange(len(training[1]))
    examples = (training[0], (training[1], index))
    clean = (valid[0], (valid[1], np.full(len(valid[1]), -1)))
    recipe = train.recipe(network, inner, loss=weighted(jnp.zeros(len(index))), metrics={})
    outer = optim.adam(0.5)
    opt_state = outer.init(recipe)
    losses = []
    for _ in range(OUTER_STEPS):
        # Full batches: an epoch is a step.
        slope = search.hypergradient(
            key, recipe, examples, valid=clean, epochs=INNER_STEPS, batch_size=len(index),
            paths=("loss.logits",), growth=False,
        )  # fmt: skip
        losses.append(float(slope.value))
        recipe, opt_state = optim.step(outer, slope.gradient, opt_state, recipe)
    return jax.nn.sigmoid(recipe["loss.logits"]), losses


def test_accuracy(key, examples, test):
    recipe = train.recipe(network, optim.momentum(optim.cosine(0.02, steps=40 * 40)))
    result = train.run(key, recipe, examples, epochs=40, batch_size=len(examples[1]) // 40)
    return float(train.evaluate(recipe, result.train_state, test)["accuracy"])


def join(first, second):
    return tuple(np.concatenate(pair) for pair in zip(first, second, strict=True))


def repeat(seed, mnist):
    """One repeat with its own examples, labels and keys; returns figures and weights."""
    rng = np.random.default_rng(seed)
    images, labels = (np.asarray(array) for array in mnist.train)
    chosen = rng.permutation(len(labels))[: 2 * EXAMPLES]
    first, second = chosen[:EXAMPLES], chosen[EXAMPLES:]
    given, is_wrong = corrupt(rng, labels[first])
    training = (images[first], given)
    valid = (images[second], labels[second].astype(np.int32))
    key = jax.random.key(seed)
    weights, losses = learn_weights(key, training, valid)
    # A threshold on the weights, chosen without knowledge of the right labels.
    is_kept = np.asarray(weights) > 0.5
    found = {}
    for name, mask in (("baseline", is_wrong < 2), ("cleaned", is_kept), ("oracle", ~is_wrong)):
        examples = join((training[0][mask], training[1][mask]), valid)
        found[name] = test_accuracy(key, examples, mnist.test)
    true_positives = (is_kept & ~is_wrong).sum()
    found["F1"] = 2 * true_positives / (is_kept.sum() + (~is_wrong).sum())
    return found, losses, np.asarray(weights), is_wrong, training


def draw(repeats):
    """Plot the outer loss, the weights of right and wrong labels, and examples of low weight."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for _, losses, *_ in repeats:
        left.plot(losses, color="#0072B2")
    left.set(title="validation loss", xlabel="steps on the weights")
    _, _, weights, is_wrong, (images, labels) = repeats[0]
    bins = np.linspace(0, 1, 41)
    middle.hist(weights[~is_wrong], bins, alpha=0.6, label="right label", color="#009E73")
    middle.hist(weights[is_wrong], bins, alpha=0.6, label="wrong label", color="#D55E00")
    middle.set(title="weights of the training examples", xlabel="weight")
    middle.legend()
    lowest = np.argsort(weights)[:24]
    sheet = images[lowest, ..., 0].reshape(4, 6, *images.shape[1:3])
    right.imshow(sheet.swapaxes(1, 2).reshape(-1, 6 * images.shape[2]), cmap="gray_r")
    for place, index in enumerate(lowest):
        row, column = divmod(place, 6)
        at = (column * images.shape[2] + 1, row * images.shape[1] + 5)
        right.text(*at, str(labels[index]), color="#D55E00", fontsize=9)
    right.set_title("lowest weights, with their labels")
    right.axis("off")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main(directory=None):
    mnist = data.mnist(directory)
    repeats = [repeat(seed, mnist) for seed in range(REPEATS)]
    for name in repeats[0][0]:
        values = np.array([found[name] for found, *_ in repeats])
        print(f"{name} {values.mean():.4f} ± {values.std():.4f}")
    draw(repeats)
    print(f"plotted in {PICTURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
