"""Stratified choice: each option is executed for a fixed part of the batch only."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.augment import random
from fnn.augment.batch import Batch, BatchPolicy, example_keys
from fnn.augment.choice import op_kinds, select
from fnn.augment.execute import execute
from fnn.augment.policy import Policy, shape_of
from fnn.errors import ConfigError
from fnn.types import Image, Images, ImageShape, RandomKey
from fnn.values import maker


@maker
def stratified(policy: Policy) -> BatchPolicy:
    """Execute a choice, such as `rand_augment`, with a fixed part of the batch for each option.

    Option k of n is applied to the k-th n-th of the batch. A second draw divides each of these
    parts again, so that all pairs of options are equally frequent. All other random numbers, such
    as signs, are drawn for each image.

    This is the fastest form of a choice, since each image executes its option only. In return the
    frequency of an option in a batch is fixed, and the option of an image depends on its position.
    So the batch must be shuffled, and large: of 14 operations, a batch of 56 applies each to 4
    images, but a batch of 8 applies only 8 of them.

    Args:
        policy: A policy that chooses: `one_of`, `some_of`, `rand_augment` or `trivial_augment`.

    Raises:
        ConfigError: `policy` does not choose, or its weights are traced.
    """
    if not getattr(policy, "options", ()):
        expected = "a policy that chooses, as rand_augment()"
        raise ConfigError("stratified", expected, repr(policy), "call its maker")
    if policy.shares is None:
        advice = "they set the sizes of the parts of the batch"
        raise ConfigError("stratified weights", "known numbers", "traced ones", advice)
    words_per_draw = policy.words // policy.count

    def apply(key: RandomKey, batch: Batch) -> Batch:
        images = batch.images
        size = images.shape[0]
        keys = example_keys(key, size, batch.examples)
        draw_all = partial(random.words, count=policy.words)
        words = jax.vmap(draw_all)(keys)  # (batch, words)
        for draw in range(policy.count):
            order = _order(size, len(policy.options), draw)
            # The first word of a draw chooses the option, which the position decides here.
            begin = draw * words_per_draw + 1
            end = (draw + 1) * words_per_draw
            images = images[order]
            draw_words = words[order, begin:end]
            images = _apply_options(policy, images, draw_words)
            # Back to the order of the batch.
            images = images[np.argsort(order)]
        return batch._replace(images=images)

    return BatchPolicy(apply)


def _order(
    batch: int,
    parts: int,
    draw: int,
) -> np.ndarray:
    """Order of the images in which a draw assigns consecutive images to one option.

    Every second draw visits one image of each part of the previous draw in turn.
    """
    positions = np.arange(batch)
    if draw % 2 == 0:
        return positions
    part_size = max(-(-batch // parts), 1)  # rounded up
    return np.lexsort((positions, positions % part_size))


def _apply_options(
    policy: Policy,
    images: Images,
    words: Array,
) -> Images:
    """Apply to each image the option of its position; options of the same op kinds run together."""
    batch = images.shape[0]
    shape = shape_of(images[0])
    # The kinds do not depend on the random numbers, so one image's words are enough.
    kinds = []
    for option in policy.options:
        ops = option.lower(option.read(words[0], shape), shape)
        kinds.append(op_kinds(ops))
    # Options with equal kinds are consecutive, so that they share one fused choice.
    by_kind = sorted(range(len(kinds)), key=lambda option: kinds[option])
    # Option by_kind[k] is applied to the images limits[k]:limits[k + 1].
    shares = np.asarray(policy.shares)[by_kind]
    cumulative = np.append(0, np.cumsum(shares))
    limits = np.rint(cumulative * batch).astype(int)
    results = []
    begin = 0
    for _, group in groupby(range(len(kinds)), key=lambda k: kinds[by_kind[k]]):
        members = list(group)
        options = [policy.options[by_kind[k]] for k in members]
        counts = [limits[k + 1] - limits[k] for k in members]
        numbers = np.arange(len(options), dtype=np.int32)
        index = np.repeat(numbers, counts)
        end = begin + len(index)
        # A small batch may have no image for these options.
        if len(index):
            chosen = jnp.asarray(index)
            group_words = words[begin:end]
            group_images = images[begin:end]
            results.append(_select(options, shape, chosen, group_words, group_images))
        begin = end
    return jnp.concatenate(results)


def _select(
    options: Sequence[Policy],
    shape: ImageShape,
    index: Array,
    words: Array,
    images: Images,
) -> Images:
    """Apply option number index[i] to image i."""

    def augment(
        index: Array,
        words: Array,
        image: Image,
    ) -> Image:
        branches = []
        for option in options:
            drawn = option.read(words[: option.words], shape)
            branches.append(option.lower(drawn, shape))
        ops = select(index, branches, shape, "fused")
        return execute(ops, image)

    return jax.vmap(augment)(index, words, images)
