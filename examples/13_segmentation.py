"""Segmentation with a U-Net: disks and squares in noise, from 32 images.

Run it with `python examples/13_segmentation.py`; it takes less than a minute on two CPU cores. It
prints the mean intersection over union without augmentation and with it, where images and masks
are moved together. Pixels at the border of an object are not counted.
"""

import argparse

import jax
import jax.numpy as jnp

from fnn import augment, nn, objective, optim, train

SIZE, IMAGES, BATCH, BORDER = 16, 32, 16, 255

network = nn.unet((16, 32), 3)
policy = augment.chain(augment.rot90(), augment.flip_lr(), augment.flip_ud())


def scene(key):
    """An image (SIZE, SIZE, 1) of a disk and a square, and its mask (SIZE, SIZE)."""
    place, size, noise = jax.random.split(key, 3)
    centers = jax.random.uniform(place, (2, 2), minval=4, maxval=SIZE - 4)
    radius, half = jax.random.uniform(size, (2,), minval=2, maxval=3.5)
    y, x = jnp.mgrid[:SIZE, :SIZE].astype(float)
    # Distances to the outlines, negative within.
    disk = jnp.hypot(y - centers[0, 0], x - centers[0, 1]) - radius
    square = jnp.maximum(abs(y - centers[1, 0]), abs(x - centers[1, 1])) - half
    mask = jnp.where(disk < 0, 1, jnp.where(square < 0, 2, 0))
    image = 0.35 + jnp.where(mask > 0, 0.3, 0) + 0.12 * jax.random.normal(noise, (SIZE, SIZE))
    is_border = (abs(disk) < 0.5) | (abs(square) < 0.5)
    return image.clip(0, 1)[..., None], jnp.where(is_border, BORDER, mask)


def recipe(augmentation, epochs):
    return train.recipe(
        network,
        optim.adam(optim.one_cycle(1e-2, steps=epochs * IMAGES // BATCH)),
        loss=objective.ignoring(objective.cross_entropy, BORDER),
        metrics={"iou": objective.mean_iou(ignore=BORDER)},
        augment=augmentation,
    )


def main(epochs=150):
    scenes = jax.jit(jax.vmap(scene))
    key = jax.random.key(0)
    training = scenes(jax.random.split(key, IMAGES))
    test = scenes(jax.random.split(jax.random.key(1), 200))
    for name, augmentation in {"none": None, "together": augment.together(policy)}.items():
        chosen = recipe(augmentation, epochs)
        result = train.run(key, chosen, training, epochs=epochs, batch_size=BATCH)
        iou = train.evaluate(chosen, result.train_state, test)["iou"]
        print(f"augmentation {name}: mean IoU {iou:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=150)
    main(parser.parse_args().epochs)
