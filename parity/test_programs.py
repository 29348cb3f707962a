"""Augmentations give the same pixels in eager mode, jit and vmap, compiled as users compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageEnhance

from fnn import augment

COUNT = 3
SHAPE = (33, 31, 3)
BYTES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
FLOATS = (BYTES / 255).astype(np.float32)
SHEARS = {"shear_rows": (-20.0, 20.0), "shear_columns": (-20.0, 20.0)}
POLICIES = {
    "affine": augment.affine(degrees=(-40.0, 40.0), factor=(0.6, 1.5), **SHEARS),
    "rotate": augment.rotate((-180.0, 180.0)),
    "rotate by 45": augment.rotate(45.0, method="nearest"),
    "scale": augment.scale(0.6, method="nearest"),
    "perspective": augment.perspective(0.6),
    "elastic": augment.elastic(2.0),
    "random_crop": augment.random_crop(padding=2),
    "a flipped window": augment.chain(augment.random_resized_crop(9), augment.flip_lr()),
    "random_resized_crop": augment.random_resized_crop((7, 30), method="bicubic"),
    "brightness": augment.brightness(1.2),
    "contrast": augment.contrast(0.6),
    "saturation": augment.saturation(1.7),
    "sharpness": augment.sharpness(1.1),
    "gamma": augment.gamma(2.0),
    "hue": augment.hue(0.2),
    "posterize": augment.posterize((1.0, 8.0)),
    "solarize": augment.solarize(0.4),
    "equalize": augment.equalize(),
    "autocontrast": augment.autocontrast(),
    "rgb_shift": augment.rgb_shift(0.1),
    "pca_lighting": augment.pca_lighting(0.3),
    "jitter": augment.jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "gaussian_blur": augment.gaussian_blur((0.1, 2.0)),
    "jpeg": augment.jpeg(50.0),
    "gaussian_noise": augment.gaussian_noise(0.1),
    "grid_mask": augment.grid_mask(fill=0.5),
    "channel_drop": augment.channel_drop(1.0, fill=0.5),
    "rand_augment": augment.rand_augment(method="bilinear"),
    "trivial_augment": augment.trivial_augment(),
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
def test_eager_mode_jit_and_vmap_agree(name):
    eager, single, mapped = in_all_programs(POLICIES[name], BYTES)
    np.testing.assert_array_equal(single, eager)
    np.testing.assert_array_equal(mapped, eager)
    eager, single, mapped = in_all_programs(POLICIES[name], FLOATS)
    np.testing.assert_allclose(single, eager, atol=1e-5)
    np.testing.assert_allclose(mapped, eager, atol=1e-5)


ODD_SIZES = [(33, 15), (100, 140), (224, 416), (7, 3), (1, 5), (40, 39), (29, 13), (90, 7)]


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), ODD_SIZES)
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
    eager, single, mapped = in_all_programs(policy, (images / 255).astype(np.float32))
    np.testing.assert_allclose(single, eager, atol=1e-5)
    np.testing.assert_allclose(mapped, eager, atol=1e-5)


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.1, 1.2, 1.6, 1.7])
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
