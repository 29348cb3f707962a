"""AugMix: what it draws, and the mixture that it makes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen_as

from fnn import augment
from fnn.augment.published.augmix import NAMES, _mixed
from fnn.errors import ConfigError

COUNT = 3000
SHAPE = (20, 18, 3)


def own(turn, name):
    """What was drawn for the operation that was chosen."""
    return np.stack([part[name] for part in turn["drawn"]], 1)[
        np.arange(len(turn["which"])), turn["which"]
    ]


WIDTH, ALPHA, SEVERITY = 3, 0.4, 3


@pytest.fixture(scope="module")
def found():
    """What is drawn for COUNT images."""
    return draws(augment.augmix(width=WIDTH, alpha=ALPHA, severity=SEVERITY), COUNT)


def test_the_shares_are_of_the_beta_and_the_dirichlet_distribution(found):
    assert found["weights"].shape == (COUNT, WIDTH)
    np.testing.assert_allclose(found["weights"].sum(1), np.ones(COUNT), rtol=1e-5)
    assert scipy.stats.kstest(found["image"], scipy.stats.beta(ALPHA, ALPHA).cdf).pvalue > 1e-3
    for weight in found["weights"].T:  # each of them by itself
        assert (
            scipy.stats.kstest(weight, scipy.stats.beta(ALPHA, (WIDTH - 1) * ALPHA).cdf).pvalue
            > 1e-3
        )
    assert abs(scipy.stats.spearmanr(found["image"], found["weights"][:, 0]).statistic) < 0.08


def test_a_chain_is_one_to_three_of_thirteen_operations_at_the_lowest_strengths(found):
    assert len(found["chains"]) == WIDTH
    for turns in found["chains"]:
        done = np.stack([turn["which"] > 0 for turn in turns], 1)
        assert set(map(tuple, done.tolist())) == {
            (True, False, False),
            (True, True, False),
            (True, True, True),
        }
        assert scipy.stats.chisquare(np.bincount(done.sum(1))[1:]).pvalue > 1e-3
        for turn, happens in zip(turns, done.T, strict=True):
            assert (
                scipy.stats.chisquare(np.bincount(turn["which"][happens], minlength=14)[1:]).pvalue
                > 1e-3
            )
            bins = own(turn, "strength") * 9
            np.testing.assert_allclose(bins, np.rint(bins), atol=1e-5)
            counts = np.bincount(np.rint(bins[happens]).astype(int), minlength=SEVERITY)
            assert len(counts) == SEVERITY
            assert scipy.stats.chisquare(counts).pvalue > 1e-3
    a, b = (turns[0]["which"] for turns in found["chains"][:2])
    assert scipy.stats.chi2_contingency(np.histogram2d(a, b, 13)[0]).pvalue > 1e-3


def test_the_image_is_mixed_with_the_chain_that_was_drawn():
    images = pictures(3, SHAPE)
    policy = augment.augmix(width=1)
    drawn = jax.tree.map(np.array, draws(policy, 3, SHAPE))
    (turns,) = drawn["chains"]
    for place, turn in enumerate(turns):
        turn["which"][:] = NAMES.index("posterize") if place == 1 else 0
        for part in turn["drawn"]:
            part["strength"][:] = 3 / 9
    drawn["image"][:] = [0.25, 1.0, 0.0]
    found = seen_as(policy, drawn, images)
    posterized = images >> 5 << 5  # 4 - round(4 / 3) bits are kept
    assert found.dtype == np.uint8
    cut = (images[0].astype(int) + 3 * posterized[0].astype(int)) // 4  # as in torchvision
    np.testing.assert_array_equal(found[0], cut)
    np.testing.assert_array_equal(found[1], images[1])  # the image alone
    np.testing.assert_array_equal(found[2], posterized[2])


def test_chains_count_by_their_weights():
    image = as_floats(pictures(1, SHAPE))[0]
    chains = [
        augment.invert().lower({}, SHAPE),
        (),
        augment.brightness(0.5).lower({"factor": jnp.float32(0.5)}, SHAPE),
    ]
    weights = jnp.array([0.5, 0.2, 0.3])
    found = jax.jit(lambda image: _mixed(jnp.float32(0.4), weights, chains, image))(image)
    exact = 0.4 * image + 0.6 * (0.5 * (1 - image) + 0.2 * image + 0.3 * image / 2)
    np.testing.assert_allclose(found, exact, atol=1e-6)


MISTAKES = {
    "no severity": (lambda: augment.augmix(severity=0), "augmix severity: expected >= 1, got 0"),
    "severity": (lambda: augment.augmix(severity=11), "augmix severity: expected one of 1, 2, 3"),
    "width": (lambda: augment.augmix(width=0), "augmix width: expected >= 1, got 0"),
    "alpha": (
        lambda: augment.augmix(alpha=0.0),
        "augmix alpha: expected a number in (0, inf), got 0.0",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told(case):
    make, message = MISTAKES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()
