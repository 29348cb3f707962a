"""Augmentations give the same pixels in eager mode, jit and vmap, compiled as users compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageEnhance

from fnn import augment

COUNT = 2
SHAPE = (21, 19, 3)
BYTES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
# One policy of each kind of arithmetic that a program may contract or reorder.
POLICIES = {
    "affine": augment.affine(degrees=(-40.0, 40.0), factor=(0.6, 1.5), shear_rows=(-20.0, 20.0)),
    "a flipped window": augment.chain(augment.random_resized_crop(9), augment.flip_lr()),
    "colors": augment.chain(augment.saturation(1.7), augment.gamma(2.0), augment.solarize(0.4)),
    "jitter": augment.jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "gaussian_blur": augment.gaussian_blur((0.1, 2.0)),
    "jpeg": augment.jpeg(50.0),
}


def example_key(index):
    return jax.random.fold_in(jax.random.key(3), index)


def in_all_programs(policy, images):
    """The augmented images of eager mode, jit and vmap."""
    compiled = jax.jit(policy)
    eager, single = [], []
    for index, image in enumerate(images):
        eager.append(policy(example_key(index), jnp.asarray(image)))
        single.append(compiled(example_key(index), image))
    by_index = jax.vmap(lambda index, image: policy(example_key(index), image))
    mapped = jax.jit(by_index)(np.arange(COUNT, dtype=np.int32), images)
    return np.stack(eager), np.stack(single), np.asarray(mapped)


@pytest.mark.parametrize("name", POLICIES)
def test_eager_mode_jit_and_vmap_give_the_same_bytes(name):
    eager, single, mapped = in_all_programs(POLICIES[name], BYTES)
    np.testing.assert_array_equal(single, eager)
    np.testing.assert_array_equal(mapped, eager)


@pytest.mark.parametrize(
    ("old", "new", "method"),
    [(40, 39, "bicubic")],
)
def test_resize_agrees_in_all_programs_and_with_pillow(old, new, method):
    policy = augment.resize((new, new), method=method)
    draw = np.random.default_rng(old)
    # Black and white, whose bicubic overshoot Pillow clips after each axis.
    images = 255 * draw.integers(0, 2, (COUNT, old, old, 3)).astype(np.uint8)
    eager, single, mapped = in_all_programs(policy, images)
    np.testing.assert_array_equal(single, eager)
    np.testing.assert_array_equal(mapped, eager)
    filters = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}
    wanted = np.stack([Pillow.fromarray(x).resize((new, new), filters[method]) for x in images])
    assert np.abs(mapped.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("factor", [0.6, 1.7])
def test_blends_of_compiled_programs_are_pillows(factor):
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    enhancements = {
        augment.contrast: ImageEnhance.Contrast,
        augment.saturation: ImageEnhance.Color,
        augment.sharpness: ImageEnhance.Sharpness,
        augment.brightness: ImageEnhance.Brightness,
    }
    for make, enhancement in enhancements.items():
        found = jax.jit(make(factor))(jax.random.key(0), image)
        wanted = enhancement(Pillow.fromarray(image)).enhance(factor)
        np.testing.assert_array_equal(found, np.asarray(wanted))
