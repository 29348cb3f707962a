"""AutoAugment: its tables, and that it draws by them."""

import re
from collections import Counter

import jax
import numpy as np
import pytest
import scipy.stats
from pictures import draws, pictures, seen_as

from fnn import augment
from fnn.augment.published.auto_augment import NAMES, TABLES
from fnn.errors import ConfigError

COUNT = 12000


def entries(table):
    """The pairs ((operation, chance in tenths, strength in ninths), ...) of a table."""
    lines = TABLES[table].strip().splitlines()
    return [
        [(name, int(p), int(s)) for name, p, s in map(str.split, line.split(","))] for line in lines
    ]


# Read from the paper's appendix by hand: the number of a pair, and the pair.
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
def test_a_table_has_25_pairs_of_known_operations_with_chances_and_strengths(table):
    pairs = entries(table)
    assert len(pairs) == 25
    for pair in pairs:
        assert len(pair) == 2
        for name, tenths, ninths in pair:
            assert name in NAMES
            assert 0 <= tenths <= 10
            assert 0 <= ninths <= 9
    lines = [line.strip() for line in TABLES[table].strip().splitlines()]
    assert {place: lines[place] for place in BY_HAND[table]} == BY_HAND[table]


def likely(pairs):
    """How likely it is that these two operations are done, of these strengths: "identity" where one is left out."""
    found = Counter()
    for (first, p, s), (second, q, t) in pairs:
        for a, own_p in ((first, p / 10), ("identity", 1 - p / 10)):
            for b, own_q in ((second, q / 10), ("identity", 1 - q / 10)):
                found[NAMES.index(a), s, NAMES.index(b), t] += own_p * own_q / len(pairs)
    return {what: chance for what, chance in found.items() if chance > 0}


@pytest.mark.parametrize("table", TABLES)
def test_pairs_are_drawn_alike_and_each_half_happens_with_its_chance(table):
    turns = draws(augment.auto_augment(table), COUNT)
    ninths = [turn["drawn"]["strength"] * 9 for turn in turns]
    columns = [turns[0]["which"], np.rint(ninths[0]), turns[1]["which"], np.rint(ninths[1])]
    np.testing.assert_allclose(ninths, np.rint(ninths), atol=1e-5)
    drawn = Counter(zip(*(column.astype(int).tolist() for column in columns), strict=True))
    expected = likely(entries(table))
    assert drawn.keys() <= expected.keys()
    often = [what for what, chance in expected.items() if chance * COUNT >= 5]
    counts = [drawn[what] for what in often] + [
        sum(n for what, n in drawn.items() if what not in often)
    ]
    rest = max(1 - sum(expected[what] for what in often), 1e-9)
    chances = np.array([expected[what] for what in often] + [rest])
    kept = slice(None) if rest * COUNT >= 5 else slice(-1)
    scale = sum(counts[kept]) / chances[kept].sum()
    assert scipy.stats.chisquare(counts[kept], chances[kept] * scale).pvalue > 1e-3
    for turn in turns:
        right = int((turn["drawn"]["sign"] == 1).sum())
        assert scipy.stats.binomtest(right, COUNT, 0.5).pvalue > 1e-3


def test_what_was_drawn_is_done_and_what_did_not_happen_is_not():
    images = pictures(4, (20, 18, 3))
    policy = augment.auto_augment("svhn")
    invert, solarize, identity = (NAMES.index(name) for name in ("invert", "solarize", "identity"))
    first, second = jax.tree.map(np.array, draws(policy, 4, (20, 18, 3)))
    first["which"][:] = [identity, invert, identity, invert]
    second["which"][:] = [identity, identity, solarize, solarize]
    second["drawn"]["strength"][:] = 3 / 9
    found = seen_as(policy, [first, second], images)
    negative = 255 - images
    for place, before in enumerate((images, negative)):
        np.testing.assert_array_equal(found[place], before[place])
        solarized = np.where(before >= 170, 255 - before, before)
        np.testing.assert_array_equal(found[place + 2], solarized[place + 2])


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
def test_a_mistake_is_told(case):
    make, message = MISTAKES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()
