"""Policies of whole batches: `Batch`, `BatchPolicy`, and policies made of image augmentations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment.policy import Policy, moves_pixels, shape_of
from fnn.augment.targets import Together
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Augmentation, Augmentations, Images, RandomKey, Step
from fnn.values import maker

# Seed of the key that divides the examples into two halves. Any constant works.
HALVES = 2404_00498


class Batch(NamedTuple):
    """A batch of images with their targets: the value that a batch policy takes and returns.

    A run over arrays gives `examples` and `epoch`. They are None for batches of a stream.

    Attributes:
        images: (batch, height, width, channels), bytes or floats in [0, 1].
        targets: Arrays whose first axis is the example, or None.
        examples: (batch,), int: the index of each image in the data set. The random numbers of an
            image depend on its index, not on its position in the batch. None: 0, 1, 2, ...
        epoch: Number of the pass over the data set, from 0.
    """

    images: Images
    targets: Any = None
    examples: Array | None = None
    epoch: Step | int | None = None


@dataclass(frozen=True, eq=False)
class BatchPolicy:
    """An augmentation of a whole batch, (key, batch) -> batch. It may mix images and their targets.

    Attributes:
        apply: (key, batch: Batch) -> Batch.
    """

    apply: Callable[[RandomKey, Batch], Batch]

    def __call__(self, key: RandomKey, batch: Batch) -> Batch:
        """Augment a batch.

        Args:
            key: From `jax.random.key`.
            batch: The images, with the other fields as far as the policy needs them.

        Raises:
            DTypeError: `batch` or the result of `apply` is not a `Batch`, or `key` is not a key.
        """
        key = checks.key("augmentation key", key)
        augmented = self.apply(key, _expect_batch("augmentation batch", batch))
        return _expect_batch("BatchPolicy result", augmented)


def _expect_batch(where: str, batch: Any) -> Batch:
    if not isinstance(batch, Batch):
        advice = "give augment.Batch(images, targets)"
        raise DTypeError(where, "a Batch", type(batch).__name__, advice)
    return batch


@maker
def per_image(augmentation: Augmentation) -> Augmentations:
    """Apply an augmentation to every image of a batch, with a different key for each.

    Image i uses the key fold_in(key, examples[i]). So its result depends neither on its position in
    the batch nor on the batch size.

    Args:
        augmentation: (key, image) -> image.

    Returns:
        (key, images, examples=None) -> images, where examples (batch,) are the indices of the
        images in the data set; None: 0, 1, 2, ...
    """

    def augmentations(
        key: RandomKey,
        images: Images,
        examples: Array | None = None,
    ) -> Images:
        count = images.shape[0]
        keys = example_keys(key, count, examples)
        return jax.vmap(augmentation)(keys, images)

    return augmentations


@maker
def batched(augmentation: Augmentation | BatchPolicy | Together) -> BatchPolicy:
    """Convert an augmentation of either kind to a batch policy.

    Args:
        augmentation: An image augmentation, which is applied to each image as by `per_image`; a
            `together`, which is applied to each pair of inputs and targets; or a batch policy,
            which is returned.

    Raises:
        ConfigError: An image augmentation moves pixels, and the targets are masks of whole numbers
            that would not follow; or a `together` is given no masks, keypoints or boxes.
        DTypeError: An image augmentation is given a dict or tuple of inputs.
    """
    if isinstance(augmentation, BatchPolicy):
        return augmentation
    if isinstance(augmentation, Together):
        return BatchPolicy(partial(_apply_together, augmentation))
    augment_images = per_image(augmentation)

    def apply(key: RandomKey, batch: Batch) -> Batch:
        if not isinstance(batch.images, jax.Array | np.ndarray):
            expected = "one array of images (batch, height, width, channels)"
            advice = 'choose one by augment.entry("image", policy), or use augment.together'
            raise DTypeError("augment inputs", expected, type(batch.images).__name__, advice)
        _expect_no_masks(augmentation, batch)
        images = augment_images(key, batch.images, batch.examples)
        return batch._replace(images=images)

    return BatchPolicy(apply)


def _expect_no_masks(augmentation: Augmentation, batch: Batch) -> None:
    """Raise if the policy moves pixels and the targets are masks, which do not follow."""
    targets = batch.targets
    if not isinstance(augmentation, Policy) or not hasattr(targets, "ndim"):
        return
    is_whole = jnp.issubdtype(targets.dtype, jnp.integer) or targets.dtype == bool
    is_mask = targets.ndim in (3, 4) and targets.shape[1:3] == batch.images.shape[1:3]
    if is_whole and is_mask and moves_pixels(augmentation, shape_of(batch.images[0])):
        expected = "a policy that keeps pixels in their places, since the targets are masks"
        advice = "use augment.together(policy), which moves the masks too"
        raise ConfigError("augment", expected, "one that moves them", advice)


def _apply_together(augmentation: Together, key: RandomKey, batch: Batch) -> Batch:
    """Augment each pair of inputs and targets by one draw."""
    inputs = _entries(batch.images, "image")
    targets = {} if batch.targets is None else _entries(batch.targets, "mask")
    _expect_annotations(inputs, targets)
    keys = example_keys(key, inputs["image"].shape[0], batch.examples)
    shape = inputs["image"].shape[1:]

    def apply(key: RandomKey, inputs: Any, targets: Any) -> tuple[Any, Any]:
        drawn = augmentation.draw(key, inputs)
        move = partial(augmentation.apply_to_entries, drawn, shape)
        return move(inputs), move(targets)

    inputs, targets = jax.vmap(apply)(keys, inputs, targets)
    images = inputs if isinstance(batch.images, Mapping) else inputs["image"]
    if batch.targets is not None and not isinstance(batch.targets, Mapping):
        targets = targets["mask"]
    return batch._replace(images=images, targets=None if batch.targets is None else targets)


def _entries(part: Any, name: str) -> dict[str, Any]:
    """The entries of a dict; an array is the entry of this name."""
    return dict(part) if isinstance(part, Mapping) else {name: part}


def _expect_annotations(inputs: dict[str, Any], targets: dict[str, Any]) -> None:
    """Raise unless there are images, and masks of their size, keypoints or boxes."""
    if "image" not in inputs:
        expected = 'images, or a dict with an entry "image"'
        got = ", ".join(map(str, inputs)) or "none"
        raise ConfigError("together inputs", expected, got, 'name the images "image"')
    size = inputs["image"].shape[1:3]
    for part in (inputs, targets):
        if "mask" in part and part["mask"].shape[1:3] != size:
            expected = f"masks (batch, {size[0]}, {size[1]}) of the size of the images"
            advice = "for labels use the policy itself, for boxes or keypoints a dict"
            raise ShapeError("together targets", expected, part["mask"].shape, advice)


@maker
def entry(name: str | int, augmentation: Augmentation | BatchPolicy) -> BatchPolicy:
    """Augment one entry of inputs that are a dict or a tuple; the others are kept.

    Several entries are augmented by `batch_chain(entry("left", policy), entry("right", policy))`,
    each with a key of its own.

    Args:
        name: Key of the images in the dict, or index in the tuple.
        augmentation: An augmentation of images (batch, height, width, channels).

    Raises:
        ConfigError: The inputs have no entry of this name.
    """

    def apply(key: RandomKey, batch: Batch) -> Batch:
        inputs = batch.images
        is_tree = isinstance(inputs, Mapping | tuple | list)
        names = list(inputs) if isinstance(inputs, Mapping) else list(range(len(inputs)))
        if not is_tree or name not in names:
            expected = f"a dict or tuple with the entry {name!r}"
            got = ", ".join(map(str, names)) if is_tree else "one array"
            raise ConfigError("entry inputs", expected, got, "name one of the inputs")
        augmented = batched(augmentation)(key, batch._replace(images=inputs[name]))
        parts = [augmented.images if other == name else inputs[other] for other in names]
        changed: Any = dict(zip(names, parts, strict=True))
        if not isinstance(inputs, Mapping):
            changed = type(inputs)(parts)
        return augmented._replace(images=changed)

    return BatchPolicy(apply)


# Targets of several views.
INDEX, REPEAT = "index", "repeat"


@maker
def views(
    augmentation: Augmentation | BatchPolicy | Together,
    count: int = 2,
    *,
    targets: str = INDEX,
) -> BatchPolicy:
    """Several augmented views of each example, for contrastive losses [Chen et al. 2020].

    A batch of n examples becomes one of count * n: all first views, then all second views, and so
    on, so that view v of example i is at v n + i. View v is the augmentation with the key
    fold_in(key, v). With `objective.nt_xent` this is SimCLR (arXiv:2002.05709). Micro-batches of a
    step hold all views of an example if their number divides n.

    Args:
        augmentation: Augmentation of an image, an example or a batch.
        count: Number of views, >= 1.
        targets: "index": the targets are int32 (count n,), the index of the example in the batch,
            equal for its views. "repeat": the targets of the examples, once for each view, as for
            supervised contrastive losses.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.whole("views count", count)
    checks.choice("views targets", targets, (INDEX, REPEAT))
    augment_batch = batched(augmentation)

    def apply(key: RandomKey, batch: Batch) -> Batch:
        all_views = [augment_batch(jax.random.fold_in(key, v), batch) for v in range(count)]
        images = jax.tree.map(_concatenate, *(view.images for view in all_views))
        if targets == REPEAT:
            new_targets = jax.tree.map(_concatenate, *(view.targets for view in all_views))
        else:
            size = jax.tree.leaves(batch.images)[0].shape[0]
            new_targets = jnp.tile(jnp.arange(size, dtype=jnp.int32), count)
        examples = None if batch.examples is None else jnp.tile(batch.examples, count)
        return Batch(images, new_targets, examples, batch.epoch)

    return BatchPolicy(apply)


