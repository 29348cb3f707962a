"""Augmentations made of augmentations: in a row, by chance, by choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as

from fnn import augment
from fnn.augment.policy import Policy

SHAPE = (20, 18, 3)
COUNT = 96
BYTES = pictures(COUNT, SHAPE)


def add_noise(key, image):
    return image + jax.random.normal(key, image.shape)


def spy(count):
    """A policy that draws its words as they are, and does nothing."""
    return Policy(count, lambda words, shape: {"words": words}, lambda drawn, shape: ())


def test_an_empty_chain_is_the_identity():
    for images in (BYTES[:2], as_floats(BYTES[:2])):
        np.testing.assert_array_equal(seen(augment.chain(), images), images)
    assert augment.chain().draw(jax.random.key(0), SHAPE) == ()


def test_a_chain_is_the_composition_of_plain_functions_each_with_a_key_of_its_own():
    image, chain = (
        jnp.ones((3, 3, 1)),
        augment.chain(add_noise, augment.chain(add_noise, add_noise)),
    )
    first, (second, third) = chain.draw(jax.random.key(0), image.shape)
    expected = image
    for own in (first, second, third):
        expected = add_noise(jax.random.wrap_key_data(own["key"]), expected)
    np.testing.assert_array_equal(chain(jax.random.key(0), image), expected)
    assert len({tuple(np.asarray(own["key"]).tolist()) for own in (first, second, third)}) == 3


def test_a_plain_function_may_stand_between_moves_and_change_the_size():
    def trimmed(key, image):
        return image[1:7, 2:]

    chain = augment.chain(augment.flip_lr(1.0), trimmed, augment.rot90(1), augment.crop((4, 6)))
    assert chain.reshape(SHAPE) == (4, 6, 3)
    turned = np.rot90(BYTES[:3, 1:7, ::-1][:, :, 2:], axes=(1, 2))  # 16 rows of 6
    np.testing.assert_array_equal(seen(chain, BYTES[:3]), turned[:, 6:10])


def test_each_part_sees_the_shape_that_the_ones_before_it_leave():
    chain = augment.chain(
        augment.resize((9, 30)), augment.rot90(1), augment.random_crop(padding=0, size=(12, 4))
    )
    assert chain.reshape(SHAPE) == (12, 4, 3)
    *_, cropped = draws(chain, 300, SHAPE)
    assert (cropped["top"].max(), cropped["left"].max()) == (30 - 12, 9 - 4)
    assert seen(chain, BYTES[:2]).shape == (2, 12, 4, 3)


def test_a_part_at_the_end_leaves_the_draws_before_it_as_they_are():
    parts = [
        augment.rotate((-30.0, 30.0)),
        augment.one_of(augment.gamma((0.5, 2.0)), augment.cutout(3)),
        add_noise,
    ]
    for count in (1, 2):
        shorter, longer = (
            draws(augment.chain(*parts[:end]), 5, SHAPE) for end in (count, count + 1)
        )
        jax.tree.map(np.testing.assert_array_equal, shorter, longer[:count])


def test_no_two_parts_read_the_same_words():
    nested = augment.chain(
        spy(2),
        augment.maybe(augment.chain(spy(1), spy(3))),
        augment.some_of(spy(4), spy(4), count=2),
        spy(2),
    )
    assert nested.words == 2 + (1 + 4) + 2 * (1 + 4) + 2
    first, perhaps, turns, last = nested.draw(jax.random.key(0), SHAPE)
    # What is chosen from reads the same words, for only one of them is seen.
    own = [first, *perhaps["drawn"], *(turn["drawn"][0] for turn in turns), last]
    words = np.concatenate([np.asarray(part["words"]) for part in own])
    assert len(words) == 2 + 4 + 2 * 4 + 2
    assert len(np.unique(words)) == len(words)
    for turn in turns:
        np.testing.assert_array_equal(turn["drawn"][0]["words"], turn["drawn"][1]["words"])


def test_what_perhaps_happens_is_the_image_bit_for_bit_or_the_augmentation():
    certain = augment.chain(augment.rotate((10.0, 40.0)), augment.equalize())
    policy = augment.maybe(certain, 0.4)
    drawn, found = draws(policy, COUNT, SHAPE), seen(policy, BYTES)
    happens = drawn["happens"]
    assert 0.2 < happens.mean() < 0.6
    np.testing.assert_array_equal(found[~happens], BYTES[~happens])
    always = seen_as(certain, drawn["drawn"], BYTES)
    np.testing.assert_array_equal(found[happens], always[happens])
    assert (always[happens] != BYTES[happens]).mean() > 0.3


def test_it_comes_with_its_chance_and_the_magnitude_knows_nothing_of_it():
    drawn = draws(augment.maybe(augment.brightness((0.0, 1.0)), 0.3), 3000)
    happens, factors = drawn["happens"], drawn["drawn"]["factor"]
    assert scipy.stats.binomtest(int(happens.sum()), 3000, 0.3).pvalue > 1e-3
    for own in (factors[happens], factors[~happens]):
        assert scipy.stats.kstest(own, "uniform").pvalue > 1e-3
    assert draws(augment.maybe(spy(1), 1.0), 500)["happens"].all()
    assert not draws(augment.maybe(spy(1), 0.0), 500)["happens"].any()


WEIGHTS = {
    "alike": (None, [1, 1, 1, 1]),
    "by weight": ((1.0, 0.0, 4.0, 2.5), [1, 0, 4, 2.5]),
    "an array": (jnp.array([0.2, 0.2, 0.0, 0.6]), [0.2, 0.2, 0, 0.6]),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_choice_is_as_likely_as_its_weight_and_the_magnitude_knows_nothing_of_it(case):
    weights, shares = WEIGHTS[case]
    policy = augment.some_of(
        *(augment.brightness((0.0, 1.0)) for _ in range(4)), count=2, weights=weights
    )
    turns = draws(policy, 3000)
    pair = np.zeros((4, 4))
    np.add.at(pair, (turns[0]["which"], turns[1]["which"]), 1)
    shown = np.asarray(shares) > 0
    expected = np.outer(shares, shares)[shown][:, shown]
    assert pair.sum() == pair[shown][:, shown].sum()
    # Of each turn, and of the second after each first.
    assert (
        scipy.stats.chisquare(
            pair[shown][:, shown].ravel(), 3000 * expected.ravel() / expected.sum()
        ).pvalue
        > 1e-3
    )
    for turn in turns:
        factors = np.stack([own["factor"] for own in turn["drawn"]], 1)[
            np.arange(3000), turn["which"]
        ]
        assert scipy.stats.kstest(factors[turn["which"] == 3], "uniform").pvalue > 1e-3


def test_the_weights_may_be_traced():
    def choose(weights):
        return augment.one_of(spy(0), spy(0), spy(0), weights=weights).draw(
            jax.random.key(3), SHAPE
        )[0]["which"]

    traced = jax.jit(lambda a, b: choose([a, b, 1.0]))
    assert [int(traced(*own)) for own in ((1e9, 0.0), (0.0, 1e9), (0.0, 0.0))] == [0, 1, 2]


# Parts whose fused choice moves, recolors and looks at neighbors; all kinds together are in test_selecting.
CHOICES = (
    augment.rotate((-40.0, 40.0)),
    augment.flip_lr(1.0),
    augment.equalize(),
    augment.sharpness((0.0, 3.0)),
)


def test_one_fused_choice_is_the_exact_one_bit_for_bit():
    fused, exact = (augment.one_of(*CHOICES, mode=mode) for mode in ("fused", "exact"))
    assert set(draws(fused, COUNT, SHAPE)[0]["which"]) == set(range(len(CHOICES)))
    np.testing.assert_array_equal(seen(fused, BYTES), seen(exact, BYTES))


SINGLES = (augment.sharpness(2.5), augment.contrast(1.7), augment.rotate(30.0))
KINDS = (3, 1, 0)  # a move comes first, then recolors, then what looks at neighbors


def test_of_two_draws_the_fused_order_is_that_of_the_kinds_and_the_exact_one_that_of_the_draws():
    # Two turns are one turn about both angles: that is no two turns.
    pairs = np.array([(a, b) for a in range(3) for b in range(3) if (a, b) != (2, 2)], np.int32)
    images = BYTES[: len(pairs)]
    alone = [jax.jit(lambda image, own=own: own(jax.random.key(0), image)) for own in SINGLES]
    drawn = draws(augment.some_of(*SINGLES, count=2), len(pairs), SHAPE)
    drawn = [turn | {"which": pairs[:, place]} for place, turn in enumerate(drawn)]
    for mode in ("fused", "exact"):
        expected = []
        for image, pair in zip(images, pairs, strict=True):
            for own in sorted(pair, key=KINDS.__getitem__) if mode == "fused" else pair:
                image = alone[own](image)
            expected.append(image)
        found = seen_as(augment.some_of(*SINGLES, count=2, mode=mode), drawn, images)
        np.testing.assert_array_equal(found, expected)
