"""Masks, boxes and keypoints are moved as the pixels of their image are; test-time augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment
from fnn.errors import ConfigError, ShapeError

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 24, 30
BOX = (6.0, 5.0, 17.0, 14.0)  # x1, y1, x2, y2
MASK = np.zeros((HEIGHT, WIDTH), np.int32)
MASK[5:14, 6:17] = 7
INTEGRAL = {
    "flips": augment.chain(augment.flip_lr(1.0), augment.flip_ud(1.0)),
    "quarter turn": augment.rot90(1),
    "crop": augment.random_crop(padding=0, size=(20, 26)),
    "pad": augment.pad((2, 1)),
    "flip, color, crop": augment.chain(
        augment.flip_lr(1.0), augment.brightness(0.5), augment.crop(20)
    ),
    "maybe": augment.maybe(augment.flip_ud(1.0), 1.0),
    "one of": augment.one_of(augment.flip_lr(1.0), augment.flip_ud(1.0), augment.equalize()),
}
INTERPOLATED = {
    "rotate": augment.rotate(25.0),
    "affine": augment.affine(degrees=-20.0, factor=1.2, shear_columns=15.0, rows=0.1),
    "perspective": augment.perspective(0.4),
    "elastic": augment.elastic(1.0),
    "resize": augment.resize((36, 20)),
    "resized crop": augment.random_resized_crop((30, 30), area=(0.7, 1.0)),
}


def example():
    image = np.repeat((MASK > 0)[..., None] * np.uint8(200), 3, -1)
    corners = jnp.array([[6.0, 5.0], [17.0, 14.0], [11.5, 9.5]], jnp.float32)
    return {
        "image": jnp.asarray(image),
        "mask": jnp.asarray(MASK),
        "boxes": jnp.array([BOX], jnp.float32),
        "keypoints": corners,
        "label": 3,
    }


def bounds(mask):
    rows, columns = np.nonzero(np.asarray(mask))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


@pytest.mark.parametrize("name", INTEGRAL)
def test_integral_moves_are_exact(name):
    found = jax.jit(augment.together(INTEGRAL[name]))(jax.random.key(3), example())
    pixels = np.asarray(found["image"])[..., 0]
    np.testing.assert_array_equal(np.asarray(found["mask"]) == 7, pixels > pixels.min())
    np.testing.assert_array_equal(found["boxes"][0], bounds(found["mask"]))
    points = np.asarray(found["keypoints"])
    np.testing.assert_allclose(np.sort(points[:2], 0).reshape(-1), found["boxes"][0], atol=1e-5)
    assert found["label"] == 3


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolated_moves_are_exact_to_a_pixel(name):
    found = jax.jit(augment.together(INTERPOLATED[name]))(jax.random.key(5), example())
    inside = np.asarray(found["image"])[..., 0] > 100
    mask = np.asarray(found["mask"]) == 7
    assert set(np.unique(found["mask"])) <= {0, 7}
    assert (inside != mask).mean() < 0.02
    atol = 2.5 if name == "elastic" else 1.3
    np.testing.assert_allclose(found["boxes"][0], bounds(mask), atol=atol)
    middle = np.argwhere(mask).mean(0)[::-1] + 0.5
    atol = 1.2 if name in ("elastic", "perspective") else 0.4
    np.testing.assert_allclose(found["keypoints"][2], middle, atol=atol)


@pytest.mark.parametrize("name", INTERPOLATED)
def test_keypoints_move_as_a_dot_in_the_image(name):
    dot = jnp.array([[13.5, 10.5]], jnp.float32)
    image = jnp.zeros((HEIGHT, WIDTH, 1)).at[9:12, 12:15].set(0.5).at[10, 13].set(1.0)
    together = augment.together(INTERPOLATED[name])
    found = jax.jit(together)(jax.random.key(8), {"image": image, "keypoints": dot})
    light = np.asarray(found["image"])[..., 0]
    centers = np.argwhere(light >= 0)[:, ::-1] + 0.5
    centroid = (centers * light.reshape(-1, 1)).sum(0) / light.sum()
    np.testing.assert_allclose(found["keypoints"][0], centroid, atol=0.35)


@pytest.mark.parametrize(
    "name", ["quarter turn", "crop", "pad", "maybe", "affine", "perspective", "elastic", "resize"]
)
def test_undo_moves_the_pixels_back(name):
    together = augment.together((INTEGRAL | INTERPOLATED)[name])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = 0.5 + 0.4 * np.sin(rows / 5) * np.cos(columns / 6)
    image = jnp.asarray(waves[..., None], jnp.float32)

    def there_and_back(key):
        drawn = together.draw(key, {"image": image})
        moved = together.apply(drawn, {"mask": image})["mask"]  # a mask keeps its colors
        return together.undo(drawn, moved, (HEIGHT, WIDTH, 1))

    pixels = jax.jit(there_and_back)(jax.random.key(5))
    # Masks are moved by nearest pixels, with an error of at most half a pixel.
    atol = 1e-6 if name in INTEGRAL else 0.12
    np.testing.assert_allclose(pixels[8:16, 10:20], image[8:16, 10:20], atol=atol)


def test_a_draw_can_be_stored_and_applied_again():
    together = augment.together(augment.chain(augment.rotate((-30.0, 30.0)), augment.random_crop()))
    full = example()
    part = {"mask": full["mask"]}
    drawn = jax.jit(lambda key: together.draw(key, part))(jax.random.key(1))
    stored = jax.tree.map(np.asarray, drawn)
    alone = jax.jit(lambda stored: together.apply(stored, part))(stored)
    expected = jax.jit(together)(jax.random.key(1), full)
    np.testing.assert_array_equal(alone["mask"], expected["mask"])


def test_masks_keep_their_dtype_and_shape_and_are_filled():
    policy = augment.together(augment.translate(0.5, 0.0), mask_fill=255)
    for mask in (MASK, MASK > 0, (MASK > 0).astype(np.uint8), MASK.astype(np.float32)[..., None]):
        found = policy(jax.random.key(0), {"mask": jnp.asarray(mask)})["mask"]
        assert found.shape == mask.shape and found.dtype == mask.dtype
        fill = True if mask.dtype == bool else mask.dtype.type(255)
        assert (np.asarray(found)[:12] == fill).all()


def test_a_batch_under_vmap_equals_single_examples():
    policy = augment.together(augment.chain(augment.flip_lr(), augment.rotate((-30.0, 30.0))))
    keys = jax.random.split(jax.random.key(4), 5)
    arrays = {name: value for name, value in example().items() if name != "label"}
    found = jax.jit(jax.vmap(policy, (0, None)))(keys, arrays)
    alone = jax.jit(policy)(jax.random.split(jax.random.key(4), 5)[3], arrays)
    np.testing.assert_array_equal(found["image"][3], alone["image"])
    np.testing.assert_allclose(found["boxes"][3], alone["boxes"], atol=1e-4)


@pytest.mark.parametrize(
    ("policy", "example", "error", "message"),
    [
        (
            augment.flip_lr(),
            {"label": 1},
            ConfigError,
            'together example: expected an entry "image" or "mask"',
        ),
        (
            augment.flip_lr(),
            {"mask": MASK, "boxes": jnp.ones((2, 3))},
            ShapeError,
            r"together boxes: expected \(n, 4\)",
        ),
        (
            augment.augmix(),
            {"mask": MASK},
            ConfigError,
            "together: expected moves that can be followed",
        ),
        (
            lambda key, image: image,
            {"mask": MASK},
            ConfigError,
            "together: expected moves that can be followed",
        ),
        (
            augment.one_of(augment.flip_lr(), augment.equalize(), mode="exact"),
            {"mask": MASK},
            ConfigError,
            'choose by mode="fused"',
        ),
    ],
)
def test_invalid_examples_and_policies_raise(policy, example, error, message):
    with pytest.raises(error, match=message):
        augment.together(policy)(jax.random.key(0), example)


IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 6, 6, 3), np.float32))


def predict(images):
    return images[:, :, 0, :].sum(1)


def test_tta_is_the_mean_over_the_views():
    views = (augment.chain(), augment.flip_lr(1.0), augment.rot90(2))
    expected = (predict(IMAGES) + predict(IMAGES[:, :, ::-1]) + predict(IMAGES[:, ::-1, ::-1])) / 3
    found = jax.jit(augment.tta(predict, views=views))(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_dense_outputs_are_moved_back_before_the_mean():
    views = (
        augment.chain(),
        augment.flip_lr(1.0),
        augment.rot90(1),
        augment.translate(1 / 3, 0.0, mode="wrap"),
    )
    pixels = augment.tta(lambda images: {"map": images}, views=views, dense=True)(IMAGES)["map"]
    np.testing.assert_allclose(np.asarray(pixels)[:, 1:4], np.asarray(IMAGES)[:, 1:4], atol=1e-5)


def test_random_views_are_the_same_at_every_call():
    predict_mean = augment.tta(predict, views=[augment.random_crop(padding=2)])
    np.testing.assert_array_equal(predict_mean(IMAGES), predict_mean(IMAGES))


def test_no_view_raises():
    with pytest.raises(ConfigError, match="tta views: expected at least one augmentation"):
        augment.tta(predict, views=())


def test_boxes_and_keypoints_that_a_crop_removed_do_not_come_back():
    policy = augment.together(augment.chain(augment.crop(20), augment.pad(10)), visibility=True)
    example = {
        "image": np.full((40, 40, 1), 200, np.uint8),
        "boxes": jnp.array([[2.0, 2, 8, 8], [5, 5, 15, 15]]),
        "keypoints": jnp.array([[5.0, 5.0], [12.0, 12.0]]),
    }
    found = policy(jax.random.key(0), example)
    # Those of torchvision's CenterCrop and Pad.
    np.testing.assert_array_equal(found["boxes"], [[10, 10, 10, 10], [10, 10, 15, 15]])
    np.testing.assert_array_equal(found["boxes_visible"], [False, True])
    np.testing.assert_array_equal(found["keypoints"], [[-1, -1], [12, 12]])
    np.testing.assert_array_equal(found["keypoints_visible"], [False, True])


def test_a_fill_that_the_mask_cannot_hold_raises():
    policy = augment.together(augment.translate(0.5), mask_fill=-1)
    with pytest.raises(ConfigError, match="mask_fill"):
        policy(jax.random.key(0), {"mask": np.zeros((4, 4), np.uint8)})
