"""Sequences, optional parts and random choices of augmentations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, augmented, draws, pictures

from fnn import augment
from fnn.augment.policy import Policy

pytestmark = pytest.mark.slow

SHAPE = (20, 18, 3)
COUNT = 96
BYTES = pictures(COUNT, SHAPE)


def add_noise(key, image):
    return image + jax.random.normal(key, image.shape)


def spy(count):
    """A policy whose draw is its words, and that changes nothing."""
    return Policy(count, lambda words, shape: {"words": words}, lambda drawn, shape: ())


def test_an_empty_chain_is_the_identity():
    for images in (BYTES[:2], as_floats(BYTES[:2])):
        np.testing.assert_array_equal(augmented(augment.chain(), images), images)
    assert augment.chain().draw(jax.random.key(0), SHAPE) == ()


def test_a_chain_of_plain_functions_composes_them_with_different_keys():
    image = jnp.ones((3, 3, 1))
    chain = augment.chain(add_noise, augment.chain(add_noise, add_noise))
    first, (second, third) = chain.draw(jax.random.key(0), image.shape)
    expected = image
    for drawn in (first, second, third):
        expected = add_noise(jax.random.wrap_key_data(drawn["key"]), expected)
    np.testing.assert_array_equal(chain(jax.random.key(0), image), expected)
    keys = {tuple(np.asarray(drawn["key"]).tolist()) for drawn in (first, second, third)}
    assert len(keys) == 3


def test_a_plain_function_in_a_chain_may_change_the_size():
    def trim(key, image):
        return image[1:7, 2:]

    chain = augment.chain(augment.flip_lr(1.0), trim, augment.rot90(1), augment.crop((4, 6)))
    assert chain.reshape(SHAPE) == (4, 6, 3)
    turned = np.rot90(BYTES[:3, 1:7, ::-1][:, :, 2:], axes=(1, 2))  # 16 rows of 6
    np.testing.assert_array_equal(augmented(chain, BYTES[:3]), turned[:, 6:10])


def test_each_part_is_drawn_for_the_shape_after_the_parts_before_it():
    chain = augment.chain(
        augment.resize((9, 30)), augment.rot90(1), augment.random_crop(padding=0, size=(12, 4))
    )
    assert chain.reshape(SHAPE) == (12, 4, 3)
    *_, cropped = draws(chain, 300, SHAPE)
    assert (cropped["top"].max(), cropped["left"].max()) == (30 - 12, 9 - 4)
    assert augmented(chain, BYTES[:2]).shape == (2, 12, 4, 3)


def test_an_added_part_keeps_the_draws_of_the_parts_before_it():
    parts = [
        augment.rotate((-30.0, 30.0)),
        augment.one_of(augment.gamma((0.5, 2.0)), augment.cutout(3)),
        add_noise,
    ]
    for count in (1, 2):
        shorter = draws(augment.chain(*parts[:count]), 5, SHAPE)
        longer = draws(augment.chain(*parts[: count + 1]), 5, SHAPE)
        jax.tree.map(np.testing.assert_array_equal, shorter, longer[:count])


def test_parts_read_different_words():
    nested = augment.chain(
        spy(2),
        augment.maybe(augment.chain(spy(1), spy(3))),
        augment.some_of(spy(4), spy(4), count=2),
        spy(2),
    )
    assert nested.words == 2 + (1 + 4) + 2 * (1 + 4) + 2
    first, optional, turns, last = nested.draw(jax.random.key(0), SHAPE)
    # Options of a choice read the same words, since only one of them is used.
    parts = [first, *optional["drawn"], *(turn["drawn"][0] for turn in turns), last]
    words = np.concatenate([np.asarray(part["words"]) for part in parts])
    assert len(words) == 2 + 4 + 2 * 4 + 2
    assert len(np.unique(words)) == len(words)
    for turn in turns:
        np.testing.assert_array_equal(turn["drawn"][0]["words"], turn["drawn"][1]["words"])


def test_maybe_gives_the_image_or_the_augmented_image_bit_for_bit():
    certain = augment.chain(augment.rotate((10.0, 40.0)), augment.equalize())
    policy = augment.maybe(certain, 0.4)
    drawn = draws(policy, COUNT, SHAPE)
    found = augmented(policy, BYTES)
    happens = drawn["happens"]
    assert 0.2 < happens.mean() < 0.6
    np.testing.assert_array_equal(found[~happens], BYTES[~happens])
    always = apply_draws(certain, drawn["drawn"], BYTES)
    np.testing.assert_array_equal(found[happens], always[happens])
    assert (always[happens] != BYTES[happens]).mean() > 0.3


def test_maybe_has_its_probability_and_magnitudes_are_independent_of_it():
    drawn = draws(augment.maybe(augment.brightness((0.0, 1.0)), 0.3), 3000)
    happens, factors = drawn["happens"], drawn["drawn"]["factor"]
    assert scipy.stats.binomtest(int(happens.sum()), 3000, 0.3).pvalue > 1e-3
    for sample in (factors[happens], factors[~happens]):
        assert scipy.stats.kstest(sample, "uniform").pvalue > 1e-3
    assert draws(augment.maybe(spy(1), 1.0), 500)["happens"].all()
    assert not draws(augment.maybe(spy(1), 0.0), 500)["happens"].any()


WEIGHTS = {
    "equal": (None, [1, 1, 1, 1]),
    "by weight": ((1.0, 0.0, 4.0, 2.5), [1, 0, 4, 2.5]),
    "an array": (jnp.array([0.2, 0.2, 0.0, 0.6]), [0.2, 0.2, 0, 0.6]),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_options_are_as_likely_as_their_weights_and_magnitudes_are_independent(case):
    weights, shares = WEIGHTS[case]
    options = [augment.brightness((0.0, 1.0)) for _ in range(4)]
    policy = augment.some_of(*options, count=2, weights=weights)
    turns = draws(policy, 3000)
    pair = np.zeros((4, 4))
    np.add.at(pair, (turns[0]["which"], turns[1]["which"]), 1)
    possible = np.asarray(shares) > 0
    counts = pair[possible][:, possible].ravel()
    assert pair.sum() == counts.sum()
    # The two draws are independent, so the expected counts are an outer product.
    expected = np.outer(shares, shares)[possible][:, possible].ravel()
    assert scipy.stats.chisquare(counts, 3000 * expected / expected.sum()).pvalue > 1e-3
    for turn in turns:
        factors = np.stack([drawn["factor"] for drawn in turn["drawn"]], 1)
        chosen = factors[np.arange(3000), turn["which"]]
        assert scipy.stats.kstest(chosen[turn["which"] == 3], "uniform").pvalue > 1e-3


def test_the_weights_may_be_traced():
    def choose(weights):
        policy = augment.one_of(spy(0), spy(0), spy(0), weights=weights)
        return policy.draw(jax.random.key(3), SHAPE)[0]["which"]

    traced = jax.jit(lambda a, b: choose([a, b, 1.0]))
    assert [int(traced(a, b)) for a, b in ((1e9, 0.0), (0.0, 1e9), (0.0, 0.0))] == [0, 1, 2]


# Options with geometric ops, point ops and a filter. test_choice.py has ops of all kinds.
CHOICES = (
    augment.rotate((-40.0, 40.0)),
    augment.flip_lr(1.0),
    augment.equalize(),
    augment.sharpness((0.0, 3.0)),
)


def test_a_fused_choice_equals_the_exact_one_bit_for_bit():
    fused = augment.one_of(*CHOICES, mode="fused")
    exact = augment.one_of(*CHOICES, mode="exact")
    assert set(draws(fused, COUNT, SHAPE)[0]["which"]) == set(range(len(CHOICES)))
    np.testing.assert_array_equal(augmented(fused, BYTES), augmented(exact, BYTES))


def jitted(policy):
    return jax.jit(lambda image: policy(jax.random.key(0), image))


SINGLES = (augment.sharpness(2.5), augment.contrast(1.7), augment.rotate(30.0))
KINDS = (3, 1, 0)  # geometric ops first, then point ops, then filters


def test_two_draws_are_executed_by_kind_if_fused_and_in_sequence_if_exact():
    # Two rotations would be merged into one, which differs from two resamplings.
    pairs = np.array([(a, b) for a in range(3) for b in range(3) if (a, b) != (2, 2)], np.int32)
    images = BYTES[: len(pairs)]
    alone = [jitted(policy) for policy in SINGLES]
    drawn = draws(augment.some_of(*SINGLES, count=2), len(pairs), SHAPE)
    drawn = [turn | {"which": pairs[:, k]} for k, turn in enumerate(drawn)]
    for mode in ("fused", "exact"):
        expected = []
        for image, pair in zip(images, pairs, strict=True):
            order = sorted(pair, key=KINDS.__getitem__) if mode == "fused" else pair
            for option in order:
                image = alone[option](image)
            expected.append(image)
        found = apply_draws(augment.some_of(*SINGLES, count=2, mode=mode), drawn, images)
        np.testing.assert_array_equal(found, expected)
