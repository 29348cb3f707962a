"""Transfer learning: a body trained on the digits 0 to 4 recognizes 5 to 9 from 25 examples.

Run it with `python examples/12_transfer.py`; it takes half a minute on two CPU cores. It compares
training from scratch, a linear probe on the fixed body, and fine-tuning after the probe
[Kumar et al. 2022, arXiv:2202.10054]. Accuracies of the two that are trained are means over keys.
"""

import argparse

import jax

from fnn import data, nn, optim, train, transfer

BATCH, KEYS, SHOTS = 25, 5, 25

body = nn.chain(
    nn.conv(24), nn.batch_norm(), nn.relu(),
    nn.conv(24), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.conv(48), nn.batch_norm(), nn.relu(), nn.flatten(), nn.dropout(0.2),
)  # fmt: skip
network = nn.chain(body=body, head=nn.dense(5))


def select(examples, first):
    """The five digits from a first one on, with labels from 0."""
    images, labels = examples
    chosen = (first <= labels) & (labels < first + 5)
    return images[chosen], labels[chosen] - first


def main(epochs=40):
    digits = data.digits()
    known, new, test = select(digits.train, 0), select(digits.train, 5), select(digits.test, 5)
    few = new[0][:SHOTS], new[1][:SHOTS]
    scratch = train.recipe(network, optim.adam(1e-3))
    run = train.run(jax.random.key(0), scratch, known, epochs=epochs, batch_size=64)
    weights = train.weights(scratch, run.train_state)

    # The features are computed once, and the probe is convex: it needs no rate and no key.
    features = transfer.features(scratch, weights, few[0])
    probe = transfer.linear_probe(features, few[1], l2=1e-2, classes=5)
    probed, weights = transfer.attach(network, weights, probe)
    tuned = transfer.fine_tune(train.recipe(probed, optim.adam(1e-4)), weights)

    def accuracy(key, recipe):
        state = train.run(key, recipe, few, epochs=epochs, batch_size=BATCH).train_state
        return train.evaluate(recipe, state, test)["accuracy"]

    # All keys in one program.
    keys = jax.random.split(jax.random.key(1), KEYS)
    of_keys = jax.jit(jax.vmap(accuracy, (0, None)))
    accuracies = {
        "probe": train.evaluate(train.recipe(probed), weights, test)["accuracy"],
        "scratch": of_keys(keys, scratch).mean(),
        "tuned": of_keys(keys, tuned).mean(),
    }
    print(", ".join(f"{name} {value:.3f}" for name, value in accuracies.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    main(parser.parse_args().epochs)
