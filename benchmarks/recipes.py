"""What do the numbers of a recipe cost as arguments of a program, by the same program with constants?

An eager run compiles with the numbers as arguments, so that others compile nothing. Here each program is compiled both
ways: with the recipe given to it, and with the recipe closed over, so that XLA sees constants.
"""

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, compare, judge, show

from fnn import augment, nn, objective, optim, train

ROUNDS = 15
GOAL = 1.03
DRAW = np.random.default_rng(0)
IMAGES = (
    DRAW.integers(0, 256, (512, 32, 32, 3)).astype(np.uint8),
    DRAW.integers(0, 10, 512).astype(np.int32),
)
VECTORS = (
    DRAW.normal(size=(12_800, 784)).astype(np.float32),
    DRAW.integers(0, 10, 12_800).astype(np.int32),
)


def perceptron() -> train.Recipe:
    network = nn.chain(
        nn.dense(256), nn.relu(), nn.dropout(0.1), nn.dense(128), nn.relu(), nn.dense(10)
    )
    schedule = optim.one_cycle(1e-3, steps=100, warmup_steps=30, start=1e-4, floor=1e-6)
    optimizer = optim.adamw(schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2)
    return train.recipe(network, optimizer, loss=objective.cross_entropy(label_smoothing=0.1))


def convolutional() -> train.Recipe:
    layers = [
        layer
        for width in (16, 32)
        for layer in (nn.conv(width), nn.batch_norm(momentum=0.9), nn.relu(), nn.max_pool())
    ]
    policy = augment.chain(
        augment.flip_lr(0.5), augment.rotate((-15, 15)), augment.brightness((0.8, 1.2))
    )
    optimizer = optim.ema(optim.momentum(optim.cosine(0.1, steps=4)), 0.99)
    return train.recipe(nn.chain(*layers, nn.flatten(), nn.dense(10)), optimizer, augment=policy)


def both_ways(recipe: train.Recipe, data) -> dict[str, Program]:
    def run(recipe):
        return train.run(jax.random.key(0), recipe, data, epochs=1, batch_size=128).history.loss

    data = jax.device_put(data)
    given, closed = jax.jit(run), jax.jit(lambda: run(recipe))
    return {
        "constants": lambda: jax.block_until_ready(closed()),
        "arguments": lambda: jax.block_until_ready(given(recipe)),
    }


def policies(policy: augment.Policy) -> dict[str, Program]:
    images, key = jnp.asarray(IMAGES[0]), jax.random.key(0)
    given = jax.jit(lambda policy: augment.per_image(policy)(key, images))
    closed = jax.jit(lambda: augment.per_image(policy)(key, images))
    return {
        "constants": lambda: jax.block_until_ready(closed()),
        "arguments": lambda: jax.block_until_ready(given(policy)),
    }


def main() -> None:
    cases = {
        "MLP 784-256-128-10, AdamW under one_cycle, dropout, smoothing: an epoch": both_ways(
            perceptron(), VECTORS
        ),
        "CNN 16-32, batch norm, rotation and brightness, ema: an epoch": both_ways(
            convolutional(), IMAGES
        ),
        "rand_augment(magnitude=9) of 512 images": policies(augment.rand_augment(magnitude=9.0)),
        "flip, rotate, brightness of 512 images": policies(
            augment.chain(
                augment.flip_lr(0.5), augment.rotate((-15, 15)), augment.brightness((0.8, 1.2))
            )
        ),
    }
    rows, remarks = [], []
    for name, programs in cases.items():
        timings = compare(programs, base="constants", rounds=ROUNDS)
        ratio = timings["arguments"].ratio
        milliseconds = {way: f"{1e3 * timing.seconds:.2f}" for way, timing in timings.items()}
        rows.append(
            {
                "program": name,
                **{f"{way}, ms": own for way, own in milliseconds.items()},
                "ratio": f"{ratio:.3f}",
            }
        )
        remarks.append(judge(name, ratio, GOAL))
    show(
        __doc__,
        f"Median of {ROUNDS} rounds in turns; the ratio is taken within a round.",
        rows,
        "\n".join(remarks),
    )


if __name__ == "__main__":
    main()
