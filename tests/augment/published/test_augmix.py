"""AugMix: distributions of its draws, and the mixture of images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, draws, pictures

from fnn import augment
from fnn.augment.published.augmix import NAMES, _mix
from fnn.errors import ConfigError

COUNT = 3000
SHAPE = (20, 18, 3)


def chosen(draw, name):
    """The parameter of the chosen operation, for each image."""
    # (images, operations)
    parameters = np.stack([part[name] for part in draw["drawn"]], 1)
    return parameters[np.arange(len(draw["which"])), draw["which"]]


WIDTH, ALPHA, SEVERITY = 3, 0.4, 3


@pytest.fixture(scope="module")
def found():
    """The draws for COUNT images."""
    return draws(augment.augmix(width=WIDTH, alpha=ALPHA, severity=SEVERITY), COUNT)


def test_shares_have_the_beta_and_the_dirichlet_distribution(found):
    assert found["weights"].shape == (COUNT, WIDTH)
    np.testing.assert_allclose(found["weights"].sum(1), np.ones(COUNT), rtol=1e-5)
    assert scipy.stats.kstest(found["image"], scipy.stats.beta(ALPHA, ALPHA).cdf).pvalue > 1e-3
    # The marginals of a Dirichlet distribution are beta distributions.
    marginal = scipy.stats.beta(ALPHA, (WIDTH - 1) * ALPHA)
    for weight in found["weights"].T:
        assert scipy.stats.kstest(weight, marginal.cdf).pvalue > 1e-3
    assert abs(scipy.stats.spearmanr(found["image"], found["weights"][:, 0]).statistic) < 0.08


def test_chains_have_one_to_three_operations_at_the_lowest_strengths(found):
    assert len(found["chains"]) == WIDTH
    for draws_of_chain in found["chains"]:
        # (images, operations)
        applied = np.stack([draw["which"] > 0 for draw in draws_of_chain], 1)
        assert set(map(tuple, applied.tolist())) == {
            (True, False, False),
            (True, True, False),
            (True, True, True),
        }
        assert scipy.stats.chisquare(np.bincount(applied.sum(1))[1:]).pvalue > 1e-3
        for draw, is_applied in zip(draws_of_chain, applied.T, strict=True):
            counts = np.bincount(draw["which"][is_applied], minlength=14)[1:]
            assert scipy.stats.chisquare(counts).pvalue > 1e-3
            bins = chosen(draw, "strength") * 9
            np.testing.assert_allclose(bins, np.rint(bins), atol=1e-5)
            counts = np.bincount(np.rint(bins[is_applied]).astype(int), minlength=SEVERITY)
            assert len(counts) == SEVERITY
            assert scipy.stats.chisquare(counts).pvalue > 1e-3
    # The chains are independent.
    first, second = (chain[0]["which"] for chain in found["chains"][:2])
    assert scipy.stats.chi2_contingency(np.histogram2d(first, second, 13)[0]).pvalue > 1e-3


@pytest.mark.slow
def test_the_image_is_mixed_with_its_chain():
    images = pictures(3, SHAPE)
    policy = augment.augmix(width=1)
    drawn = jax.tree.map(np.array, draws(policy, 3, SHAPE))
    (draws_of_chain,) = drawn["chains"]
    for index, draw in enumerate(draws_of_chain):
        draw["which"][:] = NAMES.index("posterize") if index == 1 else 0
        for part in draw["drawn"]:
            part["strength"][:] = 3 / 9
    drawn["image"][:] = [0.25, 1.0, 0.0]
    found = apply_draws(policy, drawn, images)
    posterized = images >> 5 << 5  # 4 - round(4 / 3) bits are kept
    assert found.dtype == np.uint8
    mixed = (images[0].astype(int) + 3 * posterized[0].astype(int)) // 4  # as in torchvision
    np.testing.assert_array_equal(found[0], mixed)
    np.testing.assert_array_equal(found[1], images[1])  # the image alone
    np.testing.assert_array_equal(found[2], posterized[2])


def test_chains_are_mixed_by_their_weights():
    image = as_floats(pictures(1, SHAPE))[0]
    chains = [
        augment.invert().lower({}, SHAPE),
        (),
        augment.brightness(0.5).lower({"factor": jnp.float32(0.5)}, SHAPE),
    ]
    weights = jnp.array([0.5, 0.2, 0.3])
    found = jax.jit(lambda image: _mix(jnp.float32(0.4), weights, chains, image))(image)
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
def test_wrong_arguments_raise(case):
    make, message = MISTAKES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()
