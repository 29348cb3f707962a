"""Splits and folds are disjoint and reproducible; stratified ones agree with scikit-learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from fnn import data, nn, optim, train
from fnn.data.split import nested_order, whole_folds
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


GROUPED = [(100, 5, 17), (60, 3, 3), (200, 4, 50), (90, 2, 30)]


def grouped(n, count):
    """Groups of different sizes, none empty."""
    return DRAW.permutation(np.concatenate([np.arange(count), DRAW.integers(0, count, n - count)]))


@both
@pytest.mark.parametrize(("n", "folds", "count"), GROUPED)
def test_no_group_is_on_both_sides_of_a_fold(key, stratified, n, folds, count):
    whole, groups = numbered(n), grouped(n, count)
    found = data.k_fold(key, whole, folds=folds, stratified=stratified, groups=groups)
    for train_part, valid_part in zip(*found, strict=True):
        assert not set(groups[train_part]) & set(groups[valid_part])
        assert (np.diff(train_part) > 0).all() and (np.diff(valid_part) > 0).all()
    valid = np.ravel(found.valid)
    assert len(set(valid.tolist())) == len(valid)
    # As in GroupKFold, each group is validated, in one fold.
    assert len(np.unique(groups[valid])) == count


@pytest.mark.parametrize(("n", "folds", "count"), GROUPED)
def test_folds_of_groups_are_as_even_as_those_of_scikit_learn(key, n, folds, count):
    whole, groups = numbered(n), grouped(n, count)
    found = data.k_fold(key, whole, folds=folds, groups=groups)
    oracle = GroupKFold(folds).split(*whole, groups)
    sizes = [len(part) for _, part in oracle]
    assert found.valid.shape == (folds, min(sizes))
    assert found.train.shape == (folds, n - max(sizes))


def test_folds_of_equal_groups_leave_out_no_example():
    groups = np.repeat([f"patient {index}" for index in range(12)], 5)
    whole = numbered(60)
    found = data.k_fold(jax.random.key(0), whole, folds=4, groups=groups)
    assert found.train.shape == (4, 45)
    np.testing.assert_array_equal(np.sort(np.ravel(found.valid)), np.arange(60))
    other = data.k_fold(jax.random.key(1), whole, folds=4, groups=groups)
    assert (found.valid != other.valid).any()
    alone = data.k_fold(jax.random.key(0), whole, folds=4, groups=np.arange(60))
    assert alone.valid.shape == (4, 15)


def test_stratified_folds_of_groups_have_even_classes(key):
    # Each group is of one class, as a patient with one diagnosis.
    groups = np.repeat(np.arange(40), 3)
    labels = np.repeat(np.arange(40) % 4 % 3, 3)
    found = data.k_fold(key, numbered(120, labels), folds=5, stratified=True, groups=groups)
    for part in found.valid:
        np.testing.assert_array_equal(np.bincount(labels[part]), [12, 6, 6])
    oracle = StratifiedGroupKFold(5).split(groups, labels, groups)
    assert all((np.bincount(labels[part]) == [12, 6, 6]).all() for _, part in oracle)


@both
@pytest.mark.parametrize(("n", "folds", "count"), GROUPED)
def test_no_group_is_in_two_parts(stratified, n, folds, count):
    whole, groups = numbered(n), grouped(n, count)
    largest = np.bincount(groups).max()
    for seed in range(5):
        draw = partial(data.split, data=whole, stratified=stratified, groups=groups)
        parts = draw(jax.random.key(seed), fractions=(0.6, 0.4))
        assert set(groups[parts[0][0]]) | set(groups[parts[1][0]]) == set(range(count))
        assert not set(groups[parts[0][0]]) & set(groups[parts[1][0]])
        assert sum(len(part) for part, _ in parts) == n
        if not stratified:
            assert abs(len(parts[0][0]) - 0.6 * n) <= largest
        parts = draw(jax.random.key(seed), fractions=(0.5, 0.2, 0.05))
        assert all(len(part) for part, _ in parts)


def test_parts_of_groups_depend_on_the_key():
    whole, groups = numbered(90), np.repeat(np.arange(30), 3)
    counts = np.zeros(30)
    for seed in range(100):
        _, (part, _) = data.split(jax.random.key(seed), whole, fractions=(0.8, 0.2), groups=groups)
        counts[np.unique(groups[part])] += 1
    # 100 draws with probability 1/5: 20 are expected.
    assert counts.sum() == 600 and counts.min() > 5 and counts.max() < 40


WRONG_GROUPS = [
    (np.arange(9), ShapeError, r"one for each example, \(10,\), got \(9,\)"),
    (np.zeros((10, 1)), ShapeError, r"one for each example, \(10,\), got \(10, 1\)"),
    (np.full(10, np.nan), DTypeError, "expected numbers or names, got NaN"),
    (np.array([1, "a"] * 5, object), DTypeError, "expected numbers or names, got "),
    (np.ma.masked_equal(np.arange(10), 3), DTypeError, "got a masked array"),
]


@pytest.mark.parametrize(("groups", "error", "message"), WRONG_GROUPS)
def test_wrong_groups_raise(key, groups, error, message):
    for draw in (partial(data.k_fold, folds=2), data.split):
        with pytest.raises(error, match=f"groups: expected .*{message}|groups: {message}"):
            draw(key, numbered(10), groups=groups)


def test_too_few_groups_and_traced_ones_raise():
    whole, groups = numbered(10), np.arange(10) % 2
    key = jax.random.key
    with pytest.raises(ConfigError, match="k_fold folds: expected at most the 2 groups, got 3"):
        data.k_fold(key(0), whole, folds=3, groups=groups)
    with pytest.raises(ConfigError, match=r"groups: expected 3 or more, .* got 2 groups"):
        data.split(key(0), whole, groups=groups)
    fold = partial(data.k_fold, folds=2)
    for call in (
        lambda: jax.jit(fold)(key(0), whole, groups=groups),
        lambda: jax.jit(lambda key: fold(key, whole, groups=groups))(key(0)),
        lambda: jax.jit(lambda groups: fold(key(0), whole, groups=groups))(groups),
    ):
        with pytest.raises(DTypeError, match="expected known values, got a traced array"):
            call()


def test_labels_of_any_width_and_byte_order_are_stratified():
    labels = np.repeat([1, 2**32 + 1], 10)
    for dtype in (np.int64, ">i8"):
        whole = np.arange(20), labels.astype(dtype)
        parts = data.split(jax.random.key(0), whole, fractions=(0.5, 0.5), stratified=True)
        for _, part in parts:
            assert (part == 1).sum() == 5
    for wrong in (labels.astype(str), labels + 0j, np.ma.masked_equal(labels, 1)):
        with pytest.raises(DTypeError, match=r"labels int\[n\] where stratified"):
            data.split(jax.random.key(0), (np.arange(20), wrong), stratified=True)


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


def test_whole_folds_of_groups_have_the_parts_of_k_fold_before_they_are_thinned(key):
    groups = np.array(list("aaaaabbbccddefgh"))
    found, train = whole_folds("folds", key, numbered(16), folds=3, groups=groups)
    thinned = data.k_fold(jax.random.clone(key), numbered(16), folds=3, groups=groups)
    for fold in range(3):
        part = np.flatnonzero(found == fold)
        assert np.isin(thinned.valid[fold], part).all()
        np.testing.assert_array_equal(train[fold], thinned.train[fold])


def test_a_nested_order_of_one_class_is_the_random_order(key):
    labels = np.zeros(20, int)
    plain = nested_order("order", key, (labels, labels), stratified=False)
    again = jax.random.clone(key)
    stratified = nested_order("order", again, (labels, labels), stratified=True)
    np.testing.assert_array_equal(stratified, plain)
    assert sorted(plain.tolist()) == list(range(20))


@pytest.mark.parametrize("groups", [None, np.arange(9)])
def test_traced_keys_raise_where_sizes_depend_on_them(key, groups):
    def draw(key):
        return whole_folds("folds", key, numbered(9), folds=3, groups=groups)[1]

    with pytest.raises(DTypeError, match="folds key: expected known values, got a traced array"):
        jax.jit(draw)(key)


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