def _concatenate(*arrays: Array) -> Array:
    return jnp.concatenate(arrays)


@maker
def batch_chain(*policies: Augmentation | BatchPolicy) -> BatchPolicy:
    """Apply augmentations of images and of batches to a batch, one after another.

    Part i uses the key fold_in(key, i).

    Args:
        policies: Image augmentations, which are applied to each image, and batch policies.

    Raises:
        ConfigError: A part is not callable.
    """
    # Checked here, so that the error is raised where the chain is made.
    for k, policy in enumerate(policies):
        if not callable(policy):
            where = f"batch_chain {k}"
            raise ConfigError(where, "an augmentation", repr(policy), "call its maker")

    def apply(key: RandomKey, batch: Batch) -> Batch:
        for k, policy in enumerate(policies):
            # A key per part: with one key for all, their random numbers would be correlated.
            part_key = jax.random.fold_in(key, k)
            batch = batched(policy)(part_key, batch)
        return batch

    return BatchPolicy(apply)


def example_keys(
    key: RandomKey,
    count: int,
    examples: Array | None,
) -> Array:
    """One key per example, which depends on its index in the data set: keys (count,)."""
    checks.key("augmentation key", key)
    if examples is None:
        examples = jnp.arange(count)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, examples)


@maker
def alternate(augmentation: Augmentation) -> BatchPolicy:
    """Augment one half of the examples in even epochs, and the other half in odd epochs.

    With alternate(flip_lr(1.0)) two consecutive epochs contain both mirror images of every example.
    With independent flips this holds for half of the examples only [Jordan 2024, arXiv:2404.00498].
    The half of an example is a random bit of fold_in(a constant key, its index). It is the same in
    every epoch, batch and run.

    Args:
        augmentation: (key, image) -> image, which keeps size and dtype.

    Raises:
        ConfigError: `augmentation` is a batch policy or not callable; it changes the size or dtype
            of the images; or a batch has no `examples` or no `epoch`, as on a stream.
    """
    if isinstance(augmentation, BatchPolicy) or not callable(augmentation):
        expected = "an augmentation of an image, as flip_lr(1.0)"
        advice = "alternate it alone, and add batch policies by batch_chain"
        raise ConfigError("alternate", expected, repr(augmentation), advice)
    augment_images = per_image(augmentation)

    def apply(key: RandomKey, batch: Batch) -> Batch:
        examples, epoch = _expect_numbers(batch)
        images = batch.images
        # All images are augmented: under jit the choice cannot save work.
        augmented = augment_images(key, images, examples)
        if (augmented.shape, augmented.dtype) != (images.shape, images.dtype):
            shape = list(images.shape[1:])
            new_shape = list(augmented.shape[1:])
            expected = f"images {images.dtype}{shape} again"
            got = f"{augmented.dtype}{new_shape}"
            raise ConfigError("alternate", expected, got, "do it in every epoch")
        parity = (_halves(examples) + epoch) % 2
        chosen = (parity == 0)[:, None, None, None]  # (batch, 1, 1, 1)
        images = jnp.where(chosen, augmented, images)
        return batch._replace(images=images)

    return BatchPolicy(apply)


def _expect_numbers(batch: Batch) -> tuple[Array, Step | int]:
    """Return the indices of the examples and the epoch; raise where one is None."""
    numbers = {"examples": batch.examples, "epoch": batch.epoch}
    missing = " and ".join(name for name, value in numbers.items() if value is None)
    if batch.examples is None or batch.epoch is None:
        expected = "the examples' numbers and the epoch"
        advice = "train on arrays, since a stream has neither, or give both in the Batch"
        raise ConfigError("alternate", expected, f"no {missing}", advice)
    return batch.examples, batch.epoch


def _halves(examples: Array) -> Array:
    """The half of each example, 0 or 1: (batch,), int32."""
    # A fixed generator, whose draws under vmap equal single draws, whatever JAX is configured to.
    key = jax.random.key(HALVES, impl="threefry2x32")
    keys = example_keys(key, examples.shape[0], examples)

    def random_bit(key: RandomKey) -> Array:
        return jax.random.bits(key, (), jnp.uint32) & 1

    return jax.vmap(random_bit)(keys).astype(jnp.int32)
