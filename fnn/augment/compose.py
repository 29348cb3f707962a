"""Augmentations composed of augmentations: sequences, optional parts and random choices."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.choice import fuse, gate, select
from fnn.augment.ops import Op, Ops
from fnn.augment.policy import Drawn, Policy, as_policy
from fnn.errors import ConfigError
from fnn.types import Augmentation, ImageShape, Number
from fnn.values import maker

MODES = ("fused", "exact")


@maker
def chain(*policies: Augmentation) -> Policy:
    """Apply augmentations one after another.

    Consecutive geometric operations are merged into one, so that pixels are interpolated only once.
    Pixels that one operation moves out of the image can be moved back by the next one. The edges of
    a crop are final. A draw of the chain is the tuple of the draws of its parts.

    Args:
        policies: Augmentations or plain functions (key, image) -> image. Without any, the chain is
            the identity.

    Raises:
        ConfigError: A part is not callable.
    """
    parts = []
    for k, policy in enumerate(policies):
        parts.append(as_policy(f"chain {k}", policy))

    def read(words: Array, shape: ImageShape) -> Drawn:
        drawn = []
        # Each part reads different words, and depends on the shape after the parts before it.
        pieces = _split_words(parts, words)
        shapes = input_shapes(shape)
        for part, piece, part_shape in zip(parts, pieces, shapes, strict=True):
            drawn.append(part.read(piece, part_shape))
        return tuple(drawn)

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        ops: list[Op] = []
        shapes = input_shapes(shape)
        for part, part_drawn, part_shape in zip(parts, drawn, shapes, strict=True):
            ops.extend(part.lower(part_drawn, part_shape))
        return ops

    def input_shapes(shape: ImageShape) -> list[ImageShape]:
        """The shape of the image that each part is applied to."""
        shapes = [shape]
        for part in parts[:-1]:
            shapes.append(part.reshape(shapes[-1]))
        return shapes[: len(parts)]

    def reshape(shape: ImageShape) -> ImageShape:
        for part in parts:
            shape = part.reshape(shape)
        return shape

    words = sum(part.words for part in parts)
    return Policy(words, read, lower, reshape)


@maker
def maybe(augmentation: Augmentation, probability: Number = 0.5) -> Policy:
    """Apply an augmentation with a probability, else return the image as it is.

    A geometric operation that is not applied becomes the identity, so it can still be merged with
    its neighbors in a chain.

    Args:
        augmentation: An augmentation that keeps the size of the image.
        probability: In [0, 1].

    Raises:
        ConfigError: `probability` is outside of [0, 1], or the augmentation changes the size.
    """
    checks.number("maybe probability", probability, "[0, 1]")
    part = as_policy("maybe augmentation", augmentation)

    def read(words: Array, shape: ImageShape) -> Drawn:
        applies = random.bernoulli(words[0], probability)
        # Drawn in any case: under jit the choice cannot save work.
        drawn = part.read(words[1:], shape)
        return {"happens": applies, "drawn": drawn}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        _expect_same_size("maybe", part, shape)
        ops = part.lower(drawn["drawn"], shape)
        return [gate(drawn["happens"], op) for op in ops]

    return Policy(1 + part.words, read, lower)


@maker
def one_of(
    *policies: Augmentation,
    weights: Sequence[float] | None = None,
    mode: str = "fused",
) -> Policy:
    """Apply one of several augmentations, drawn for each image.

    Under `vmap` all branches of a choice are executed for all images. `mode` decides how much work
    the branches share. Both modes give the same pixels if each branch applies geometric operations
    before point operations (brightness) before filters (blur).

    Args:
        policies: Augmentations that keep the size of the image, at least one.
        weights: Relative probabilities, one per augmentation, >= 0. None: all are equally likely.
        mode: "fused": the branches share one geometric operation, whose matrix is chosen, and for
            bytes one table of 256 levels. Only the rest, such as a blur, is executed for all
            branches. "exact": all branches are executed in full, then one is chosen. This is as
            slow as all augmentations together.

    Raises:
        ConfigError: There is no augmentation, the weights are not one number >= 0 for each, their
            sum is 0, or an augmentation changes the size.
    """
    return some_of(*policies, count=1, weights=weights, mode=mode)


@maker
def some_of(
    *policies: Augmentation,
    count: int,
    weights: Sequence[float] | None = None,
    mode: str = "fused",
) -> Policy:
    """Apply `count` augmentations one after another, drawn with replacement for each image.

    Args:
        policies: As in `one_of`.
        count: Number of draws, >= 1.
        weights: As in `one_of`.
        mode: "exact": in the order of the draws. "fused": geometric operations first, then point
            operations, then other operations on single pixels, then filters. Within each kind the
            order is that of the draws. This takes one pass over the pixels for each kind.

    Raises:
        ConfigError: As in `one_of`, or `count` is not a whole number >= 1.
    """
    checks.whole("some_of count", count)
    checks.choice("some_of mode", mode, MODES)
    if not policies:
        raise ConfigError("one_of", "at least one augmentation", "none", "give some")
    parts = []
    for k, policy in enumerate(policies):
        parts.append(as_policy(f"one_of {k}", policy))
    weights = _expect_weights(weights, len(parts))
    shares = _known_shares(weights)
    # Where the weights are traced, the limits are computed at every draw.
    known_limits = None if shares is None else _cumulative(shares)
    # One word for the choice. All options read the same other words, because one of them is used.
    words_per_draw = 1 + max(part.words for part in parts)

    def read(words: Array, shape: ImageShape) -> Drawn:
        draws = words.reshape(count, words_per_draw)  # (draw, word)
        return [read_draw(draw, shape) for draw in draws]

    def read_draw(words: Array, shape: ImageShape) -> Drawn:
        limits = known_limits
        if limits is None:
            limits = jnp.cumsum(_traced_shares(weights))
        # The inverse of the cumulative distribution. Rounding may leave its last value below 1.
        at_least = random.unit_uniform(words[0]) >= limits
        index = jnp.minimum(at_least.sum(), len(parts) - 1)
        index = index.astype(jnp.int32)
        drawn = []
        for part in parts:
            part_words = words[1 : 1 + part.words]
            drawn.append(part.read(part_words, shape))
        return {"which": index, "drawn": tuple(drawn)}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        for part in parts:
            _expect_same_size("one_of", part, shape)
        draws = []
        for draw in drawn:
            branches = []
            for part, part_drawn in zip(parts, draw["drawn"], strict=True):
                branches.append(part.lower(part_drawn, shape))
            ops = select(draw["which"], branches, shape, mode)
            draws.append(ops)
        if mode == "fused":
            return fuse(draws)
        return [op for draw in draws for op in draw]

    words = count * words_per_draw
    return Policy(words, read, lower, options=tuple(parts), shares=shares, count=count)


def _expect_same_size(
    where: str,
    part: Policy,
    shape: ImageShape,
) -> None:
    """Raise if the augmentation changes the size: all images of a batch have one size."""
    new_shape = part.reshape(shape)
    if new_shape != shape:
        expected = f"augmentations that keep the size {shape[:2]}"
        raise ConfigError(where, expected, new_shape[:2], "resize in a chain around it")


def _split_words(parts: Sequence[Policy], words: Array) -> list[Array]:
    """The words of each part."""
    pieces = []
    begin = 0
    for part in parts:
        end = begin + part.words
        pieces.append(words[begin:end])
        begin = end
    return pieces


def _expect_weights(
    weights: Sequence[float] | None,
    count: int,
) -> Sequence[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        advice = "give one weight per augmentation"
        raise ConfigError("one_of weights", f"{count} weights", len(weights), advice)
    for k, weight in enumerate(weights):
        checks.number(f"one_of weights {k}", weight, "[0, inf)")
    return weights


def _known_shares(weights: Sequence[float]) -> np.ndarray | None:
    """Probability of each option; None where the weights are traced."""
    known = all(checks.is_concrete(weight) for weight in weights)
    if not known:
        return None
    values = np.array([float(weight) for weight in weights], np.float32)
    if not values.any():
        advice = "give a positive weight to at least one"
        raise ConfigError("one_of weights", "one above 0", weights, advice)
    return values / values.sum()


def _cumulative(shares: np.ndarray) -> Array:
    """Cumulative probabilities, computed now even if the policy is made while tracing."""
    with jax.ensure_compile_time_eval():
        return jnp.cumsum(jnp.asarray(shares))


def _traced_shares(weights: Sequence[float]) -> Array:
    values = [jnp.asarray(weight, jnp.float32) for weight in weights]
    shares = jnp.stack(values)
    return shares / shares.sum()
