"""Normalization with known statistics: the formula of NumPy, repr, equality and pickling."""

import copy
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data
from fnn.errors import DTypeError, ShapeError

# Statistics of CIFAR-10, as many programs have them.
MEAN = [0.4914, 0.4822, 0.4465]
STD = [0.247, 0.2435, 0.2616]
BYTES = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
FORMS = {
    "lists": data.normalize(MEAN, STD),
    "tuples": data.normalize(tuple(MEAN), tuple(STD)),
    "NumPy": data.normalize(np.array(MEAN), np.array(STD)),
    "NumPy float32": data.normalize(np.float32(MEAN), np.float32(STD)),
    "JAX": data.normalize(jnp.array(MEAN), jnp.array(STD)),
    "one of each": data.normalize(np.array(MEAN), STD),
    "whole numbers": data.normalize([0, 1, 2], [1, 2, 3]),
}
every_form = pytest.mark.parametrize("form", FORMS)


def by_hand(x, mean=MEAN, std=STD):
    """The formula of torchvision's ToTensor and Normalize, with channels last."""
    scaled = x / 255 if x.dtype == np.uint8 else x
    return (scaled.astype(np.float64) - np.array(mean)) / np.array(std)


@pytest.mark.parametrize("inputs", [BYTES, BYTES / np.float32(255)], ids=["bytes", "floats"])
@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"whole numbers"}))
def test_it_equals_the_formula(form, inputs):
    np.testing.assert_allclose(FORMS[form](inputs), by_hand(inputs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        FORMS[form](inputs[0, 1, 2]), by_hand(inputs[0, 1, 2]), rtol=1e-5, atol=1e-6
    )


def test_statistics_may_be_whole_numbers():
    x = np.float32([[2, 3, 8], [0, 0, 0]])
    np.testing.assert_allclose(FORMS["whole numbers"](x), [[2, 1, 2], [0, -0.5, -2 / 3]], rtol=1e-6)


@every_form
def test_the_inverse_restores_the_floats(form):
    fitted = FORMS[form]
    np.testing.assert_allclose(fitted.inverse(fitted(BYTES)), data.to_float(BYTES), atol=1e-6)


@every_form
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_map_and_inverse_keep_the_dtype_of_floats(form, dtype):
    x = jnp.ones((2, 3), dtype)
    assert FORMS[form](x).dtype == dtype and FORMS[form].inverse(x).dtype == dtype


def test_standardize_returns_a_normalization():
    fitted = data.standardize(BYTES)
    mean, std = (getattr(BYTES / 255, name)((0, 1, 2)) for name in ("mean", "std"))
    known = data.normalize(mean, std)
    assert isinstance(fitted, data.Fitted) and isinstance(known, data.Fitted)
    assert jax.tree.structure(fitted) == jax.tree.structure(known)
    chex.assert_trees_all_close(jax.tree.leaves(fitted), jax.tree.leaves(known), rtol=1e-12)
    np.testing.assert_allclose(fitted(BYTES), known(BYTES), rtol=1e-6, atol=1e-6)
    assert data.standardize(BYTES) == fitted == data.normalize(*fitted.arguments.values())


def test_its_numbers_are_its_leaves():
    assert jax.tree.leaves(FORMS["lists"]) == [*MEAN, *STD]
    paths = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(FORMS["lists"])
    ]
    assert paths == [f".{name}.{index}" for name in ("mean", "std") for index in range(3)]
    chex.assert_trees_all_equal(jax.tree.leaves(FORMS["NumPy"]), [np.array(MEAN), np.array(STD)])


@pytest.mark.parametrize("form", ["lists", "NumPy", "JAX"])
def test_other_statistics_share_one_compilation(form):
    chex.clear_trace_counter()
    x, other = jnp.asarray(BYTES[:2]), jax.tree.map(lambda leaf: leaf + 0.25, FORMS[form])
    program = jax.jit(chex.assert_max_traces(lambda fitted: fitted(x), n=1))
    np.testing.assert_allclose(program(FORMS[form]), by_hand(BYTES[:2]), rtol=1e-5, atol=1e-6)
    wanted = by_hand(BYTES[:2], np.array(MEAN) + 0.25, np.array(STD) + 0.25)
    np.testing.assert_allclose(program(other), wanted, rtol=1e-5, atol=1e-6)


