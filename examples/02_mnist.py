"""MNIST: 99.6 % of the test images after one run of two and a half minutes on two CPU cores.

Run it with `python examples/02_mnist.py [DIRECTORY]`. DIRECTORY contains the four files of MNIST,
plain or gzipped; without it they are downloaded on first use. Curves, the confusion matrix and the
most confident mistakes are plotted in out/.
"""

import argparse
from pathlib import Path

import jax

from fnn import augment, data, lab, nn, optim, train

EPOCHS, BATCH, PEAK, DECAY = 10, 128, 1e-2, 1e-2
OUT = Path("out")


def block(channels):
    return nn.conv(channels), nn.batch_norm(), nn.relu()


network = nn.chain(
    *block(16), *block(16), nn.max_pool(),
    *block(32), *block(32), nn.max_pool(),
    *block(64), nn.flatten(), nn.dropout(0.4), nn.dense(10),
)  # fmt: skip
policy = augment.chain(
    augment.rotate((-8, 8)),
    augment.scale((0.9, 1.1)),
    augment.random_crop(padding=2, mode="constant"),
)


def main(directory=None):
    mnist = data.mnist(directory)
    steps = train.num_steps(mnist.train, epochs=EPOCHS, batch_size=BATCH)
    optimizer = optim.adamw(optim.one_cycle(PEAK, steps=steps), weight_decay=DECAY)
    recipe = train.recipe(network, optimizer, augment=policy)
    result = lab.fit(
        jax.random.key(0), recipe, mnist.train, valid=mnist.test, epochs=EPOCHS, batch_size=BATCH
    )
    images, labels = mnist.test
    logits = train.predict(recipe, result.train_state, images)
    OUT.mkdir(exist_ok=True)
    lab.plot_curves(result, OUT / "mnist.png")
    lab.plot_confusion(logits, labels, OUT / "mnist_confusion.png")
    lab.plot_mistakes(images, logits, labels, OUT / "mnist_mistakes.png")
    print(f"test accuracy {(logits.argmax(-1) == labels).mean():.4f}; three plots in {OUT}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
