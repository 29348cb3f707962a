"""Bins of predicted probabilities, of equal width or of equal numbers of examples."""

import jax
import jax.numpy as jnp
from jax import Array

BINNINGS = ("width", "mass")


def bin_indices(
    values: Array,
    weights: Array,
    bins: int,
    binning: str,
) -> Array:
    """Return the bin of each value, int32 of the same shape.

    Args:
        values: Probabilities, of any shape.
        weights: Of the same shape, >= 0.
        bins: Number of bins.
        binning: "width" or "mass", as for `calibration_error`.
    """
    index = width_bins(values, bins) if binning == "width" else mass_bins(values, weights, bins)
    return index.clip(0, bins - 1)


def width_bins(values: Array, bins: int) -> Array:
    """Return b of the interval (b / bins, (b + 1) / bins] that holds each value."""
    # Bins are closed above, hence ceil; a value of 0 gets -1, and NaN any bin.
    number = jnp.ceil(values * bins) - 1
    return number.astype(jnp.int32)


def mass_bins(
    values: Array,
    weights: Array,
    bins: int,
) -> Array:
    """Return the bin of each value by its rank, so that the bins have about equal weight.

    Equal values are in one bin: that of the middle of their ranks.
    """
    flat = values.reshape(-1)
    order = jnp.argsort(flat)
    ranked = flat[order]
    own = weights.reshape(-1)[order]
    upto = jnp.cumsum(own)
    is_new = ranked[1:] != ranked[:-1]
    first = jnp.pad(is_new, (1, 0), constant_values=True)
    last = jnp.pad(is_new, (0, 1), constant_values=True)
    # The weight below a group of equal values, and that of the group and below.
    below = jax.lax.cummax(jnp.where(first, upto - own, 0))
    above = jax.lax.cummin(jnp.where(last, upto, jnp.inf), reverse=True)
    middle = (below + above) / 2
    share = middle / upto[-1]
    number = jnp.floor(share * bins).astype(jnp.int32)
    index = jnp.zeros_like(number).at[order].set(number)
    return index.reshape(values.shape)


def bin_sums(
    index: Array,
    values: Array,
    bins: int,
) -> Array:
    """Return the sum of the values of each bin, (bins,)."""
    return jnp.zeros(bins, values.dtype).at[index].add(values)
