"""Masks, boxes and keypoints follow their image: held to the image itself, whose pixels tell where they went."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment
from fnn.errors import ConfigError, ShapeError

HEIGHT, WIDTH = 24, 30
BOX = (6.0, 5.0, 17.0, 14.0)  # x1, y1, x2, y2
MASK = np.zeros((HEIGHT, WIDTH), np.int32)
MASK[5:14, 6:17] = 7
WHOLE = {
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
SMOOTH = {
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


@pytest.mark.parametrize("name", WHOLE)
def test_whole_moves_carry_all_exactly(name):
    seen = jax.jit(augment.together(WHOLE[name]))(jax.random.key(3), example())
    shown = np.asarray(seen["image"])[..., 0]
    np.testing.assert_array_equal(np.asarray(seen["mask"]) == 7, shown > shown.min())
    np.testing.assert_array_equal(seen["boxes"][0], bounds(seen["mask"]))
    points = np.asarray(seen["keypoints"])
    np.testing.assert_allclose(np.sort(points[:2], 0).reshape(-1), seen["boxes"][0], atol=1e-5)
    assert seen["label"] == 3


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_moves_carry_all_to_within_a_pixel(name):
    seen = jax.jit(augment.together(SMOOTH[name]))(jax.random.key(5), example())
    inside = np.asarray(seen["image"])[..., 0] > 100
    mask = np.asarray(seen["mask"]) == 7
    assert set(np.unique(seen["mask"])) <= {0, 7}
    assert (inside != mask).mean() < 0.02
    np.testing.assert_allclose(
        seen["boxes"][0], bounds(mask), atol=2.5 if name == "elastic" else 1.3
    )
    middle = np.argwhere(mask).mean(0)[::-1] + 0.5
    np.testing.assert_allclose(
        seen["keypoints"][2], middle, atol=1.2 if name in ("elastic", "perspective") else 0.4
    )


@pytest.mark.parametrize("name", SMOOTH)
def test_keypoints_are_where_a_dot_at_them_is_seen(name):
    dot = jnp.array([[13.5, 10.5]], jnp.float32)
    image = jnp.zeros((HEIGHT, WIDTH, 1)).at[9:12, 12:15].set(0.5).at[10, 13].set(1.0)
    together = augment.together(SMOOTH[name])
    seen = jax.jit(together)(jax.random.key(8), {"image": image, "keypoints": dot})
    light = np.asarray(seen["image"])[..., 0]
    places = np.argwhere(light >= 0)[:, ::-1] + 0.5
    np.testing.assert_allclose(
        seen["keypoints"][0], (places * light.reshape(-1, 1)).sum(0) / light.sum(), atol=0.35
    )


@pytest.mark.parametrize(
    "name", ["quarter turn", "crop", "pad", "maybe", "affine", "perspective", "elastic", "resize"]
)
def test_undo_brings_the_pixels_back(name):
    together = augment.together((WHOLE | SMOOTH)[name])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = jnp.asarray(
        0.5 + 0.4 * np.sin(rows / 5)[..., None] * np.cos(columns / 6)[..., None], jnp.float32
    )

    def there_and_back(key):
        drawn = together.draw(key, {"image": image})
        moved = together.apply(drawn, {"mask": image})["mask"]  # which keeps its colors
        return together.undo(drawn, moved, (HEIGHT, WIDTH, 1))

    shown = jax.jit(there_and_back)(jax.random.key(5))
    atol = (
        1e-6 if name in WHOLE else 0.12
    )  # masks are moved by nearest pixels, half a pixel off at most
    np.testing.assert_allclose(shown[8:16, 10:20], image[8:16, 10:20], atol=atol)


def test_a_drawing_can_be_kept_and_applied_again():
    together = augment.together(augment.chain(augment.rotate((-30.0, 30.0)), augment.random_crop()))
    whole = example()
    drawn = jax.jit(lambda key: together.draw(key, {"mask": whole["mask"]}))(jax.random.key(1))
    kept = jax.tree.map(np.asarray, drawn)
    alone = jax.jit(lambda kept: together.apply(kept, {"mask": whole["mask"]}))(kept)
    np.testing.assert_array_equal(
        alone["mask"], jax.jit(together)(jax.random.key(1), whole)["mask"]
    )


def test_masks_of_any_kind_keep_their_kind_and_take_their_fill():
    policy = augment.together(augment.translate(0.5, 0.0), mask_fill=255)
    for mask in (MASK, MASK > 0, (MASK > 0).astype(np.uint8), MASK.astype(np.float32)[..., None]):
        seen = policy(jax.random.key(0), {"mask": jnp.asarray(mask)})["mask"]
        assert seen.shape == mask.shape and seen.dtype == mask.dtype
        assert (
            np.asarray(seen)[:12] == (mask.dtype.type(255) if mask.dtype != bool else True)
        ).all()


def test_a_batch_is_mapped():
    policy = augment.together(augment.chain(augment.flip_lr(), augment.rotate((-30.0, 30.0))))
    keys = jax.random.split(jax.random.key(4), 5)
    whole = {name: value for name, value in example().items() if name != "label"}
    seen = jax.jit(jax.vmap(policy, (0, None)))(keys, whole)
    alone = jax.jit(policy)(jax.random.split(jax.random.key(4), 5)[3], whole)
    np.testing.assert_array_equal(seen["image"][3], alone["image"])
    np.testing.assert_allclose(seen["boxes"][3], alone["boxes"], atol=1e-4)


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
def test_mistakes_are_told(policy, example, error, message):
    with pytest.raises(error, match=message):
        augment.together(policy)(jax.random.key(0), example)


IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 6, 6, 3), np.float32))


def predict(images):
    return images[:, :, 0, :].sum(1)


def test_the_mean_over_views_is_taken():
    views = (augment.chain(), augment.flip_lr(1.0), augment.rot90(2))
    expected = (predict(IMAGES) + predict(IMAGES[:, :, ::-1]) + predict(IMAGES[:, ::-1, ::-1])) / 3
    np.testing.assert_allclose(
        jax.jit(augment.tta(predict, views=views))(IMAGES), expected, rtol=1e-6
    )


def test_maps_are_moved_back_before_the_mean():
    views = (
        augment.chain(),
        augment.flip_lr(1.0),
        augment.rot90(1),
        augment.translate(1 / 3, 0.0, mode="wrap"),
    )
    shown = augment.tta(lambda images: {"map": images}, views=views, dense=True)(IMAGES)["map"]
    np.testing.assert_allclose(np.asarray(shown)[:, 1:4], np.asarray(IMAGES)[:, 1:4], atol=1e-5)


def test_a_view_that_draws_draws_the_same_at_every_call():
    seen = augment.tta(predict, views=[augment.random_crop(padding=2)])
    np.testing.assert_array_equal(seen(IMAGES), seen(IMAGES))


def test_no_view_is_refused():
    with pytest.raises(ConfigError, match="tta views: expected at least one augmentation"):
        augment.tta(predict, views=())
