"""Transfer learning: a body trained on the digits 0 to 4 recognizes 5 to 9 from 25 examples.

Run it with `python examples/12_transfer.py`; it takes half a minute on two CPU cores. It compares
training from scratch, a linear probe on the fixed body, and fine-tuning after the probe
[Kumar et al. 2022, arXiv:2202.10054]; each accuracy is the mean over keys.
"""

import argparse

import jax

from fnn import data, nn, optim, train

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
    source = train.recipe(network, optim.adam(1e-3))
    weights = train.run(jax.random.key(0), source, known, epochs=epochs, batch_size=64).train_state
    trained = nn.pretrained(body, weights.params["body"], weights.state["body"])
    # The body is the function that it is in evaluation: no gradient, no statistics, no dropout.
    probe = nn.chain(body=nn.inference(trained), head=nn.dense(5))

    def fit(key, start, rate):
        recipe = train.recipe(start, optim.adam(rate))
        state = train.run(key, recipe, few, epochs=epochs, batch_size=BATCH).train_state
        return state, train.evaluate(recipe, state, test)["accuracy"]

    def compare(key):
        _, scratch_accuracy = fit(key, network, 1e-3)
        probed, probe_accuracy = fit(key, probe, 1e-2)
        # The params of the probe are in two places; those of the network are all trained.
        tuned = nn.pretrained(network, *nn.unfreeze(probed.params, probed.state))
        _, tuned_accuracy = fit(key, tuned, 1e-4)
        return {"scratch": scratch_accuracy, "probe": probe_accuracy, "tuned": tuned_accuracy}

    # All keys in one program.
    accuracies = jax.jit(jax.vmap(compare))(jax.random.split(jax.random.key(1), KEYS))
    print(", ".join(f"{name} {values.mean():.3f}" for name, values in accuracies.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    main(parser.parse_args().epochs)
