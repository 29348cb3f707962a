"""Tests of the dice loss against loops over examples and channels."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import dice

float64 = pytest.mark.usefixtures("x64")


def dice_by_loops(p, g, smooth):
    scores = np.empty((p.shape[0], p.shape[-1]))
    for example in range(p.shape[0]):
        for channel in range(p.shape[-1]):
            predicted, true = p[example, ..., channel], g[example, ..., channel]
            scores[example, channel] = (2 * (predicted * true).sum() + smooth) / (
                (predicted**2).sum() + (true**2).sum() + smooth
            )
    return 1 - scores.mean(1)


@float64
@pytest.mark.parametrize("sizes", [(5,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("smooth", [1e-3, 1.0])
def test_dice_equals_its_formula(sizes, smooth):
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(2, *sizes, 3)), draw.integers(0, 3, (2, *sizes))
    one_hot = np.eye(3)[labels]
    compiled = jax.jit(partial(dice, smooth=smooth))
    got = compiled(jnp.array(logits), jnp.array(labels))
    np.testing.assert_allclose(got, dice_by_loops(softmax(logits, -1), one_hot, smooth), rtol=1e-13)
    for masks in (one_hot, one_hot.astype(bool), one_hot.astype(np.uint8), 0.3 * one_hot):
        got = compiled(jnp.array(logits), jnp.array(masks))
        np.testing.assert_allclose(
            got, dice_by_loops(expit(logits), masks.astype(float), smooth), rtol=1e-13
        )


def test_dice_is_zero_for_equal_maps_and_one_for_disjoint_maps():
    mask = jnp.zeros((2, 4, 4, 1)).at[:, :2].set(1)
    sure = 1e4 * (2 * mask - 1)
    np.testing.assert_allclose(dice(sure, mask), 0, atol=1e-7)
    np.testing.assert_allclose(dice(-sure, mask, smooth=1e-6), 1, atol=1e-6)
    np.testing.assert_allclose(dice(jnp.full((2, 4, 4, 1), -1e4), 0 * mask), 0, atol=1e-7)


def test_a_label_or_a_mask_out_of_range_gives_nan():
    logits = jnp.ones((2, 2, 2, 3))
    for targets in (
        jnp.zeros((2, 2, 2), jnp.int32).at[1, 0, 0].set(3),
        jnp.zeros((2, 2, 2, 3)).at[1, 0, 0].set(1.5),
    ):
        values = jax.jit(dice)(logits, targets)
        gradient = jax.jit(jax.grad(lambda x, targets=targets: dice(x, targets).sum()))(logits)
        assert np.isnan(values).tolist() == [False, True]
        chex.assert_tree_all_finite(gradient[0])
        assert np.isnan(gradient[1]).any()


@float64
def test_dice_leaves_out_pixels():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(2, 6, 3)), draw.integers(0, 3, (2, 6))
    void = np.array([True, False, False, True, False, False])
    padded = jnp.array(np.where(void, 255, labels), jnp.uint8)
    holed = jnp.where(void[None, :, None], jnp.nan, logits)
    wanted = dice_by_loops(softmax(logits[:, ~void], -1), np.eye(3)[labels[:, ~void]], 1.0)
    total = jax.value_and_grad(lambda x: dice(x, padded, ignore=255).sum())
    value, slope = jax.jit(total)(holed)
    np.testing.assert_allclose(value, wanted.sum(), rtol=1e-12)
    others = jax.jit(jax.grad(lambda x: dice(x, jnp.array(labels[:, ~void])).sum()))
    np.testing.assert_array_equal(slope[:, void], 0)
    np.testing.assert_allclose(slope[:, ~void], others(jnp.array(logits[:, ~void])), rtol=1e-12)


@float64
@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_dice_leaves_out_entries_of_masks(dtype):
    draw = np.random.default_rng(0)
    logits, masks = draw.normal(size=(2, 6, 2)), draw.integers(0, 2, (2, 6, 2))
    void = draw.random((2, 6, 2)) < 0.3
    padded = jnp.array(np.where(void, -1, masks), dtype)
    p, g = np.where(void, 0, expit(logits)), np.where(void, 0, masks)
    got = dice(jnp.where(void, jnp.nan, logits), padded, ignore=-1)
    np.testing.assert_allclose(got, dice_by_loops(p, g.astype(float), 1.0), rtol=1e-12)


ERRORS = {
    "no channels": (
        jnp.ones((2, 3)),
        jnp.ones((2, 3)),
        ShapeError,
        r"logits: expected \(batch, ..., channels\)",
    ),
    "a mask without channels": (
        jnp.ones((2, 3, 3, 1)),
        jnp.ones((2, 3, 3)),
        DTypeError,
        "labels: .*float32",
    ),
    "a mask of bytes": (
        jnp.ones((2, 3, 3, 1)),
        jnp.ones((2, 3, 3), jnp.uint8),
        ShapeError,
        "two classes.*mask",
    ),
    "another size": (
        jnp.ones((2, 3, 3, 2)),
        jnp.ones((2, 3, 4), jnp.uint8),
        ShapeError,
        r"labels: .*\(2, 3, 4\)",
    ),
    "other channels": (
        jnp.ones((2, 3, 3, 2)),
        jnp.ones((2, 3, 3, 1)),
        ShapeError,
        r"targets: .*\(2, 3, 3, 1\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_shapes_and_dtypes_raise(case):
    logits, targets, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        dice(logits, targets)


def test_a_smoothing_of_zero_raises():
    with pytest.raises(ConfigError, match=r"dice smooth: expected a number in \(0, inf\), got 0"):
        dice(jnp.ones((2, 3, 2)), jnp.ones((2, 3, 2)), smooth=0)
