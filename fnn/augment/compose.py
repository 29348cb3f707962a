"""Augmentations made of augmentations."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.choice import fused, gated, selected
from fnn.augment.ops import Steps
from fnn.augment.policy import Drawn, Policy, as_policy
from fnn.errors import ConfigError
from fnn.types import Augmentation, ImageShape, Number
from fnn.values import maker

MODES = ("fused", "exact")


@maker
def chain(*policies: Augmentation) -> Policy:
    """One augmentation after another; what is drawn is the tuple of what each draws.

    Moves that follow each other become one move, so nothing is interpolated twice, and what one turns out of sight the
    next may bring back; a crop's edges are final. A plain function (key, image) -> image may be a part, too.
    ConfigError for what is no augmentation.
    """
    parts = [as_policy(f"chain {place}", policy) for place, policy in enumerate(policies)]

    def read(words: Array, shape: ImageShape) -> Drawn:
        return tuple(
            part.read(own, seen)
            for part, own, seen in zip(parts, _dealt(parts, words), _shapes(shape), strict=True)
        )

    def lower(drawn: Drawn, shape: ImageShape) -> Steps:
        lowered = (
            part.lower(own, seen)
            for part, own, seen in zip(parts, drawn, _shapes(shape), strict=True)
        )
        return [step for steps in lowered for step in steps]

    def _shapes(shape: ImageShape) -> list[ImageShape]:
        shapes = [shape]
        for part in parts[:-1]:
            shapes.append(part.reshape(shapes[-1]))
        return shapes[: len(parts)]

    def reshape(shape: ImageShape) -> ImageShape:
        for part in parts:
            shape = part.reshape(shape)
        return shape

    return Policy(sum(part.words for part in parts), read, lower, reshape)


@maker
def maybe(augmentation: Augmentation, probability: Number = 0.5) -> Policy:
    """The augmentation with this probability, else the image as it is.

    A move that is left out is the move that moves nothing, so it still joins the moves around it. ConfigError unless
    0 <= probability <= 1, and for an augmentation that changes the size of the image.
    """
    checks.number("maybe probability", probability, "[0, 1]")
    part = as_policy("maybe augmentation", augmentation)

    def read(words: Array, shape: ImageShape) -> Drawn:
        return {
            "happens": random.happens(words[0], probability),
            "drawn": part.read(words[1:], shape),
        }

    def lower(drawn: Drawn, shape: ImageShape) -> Steps:
        expect_size_kept("maybe", part, shape)
        return [gated(drawn["happens"], step) for step in part.lower(drawn["drawn"], shape)]

    return Policy(1 + part.words, read, lower)


@maker
def one_of(
    *policies: Augmentation, weights: Sequence[float] | None = None, mode: str = "fused"
) -> Policy:
    """One of the augmentations, drawn for each image by itself, as likely as its weight tells.

    Under vmap a choice cannot skip what it leaves out, so it matters what the parts share. "fused": the parts' moves
    are one move, whose matrix is chosen; their recolors one table of 256 levels; only what is left, such as a blur, is
    done for all images and chosen from. "exact": every part for every image, then the choice: as slow as all parts
    together. Of one part's own steps both give the same, if it moves before it recolors before it blurs. ConfigError
    for no part, for weights that are not one a part, and for parts that change the size of the image.
    """
    return some_of(*policies, count=1, weights=weights, mode=mode)


@maker
def some_of(
    *policies: Augmentation, count: int, weights: Sequence[float] | None = None, mode: str = "fused"
) -> Policy:
    """`count` draws from the augmentations, one after another, with replacement; see `one_of`.

    Fused, all moves come first, then recolors, then other changes of single pixels, then those that look at neighbors:
    one pass over the pixels for each, whatever was drawn. Within each kind the order is that of the draws.
    """
    checks.whole("some_of count", count)
    checks.choice("some_of mode", mode, MODES)
    if not policies:
        raise ConfigError("one_of", "at least one augmentation", "none", "give some")
    parts = [as_policy(f"one_of {place}", policy) for place, policy in enumerate(policies)]
    weights = _expect_weights(weights, len(parts))
    known = _known_shares(weights)
    limits = None if known is None else _limits(known)
    words = 1 + max(part.words for part in parts)

    def read(own: Array, shape: ImageShape) -> Drawn:
        return [_choice(turn, shape) for turn in own.reshape(count, words)]

    def _choice(own: Array, shape: ImageShape) -> Drawn:
        ends = jnp.cumsum(_traced_shares(weights)) if limits is None else limits
        which = jnp.minimum((random.unit(own[0]) >= ends).sum(), len(parts) - 1).astype(jnp.int32)
        return {
            "which": which,
            "drawn": tuple(part.read(own[1 : 1 + part.words], shape) for part in parts),
        }

    def lower(drawn: Drawn, shape: ImageShape) -> Steps:
        for part in parts:
            expect_size_kept("one_of", part, shape)
        turns = []
        for turn in drawn:
            branches = [
                part.lower(own, shape) for part, own in zip(parts, turn["drawn"], strict=True)
            ]
            turns.append(selected(turn["which"], branches, shape, mode))
        return fused(turns) if mode == "fused" else [step for turn in turns for step in turn]

    return Policy(count * words, read, lower, options=tuple(parts), shares=known, count=count)


def expect_size_kept(where: str, part: Policy, shape: ImageShape) -> None:
    if part.reshape(shape) != shape:
        raise ConfigError(
            where,
            f"augmentations that keep the size {shape[:2]}",
            part.reshape(shape)[:2],
            "resize in a chain around it",
        )


def _dealt(parts: Sequence[Policy], words: Array) -> list[Array]:
    """Each part's own words."""
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.words)
    return [words[begin:end] for begin, end in pairwise(ends)]


def _expect_weights(weights: Sequence[float] | None, count: int) -> Sequence[float]:
    weights = [1.0] * count if weights is None else weights
    if len(weights) != count:
        raise ConfigError(
            "one_of weights", f"{count} weights", len(weights), "give one an augmentation"
        )
    for place, weight in enumerate(weights):
        checks.number(f"one_of weights {place}", weight, "[0, inf)")
    return weights


def _known_shares(weights: Sequence[float]) -> np.ndarray | None:
    """How likely each is; None where the weights are traced."""
    if not all(checks.is_concrete(weight) for weight in weights):
        return None
    known = np.array([float(weight) for weight in weights], np.float32)
    if not known.any():
        raise ConfigError(
            "one_of weights", "one above 0", weights, "give what is to be drawn a weight"
        )
    return known / known.sum()


def _limits(known: np.ndarray) -> Array:
    """Up to where in [0, 1) each is drawn, worked out now, though the policy may be built within a program."""
    with jax.ensure_compile_time_eval():
        return jnp.cumsum(jnp.asarray(known))


def _traced_shares(weights: Sequence[float]) -> Array:
    shares = jnp.stack([jnp.asarray(weight, jnp.float32) for weight in weights])
    return shares / shares.sum()
