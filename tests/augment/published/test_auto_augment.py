"""AutoAugment: its tables, and the distribution of its draws."""

import re
from collections import Counter

import jax
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, draws, pictures

from fnn import augment
from fnn.augment.published.auto_augment import NAMES, TABLES
from fnn.errors import ConfigError

COUNT = 12000


def entries(table):
    """The pairs ((operation, probability in tenths, strength in ninths), ...) of a table."""
    pairs = []
    for line in TABLES[table].strip().splitlines():
        pair = []
        for entry in line.split(","):
            name, tenths, ninths = entry.split()
            pair.append((name, int(tenths), int(ninths)))
        pairs.append(pair)
    return pairs


# Copied by hand from the appendix of the paper: index of a pair, and the pair.
BY_HAND = {
    "cifar10": {
        0: "invert 1 0, contrast 2 6",
        7: "sharpness 3 9, brightness 7 9",
        23: "equalize 8 0, invert 1 0",
    },
    "imagenet": {
        0: "posterize 4 8, rotate 6 9",
        7: "posterize 8 5, equalize 10 0",
        18: "shear_x 6 5, equalize 10 0",
    },
    "svhn": {
        0: "shear_x 9 4, invert 2 0",
        12: "equalize 9 0, translate_y 6 6",
        24: "shear_x 7 2, invert 1 0",
    },
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_25_pairs_of_known_operations(table):
    pairs = entries(table)
    assert len(pairs) == 25
    for pair in pairs:
        assert len(pair) == 2
        for name, tenths, ninths in pair:
            assert name in NAMES
            assert 0 <= tenths <= 10
            assert 0 <= ninths <= 9
    lines = [line.strip() for line in TABLES[table].strip().splitlines()]
    assert {index: lines[index] for index in BY_HAND[table]} == BY_HAND[table]


def probabilities_of(pairs):
    """Probabilities of (operation, strength, operation, strength); "identity" if left out."""
    found = Counter()
    for (first, p, s), (second, q, t) in pairs:
        for a, first_probability in ((first, p / 10), ("identity", 1 - p / 10)):
            for b, second_probability in ((second, q / 10), ("identity", 1 - q / 10)):
                probability = first_probability * second_probability / len(pairs)
                found[NAMES.index(a), s, NAMES.index(b), t] += probability
    return {outcome: probability for outcome, probability in found.items() if probability > 0}


@pytest.mark.parametrize("table", TABLES)
def test_pairs_are_uniform_and_operations_have_their_probability(table):
    first, second = draws(augment.auto_augment(table), COUNT)
    ninths = [draw["drawn"]["strength"] * 9 for draw in (first, second)]
    columns = [first["which"], np.rint(ninths[0]), second["which"], np.rint(ninths[1])]
    np.testing.assert_allclose(ninths, np.rint(ninths), atol=1e-5)
    drawn = Counter(zip(*(column.astype(int).tolist() for column in columns), strict=True))
    expected = probabilities_of(entries(table))
    assert drawn.keys() <= expected.keys()
    # The chi-square test needs 5 expected counts, so rare outcomes are added up.
    frequent = [outcome for outcome, share in expected.items() if share * COUNT >= 5]
    rare_count = sum(count for outcome, count in drawn.items() if outcome not in frequent)
    counts = [drawn[outcome] for outcome in frequent] + [rare_count]
    rare_share = max(1 - sum(expected[outcome] for outcome in frequent), 1e-9)
    shares = np.array([expected[outcome] for outcome in frequent] + [rare_share])
    tested = slice(None) if rare_share * COUNT >= 5 else slice(-1)
    scale = sum(counts[tested]) / shares[tested].sum()
    assert scipy.stats.chisquare(counts[tested], shares[tested] * scale).pvalue > 1e-3
    for draw in (first, second):
        positive = int((draw["drawn"]["sign"] == 1).sum())
        assert scipy.stats.binomtest(positive, COUNT, 0.5).pvalue > 1e-3


@pytest.mark.slow
def test_drawn_operations_are_applied_in_order():
    images = pictures(4, (20, 18, 3))
    policy = augment.auto_augment("svhn")
    invert, solarize, identity = (NAMES.index(name) for name in ("invert", "solarize", "identity"))
    first, second = jax.tree.map(np.array, draws(policy, 4, (20, 18, 3)))
    first["which"][:] = [identity, invert, identity, invert]
    second["which"][:] = [identity, identity, solarize, solarize]
    second["drawn"]["strength"][:] = 3 / 9
    found = apply_draws(policy, [first, second], images)
    negative = 255 - images
    for index, before in enumerate((images, negative)):
        np.testing.assert_array_equal(found[index], before[index])
        solarized = np.where(before >= 170, 255 - before, before)
        np.testing.assert_array_equal(found[index + 2], solarized[index + 2])


MISTAKES = {
    "table": (
        lambda: augment.auto_augment("mnist"),
        "auto_augment table: expected one of cifar10, imagenet, svhn",
    ),
    "mode": (
        lambda: augment.auto_augment(mode="quick"),
        "auto_augment mode: expected one of fused, exact",
    ),
    "fill": (
        lambda: augment.auto_augment(fill=2.0),
        "auto_augment fill: expected a number in [0, 1], got 2.0",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_wrong_arguments_raise(case):
    make, message = MISTAKES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()
