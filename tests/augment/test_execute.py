"""Steps done on pixels: joined moves are one resampling, exact moves are the moves one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, pictures, seen, smooth
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from fnn import augment
from fnn.augment import matrices
from fnn.augment.execute import moved, rendered
from fnn.augment.ops import Move, Paint, Recolor

COUNT = 16
BYTES = pictures(COUNT)
FLOATS = as_floats(BYTES)
both = pytest.mark.parametrize("images", [BYTES, FLOATS], ids=["bytes", "floats"])


def rendered_each(steps, images):
    return np.asarray(jax.jit(jax.vmap(lambda image: rendered(steps, image)))(jnp.asarray(images)))


@both
def test_no_step_is_the_image(images):
    np.testing.assert_array_equal(rendered_each([], images), images)


@both
def test_exact_moves_in_a_row_are_the_moves_one_by_one(images):
    """Flips, turns and windows that stay inside, against NumPy."""
    row = [
        augment.flip_lr(1.0),
        augment.crop((8, 8)),
        augment.rot90(1),
        augment.flip_ud(1.0),
        augment.crop((5, 6)),
    ]
    expected = np.rot90(images[:, :, ::-1][:, 2:10, 1:9], axes=(1, 2))[:, ::-1][:, 2:7, 1:7]
    found = seen(augment.chain(*row), images)
    assert found.dtype == images.dtype
    # Of an odd rest, half goes before: round(3 / 2) = 2 rows.
    np.testing.assert_array_equal(found, expected)


@both
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_a_padded_flipped_and_cropped_image_is_numpys(images, mode):
    pads = ((0, 0), (3, 3), (2, 2), (0, 0))
    level = {"constant_values": np.asarray(0.2 if images.dtype == np.float32 else 51, images.dtype)}
    padded = np.pad(images, pads, mode, **(level if mode == "constant" else {}))
    chain = augment.chain(
        augment.pad((3, 2), mode=mode, fill=0.2), augment.flip_lr(1.0), augment.crop((16, 10))
    )
    np.testing.assert_array_equal(seen(chain, images), padded[:, 1:17, ::-1][:, :, 2:12])


@both
def test_a_flip_undoes_itself(images):
    np.testing.assert_array_equal(
        seen(augment.chain(augment.flip_lr(1.0), augment.flip_lr(1.0)), images), images
    )


@both
def test_moves_that_fit_are_resampled_once_by_their_product(images):
    size, middle = (12, 10), matrices.middle((12, 10))
    turn, stretch = matrices.rotation(25.0), matrices.scaling(1.3, 0.8)
    first, second = (matrices.around(middle, matrices.inverse(m)) for m in (turn, stretch))
    one = Move(matrices.product(first, second), size, fill=0.4)
    chain = [Move(first, size, fill=0.4), Move(second, size, fill=0.4)]
    np.testing.assert_array_equal(rendered_each(chain, images), rendered_each([one], images))
    apart = rendered_each([chain[0], Paint(lambda image: image), chain[1]], images)
    assert (
        rendered_each(chain, images) != apart
    ).mean() > 0.3  # resampled twice, it is another image


def test_a_turn_and_its_opposite_in_a_row_give_the_image_back():
    images = smooth(4)
    back = seen(augment.chain(augment.rotate(33.0), augment.rotate(-33.0)), images)
    np.testing.assert_allclose(
        back, images, atol=1e-4
    )  # the corners, too, which the first alone cuts off


def test_an_antialiased_image_is_flipped_in_the_same_pass():
    images = as_floats(pictures(4, (24, 18, 3)))
    resized = seen(augment.resize((7, 11)), images)
    flipped = seen(
        augment.chain(augment.resize((7, 11)), augment.flip_lr(1.0), augment.flip_ud(1.0)), images
    )
    np.testing.assert_allclose(flipped, resized[:, ::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    "moving", [augment.rotate(20.0, fill=0.5), augment.random_crop(mode="constant", fill=0.5)]
)
def test_a_fill_is_a_part_of_the_range_rounded_for_bytes(moving):
    black = np.zeros((COUNT, 12, 10, 3), np.uint8)
    assert seen(augment.chain(moving), black).max() == 128
    assert seen(augment.chain(moving), as_floats(black)).max() == 0.5


def test_recolors_in_a_row_are_the_recolors_one_by_one():
    """Bytes are cut to whole numbers after each, though all is one table; what comes later looks at what there is."""
    parts = [
        augment.brightness(0.6), augment.solarize(0.4), augment.posterize(6.0),
        augment.autocontrast(), augment.invert(), augment.contrast(1.5),
    ]  # fmt: skip

    def by_pillow(image):
        darker = ImageEnhance.Brightness(Pillow.fromarray(image)).enhance(0.6)
        stretched = ImageOps.autocontrast(ImageOps.posterize(ImageOps.solarize(darker, 102), 6))
        return np.asarray(ImageEnhance.Contrast(ImageOps.invert(stretched)).enhance(1.5))

    found = seen(augment.chain(*parts), BYTES)
    np.testing.assert_array_equal(found, [by_pillow(image) for image in BYTES])
    floats = seen(
        augment.chain(augment.brightness(0.6), augment.invert(), augment.gamma(2.0)), FLOATS
    )
    np.testing.assert_allclose(floats, (1 - np.float32(0.6) * FLOATS) ** 2, rtol=0, atol=1e-6)


def test_recolors_are_one_pass_and_so_one_table():
    """Of two tabled recolors of bytes, each is worked out for 256 levels, not for every pixel."""
    seen_shapes = []

    def change(x, top, seen):
        seen_shapes.append(x.shape)
        return x / 2

    image = jnp.asarray(pictures(1, (40, 36, 3))[0])
    found = rendered([Recolor(change, tabled=True), Recolor(change)], image)
    assert seen_shapes == [(256, 3), (256, 3)]
    np.testing.assert_array_equal(found, image // 2 // 2)


def test_alpha_is_moved_but_not_recolored():
    images = pictures(4, (9, 8, 4))
    found = seen(augment.chain(augment.flip_lr(1.0), augment.invert()), images)
    np.testing.assert_array_equal(found[..., :3], 255 - images[:, :, ::-1, :3])
    np.testing.assert_array_equal(found[..., 3], images[:, :, ::-1, 3])


def test_a_window_and_a_gather_move_bytes_alike():
    """On CPU bytes are copied by rows, elsewhere gathered: a move gives the same pixels everywhere."""
    m = jnp.array([[-1.0, 0, 13], [0, 1, -2], [0, 0, 1]])
    move = Move(m, (12, 10), whole=True, reach=(2, 2), border="symmetric")
    image = jnp.asarray(BYTES[0])
    on_cpu = jax.jit(lambda image: moved(image, move))(image)
    elsewhere = jax.jit(lambda image: moved(image, move._replace(reach=None)))(image)
    np.testing.assert_array_equal(on_cpu, elsewhere)
    np.testing.assert_array_equal(
        on_cpu, np.pad(BYTES[0], ((2, 2), (2, 2), (0, 0)), "symmetric")[::-1][:12, :10]
    )


STATISTICS = {"mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26), "dtype": jnp.bfloat16}
# A policy, its images, and the most bytes that may be read and written for each of them: of CIFAR's recipe the image is
# 3 kB and what comes out 6, which CPU does in several passes that are fast; of RandAugment the counts of levels for
# two draws are 4 MB.
CIFAR = augment.chain(
    augment.flip_lr(),
    augment.random_crop(padding=4),
    augment.cutout(8),
    augment.normalize(**STATISTICS),
)
JITTER = augment.jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
COSTS = {
    "cifar": (CIFAR, (256, 32, 32, 3), 45e3),
    "warp and jitter": (
        augment.chain(augment.affine(degrees=(-30.0, 30.0)), JITTER),
        (8, 224, 224, 3),
        3.5e6,
    ),
    "two operations": (augment.rand_augment(), (8, 224, 224, 3), 12e6),
}


def bytes_moved(policy, shape):
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape[0]))
    lowered = jax.jit(jax.vmap(policy)).lower(keys, jax.ShapeDtypeStruct(shape, jnp.uint8))
    return lowered.compile().cost_analysis()["bytes accessed"] / shape[0]


@pytest.mark.parametrize("case", COSTS)
def test_an_image_is_read_and_written_few_times(case):
    policy, shape, limit = COSTS[case]
    assert np.prod(shape[1:]) < bytes_moved(policy, shape) <= limit


def test_cifars_recipe_is_one_pass_where_nothing_is_kept_apart(monkeypatch):
    """The form that accelerators get, of which a compiled program tells the bytes that it moves."""
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *arrays, cpu, default: default(*arrays)
    )
    assert bytes_moved(CIFAR, (256, 32, 32, 3)) <= 10e3
