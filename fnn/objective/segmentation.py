"""Losses of segmentation maps."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import (
    as_int32,
    expect_array,
    expect_floats,
    expect_pair,
    ignored_label,
    nan_unless,
    one_hot,
)
from fnn.types import Features, Number, PerExample


@loss()
def dice(
    logits: Features,
    targets: jax.Array,
    *,
    smooth: Number = 1.0,
    ignore: int | None = None,
) -> PerExample:
    """Dice loss, 1 - (2 Σ p g + s) / (Σ p² + Σ g² + s), averaged over the channels.

    The sums run over the pixels of a channel. For masks p = σ(logits); for labels, which are
    exclusive classes, p = softmax(logits). A label or a mask out of range makes the example's loss
    and its gradient NaN [Milletari et al. 2016, arXiv:1606.04797].

    Args:
        logits: (batch, ..., channels).
        targets: Masks g in [0, 1] of the shape of the logits, in any dtype; or integer labels
            (batch, ...), one a pixel.
        smooth: s > 0; it makes the loss of an empty map that is predicted empty 0.
        ignore: Label, or entry of a mask, of the pixels that are left out of all sums, such as 255;
            their gradient is exactly 0.

    Raises:
        ConfigError: `smooth` is not positive, or `ignore` is not a whole number.
        DTypeError: The logits are not floats, or labels are not integers.
        ShapeError: The shapes do not fit, or labels have only one class.
    """
    checks.number("dice smooth", smooth, "(0, inf)")
    label = ignored_label("dice ignore", ignore)
    expect_array("targets", targets)
    if expect_floats("logits", logits).ndim < 3:
        advice = "add a channel axis, x[..., None]; to leave out pixels give dice(ignore=...)"
        raise ShapeError(
            "logits",
            "(batch, ..., channels)",
            logits.shape,
            advice,
        )
    # Targets of another shape have no pixels to leave out: they raise an error.
    fits = targets.shape in (logits.shape, logits.shape[:-1])
    if label is None or targets.dtype == bool or not fits:
        p, mask = _maps(logits, targets)
    else:
        p, mask = _counted_maps(logits, targets, label)
    pixel_axes = tuple(range(1, p.ndim - 1))
    overlap = (p * mask).sum(pixel_axes)  # (batch, channels)
    sizes = (p * p + mask * mask).sum(pixel_axes)
    s = trees.knob(smooth, p)
    return 1 - ((2 * overlap + s) / (sizes + s)).mean(-1)


def _counted_maps(
    logits: jax.Array,
    targets: jax.Array,
    label: int,
) -> tuple[jax.Array, jax.Array]:
    """Return the maps with 0 at pixels, or entries of a mask, that are left out."""
    # as_int32, since a comparison with uint8 would wrap a label such as -100.
    is_integer = jnp.issubdtype(targets.dtype, jnp.integer)
    counts = (as_int32(targets) if is_integer else targets) != label
    # A label leaves out all channels of its pixel, (batch, ..., 1).
    of_logits = counts if counts.ndim == logits.ndim else counts[..., None]
    # A selection, so that no number of a pixel that is left out reaches the loss.
    p, mask = _maps(jnp.where(of_logits, logits, 0), jnp.where(counts, targets, 0))
    return jnp.where(of_logits, p, 0), jnp.where(of_logits, mask, 0)


def _maps(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the predicted and the true maps, in [0, 1] and of the shape of the logits."""
    if targets.ndim == logits.ndim - 1:
        is_integer = jnp.issubdtype(targets.dtype, jnp.integer)
        if is_integer and targets.shape == logits.shape[:-1] and logits.shape[-1] < 2:
            # A softmax over one class is always 1: the targets are masks without a channel axis.
            advice = "give masks a channel axis: mask[..., None]"
            raise ShapeError(
                "logits",
                "two classes or more",
                logits.shape,
                advice,
            )
        mask, known = one_hot(logits, targets)
        guard = nan_unless(known, trees.wide(logits))[..., None]  # (batch, ..., 1)
        p = jax.nn.softmax(logits.astype(guard.dtype) * guard) * guard
        return p, mask.astype(guard.dtype)
    z, mask = expect_pair(logits, targets, allow_integers=True)
    # A factor on the way in, for the gradient, and on the way out, for the value.
    guard = nan_unless((mask >= 0) & (mask <= 1), z.dtype)
    p = jax.nn.sigmoid(z * guard) * guard
    return p, mask
