"""Augmentations match torch's resampling and torchvision's operations, tables and strengths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fnn import augment
from fnn.augment.choice import select
from fnn.augment.execute import execute
from fnn.augment.published import augmix, auto_augment, rand_augment
from fnn.augment.published.operations import LOWERINGS, Sampling, Span, operations


def torchvision():
    """Import torchvision, also if its C++ part does not match torch.

    Then it lacks operators whose shapes it registers; the transforms need none of them.
    """
    try:
        return pytest.importorskip("torchvision")
    except RuntimeError:
        arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for operator in ("nms", "qnms"):
            OPERATORS.define(f"{operator}{arguments}")
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


# Geometry.

SHEARS = {"shear_rows": (-20.0, 20.0), "shear_columns": (-20.0, 20.0)}
SHIFTS = {"rows": (-0.2, 0.2), "columns": (-0.2, 0.2)}
WARPS = {
    "rotate": augment.rotate((-180.0, 180.0)),
    "affine": augment.affine(degrees=(-40.0, 40.0), factor=(0.6, 1.5), **SHIFTS, **SHEARS),
    "perspective": augment.perspective(0.6),
}


def mapped(matrix):
    """Homogeneous coordinates (rows, columns, 3) of the pixels under a matrix, in float64."""
    pixels = np.stack([*np.mgrid[: SHAPE[0], : SHAPE[1]], np.ones(SHAPE[:2])], -1)
    return pixels @ np.asarray(matrix, np.float64).T


def sampled(image, matrix):
    """The warped image by grid_sample in float64; pixels from outside are 0."""
    points = mapped(matrix)
    rows, columns = (points[..., axis] / points[..., 2] for axis in (0, 1))
    # grid_sample has the edges of the image at -1 and 1.
    grid = np.stack([(2 * columns + 1) / SHAPE[1] - 1, (2 * rows + 1) / SHAPE[0] - 1], -1)
    options = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
    double = as_torch(image).double()[None]
    return as_image(torch.nn.functional.grid_sample(double, torch.tensor(grid)[None], **options)[0])


@pytest.mark.parametrize("name", WARPS)
def test_warps_match_grid_sample(name):
    policy = WARPS[name]

    def warp(key):
        drawn = policy.draw(key, SHAPE)
        (move,) = policy.lower(drawn, SHAPE)
        return move.matrix, policy.apply(drawn, FLOATS), policy.apply(drawn, BYTES)

    keys = jax.random.split(jax.random.key(0), COUNT)
    outputs = [np.asarray(output) for output in jax.jit(jax.vmap(warp))(keys)]
    for matrix, floats, levels in zip(*outputs, strict=True):
        np.testing.assert_allclose(floats, sampled(FLOATS, matrix), atol=1e-4)
        assert np.abs(levels.astype(int) - np.round(sampled(BYTES, matrix))).max() <= 1
        assert (floats != FLOATS).mean() > 0.5


@pytest.mark.parametrize("degrees", [-73.0, 20.0, 130.0])
def test_rotation_matches_torchvision(degrees):
    got = augment.rotate(degrees)(jax.random.key(0), jnp.asarray(FLOATS))
    wanted = functional.rotate(as_torch(FLOATS), degrees, BILINEAR)
    np.testing.assert_allclose(got, as_image(wanted), atol=1e-4)


SIZES = {"up": (64, 50), "down": (11, 9), "down much": (4, 3), "up and down": (80, 7)}


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("case", SIZES)
def test_resize_matches_torchs_antialiased_interpolation(case, method):
    resize = augment.resize(SIZES[case], method=method)
    got = jax.jit(partial(resize, jax.random.key(0)))(FLOATS)
    options = {"mode": method, "antialias": True, "align_corners": False}
    double = as_torch(FLOATS).double()[None]
    wanted = torch.nn.functional.interpolate(double, SIZES[case], **options)[0]
    assert 255 * np.abs(got - as_image(wanted)).max() < 1e-3


def test_random_resized_crop_matches_torchvision_for_the_same_window():
    policy = augment.random_resized_crop((16, 20))
    keys = jax.random.split(jax.random.key(1), COUNT)

    def crop(key):
        window = policy.draw(key, SHAPE)
        return window, policy.apply(window, FLOATS)

    windows, got = jax.jit(jax.vmap(crop))(keys)
    image = as_torch(FLOATS)
    for index, cropped in enumerate(got):
        window = [int(windows[name][index]) for name in ("top", "left", "height", "width")]
        wanted = functional.resized_crop(image, *window, [16, 20], BILINEAR, antialias=True)
        np.testing.assert_allclose(cropped, as_image(wanted), atol=2e-5)


# The operations of the automatic policies.

THEIRS = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "color": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize",
    "solarize": "Solarize", "autocontrast": "AutoContrast", "equalize": "Equalize",
    "invert": "Invert",
}  # fmt: skip
NAMES = list(LOWERINGS)
SPACES = {
    "rand_augment": peers.RandAugment()._augmentation_space(31, SHAPE[:2]),
    "trivial_augment": peers.TrivialAugmentWide()._augmentation_space(31),
    "auto_augment": peers.AutoAugment()._augmentation_space(10, SHAPE[:2]),
    "augmix": peers.AugMix()._augmentation_space(10, SHAPE[:2]),
}
# For each policy of torchvision: its space of magnitudes, our span, and the bins to compare.
POLICIES = {
    "rand_augment": (SPACES["rand_augment"], Span(), (0, 4, 9, 17, 30)),
    "trivial_augment": (SPACES["trivial_augment"], rand_augment.WIDE, (3, 30)),
    "auto_augment": (SPACES["auto_augment"], Span(), (2, 7, 9)),
    "augmix": (SPACES["augmix"], augmix.SPAN, (1, 4, 9)),
}
# Operations that blend two images; torchvision rounds the sum, the mean of Contrast and the gray of
# Color in another way.
BLENDED = ("brightness", "color", "contrast", "sharpness")


@pytest.mark.parametrize("policy", POLICIES)
def test_operations_match_torchvision_at_its_strengths(policy):
    space, span, bins = POLICIES[policy]
    last = len(space["ShearX"][0]) - 1
    parts = operations(NAMES, lambda word: word, span, Sampling("nearest", 0.0))

    def change(which, strength, sign):
        steps = [part.lower({"strength": strength, "sign": sign}, SHAPE) for part in parts]
        return execute(select(which, steps, SHAPE, "fused"), jnp.asarray(BYTES))

    rows = []
    for which in range(len(NAMES)):
        rows += [(which, number / last, sign) for number in bins for sign in (1, -1)]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    arrays = [columns[0].astype(np.int32), *np.float32(columns[1:])]
    changed = np.asarray(jax.jit(jax.vmap(change))(*arrays))
    for (which, strength, sign), got in zip(rows, changed, strict=True):
        name = NAMES[which]
        magnitudes, signed = space.get(THEIRS[name], (torch.tensor(0.0), False))
        magnitude = float(magnitudes[round(strength * last)]) if magnitudes.ndim else 0.0
        magnitude *= sign if signed else 1
        wanted = as_image(peers._apply_op(as_torch(BYTES), THEIRS[name], magnitude, NEAREST, None))
        if name in BLENDED:
            assert THEIRS[name] not in space or np.abs(got.astype(int) - wanted).max() <= 1
        elif name in ("shear_x", "shear_y", "rotate"):
            off = off_ties(name, strength * sign, span)
            np.testing.assert_array_equal(got[off], wanted[off])
            assert off.mean() > 0.8
        else:
            np.testing.assert_array_equal(got, wanted)


def off_ties(name, strength, span):
    """Mask of the pixels that do not come from the middle of two, where rounding decides."""
    (operation,) = operations([name], lambda word: word, span, Sampling("nearest", 0.0))
    sign = np.sign(strength) or 1
    drawn = {"strength": jnp.float32(abs(strength)), "sign": jnp.float32(sign)}
    (move,) = operation.lower(drawn, SHAPE)
    points = mapped(move.matrix)
    return (np.abs(points[..., :2] % 1 - 0.5) > 2e-3).all(-1)


def test_names_match_torchvision():
    ours = {
        "rand_augment": rand_augment.NAMES,
        "trivial_augment": rand_augment.NAMES,
        "auto_augment": auto_augment.NAMES,
        "augmix": augmix.NAMES,
    }
    for policy, (space, _, _) in POLICIES.items():
        # An operation that is left out of a pair or chain is the identity, which some spaces lack.
        assert {THEIRS[name] for name in ours[policy]} == {*space, "Identity"}


@pytest.mark.parametrize("table", auto_augment.TABLES)
def test_tables_of_auto_augment_match_torchvision(table):
    theirs = peers.AutoAugment()._get_policies(peers.AutoAugmentPolicy[table.upper()])
    arrays = [np.asarray(column) for column in auto_augment._parse(auto_augment.TABLES[table])]
    assert len(theirs) == len(arrays[0]) == 25
    for pair, ours in zip(theirs, zip(*arrays, strict=True), strict=True):
        for (name, chance, last), operation, our_chance, strength in zip(pair, *ours, strict=True):
            assert THEIRS[auto_augment.NAMES[operation]] == name
            np.testing.assert_allclose(our_chance, chance, rtol=1e-6)
            np.testing.assert_allclose(strength * 9, last or 0, atol=1e-5)


# Colors and filters.


@pytest.mark.parametrize("turns", [-0.5, -0.21, 0.0, 0.13, 0.4])
def test_hue_matches_torchvision(turns):
    got = augment.hue(turns)(jax.random.key(0), jnp.asarray(FLOATS))
    wanted = functional.adjust_hue(as_torch(FLOATS), turns)
    np.testing.assert_allclose(got, as_image(wanted), atol=1e-5)


@pytest.mark.parametrize(("sigma", "size"), [(0.3, 3), (1.1, 7), (2.0, 11)])
def test_blur_matches_torchvision(sigma, size):
    got = augment.gaussian_blur(sigma, size=size)(jax.random.key(0), jnp.asarray(FLOATS))
    wanted = functional.gaussian_blur(as_torch(FLOATS), [size, size], [sigma, sigma])
    np.testing.assert_allclose(got, as_image(wanted), atol=1e-5)


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
def test_colors_of_floats_match_torchvision(policy, name, value):
    levels = 0.9 * FLOATS + 0.05
    got = policy(jax.random.key(0), jnp.asarray(levels))
    options = () if value is None else (value,)
    wanted = getattr(functional, name)(as_torch(levels), *options)
    # The gray of torchvision has weights of four digits.
    atol = 2e-4 if name in ("adjust_contrast", "adjust_saturation") else 1e-5
    np.testing.assert_allclose(got, as_image(wanted), atol=atol)
