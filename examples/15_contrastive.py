"""Contrastive learning on digits without labels, as SimCLR, and a linear probe with 50 labels.

Run it with `python examples/15_contrastive.py`; it takes less than a minute on two CPU cores. It
prints the test accuracy of the probe on the trained body and on a random one
[Chen et al. 2020, arXiv:2002.05709].
"""

import argparse
from functools import partial

import jax

from fnn import augment, data, nn, objective, optim, train
from fnn.types import Weights

BATCH, LABELS = 128, 50

body = nn.chain(
    nn.conv(32), nn.batch_norm(), nn.relu(),
    nn.conv(32), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.conv(64), nn.batch_norm(), nn.relu(), nn.max_pool(), nn.flatten(),
)  # fmt: skip
projector = nn.chain(nn.dense(64), nn.relu(), nn.dense(32))
policy = augment.chain(
    augment.rotate((-15, 15)),
    augment.scale((0.8, 1.2)),
    augment.translate((-0.1, 0.1), (-0.1, 0.1)),
    augment.jitter(brightness=0.4, contrast=0.4),
)
simclr = train.recipe(
    nn.chain(body=body, projector=projector),
    optim.adam(1e-3),
    loss=objective.nt_xent(temperature=0.2),
    augment=augment.views(policy),
)


def probe(train_state, digits):
    """The test accuracy of a linear classifier on the features of the body, computed once."""
    weights = Weights(train_state.params["body"], train_state.state["body"])
    features = partial(train.predict, train.recipe(body), weights)
    (images, labels), (test_images, test_labels) = digits
    few = features(images[:LABELS]), labels[:LABELS]
    linear = train.recipe(nn.dense(10), optim.adamw(1e-2, weight_decay=0.1))
    result = train.run(jax.random.key(1), linear, few, epochs=200, batch_size=LABELS)
    test = features(test_images), test_labels
    return train.evaluate(linear, result.train_state, test)["accuracy"]


def main(epochs=60):
    digits = data.digits()
    key = jax.random.key(0)
    # The labels are not used: the targets of a view are the number of its image in the batch.
    result = train.run(key, simclr, digits.train, epochs=epochs, batch_size=BATCH)
    untrained = train.start(key, simclr, (8, 8, 1))
    for name, train_state in {"trained": result.train_state, "random": untrained}.items():
        print(f"probe of the {name} body: test accuracy {probe(train_state, digits):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    main(parser.parse_args().epochs)
