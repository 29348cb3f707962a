"""Policies that choose, with a fixed part of the batch for each choice: no image pays for what it was not given."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.augment import random
from fnn.augment.batch import BatchPolicy, keys_of
from fnn.augment.choice import kinds_of, selected
from fnn.augment.execute import rendered
from fnn.augment.policy import Policy, shape_of
from fnn.errors import ConfigError
from fnn.types import Image, Images, ImageShape, RandomKey, Step
from fnn.values import maker


@maker
def stratified(policy: Policy) -> BatchPolicy:
    """A policy that chooses, as `some_of` or `rand_augment`, with the choices dealt out over the batch.

    Part k of n goes to the k-th n-th of the batch, the second draw across the first, so that each pair is as frequent;
    what else is drawn, such as signs, is drawn for each image. It is the cheapest form, since nothing is done for all
    images to be chosen from. The price: how often each part comes is fixed for a batch, and an image's part follows
    from its place. So the batch must be shuffled, and large: of 14 operations a batch of 56 has four images each, one
    of 8 has 8 operations. ConfigError for another policy.
    """
    if not getattr(policy, "options", ()):
        raise ConfigError(
            "stratified", "a policy that chooses, as rand_augment()", repr(policy), "call its maker"
        )
    if policy.shares is None:
        raise ConfigError(
            "stratified weights", "known numbers", "traced ones", "they tell how the batch is cut"
        )
    words = policy.words // policy.count

    def apply(
        key: RandomKey,
        images: Images,
        targets: Any,
        examples: Array | None,
        epoch: Step | int | None,
    ) -> tuple[Images, Any]:
        own = jax.vmap(lambda one: random.words(one, policy.words))(
            keys_of(key, images.shape[0], examples)
        )
        for turn in range(policy.count):
            order = _order(images.shape[0], len(policy.options), turn)
            dealt = _dealt(policy, images[order], own[order, turn * words + 1 : (turn + 1) * words])
            images = dealt[np.argsort(order)]
        return images, targets

    return BatchPolicy(apply)


def _order(batch: int, parts: int, turn: int) -> np.ndarray:
    """The images in the order in which this turn's parts are dealt to them: every second turn across the first."""
    places = np.arange(batch)
    return places if turn % 2 == 0 else np.lexsort((places, places % max(-(-batch // parts), 1)))


def _dealt(policy: Policy, images: Images, words: Array) -> Images:
    """Each image after the part that its place has; the parts whose steps are of one kind are done together."""
    batch, shape = images.shape[0], shape_of(images[0])
    kinds = [kinds_of(part.lower(part.read(words[0], shape), shape)) for part in policy.options]
    by_kind = sorted(range(len(kinds)), key=lambda part: kinds[part])
    ends = np.rint(np.append(0, np.cumsum(np.asarray(policy.shares)[by_kind])) * batch).astype(int)
    done, begin = [], 0
    for _, group in groupby(range(len(kinds)), key=lambda place: kinds[by_kind[place]]):
        places = list(group)
        parts = [policy.options[by_kind[place]] for place in places]
        which = np.repeat(
            np.arange(len(parts), dtype=np.int32),
            [ends[place + 1] - ends[place] for place in places],
        )
        end = begin + len(which)
        if len(which):
            done.append(
                _group(parts, shape, jnp.asarray(which), words[begin:end], images[begin:end])
            )
        begin = end
    return jnp.concatenate(done)


def _group(
    parts: Sequence[Policy], shape: ImageShape, which: Array, words: Array, images: Images
) -> Images:
    def one(which: Array, words: Array, image: Image) -> Image:
        branches = [part.lower(part.read(words[: part.words], shape), shape) for part in parts]
        return rendered(selected(which, branches, shape, "fused"), image)

    return jax.vmap(one)(which, words, images)
