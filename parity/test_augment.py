"""Augmentations against torch's resampling and torchvision's operations, tables and strengths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fnn import augment
from fnn.augment.choice import selected
from fnn.augment.execute import rendered
from fnn.augment.published import augmix, auto_augment, rand_augment
from fnn.augment.published.operations import LOWERINGS, Looks, Span, operations


def torchvision():
    """The package, imported although its C++ part may be built for another machine than torch is.

    It then lacks the operators that it tells the shapes of; the transforms need neither of them.
    """
    try:
        return pytest.importorskip("torchvision")
    except RuntimeError:
        for operator in ("nms", "qnms"):
            OPERATORS.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        return pytest.importorskip("torchvision")


OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
transforms = torchvision().transforms
functional, peers = transforms.functional, transforms.autoaugment
NEAREST, BILINEAR = (transforms.InterpolationMode[name] for name in ("NEAREST", "BILINEAR"))

SHAPE = (37, 29, 3)
DRAW = np.random.default_rng(0)
BYTES = DRAW.integers(0, 256, SHAPE, np.uint8)
FLOATS = (BYTES / 255).astype(np.float32)
COUNT = 6


def as_torch(image):
    return torch.tensor(np.moveaxis(np.asarray(image), -1, 0))


def as_image(tensor):
    return np.moveaxis(tensor.numpy(), 0, -1)


# Moves.

WARPS = {
    "rotate": augment.rotate((-180.0, 180.0)),
    "affine": augment.affine(
        degrees=(-40.0, 40.0), rows=(-0.2, 0.2), columns=(-0.2, 0.2), factor=(0.6, 1.5), shear_rows=(-20.0, 20.0),
        shear_columns=(-20.0, 20.0),
    ),
    "perspective": augment.perspective(0.6),
}  # fmt: skip


def sampled(image, matrix):
    """The image at the places of a matrix, by grid_sample, in float64; what lies outside is 0."""
    new = (
        np.stack([*np.mgrid[: SHAPE[0], : SHAPE[1]], np.ones(SHAPE[:2])], -1)
        @ np.asarray(matrix, np.float64).T
    )
    rows, columns = (new[..., axis] / new[..., 2] for axis in (0, 1))
    # Of edges at -1 and 1.
    grid = np.stack([(2 * columns + 1) / SHAPE[1] - 1, (2 * rows + 1) / SHAPE[0] - 1], -1)
    options = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
    double = as_torch(image).double()[None]
    return as_image(torch.nn.functional.grid_sample(double, torch.tensor(grid)[None], **options)[0])


@pytest.mark.parametrize("name", WARPS)
def test_warps_are_grid_samples(name):
    policy = WARPS[name]

    def warp(key):
        drawn = policy.draw(key, SHAPE)
        (move,) = policy.lower(drawn, SHAPE)
        return move.matrix, policy.apply(drawn, FLOATS), policy.apply(drawn, BYTES)

    keys = jax.random.split(jax.random.key(0), COUNT)
    for matrix, floats, levels in zip(*map(np.asarray, jax.jit(jax.vmap(warp))(keys)), strict=True):
        np.testing.assert_allclose(floats, sampled(FLOATS, matrix), atol=1e-4)
        assert np.abs(levels.astype(int) - np.round(sampled(BYTES, matrix))).max() <= 1
        assert (floats != FLOATS).mean() > 0.5


@pytest.mark.parametrize("degrees", [-73.0, 20.0, 130.0])
def test_a_rotation_is_torchvisions(degrees):
    found = augment.rotate(degrees)(jax.random.key(0), jnp.asarray(FLOATS))
    np.testing.assert_allclose(
        found, as_image(functional.rotate(as_torch(FLOATS), degrees, BILINEAR)), atol=1e-4
    )


SIZES = {"up": (64, 50), "down": (11, 9), "down much": (4, 3), "up and down": (80, 7)}


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("case", SIZES)
def test_a_resized_image_is_torchs_antialiased_interpolation(case, method):
    found = jax.jit(partial(augment.resize(SIZES[case], method=method), jax.random.key(0)))(FLOATS)
    options = {"mode": method, "antialias": True, "align_corners": False}
    wanted = torch.nn.functional.interpolate(
        as_torch(FLOATS).double()[None], SIZES[case], **options
    )[0]
    assert 255 * np.abs(found - as_image(wanted)).max() < 1e-3


def test_a_random_resized_crop_is_torchvisions_of_the_same_window():
    policy = augment.random_resized_crop((16, 20))
    keys = jax.random.split(jax.random.key(1), COUNT)
    windows, found = jax.jit(
        jax.vmap(lambda key: (own := policy.draw(key, SHAPE), policy.apply(own, FLOATS)))
    )(keys)
    for place, image in enumerate(found):
        window = [int(windows[name][place]) for name in ("top", "left", "height", "width")]
        wanted = functional.resized_crop(
            as_torch(FLOATS), *window, [16, 20], BILINEAR, antialias=True
        )
        np.testing.assert_allclose(image, as_image(wanted), atol=2e-5)


# The operations of the automatic policies.

THEIRS = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "color": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "autocontrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert",
}  # fmt: skip
NAMES = list(LOWERINGS)
# For each policy of theirs: its space of magnitudes, our span, and the bins that are compared.
POLICIES = {
    "rand_augment": (
        peers.RandAugment()._augmentation_space(31, SHAPE[:2]),
        Span(),
        (0, 4, 9, 17, 30),
    ),
    "trivial_augment": (
        peers.TrivialAugmentWide()._augmentation_space(31),
        rand_augment.WIDE,
        (3, 30),
    ),
    "auto_augment": (peers.AutoAugment()._augmentation_space(10, SHAPE[:2]), Span(), (2, 7, 9)),
    "augmix": (peers.AugMix()._augmentation_space(10, SHAPE[:2]), augmix.SPAN, (1, 4, 9)),
}
# What is rounded otherwise: the mean of Contrast, the gray of Color, and in all the sum of the two that are blended.
BLENDED = ("brightness", "color", "contrast", "sharpness")


@pytest.mark.parametrize("policy", POLICIES)
def test_operations_are_torchvisions_at_its_strengths(policy):
    space, span, bins = POLICIES[policy]
    last = len(space["ShearX"][0]) - 1
    parts = operations(NAMES, lambda word: word, span, Looks("nearest", 0.0))

    def change(which, strength, sign):
        steps = [part.lower({"strength": strength, "sign": sign}, SHAPE) for part in parts]
        return rendered(selected(which, steps, SHAPE, "fused"), jnp.asarray(BYTES))

    rows = [
        (which, own / last, sign) for which in range(len(NAMES)) for own in bins for sign in (1, -1)
    ]
    which, strengths, signs = (np.array(column) for column in zip(*rows, strict=True))
    found = np.asarray(
        jax.jit(jax.vmap(change))(which.astype(np.int32), *np.float32([strengths, signs]))
    )
    for (which, strength, sign), own in zip(rows, found, strict=True):
        name = NAMES[which]
        magnitudes, signed = space.get(THEIRS[name], (torch.tensor(0.0), False))
        magnitude = float(magnitudes[round(strength * last)]) if magnitudes.ndim else 0.0
        magnitude *= sign if signed else 1
        wanted = as_image(peers._apply_op(as_torch(BYTES), THEIRS[name], magnitude, NEAREST, None))
        if name in BLENDED:
            assert THEIRS[name] not in space or np.abs(own.astype(int) - wanted).max() <= 1
        elif name in ("shear_x", "shear_y", "rotate"):
            off = off_ties(name, strength * sign, span)
            np.testing.assert_array_equal(own[off], wanted[off])
            assert off.mean() > 0.8
        else:
            np.testing.assert_array_equal(own, wanted)


def off_ties(name, strength, span):
    """The pixels that come from no place between two, for there rounding decides."""
    (move,) = operations([name], lambda word: word, span, Looks("nearest", 0.0))[0].lower(
        {"strength": jnp.float32(abs(strength)), "sign": jnp.float32(np.sign(strength) or 1)}, SHAPE
    )
    new = (
        np.stack([*np.mgrid[: SHAPE[0], : SHAPE[1]], np.ones(SHAPE[:2])], -1)
        @ np.asarray(move.matrix, np.float64).T
    )
    return (np.abs(new[..., :2] % 1 - 0.5) > 2e-3).all(-1)


def test_the_names_are_torchvisions():
    ours = {
        "rand_augment": rand_augment.NAMES, "trivial_augment": rand_augment.NAMES, "auto_augment": auto_augment.NAMES,
        "augmix": augmix.NAMES,
    }  # fmt: skip
    for policy, (space, _, _) in POLICIES.items():
        # What is left out of a pair or of a chain is the identity, of which they do not speak there.
        assert {THEIRS[name] for name in ours[policy]} == {*space, "Identity"}


@pytest.mark.parametrize("table", auto_augment.TABLES)
def test_the_tables_of_auto_augment_are_torchvisions(table):
    theirs = peers.AutoAugment()._get_policies(peers.AutoAugmentPolicy[table.upper()])
    which, chances, strengths = (
        np.asarray(own) for own in auto_augment._read(auto_augment.TABLES[table])
    )
    assert len(theirs) == len(which) == 25
    for pair, own in zip(theirs, zip(which, chances, strengths, strict=True), strict=True):
        for (name, chance, last), operation, own_chance, strength in zip(pair, *own, strict=True):
            assert THEIRS[auto_augment.NAMES[operation]] == name
            np.testing.assert_allclose(own_chance, chance, rtol=1e-6)
            np.testing.assert_allclose(strength * 9, last or 0, atol=1e-5)


# Colors and filters.


@pytest.mark.parametrize("turns", [-0.5, -0.21, 0.0, 0.13, 0.4])
def test_a_hue_is_torchvisions(turns):
    found = augment.hue(turns)(jax.random.key(0), jnp.asarray(FLOATS))
    np.testing.assert_allclose(
        found, as_image(functional.adjust_hue(as_torch(FLOATS), turns)), atol=1e-5
    )


@pytest.mark.parametrize(("sigma", "size"), [(0.3, 3), (1.1, 7), (2.0, 11)])
def test_a_blur_is_torchvisions(sigma, size):
    found = augment.gaussian_blur(sigma, size=size)(jax.random.key(0), jnp.asarray(FLOATS))
    wanted = functional.gaussian_blur(as_torch(FLOATS), [size, size], [sigma, sigma])
    np.testing.assert_allclose(found, as_image(wanted), atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "name", "value"),
    [
        (augment.brightness(1.3), "adjust_brightness", 1.3),
        (augment.contrast(0.4), "adjust_contrast", 0.4),
        (augment.saturation(1.6), "adjust_saturation", 1.6),
        (augment.sharpness(2.2), "adjust_sharpness", 2.2),
        (augment.gamma(0.7), "adjust_gamma", 0.7),
        (augment.solarize(0.35), "solarize", 0.35),
        (augment.invert(), "invert", None),
        (augment.autocontrast(), "autocontrast", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_floats_are_recolored_as_by_torchvision(policy, name, value):
    found = policy(jax.random.key(0), jnp.asarray(0.9 * FLOATS + 0.05))
    wanted = getattr(functional, name)(
        as_torch(0.9 * FLOATS + 0.05), *(() if value is None else (value,))
    )
    atol = (
        2e-4 if name in ("adjust_contrast", "adjust_saturation") else 1e-5
    )  # its gray has weights of four digits
    np.testing.assert_allclose(found, as_image(wanted), atol=atol)
