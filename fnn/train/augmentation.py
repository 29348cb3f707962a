"""Checks of a recipe's augmentation against the examples that it is to change."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import augment, checks
from fnn.augment.ops import GeometricOp, Op, PixelOp, PointOp
from fnn.augment.policy import Policy
from fnn.augment.targets import Together
from fnn.errors import ConfigError, FnnError
from fnn.train.recipe import Recipe
from fnn.types import ImageShape, RandomKey
from fnn.values import Made


class PolicyFacts(NamedTuple):
    """Properties of the ops of a policy.

    Attributes:
        moves: Whether it moves pixels.
        normalizes: Whether the values of its result are not levels.
        needs_levels: Whether it takes values for levels in [0, 1].
        changes_levels: Whether it does anything to the values of pixels but to move them.
    """

    moves: bool
    normalizes: bool
    needs_levels: bool
    changes_levels: bool


def trace_augmentation(recipe: Recipe, inputs: Any, targets: Any) -> bool:
    """Raise ConfigError for an augmentation that does not fit the examples, or not validation.

    Augmentation is for training alone. A step of preprocessing that is part of it, such as
    `normalize`, would leave validation and prediction on inputs of another kind.

    Args:
        recipe: From `train.recipe`.
        inputs: Arrays (n, ...), of which shapes and dtypes are used.
        targets: Arrays (n, ...), likewise.

    Returns:
        Whether the augmentation takes values for levels in [0, 1].
    """
    needs_levels = False
    for policy, images in _policies(recipe.augment, inputs):
        if not isinstance(images, jax.Array | np.ndarray):
            raise ConfigError(
                "recipe augment",
                "images, one array (batch, height, width, channels), as inputs",
                checks.show(images),
                "choose one of the inputs, as by augment.entry(name, policy), or write an "
                "augment.BatchPolicy",
            )
        # Other ranks are left to the error of the policy.
        if images.ndim != 4:
            continue
        height, width, channels = images.shape[1:]
        facts = _trace_policy(policy, (height, width, channels))
        if facts.normalizes:
            raise ConfigError(
                "recipe augment",
                "random changes, which validation does without",
                "augment.normalize",
                "give prepare=data.normalize(mean, std), which validation uses too",
            )
        if facts.moves:
            _expect_no_maps(images, targets)
        _expect_random_levels(policy, (height, width, channels))
        # `prepare` takes all inputs, and may do what it likes with several.
        if images is inputs:
            _expect_size(recipe, policy, images)
        needs_levels |= facts.needs_levels
    return needs_levels


def takes_levels(recipe: Recipe, inputs: Any) -> bool:
    """Return whether the augmentation takes the values of these inputs for levels in [0, 1].

    Inference does not augment: an augmentation that cannot change these inputs is no error.
    """
    for policy, images in _policies(recipe.augment, inputs):
        if isinstance(images, jax.Array | np.ndarray) and images.ndim == 4:
            height, width, channels = images.shape[1:]
            try:
                if _trace_policy(policy, (height, width, channels)).needs_levels:
                    return True
            except FnnError:
                # Such as a crop that is larger than images of another size.
                continue
    return False


def augmented_inputs(recipe: Recipe, inputs: Any) -> list[Any]:
    """Return the arrays that the augmentation changes: the one of inputs, or entries of several."""
    if isinstance(inputs, jax.Array | np.ndarray):
        return [inputs]
    return [images for _, images in _policies(recipe.augment, inputs)]


def _policies(value: Any, inputs: Any) -> Iterator[tuple[Policy, Any]]:
    """Yield the image policies of an augmentation, each with the inputs that it changes.

    Those of batch policies are included.
    """
    if isinstance(value, Policy):
        yield value, inputs
    # `together` moves masks with their images. A function that is not made cannot be looked into.
    elif isinstance(value, Made) and not isinstance(value, Together):
        if value.maker is augment.entry:
            name = value.arguments["name"]
            names = inputs if isinstance(inputs, Mapping) else range(len(inputs))
            # A wrong name is left to the error of the policy.
            if name not in names:
                return
            inputs = inputs[name]
        for child in value.children:
            yield from _policies(child, inputs)


def _trace_policy(policy: Policy, shape: ImageShape) -> PolicyFacts:
    facts: list[PolicyFacts] = []

    def lower(key: RandomKey) -> None:
        ops = policy.lower(policy.draw(key, shape), shape)
        # The numbers of ops are traced, their flags are not.
        moves = any(map(_moves, ops))
        normalizes = any(isinstance(op, PixelOp) and op.normalizes for op in ops)
        changes_levels = not all(isinstance(op, GeometricOp) for op in ops)
        needs_levels = any(map(_needs_levels, ops))
        facts.append(PolicyFacts(moves, normalizes, needs_levels, changes_levels))

    jax.eval_shape(lower, jax.eval_shape(jax.random.key, 0))
    return facts[0]


def _moves(op: Op) -> bool:
    return isinstance(op, GeometricOp) or (isinstance(op, PixelOp) and op.moves_pixels)


def _needs_levels(op: Op) -> bool:
    return isinstance(op, PointOp) or (isinstance(op, PixelOp) and not op.unbounded)


def _expect_no_maps(inputs: Any, targets: Any) -> None:
    """Raise ConfigError for masks or images as targets, which would stay where they are."""
    size = inputs.shape[1:3]
    for leaf in jax.tree.leaves(targets):
        if leaf.ndim >= 3 and leaf.shape[1:3] == size:
            raise ConfigError(
                "recipe augment",
                f"an augmentation that moves the targets {leaf.dtype}{list(leaf.shape)} too",
                "one that moves the pixels of images alone",
                "use augment.together",
            )


def _expect_random_levels(policy: Policy, shape: ImageShape) -> None:
    """Raise ConfigError if the levels of all images of training are changed in the same way."""
    for part in _chain_parts(policy):
        # A part that draws nothing, such as equalize.
        if part.words == 0 and _trace_policy(part, shape).changes_levels:
            raise ConfigError(
                "recipe augment",
                "random changes, which validation does without",
                repr(part),
                "change all images alike in prepare=, or some at random, as by augment.maybe",
            )
        shape = part.reshape(shape)


def _expect_size(recipe: Recipe, policy: Policy, inputs: Any) -> None:
    """Raise ConfigError if training is resized, in the same way for each image, and validation not.

    A random crop to another size is left alone: it is augmentation.
    """
    height, width, channels = inputs.shape[1:]
    shape = height, width, channels
    if policy.reshape(shape) == shape:
        return
    for part in _chain_parts(policy):
        new_shape = part.reshape(shape)
        if part.words == 0 and new_shape != shape:
            break
        shape = new_shape
    else:
        return
    augmented = jax.ShapeDtypeStruct(
        (inputs.shape[0], *policy.reshape((height, width, channels))), inputs.dtype
    )
    stored = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
    size, valid_size = (
        jax.eval_shape(recipe.prepare, array).shape[1:3] for array in (augmented, stored)
    )
    if size != valid_size:
        raise ConfigError(
            "recipe augment",
            f"images of the size of validation, {valid_size}",
            size,
            "resize or crop them all in prepare=, or before they are stored",
        )


def _chain_parts(policy: Policy) -> Iterator[Policy]:
    """Yield the parts of chains, in order."""
    if isinstance(policy, Made) and policy.maker is augment.chain:
        for child in policy.children:
            if isinstance(child, Policy):
                yield from _chain_parts(child)
    else:
        yield policy
