"""Cost of the numbers of a recipe as arguments of a program, relative to constants.

An eager run compiles a program that takes the numbers as arguments, so that a run with other
numbers needs no compilation. Here each program is compiled twice: with the recipe as an argument,
and with the recipe closed over, so that its numbers are constants of XLA.
"""

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, compare, judge, show

from fnn import augment, nn, objective, optim, train

ROUNDS = 15
GOAL = 1.03
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (512, 32, 32, 3)).astype(np.uint8)
IMAGES = (PIXELS, DRAW.integers(0, 10, 512).astype(np.int32))
NORMALS = DRAW.normal(size=(12_800, 784)).astype(np.float32)
VECTORS = (NORMALS, DRAW.integers(0, 10, 12_800).astype(np.int32))


def perceptron() -> train.Recipe:
    hidden = [nn.dense(256), nn.relu(), nn.dropout(0.1), nn.dense(128), nn.relu()]
    network = nn.chain(*hidden, nn.dense(10))
    schedule = optim.one_cycle(1e-3, steps=100, warmup_steps=30, start=1e-4, floor=1e-6)
    optimizer = optim.adamw(schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2)
    return train.recipe(network, optimizer, loss=objective.cross_entropy(label_smoothing=0.1))


def convolutional() -> train.Recipe:
    layers = []
    for width in (16, 32):
        layers += [nn.conv(width), nn.batch_norm(momentum=0.9), nn.relu(), nn.max_pool()]
    policy = flip_rotate_brightness()
    optimizer = optim.ema(optim.momentum(optim.cosine(0.1, steps=4)), 0.99)
    return train.recipe(nn.chain(*layers, nn.flatten(), nn.dense(10)), optimizer, augment=policy)


def flip_rotate_brightness() -> augment.Policy:
    rotate = augment.rotate((-15, 15))
    return augment.chain(augment.flip_lr(0.5), rotate, augment.brightness((0.8, 1.2)))


def runs(recipe: train.Recipe, data) -> dict[str, Program]:
    """An epoch of training, with the recipe as constants and as an argument."""

    def run(recipe):
        return train.run(jax.random.key(0), recipe, data, epochs=1, batch_size=128).history.loss

    data = jax.device_put(data)
    with_argument, with_constants = jax.jit(run), jax.jit(lambda: run(recipe))
    return {
        "constants": lambda: jax.block_until_ready(with_constants()),
        "arguments": lambda: jax.block_until_ready(with_argument(recipe)),
    }


def augmentations(policy: augment.Policy) -> dict[str, Program]:
    """A batch of images, with the policy as constants and as an argument."""
    images, key = jnp.asarray(IMAGES[0]), jax.random.key(0)
    with_argument = jax.jit(lambda policy: augment.per_image(policy)(key, images))
    with_constants = jax.jit(lambda: augment.per_image(policy)(key, images))
    return {
        "constants": lambda: jax.block_until_ready(with_constants()),
        "arguments": lambda: jax.block_until_ready(with_argument(policy)),
    }


def main() -> None:
    mlp = "MLP 784-256-128-10, AdamW under one_cycle, dropout, smoothing: an epoch"
    cnn = "CNN 16-32, batch norm, rotation and brightness, ema: an epoch"
    rand_augment = augment.rand_augment(magnitude=9.0)
    cases = {
        mlp: runs(perceptron(), VECTORS),
        cnn: runs(convolutional(), IMAGES),
        "rand_augment(magnitude=9) of 512 images": augmentations(rand_augment),
        "flip, rotate, brightness of 512 images": augmentations(flip_rotate_brightness()),
    }
    rows, remarks = [], []
    for name, programs in cases.items():
        timings = compare(programs, base="constants", rounds=ROUNDS)
        ratio = timings["arguments"].ratio
        milliseconds = {f"{way}, ms": f"{1e3 * t.seconds:.2f}" for way, t in timings.items()}
        rows.append({"program": name, **milliseconds, "ratio": f"{ratio:.3f}"})
        remarks.append(judge(name, ratio, GOAL))
    method = f"Median of {ROUNDS} alternating rounds; the ratio is taken within a round."
    show(__doc__, method, rows, "\n".join(remarks))


if __name__ == "__main__":
    main()
