"""Instruments: statistics of layers and parameters that a run records at some of its steps."""

from typing import Any

import jax
import numpy as np
from jax import Array

from fnn import checks
from fnn.diagnose.layer_statistics import (
    HISTOGRAM,
    MOMENTS,
    QUANTILES,
    of_layers,
    of_parameters,
    root_mean_square,
    update_ratio,
)
from fnn.diagnose.layers import columns_of_parameters, columns_of_shape, layer_outputs
from fnn.types import InstrumentedStep, Instruments, Layer, Params
from fnn.values import maker

ECONOMY, BUSINESS, FULL = "economy", "business", "full"
TIERS = (ECONOMY, BUSINESS, FULL)

GRAD, WEIGHT, UPDATE = OF_PARAMETERS = ("grad_rms", "weight_rms", "update_ratio")


@maker
def instruments(
    tier: str = ECONOMY,
    *,
    every: int = 50,
    examples: int = 128,
) -> Instruments:
    """Statistics of layers and parameters, recorded by a run at every few steps.

    For `train.recipe(..., instruments=diagnose.instruments())`. The history then has these arrays,
    in which the rows of steps that are not measured are NaN:

    | name | shape | value |
    |---|---|---|
    | activation_mean, activation_std | (steps, layers) | mean, standard deviation of outputs |
    | dead_share | (steps, layers) | share of dead units of relu, relu6, gelu, silu, ... |
    | saturated_share | (steps, layers) | share of saturated units of tanh and sigmoid |
    | grad_rms, weight_rms | (steps, parameters) | root mean squares |
    | update_ratio | (steps, parameters) | rms(new - old) / rms(old) |
    | activation_quantiles | (steps, layers, 5) | at 5, 25, 50, 75 and 95 % |
    | activation_histogram | (steps, layers, 40) | shares of the bins between HISTOGRAM_EDGES |

    `layer_names` and `parameter_names` give the names of the columns. A unit is an entry of the
    last axis. It is dead if less than 5 % of the examples activate it above 1e-5 at any position
    [Ben Braiek and Khomh 2023, TheDeepChecker, doi:10.1145/3529318], and saturated if the mean
    distance of its outputs from their center is above 0.85 of the bound [Rakitianskaia and
    Engelbrecht 2015, doi:10.1109/SSCI.2015.43]. Shares are NaN for other layers. The update ratio
    is 0 for frozen parameters, and inf for an update of parameters that are all 0.

    Layers are measured in training mode, with the parameters before the step, on examples of its
    batch and with its noise key. This repeats the forward pass on these examples. The statistics
    are constants to derivatives of the run.

    Args:
        tier: "economy" for moments and shares, "business" for quantiles as well, "full" for
            histograms as well.
        every: Steps between two that are measured, beginning with the first step. A measurement
            takes about as long as a step in the tier economy, and three steps in full.
        examples: Maximum number of examples of a batch that are measured; evenly spaced ones where
            the batch has more. Shares of dead units are exact from about 1,000 on: see `profile`.

    Raises:
        ConfigError: `tier` is none of these, or a number is not a whole number >= 1.
    """
    checks.choice("instruments tier", tier, TIERS)
    checks.whole("instruments every", every)
    checks.whole("instruments examples", examples)
    names: tuple[str, ...] = MOMENTS
    if tier != ECONOMY:
        names += (QUANTILES,)
    if tier == FULL:
        names += (HISTOGRAM,)

    def measure(step: InstrumentedStep) -> dict[str, Array]:
        network, record = step.network, step.record
        params = record.params
        x = evenly_spaced(step.inputs, examples)
        outputs = layer_outputs(network, params, record.state, x, key=step.key)
        figures = of_layers(network, outputs, names)
        figures[GRAD] = of_parameters(network, root_mean_square, record.grads)
        figures[WEIGHT] = of_parameters(network, root_mean_square, params)
        figures[UPDATE] = of_parameters(network, update_ratio, params, record.new_params)
        return figures

    def columns(network: Layer, params: Params, shape: Any) -> dict[str, tuple[str, ...]]:
        layers = columns_of_shape(network, shape).names
        parameters = columns_of_parameters(network, params).names
        return dict.fromkeys(names, layers) | dict.fromkeys(OF_PARAMETERS, parameters)

    return Instruments((*names, *OF_PARAMETERS), every, measure, columns)


def evenly_spaced(arrays: Any, count: int) -> Any:
    """Return at most `count` evenly spaced examples of arrays (examples, ...)."""

    def select(array: Array) -> Array:
        total = len(array)
        if total <= count:
            return array
        # Of a batch that is sharded over devices, each then measures a part of its examples.
        rows = np.arange(count) * total // count
        return array[rows]

    return jax.tree.map(select, arrays)