def test_vmap_over_stacked_statistics_equals_single_maps():
    maps = [FORMS["lists"], jax.tree.map(lambda leaf: 2 * leaf, FORMS["lists"])]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *maps)
    lanes = jax.vmap(lambda fitted: fitted(jnp.asarray(BYTES[:2])))(stacked)
    wanted = [by_hand(BYTES[:2]), by_hand(BYTES[:2], 2 * np.array(MEAN), 2 * np.array(STD))]
    np.testing.assert_allclose(lanes, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["lists", "NumPy", "JAX"])
def test_the_gradient_by_the_statistics_has_its_closed_form(form, x64):
    fitted, x = FORMS[form], BYTES[:2]
    slope = jax.jit(jax.grad(lambda fitted: fitted(jnp.asarray(x)).sum()))(fitted)
    assert jax.tree.structure(slope) == jax.tree.structure(fitted)
    wanted = [np.full(3, -32.0) / STD, -by_hand(x).sum((0, 1, 2)) / STD]
    np.testing.assert_allclose(
        np.ravel(jax.tree.leaves(slope)), np.ravel(wanted), rtol=1e-5 if form == "JAX" else 1e-12
    )


@every_form
def test_repr_evaluates_to_an_equal_value(form):
    fitted = FORMS[form]
    again = eval(repr(fitted), {"data": data, "numpy": np, "jax": jax})
    assert again == fitted and hash(again) == hash(fitted)
    chex.assert_trees_all_equal(again(BYTES[:2]), fitted(BYTES[:2]))


def test_repr_is_the_call():
    assert repr(data.normalize([0.5, 0], (0.25, 1))) == "data.normalize([0.5, 0], (0.25, 1))"
    assert (
        repr(data.normalize(np.array([0.5]), [1]))
        == "data.normalize(numpy.array([0.5], dtype='float64'), [1])"
    )


@every_form
def test_copies_and_pickles_are_equal(form):
    for again in (copy.deepcopy(FORMS[form]), pickle.loads(pickle.dumps(FORMS[form]))):
        assert again == FORMS[form]
        chex.assert_trees_all_equal(again(BYTES[:2]), FORMS[form](BYTES[:2]))


def test_maps_are_equal_if_their_statistics_are():
    assert data.normalize(MEAN, STD) == FORMS["lists"] and FORMS["JAX"] == FORMS["NumPy float32"]
    assert data.normalize(STD, MEAN) not in {*FORMS.values()}
    assert len({*FORMS.values()}) == len(FORMS) - 1


NORMALIZE = FORMS["lists"]
WRONG = {
    "mean of pixels": (
        lambda: data.normalize(np.ones((3, 3)), STD),
        ShapeError,
        r"mean: .*\(channels,\), got \(3, 3\)",
    ),
    "std of pixels": (
        lambda: data.normalize(MEAN, [STD]),
        ShapeError,
        r"std: .*\(channels,\), got \(1, 3\)",
    ),
    "one number": (
        lambda: data.normalize(0.5, 0.25),
        ShapeError,
        r"mean: expected one number per channel.*, got 0\.5",
    ),
    "one array": (
        lambda: data.normalize(MEAN, np.float32(0.25)),
        ShapeError,
        r"std: .*\(channels,\), got \(\)",
    ),
    "none": (
        lambda: data.normalize([], []),
        ShapeError,
        r"mean: expected one number per channel.*, got \[\]",
    ),
    "fewer": (
        lambda: data.normalize(MEAN, STD[:2]),
        ShapeError,
        r"std: expected as many .*\(3,\), got \(2,\)",
    ),
    "gray": (
        lambda: NORMALIZE(BYTES[..., :1]),
        ShapeError,
        r"x: expected \(..., 3\), got \(50, 4, 4, 1\)",
    ),
    "no array": (lambda: NORMALIZE(0.5), ShapeError, r"x: expected \(..., 3\), got \(\)"),
    "integers": (
        lambda: NORMALIZE(BYTES.astype(np.int32)),
        DTypeError,
        "x: expected uint8 or floating.*got int32",
    ),
    "inverse of gray": (
        lambda: NORMALIZE.inverse(jnp.ones((2, 1))),
        ShapeError,
        r"inverse y: expected \(..., 3\)",
    ),
    "inverse of bytes": (
        lambda: NORMALIZE.inverse(BYTES),
        DTypeError,
        "inverse y: expected .*floating.*got uint8",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_raise(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=f"normalize {message}"):
        call()
