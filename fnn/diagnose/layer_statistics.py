"""Statistics of the outputs of layers, one per layer and copy."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import trees
from fnn.diagnose.layers import LayerOutput, columns, columns_of_layers, copies_of_parameters
from fnn.types import Layer, Params

# A unit is dead if less than this share of the examples activates it above ACTIVE: its 95th
# percentile is below [Ben Braiek and Khomh 2023, TheDeepChecker, doi:10.1145/3529318].
DEAD_SHARE = 0.05
ACTIVE = 1e-5
# A unit is saturated if its mean distance from the center, relative to the bound, is above this
# [Rakitianskaia and Engelbrecht 2015, doi:10.1109/SSCI.2015.43; threshold of TheDeepChecker].
SATURATION = 0.85
# Layers whose output is 0, with no gradient, in a half of the inputs, or tends to 0 there.
RECTIFIERS = frozenset({"relu", "relu6", "gelu", "silu", "hard_swish", "mish"})
# Center and half width of the outputs of layers that saturate on both sides.
BOUNDED = {
    "tanh": (0.0, 1.0),
    "sigmoid": (0.5, 0.5),
}
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the quantiles
SAMPLE = 1024  # values of a layer for quantiles and histograms: sorting more takes too long
BINS = 40
# The bins are equally wide near 0 and grow with the distance from it; the outer two are open.
HISTOGRAM_EDGES = np.sinh(np.linspace(-8.0, 8.0, BINS - 1)) / 50


def mean(output: LayerOutput) -> Array:
    """Return the mean over all values of a layer, (copies,)."""
    return _flat(output).mean(1)


def standard_deviation(output: LayerOutput) -> Array:
    """Return the standard deviation over all values of a layer, (copies,)."""
    return _flat(output).std(1)


def activity(output: LayerOutput) -> Array:
    """Return the share of the examples that activate each unit, (copies, units).

    Units are entries of the last axis. An example activates a unit if it does so at any position,
    such as one pixel.
    """
    y = _by_unit(output)
    # NaN counts as active: a unit of NaN is not dead.
    is_active = ~(jnp.abs(y) <= ACTIVE)
    # (copies, batch, positions, units)
    of_examples = is_active.any(2)
    return of_examples.mean(1, dtype=jnp.float32)


def dead_share(output: LayerOutput) -> Array:
    """Return the share of dead units, (copies,); NaN for layers that are no rectifiers."""
    if output.kind not in RECTIFIERS:
        return _nan(output)
    is_dead = activity(output) < DEAD_SHARE
    return is_dead.mean(1, dtype=jnp.float32)


def saturation(output: LayerOutput) -> Array:
    """Return the mean distance from the center, relative to the bound, per unit (copies, units)."""
    center, half_width = BOUNDED[output.kind]
    y = _by_unit(output)
    distance = jnp.abs(y - center)
    return distance.mean((1, 2)) / half_width


def saturated_share(output: LayerOutput) -> Array:
    """Return the share of saturated units, (copies,); NaN for layers that are not bounded."""
    if output.kind not in BOUNDED:
        return _nan(output)
    is_saturated = saturation(output) > SATURATION
    return is_saturated.mean(1, dtype=jnp.float32)


def quantiles(output: LayerOutput) -> Array:
    """Return the quantiles of a layer's values at LEVELS, (copies, 5).

    Of at most SAMPLE values, interpolated between neighbors as NumPy does.
    """
    sample = _sorted_sample(output)
    last = sample.shape[1] - 1
    places = np.array(LEVELS) * last
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, last)
    below = sample[:, low]
    above = sample[:, high]
    # (1, levels)
    fraction = jnp.asarray(places - low, sample.dtype)[None]
    between = below + fraction * (above - below)
    return _unless_nan(sample, between)


def histogram(output: LayerOutput) -> Array:
    """Return the shares of a layer's values in the bins between HISTOGRAM_EDGES, (copies, BINS).

    Of at most SAMPLE values. Values beyond the edges are in the outer bins.
    """
    sample = _sorted_sample(output)
    edges = jnp.asarray(HISTOGRAM_EDGES, sample.dtype)
    # (copies, values, edges)
    is_below = sample[:, :, None] < edges[None, None]
    # Shares of values below each edge, whose differences are those of the bins.
    below = is_below.mean(1, dtype=sample.dtype)
    shares = jnp.diff(below, prepend=0, append=1)
    return _unless_nan(sample, shares)


def _sorted_sample(output: LayerOutput) -> Array:
    """Return at most SAMPLE values of a layer in ascending order, (copies, values).

    Of more values, one is drawn from each of SAMPLE equal parts.
    """
    values = _flat(output)
    total = values.shape[1]
    if total > SAMPLE:
        # Fixed draws. Values at equal distances could all be of the same few units.
        draws = np.random.default_rng(0).random(SAMPLE)
        places = (np.arange(SAMPLE) + draws) * total / SAMPLE
        values = values[:, places.astype(int)]
    return jnp.sort(values, axis=1)


def _unless_nan(sample: Array, values: Array) -> Array:
    """Return values (copies, n), NaN for a copy whose sorted sample has a NaN."""
    # NaN is sorted to the end.
    last = sample[:, -1:]
    return jnp.where(jnp.isnan(last), jnp.nan, values)


def _flat(output: LayerOutput) -> Array:
    """Return the values of a layer, (copies, values), in float32 at least."""
    y = _widen(output.y)
    return y.reshape(len(y), -1)


def _by_unit(output: LayerOutput) -> Array:
    """Return the values of a layer, (copies, batch, positions, units), in float32 at least."""
    y = _widen(output.y)
    copies, batch = y.shape[:2]
    # An output (copies, batch) is that of one unit.
    units = y.shape[-1] if y.ndim > 2 else 1
    return y.reshape(
        copies,
        batch,
        -1,
        units,
    )


def _widen(array: Array) -> Array:
    """Return an array in float32 at least, in which statistics are computed."""
    return array.astype(trees.wide(array))


def _nan(output: LayerOutput) -> Array:
    copies = len(output.y)
    return jnp.full(copies, jnp.nan)


def root_mean_square(arrays: Array) -> Array:
    """Return the root mean square of each row of arrays (rows, values), as (rows,).

    It is scaled by the largest value, so that no square over- or underflows.
    """
    values = _widen(arrays)
    sizes = jnp.abs(values)
    largest = sizes.max(1, keepdims=True, initial=0)
    scale = jnp.where(largest > 0, largest, 1)
    squares = jnp.square(values / scale)
    return scale[:, 0] * jnp.sqrt(squares.mean(1))


def update_ratio(before: Array, after: Array) -> Array:
    """Return rms(after - before) / rms(before) of each row.

    It is 0 without a change, and inf for a change of a row of zeros.
    """
    change = _widen(after) - _widen(before)
    size = root_mean_square(change)
    ratio = size / root_mean_square(before)
    return jnp.where(size == 0, 0, ratio)


class Statistic(NamedTuple):
    """A statistic of the outputs of layers.

    Attributes:
        function: (output) -> values, (copies, *shape).
        shape: Shape of the values of one layer.
    """

    function: Callable[[LayerOutput], Array]
    shape: tuple[int, ...] = ()


QUANTILES, HISTOGRAM = "activation_quantiles", "activation_histogram"
MOMENTS = ("activation_mean", "activation_std", "dead_share", "saturated_share")
STATISTICS = {
    "activation_mean": Statistic(mean),
    "activation_std": Statistic(standard_deviation),
    "dead_share": Statistic(dead_share),
    "saturated_share": Statistic(saturated_share),
    QUANTILES: Statistic(quantiles, (len(LEVELS),)),
    HISTOGRAM: Statistic(histogram, (BINS,)),
}


def of_layers(
    network: Layer,
    outputs: Sequence[LayerOutput],
    names: Sequence[str],
) -> dict[str, Array]:
    """Return statistics by name, each (layers and copies, ...) in the order of the network."""
    order = columns_of_layers(network, outputs).order
    figures = {}
    for name in names:
        values = _of_layers(outputs, STATISTICS[name])
        figures[name] = values[order]
    return figures


def _of_layers(outputs: Sequence[LayerOutput], statistic: Statistic) -> Array:
    none = jnp.zeros((0, *statistic.shape))
    rows = [none]
    for output in outputs:
        y = output.y
        if jnp.issubdtype(y.dtype, jnp.floating):
            values = statistic.function(output)
        else:
            # Names follow from shapes alone, so that a layer of integers has a column too.
            shape = len(y), *statistic.shape
            values = jnp.full(shape, jnp.nan)
        rows.append(values)
    return jnp.concatenate(rows)


def of_parameters(
    network: Layer,
    statistic: Callable[..., Array],
    *params: Params,
) -> Array:
    """Return a statistic of each parameter and copy, (columns,), in the order of the network.

    Args:
        network: The network.
        statistic: (arrays, ...) -> values (copies,), of arrays (copies, values).
        params: One or several trees of params; the statistic gets an array of each.
    """
    copies = copies_of_parameters(network, params[0])
    leaves = map(jax.tree.leaves, params)
    rows = [jnp.zeros(0)]
    for shape, *arrays in zip(copies.values(), *leaves, strict=True):
        count = math.prod(shape)
        # (copies..., ...) -> (copies, values)
        flat = [array.reshape(count, -1) for array in arrays]
        values = statistic(*flat)
        rows.append(values)
    order = columns(network, copies).order
    return jnp.concatenate(rows)[order]
