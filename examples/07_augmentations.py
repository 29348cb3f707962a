"""Contact sheets of every augmentation: each operation at three magnitudes, and published policies.

Run `python examples/07_augmentations.py`; it takes a minute or two and writes out/moves.png,
colors.png, pixels.png, hidden.png and policies.png, or those that you name. The image is a test
card: a landscape, a wheel of hues, a ramp of gray, fine stripes, and a letter F, which shows
reflections.
"""

import sys
from pathlib import Path

import numpy as np

from fnn import augment, lab

OUT = Path("out")
SIDE = 96


def card(side=SIDE):
    """The test card (side, side, 3), bytes."""
    y, x = np.mgrid[:side, :side] / side
    sky, ground = np.array([0.35, 0.6, 0.9]), np.array([0.3, 0.5, 0.25])
    image = np.where(
        (y < 0.55)[..., None], sky + (0.5 * y)[..., None], ground * (1.5 - y)[..., None]
    )
    angle, radius = np.arctan2(y - 0.3, x - 0.72), np.hypot(y - 0.3, x - 0.72)
    hues = 0.5 + 0.5 * np.cos(angle[..., None] + np.array([0, 2, 4]) * np.pi / 3)
    image = np.where((radius < 0.2)[..., None], hues, image)
    image = np.where(
        ((y > 0.85) & (x > 0.1) & (x < 0.9))[..., None], ((x - 0.1) / 0.8)[..., None], image
    )
    stripes = np.floor(x * side / 2) % 2
    image = np.where(
        ((y > 0.62) & (y < 0.8) & (x > 0.55) & (x < 0.9))[..., None], stripes[..., None], image
    )
    stem, upper, middle = x < 0.2, y < 0.22, (y > 0.36) & (y < 0.46) & (x < 0.34)
    letter = (x > 0.1) & (x < 0.42) & (y > 0.1) & (y < 0.72) & (stem | upper | middle)  # an F
    return np.round(255 * np.clip(np.where(letter[..., None], 0.95, image), 0, 1)).astype(np.uint8)


def at(maker, *strengths):
    """Rows of an operation at a low, a middle and a high magnitude."""
    return {f"{maker.__name__} {strength:g}": maker(strength) for strength in strengths}


def slant(degrees):
    return augment.shear(columns=degrees)


def shift(part):
    return augment.translate(part, part)


def sheets():
    """The rows of each picture."""
    blur = {
        f"gaussian_blur {sigma:g}": augment.gaussian_blur(sigma, size=13)
        for sigma in (0.5, 1.5, 4.0)
    }
    return {
        "moves": {
            "flip_lr": augment.flip_lr(),
            "flip_ud": augment.flip_ud(),
            "rot90": augment.rot90(),
        }
        | at(augment.rotate, 5.0, 20.0, 60.0)
        | at(slant, 5.0, 20.0, 45.0)
        | at(shift, 0.05, 0.15, 0.4)
        | at(augment.scale, 0.7, 1.3, 2.0)
        | at(augment.perspective, 0.1, 0.4, 0.8)
        | at(augment.elastic, 0.5, 2.0, 5.0)
        | {
            "affine": augment.affine(
                degrees=(-20.0, 20.0), factor=(0.8, 1.2), shear_columns=(-15.0, 15.0)
            )
        }
        | {
            "crop, pad": augment.chain(augment.crop(64), augment.pad(16)),
            "random_crop": augment.random_crop(padding=16),
        }
        | {"random_resized_crop": augment.random_resized_crop(SIDE), "resize": augment.resize(24)},
        "colors": at(augment.brightness, 0.4, 1.3, 2.0)
        | at(augment.contrast, 0.2, 1.5, 3.0)
        | at(augment.saturation, 0.0, 0.5, 3.0)
        | at(augment.hue, 0.05, 0.2, 0.5)
        | at(augment.gamma, 0.4, 1.5, 3.0)
        | at(augment.solarize, 0.9, 0.5, 0.1)
        | at(augment.posterize, 6, 3, 1)
        | {
            "invert": augment.invert(),
            "autocontrast": augment.autocontrast(),
            "equalize": augment.equalize(),
        }
        | {"grayscale": augment.grayscale(), "rgb_shift": augment.rgb_shift((-0.2, 0.2))}
        | {"pca_lighting": augment.pca_lighting(0.5)}
        | {"jitter": augment.jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)},
        "pixels": at(augment.sharpness, 0.0, 2.0, 6.0)
        | blur
        | at(augment.jpeg, 60, 20, 3)
        | at(augment.gaussian_noise, 0.02, 0.1, 0.3)
        | at(augment.salt_and_pepper, 0.01, 0.05, 0.3),
        "hidden": at(augment.cutout, 12, 32, 64)
        | {
            "random_erasing": augment.random_erasing(1.0),
            "of noise": augment.random_erasing(1.0, fill="noise"),
        }
        | at(augment.grid_mask, 0.1, 0.3, 0.6)
        | {"channel_drop": augment.channel_drop(1.0)},
        "policies": {
            f"rand_augment {magnitude:g}": augment.rand_augment(magnitude=magnitude)
            for magnitude in (3.0, 9.0, 20.0)
        }
        | {"trivial_augment": augment.trivial_augment(), "augmix": augment.augmix()}
        | {
            f"auto_augment {table}": augment.auto_augment(table)
            for table in ("cifar10", "imagenet", "svhn")
        }
        | {"three_augment": augment.three_augment()},
    }


def main(names):
    """Write the sheets with these names, or all."""
    OUT.mkdir(exist_ok=True)
    for name, rows in sheets().items():
        if name in names or not names:
            lab.plot_augmentations(rows, card()[None], OUT / f"{name}.png", draws=5)
            print(OUT / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
