"""Tests of the similarity losses against NumPy and SciPy, pair by pair."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cosine as cosine_distance
from scipy.special import logsumexp

from fnn import nn, objective, train
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import cosine, nt_xent, triplet

float64 = pytest.mark.usefixtures("x64")


def vectors(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


@float64
def test_cosine_equals_scipy():
    a, b = vectors(4, 3), vectors(4, 3)[::-1]
    wanted = [cosine_distance(u, v) for u, v in zip(a, b, strict=True)]
    np.testing.assert_allclose(cosine(jnp.array(a), jnp.array(b)), wanted, rtol=1e-13)
    sequences = jnp.array(np.stack([a, b], 1)), jnp.array(np.stack([b, b], 1))
    np.testing.assert_allclose(cosine(*sequences), np.array(wanted) / 2, rtol=1e-13)


def test_cosine_is_zero_for_parallel_and_two_for_opposite_vectors():
    a = jnp.float32(vectors(3, 4))
    np.testing.assert_allclose(cosine(a, 100 * a), 0, atol=1e-6)
    np.testing.assert_allclose(cosine(a, -a), 2, atol=1e-6)


def test_a_zero_vector_has_a_finite_gradient():
    outputs, targets = jnp.zeros((1, 3)), jnp.ones((1, 3))
    np.testing.assert_array_equal(cosine(outputs, targets), [1])
    chex.assert_tree_all_finite(
        jax.jit(jax.grad(lambda *pair: cosine(*pair).sum(), (0, 1)))(outputs, targets)
    )
    chex.assert_tree_all_finite(
        jax.jit(jax.grad(lambda x: nt_xent(x, jnp.array([0, 0])).sum()))(jnp.zeros((2, 3)))
    )


@float64
@pytest.mark.parametrize("margin", [0.0, 1.0, 3.0])
def test_triplet_equals_its_formula(margin):
    anchor, first, second = vectors(3, 5, 4)
    near, far = np.linalg.norm(anchor - first, axis=1), np.linalg.norm(anchor - second, axis=1)
    targets = np.array([0, 1, 0, 1, 0])
    wanted = np.maximum(0, np.where(targets == 0, near - far, far - near) + margin)
    outputs = tuple(map(jnp.array, (anchor, first, second)))
    np.testing.assert_allclose(
        triplet(outputs, jnp.array(targets), margin=margin), wanted, rtol=1e-13
    )


def test_triplet_of_equal_embeddings_has_a_finite_gradient():
    outputs = (jnp.ones((2, 3)),) * 3
    targets = jnp.array([0, 1])
    np.testing.assert_array_equal(triplet(outputs, targets), [1, 1])
    chex.assert_tree_all_finite(
        jax.jit(jax.grad(lambda outputs: triplet(outputs, targets).sum()))(outputs)
    )


@pytest.mark.parametrize("which", [-1, 2])
def test_a_target_of_triplet_other_than_zero_and_one_gives_nan(which):
    outputs, targets = tuple(jnp.float32(vectors(3, 2, 4))), jnp.array([0, which])
    gradients = jax.jit(jax.grad(lambda outputs: triplet(outputs, targets).sum()))(outputs)
    assert np.isnan(jax.jit(triplet)(outputs, targets)).tolist() == [False, True]
    for gradient in gradients:
        assert np.isnan(gradient).any(1).tolist() == [False, True]


def nt_xent_by_loops(x, labels, temperature):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines, values = unit @ unit.T / temperature, np.zeros(len(x))
    for i in range(len(x)):
        others = [k for k in range(len(x)) if k != i]
        near = [k for k in others if labels[k] == labels[i]]
        if near:
            values[i] = np.mean([logsumexp(cosines[i, others]) - cosines[i, p] for p in near])
    return values


@float64
@pytest.mark.parametrize("labels", [[0, 1, 2, 2, 1, 0], [7, 7, 7, -3, -3, 900], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_equals_its_formula(labels, temperature):
    x = vectors(6, 4)
    got = nt_xent(jnp.array(x), jnp.array(labels), temperature=temperature)
    np.testing.assert_allclose(
        got, nt_xent_by_loops(x, labels, temperature), rtol=1e-12, atol=1e-15
    )


def test_labels_of_every_integer_dtype_agree():
    x, labels = jnp.float32(vectors(4, 3)), np.array([255, 0, 255, 0])
    chex.assert_trees_all_equal(
        nt_xent(x, jnp.array(labels, jnp.uint8)), nt_xent(x, jnp.array(labels))
    )


ones = jnp.ones((2, 3))
ERRORS = {
    "no angle": (
        cosine,
        jnp.ones(3),
        jnp.ones(3),
        ShapeError,
        r"outputs: expected \(batch, ..., features\)",
    ),
    "two": (
        triplet,
        (ones, ones),
        jnp.zeros(2, int),
        ShapeError,
        "outputs: expected three embeddings",
    ),
    "one array": (
        triplet,
        jnp.ones((3, 2, 3)),
        jnp.zeros(2, int),
        ShapeError,
        "outputs: expected three embeddings",
    ),
    "another width": (
        triplet,
        (ones, ones, ones[:, :2]),
        jnp.zeros(2, int),
        ShapeError,
        "of one shape",
    ),
    "float choice": (
        triplet,
        (ones,) * 3,
        jnp.zeros(2),
        DTypeError,
        "targets: expected an integer dtype",
    ),
    "column of choices": (
        triplet,
        (ones,) * 3,
        jnp.zeros((2, 1), int),
        ShapeError,
        r"targets: .*\(2,\), got \(2, 1\)",
    ),
    "alone": (
        nt_xent,
        ones[:1],
        jnp.zeros(1, int),
        ShapeError,
        r"two embeddings or more.*got \(1, 3\)",
    ),
    "maps": (
        nt_xent,
        jnp.ones((2, 3, 4)),
        jnp.zeros(2, int),
        ShapeError,
        r"\(batch, features\), got \(2, 3, 4\)",
    ),
    "float views": (nt_xent, ones, jnp.zeros(2), DTypeError, "targets: expected an integer dtype"),
    "rows of views": (
        nt_xent,
        ones,
        jnp.zeros((2, 2), int),
        ShapeError,
        r"targets: .*\(2,\), got \(2, 2\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_shapes_and_dtypes_raise(case):
    loss, outputs, targets, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        loss(outputs, targets)


def test_options_out_of_range_raise():
    with pytest.raises(ConfigError, match="triplet margin: expected a number in"):
        triplet((ones,) * 3, jnp.zeros(2, int), margin=-1)
    with pytest.raises(ConfigError, match="nt_xent temperature: expected a number in"):
        nt_xent(ones, jnp.zeros(2, int), temperature=0)


def test_a_batch_of_a_contrastive_loss_is_not_split():
    for loss in (nt_xent, nt_xent(temperature=0.1), objective.masked(nt_xent),
                 objective.multi_task({"view": nt_xent})):  # fmt: skip
        assert train.recipe(nn.dense(2), loss=loss).metrics.keys() <= {"loss_view"}
        with pytest.raises(ConfigError, match="micro_batch_size: expected None for a loss or"):
            train.recipe(nn.dense(2), loss=loss, micro_batch_size=8)
