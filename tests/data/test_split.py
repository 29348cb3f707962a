"""Splits and folds are disjoint and reproducible; stratified ones agree with scikit-learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from fnn import data, nn, optim, train
from fnn.errors import ConfigError, DTypeError, ShapeError

pytestmark = pytest.mark.slow

DRAW = np.random.default_rng(0)
both = pytest.mark.parametrize("stratified", [False, True])


def numbered(n, labels=None):
    """Inputs 0..n - 1, so that each input is its index, and labels."""
    labels = DRAW.integers(0, 4, n) if labels is None else labels
    return np.arange(n, dtype=np.int32), np.asarray(labels, np.int32)


@both
@pytest.mark.parametrize("n", [3, 10, 101, 1000])
@pytest.mark.parametrize(
    "fractions", [(0.8, 0.1, 0.1), (0.5,), (1.0,), (1 / 3, 1 / 3, 1 / 3), (0.4, 0.3)]
)
def test_parts_are_disjoint_and_have_their_sizes(key, stratified, n, fractions):
    if n == 3 and min(fractions) < 0.2:
        return
    whole = numbered(n)
    parts = data.split(key, whole, fractions=fractions, stratified=stratified)
    ends = [round(n * sum(fractions[: part + 1])) for part in range(len(fractions))]
    assert [len(labels) for _, labels in parts] == np.diff([0, *ends]).tolist()
    numbers = np.concatenate([inputs for inputs, _ in parts])
    assert len(set(numbers.tolist())) == len(numbers) == ends[-1]
    for inputs, labels in parts:
        assert isinstance(inputs, np.ndarray) and (np.diff(inputs) > 0).all()
        np.testing.assert_array_equal(labels, whole[1][inputs])


@given(st.lists(st.integers(0, 5), min_size=20, max_size=200), st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_stratified_parts_have_the_share_of_every_class(labels, seed):
    whole, fractions = numbered(len(labels), labels), (0.6, 0.2, 0.2)
    parts = data.split(jax.random.key(seed), whole, fractions=fractions, stratified=True)
    counts = np.stack([np.bincount(part, minlength=6) for _, part in parts])
    wanted = np.array(fractions)[:, None] * np.bincount(labels, minlength=6)
    assert np.abs(counts - wanted).max() <= 2


@both
def test_parts_depend_on_the_key_and_are_uniform(stratified):
    whole = numbered(40)
    draw = partial(data.split, data=whole, fractions=(0.75, 0.25), stratified=stratified)
    for part, again in zip(draw(jax.random.key(1)), draw(jax.random.key(1)), strict=True):
        np.testing.assert_array_equal(part[0], again[0])
    counts = np.zeros(40)
    for seed in range(200):
        counts[draw(jax.random.key(seed))[1][0]] += 1
    # 200 draws with probability 1/4: 50 are expected.
    assert counts.sum() == 2000 and counts.min() > 20 and counts.max() < 85


@both
def test_compiled_splits_equal_eager_ones(stratified):
    whole = numbered(50)
    splitting = partial(data.split, fractions=(0.6, 0.4), stratified=stratified)
    folding = partial(data.k_fold, folds=4, stratified=stratified)
    for draw in (splitting, folding):
        compiled, alone = jax.jit(draw)(jax.random.key(3), whole), draw(jax.random.key(3), whole)
        jax.tree.map(np.testing.assert_array_equal, compiled, alone)


@both
@pytest.mark.parametrize(("n", "folds"), [(10, 2), (10, 10), (103, 5), (100, 3), (7, 4)])
def test_folds_are_disjoint_and_exclude_their_training_part(key, stratified, n, folds):
    found = data.k_fold(key, numbered(n), folds=folds, stratified=stratified)
    size = n // folds
    assert found.train.shape == (folds, n - size) and found.valid.shape == (folds, size)
    assert found.train.dtype == found.valid.dtype == jnp.int32
    for trained, validated in zip(*found, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([trained, validated])), np.arange(n))
        assert (np.diff(trained) > 0).all() and (np.diff(validated) > 0).all()
    assert len(set(np.ravel(found.valid).tolist())) == folds * size
    left = set(range(n)) - set(np.ravel(found.valid).tolist())
    assert len(left) == n % folds
    for trained in np.asarray(found.train):
        assert left <= set(trained.tolist())


@pytest.mark.parametrize(("n", "folds"), [(100, 5), (1435, 5), (240, 8), (60, 2)])
def test_stratified_folds_have_the_class_counts_of_scikit_learn(n, folds):
    # At least one example of each class for each fold, the rest in unequal shares.
    base = np.repeat(np.arange(6), folds)
    rest = DRAW.choice(6, n - 6 * folds, p=[0.4, 0.3, 0.1, 0.1, 0.1, 0])
    labels = np.sort(np.append(base, rest))
    oracle = StratifiedKFold(folds).split(labels, labels)
    wanted = [np.bincount(labels[validated], minlength=6) for _, validated in oracle]
    shuffle = DRAW.permutation(n)
    for order in (np.arange(n), shuffle):
        examples = numbered(n, labels[order])
        found = data.k_fold(jax.random.key(n), examples, folds=folds, stratified=True)
        valid_labels = labels[order][np.asarray(found.valid)]
        counts = [np.bincount(fold, minlength=6) for fold in valid_labels]
        np.testing.assert_array_equal(counts, wanted)


def test_vmap_over_folds_equals_single_runs(key):
    images, labels = (jnp.asarray(array[:120]) for array in data.digits().train)
    recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.sgd(0.1))

    def score(trained, validated):
        part, other = ((images[numbers], labels[numbers]) for numbers in (trained, validated))
        result = train.run(key, recipe, part, valid=other, epochs=2, batch_size=16)
        return result.history.valid_loss[-1]

    folds = data.k_fold(key, (images, labels), folds=4, stratified=True)
    lanes = jax.jit(jax.vmap(score))(*folds)
    alone = jnp.stack([jax.jit(score)(*(part[fold] for part in folds)) for fold in range(4)])
    np.testing.assert_allclose(lanes, alone, rtol=1e-5)
    assert len(set(lanes.tolist())) == 4


WRONG = [
    (
        lambda key: data.split(key, numbered(9), fractions=(0.9, 0.2)),
        ConfigError,
        "split fractions: expected a sum of",
    ),
    (
        lambda key: data.split(key, numbered(9), fractions=(1.0, 0.0)),
        ConfigError,
        r"a number in \(0, 1\], got 0.0",
    ),
    (
        lambda key: data.split(key, numbered(9), fractions=()),
        ConfigError,
        "split fractions: expected one part or more",
    ),
    (
        lambda key: data.split(key, numbered(3)),
        ConfigError,
        r"one part or more of 3 examples, none empty, got \[2, 1, 0\]",
    ),
    (
        lambda key: data.split(key, (np.zeros(3), np.zeros(4))),
        ShapeError,
        r"split data: .* got \(3,\), \(4,\)",
    ),
    (
        lambda key: data.split(key, (np.zeros((0, 2)), np.zeros(0))),
        ShapeError,
        r"split data: .* got \(0, 2\), \(0,\)",
    ),
    (
        lambda key: data.split(key, (1.0, 2.0)),
        ShapeError,
        "split data: expected arrays whose first axis",
    ),
    (lambda key: data.split(key, ()), ShapeError, "split data: .* got no arrays"),
    (
        lambda key: data.split(0, numbered(9)),
        DTypeError,
        "split key: expected a key from jax.random.key",
    ),
    (
        lambda key: data.split(key, (np.zeros(9), np.zeros(9)), stratified=True),
        DTypeError,
        r"split data: expected labels int\[n\] where stratified, got float\d\d\[9\]",
    ),
    (
        lambda key: data.k_fold(key, {"x": np.zeros(9)}, folds=3, stratified=True),
        ConfigError,
        r"k_fold data: expected \(inputs, labels\) where stratified, got dict",
    ),
    (
        lambda key: data.k_fold(key, numbered(9), folds=3, stratified=1),
        ConfigError,
        "stratified: expected True or",
    ),
    (
        lambda key: data.k_fold(key, numbered(9), folds=1),
        ConfigError,
        "k_fold folds: expected >= 2, got 1",
    ),
    (
        lambda key: data.k_fold(key, numbered(9), folds=10),
        ConfigError,
        "k_fold folds: expected at most the 9 examples",
    ),
    (
        lambda key: data.k_fold(key, numbered(9), folds=3.0),
        ConfigError,
        "k_fold folds: expected a whole number",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_arguments_raise(key, call, error, message):
    with pytest.raises(error, match=message):
        call(key)
