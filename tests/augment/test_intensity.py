"""Levels of bytes and of floats, and properties of all operations."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, augmented, pictures, smooth
from PIL import Image as Pillow

from fnn import augment
from fnn.augment import intensity
from fnn.augment.policy import Policy

pytestmark = pytest.mark.slow

RAMP = np.arange(256, dtype=np.uint8)


def test_luma_of_bytes_equals_pillows_mode_l():
    draw = np.random.default_rng(0)
    grays = np.stack([RAMP[:200]] * 3, -1)[None]
    colors = np.concatenate([draw.integers(0, 256, (100, 200, 3)), grays]).astype(np.uint8)
    expected = np.asarray(Pillow.fromarray(colors).convert("L"))
    np.testing.assert_array_equal(jax.jit(intensity.luma)(colors), expected)


def test_levels_are_clipped_and_those_of_bytes_rounded_down():
    x = jnp.array([-0.5, 0.0, 0.7, 1.0, 1.2, 254.99, 255.0, 300.0])
    np.testing.assert_array_equal(intensity.clip_levels(x, 255.0), [0, 0, 0, 1, 1, 254, 255, 255])
    np.testing.assert_array_equal(intensity.clip_levels(x, 1.0), np.clip(np.asarray(x), 0, 1))


def test_bytes_survive_the_conversion_to_floats():
    np.testing.assert_array_equal(intensity.to_bytes(jnp.asarray(as_floats(RAMP))), RAMP)
    assert intensity.to_bytes(RAMP) is RAMP
    assert intensity.max_level(RAMP) == 255 and intensity.max_level(as_floats(RAMP)) == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_look_up_maps_each_channel_by_its_table(channels):
    images = pictures(6, (7, 5, channels))
    tables = np.random.default_rng(1).integers(0, 256, (6, 256, channels)).astype(np.uint8)
    levels = images.reshape(6, -1, channels).astype(int)
    expected = np.take_along_axis(tables, levels, 1).reshape(images.shape)
    np.testing.assert_array_equal(jax.jit(jax.vmap(intensity.look_up))(images, tables), expected)


def test_half_precision_is_computed_in_single_precision():
    assert intensity.to_float(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    image = jnp.asarray(smooth(1)[0], jnp.bfloat16)
    found = jax.jit(augment.gamma(0.7))(jax.random.key(0), image)
    assert found.dtype == jnp.bfloat16
    expected = np.asarray(image, np.float64) ** 0.7
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8)


class Operation(NamedTuple):
    """A policy of one operation.

    Attributes:
        policy: The operation at a magnitude with a visible effect.
        same: The operation at the magnitude of the identity, if there is one.
        near: Tolerance of the identity on floats. 0: not compared.
        alpha: Whether a fourth channel is kept.
        flat: Whether an image of one channel is kept.
    """

    policy: Policy
    same: Policy | None = None
    near: float = 0.0
    alpha: bool = True
    flat: bool = False


SHAPE = (20, 18, 3)
OPERATIONS = {
    "autocontrast": Operation(augment.autocontrast()),
    "brightness": Operation(augment.brightness(0.4), augment.brightness(1.0)),
    "contrast": Operation(augment.contrast(0.4), augment.contrast(1.0), 1e-7),
    "equalize": Operation(augment.equalize()),
    "gamma": Operation(augment.gamma(2.0), augment.gamma(1.0)),
    "invert": Operation(augment.invert()),
    "posterize": Operation(augment.posterize(2.0), augment.posterize(8.0), 1 / 256),
    "solarize": Operation(augment.solarize(0.3)),
    "grayscale": Operation(augment.grayscale(), augment.grayscale(0.0), flat=True),
    "hue": Operation(augment.hue(0.3), augment.hue(0.0), 1e-6, flat=True),
    "saturation": Operation(augment.saturation(0.2), augment.saturation(1.0), 1e-7, flat=True),
    "rgb_shift": Operation(augment.rgb_shift(0.3), augment.rgb_shift(0.0), flat=True),
    "pca_lighting": Operation(augment.pca_lighting(1.0), augment.pca_lighting(0.0), flat=True),
    "jitter": Operation(
        augment.jitter(brightness=0.5, saturation=0.5, hue=0.2), augment.jitter(hue=0.0), 1e-6
    ),
    "sharpness": Operation(augment.sharpness(0.2), augment.sharpness(1.0), 1e-7),
    "salt_and_pepper": Operation(augment.salt_and_pepper(0.5), augment.salt_and_pepper(0.0)),
    "gaussian_noise": Operation(augment.gaussian_noise(0.2), augment.gaussian_noise(0.0)),
    "gaussian_blur": Operation(
        augment.gaussian_blur(2.0), augment.gaussian_blur(0.01), alpha=False
    ),
    "elastic": Operation(augment.elastic(3.0), augment.elastic(0.0), alpha=False),
    "flip_lr": Operation(augment.flip_lr(1.0), augment.flip_lr(0.0), alpha=False),
    "rot90": Operation(augment.rot90(2), augment.rot90(0), alpha=False),
    "rotate": Operation(augment.rotate(33.0), augment.rotate(0.0), alpha=False),
    "scale": Operation(augment.scale(0.6), augment.scale(1.0), alpha=False),
    "shear": Operation(augment.shear(20.0, 10.0), augment.shear(), alpha=False),
    "translate": Operation(augment.translate(0.3, 0.2), augment.translate(), alpha=False),
    "affine": Operation(augment.affine(degrees=20.0, factor=0.7), augment.affine(), alpha=False),
    "perspective": Operation(augment.perspective(0.8), augment.perspective(0.0), alpha=False),
    "random_crop": Operation(
        augment.random_crop(padding=5), augment.random_crop(padding=0), alpha=False
    ),
    "random_resized_crop": Operation(
        augment.random_resized_crop(SHAPE[:2]),
        augment.random_resized_crop(SHAPE[:2], area=(1.0, 1.0), ratio=(18 / 20, 18 / 20)),
        alpha=False,
    ),
    "resize": Operation(
        augment.chain(augment.resize((5, 7)), augment.resize(SHAPE[:2])),
        augment.resize(SHAPE[:2]),
        alpha=False,
    ),
    "channel_drop": Operation(augment.channel_drop(1.0), augment.channel_drop(0.0), alpha=False),
    "cutout": Operation(augment.cutout(5), augment.cutout(0), alpha=False),
    "random_erasing": Operation(
        augment.random_erasing(1.0), augment.random_erasing(0.0), alpha=False
    ),
    "grid_mask": Operation(augment.grid_mask(), augment.grid_mask(probability=0.0), alpha=False),
}
ALPHA = pictures(8, (*SHAPE[:2], 4))
GRAY = pictures(8, (*SHAPE[:2], 1))
BYTES = ALPHA[..., :3]
over_operations = pytest.mark.parametrize("name", OPERATIONS)


@cache
def seen_bytes(name):
    return augmented(OPERATIONS[name].policy, BYTES)


@over_operations
def test_bytes_and_floats_agree_within_a_level_and_change(name):
    of_bytes = seen_bytes(name)
    of_floats = augmented(OPERATIONS[name].policy, as_floats(BYTES))
    assert of_bytes.dtype == np.uint8 and of_floats.dtype == np.float32
    assert of_floats.min() >= 0 and of_floats.max() <= 1
    # The last step of a jitter, and each axis of a resize, is rounded to the nearest byte.
    to_whole = np.round if name in ("jitter", "resize") else np.floor
    whole = to_whole(255 * of_floats.astype(np.float64) + 1e-3)
    assert np.abs(of_bytes - whole).max() <= 1
    assert (of_bytes != BYTES).any()


# One operation for each implementation of batches.
BATCHED_FORMS = [
    "rotate",
    "random_crop",
    "random_resized_crop",
    "equalize",
    "jitter",
    "gaussian_noise",
    "random_erasing",
]


@pytest.mark.parametrize("name", BATCHED_FORMS)
def test_single_images_equal_a_batch(name):
    alone = jax.jit(OPERATIONS[name].policy)
    keys = jax.random.split(jax.random.key(1), 8)
    pairs = zip(keys, BYTES, strict=True)
    each = np.stack([alone(key, jnp.asarray(image)) for key, image in pairs])
    np.testing.assert_array_equal(each, seen_bytes(name))


WITH_IDENTITY = [name for name, operation in OPERATIONS.items() if operation.same is not None]
KEEPS_ALPHA = [name for name, operation in OPERATIONS.items() if operation.alpha]


@pytest.mark.parametrize("name", WITH_IDENTITY)
def test_the_magnitude_of_the_identity_changes_nothing(name):
    policy, near = OPERATIONS[name].same, OPERATIONS[name].near
    np.testing.assert_array_equal(augmented(policy, BYTES), BYTES)
    if near:  # the other operations treat floats as bytes
        floats = as_floats(BYTES)
        np.testing.assert_allclose(augmented(policy, floats), floats, rtol=0, atol=near)


@pytest.mark.parametrize("name", KEEPS_ALPHA)
def test_alpha_is_kept_and_colors_change_as_without_it(name):
    found = augmented(OPERATIONS[name].policy, ALPHA)
    np.testing.assert_array_equal(found[..., 3], ALPHA[..., 3])
    np.testing.assert_array_equal(found[..., :3], seen_bytes(name))


@pytest.mark.parametrize("name", KEEPS_ALPHA)
def test_a_gray_image_changes_unless_the_operation_needs_colors(name):
    found = augmented(OPERATIONS[name].policy, GRAY)
    assert found.shape == GRAY.shape
    assert (found == GRAY).all() == OPERATIONS[name].flat
