"""CIFAR-10 with ResNet-20 and checkpoints: 79 % after 10 epochs, 15 minutes on two CPU cores.

Run it with `python examples/03_cifar10.py [DIRECTORY]`. DIRECTORY contains the binary version of
CIFAR-10; without it the files are downloaded on first use. With `--epochs 160` it is as long as the
paper's run, which reaches 91.25 % [He et al. 2016, arXiv:1512.03385]. Stop it by Ctrl-C or
`kill -9` and run the same line again: it resumes from its last checkpoint in out/cifar10, and the
result has the same bits as that of an uninterrupted run.
"""

import argparse
from pathlib import Path

import jax

from fnn import augment, data, lab, nn, optim, train

BATCH, PEAK, DECAY = 128, 0.1, 5e-4
OUT = Path("out/cifar10")


def prepare(images):
    """Standardize bytes by the mean and deviation over the training images."""
    return (data.to_float(images) - 0.473) / 0.251


network = nn.resnet_cifar(20, classes=10)
policy = augment.chain(augment.random_crop(padding=4), augment.flip_lr())


def main(directory=None, epochs=10):
    cifar = data.cifar10(directory)
    steps = train.num_steps(cifar.train, epochs=epochs, batch_size=BATCH)
    rate = optim.one_cycle(PEAK, steps=steps)
    optimizer = optim.weight_decay(optim.momentum(rate, nesterov=True), DECAY, paths=("*kernel",))
    recipe = train.recipe(network, optimizer, augment=policy, prepare=prepare)
    OUT.mkdir(parents=True, exist_ok=True)
    result = lab.fit(
        jax.random.key(0),
        recipe,
        cifar.train,
        valid=cifar.test,
        epochs=epochs,
        batch_size=BATCH,
        log=lab.jsonl_log(OUT / "run.jsonl"),
        checkpoints=lab.checkpoint_policy(OUT / "run", seconds=60, asynchronous=True),
        resume=True,
    )
    lab.plot_curves(result, OUT / "curves.png")
    accuracy = result.history.valid_accuracy[-1]
    print(f"test accuracy {accuracy:.4f}; curves in {OUT / 'curves.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=10)
    main(**vars(parser.parse_args()))
