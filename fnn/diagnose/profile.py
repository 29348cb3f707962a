"""The profile of a network at one train state: statistics of its layers and parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import Array

from fnn import checks, trees
from fnn.diagnose.instruments import GRAD, WEIGHT, evenly_spaced
from fnn.diagnose.layer_statistics import (
    BOUNDED,
    DEAD_SHARE,
    RECTIFIERS,
    STATISTICS,
    activity,
    of_layers,
    of_parameters,
    root_mean_square,
    saturation,
)
from fnn.diagnose.layers import (
    Columns,
    LayerOutput,
    columns_of_parameters,
    columns_of_shape,
    copy_names,
    layer_outputs,
)
from fnn.train.gradients import gradients
from fnn.train.inputs import NOISE, derive_key, example_shapes, validate_examples
from fnn.train.instrumentation import unscaled_grads
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe, shared
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import expect_train_state
from fnn.types import Data, TrainState

ACTIVITY, SATURATION = "activity", "saturation"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["figures", "activity", "saturation"],
    meta_fields=["layers", "kinds", "parameters", "examples"],
)
@dataclass(frozen=True, eq=False)
class Profile:
    """Statistics of the layers and parameters of a network at one train state.

    An array of `figures` is also an attribute, as in `profile.activation_std`. Under vmap every
    array has a leading lane axis.

    Attributes:
        layers: Names of the layers, as of `layer_names`.
        kinds: The maker of each layer, such as "relu".
        parameters: Names of the parameters, as of `parameter_names`.
        examples: Number of examples.
        figures: By name, activation_mean, activation_std, dead_share, saturated_share (layers,),
            activation_quantiles (layers, 5) and activation_histogram (layers, 40), grad_rms and
            weight_rms (parameters,), as of `instruments`.
        activity: By the name of each rectifier, the share of the examples that activate each unit,
            (units,).
        saturation: By the name of each tanh and sigmoid, the mean distance of each unit from its
            center, relative to the bound, (units,).
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    parameters: tuple[str, ...]
    examples: int
    figures: Mapping[str, Array]
    activity: Mapping[str, Array]
    saturation: Mapping[str, Array]

    def __getattr__(self, name: str) -> Array:
        figures = self.__dict__.get("figures", {})
        if name not in figures:
            names = ", ".join(figures)
            raise AttributeError(f"profile: expected one of {names}, got {name}")
        return figures[name]

    @property
    def dead_units(self) -> dict[str, Array]:
        """By the name of each rectifier, whether each unit is dead, (units,)."""
        return {name: shares < DEAD_SHARE for name, shares in self.activity.items()}


def profile(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    *,
    examples: int = 1024,
) -> Profile:
    """Measure every layer and parameter of a network at one train state.

    The layers are measured in training mode, as in a step on these examples, without augmentation.
    At the train state of `train.start` this is the profile of the initialization. The gradient is
    that of the loss and the penalties on all these examples; with `micro_batch_size`, in several
    passes. Dead units are exact from about 1,000 examples on; an example activates a unit if it
    does so at any position.

    Args:
        recipe: From `train.recipe`, with an optimizer. It needs no instruments.
        train_state: From `train.start`, or of a run of this recipe. jax.vmap applies.
        data: (inputs, targets), arrays whose first axis is the example.
        examples: Maximum number of examples to measure, evenly spaced in the data.

    Raises:
        ConfigError: `recipe` is not a recipe with an optimizer, `train_state` is not a train state,
            or `examples` is not a whole number >= 1.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    expect_recipe("profile", recipe)
    expect_train_state("profile", train_state)
    checks.whole("profile examples", examples)
    data = validate_examples("data", recipe, data)
    layers, parameters = _columns(recipe, train_state, data[0])
    measured = _profile(recipe, train_state, data, examples)
    figures = {name: measured[name] for name in (*STATISTICS, GRAD, WEIGHT)}
    return Profile(
        layers=layers.names,
        kinds=layers.kinds,
        parameters=parameters.names,
        examples=min(examples, count_examples(data[1])),
        figures=figures,
        activity=_by_name(layers, measured[ACTIVITY]),
        saturation=_by_name(layers, measured[SATURATION]),
    )


def _columns(recipe: Recipe, train_state: TrainState, inputs: Any) -> tuple[Columns, Columns]:
    """Return the columns of layers and of parameters."""
    shapes = example_shapes(recipe, inputs)
    sizes = {path: leaf.shape for path, leaf in trees.named_leaves(train_state.params).items()}

    def compute() -> tuple[Columns, Columns]:
        of_params = columns_of_parameters(recipe.network, train_state.params)
        return columns_of_shape(recipe.network, shapes), of_params

    # Tracing takes longer than the program of a small network, and depends on shapes alone.
    key = "profile", str(shapes), str(sizes)
    return shared(recipe, key, compute)


@per_recipe(static=(3,))
def _profile(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    examples: int,
) -> dict[str, Any]:
    inputs, targets = evenly_spaced(data, examples)
    inputs = recipe.prepare(inputs)
    network = recipe.network
    params, state, opt_state = train_state[:3]
    key = derive_key(train_state, NOISE, train_state.step)
    outputs = layer_outputs(network, params, state, inputs, key=key)
    grads = gradients(recipe, train_state, inputs, targets).grads
    unscaled = unscaled_grads(opt_state, grads)
    return {
        **of_layers(network, outputs, tuple(STATISTICS)),
        GRAD: of_parameters(network, root_mean_square, unscaled),
        WEIGHT: of_parameters(network, root_mean_square, params),
        ACTIVITY: _by_unit(outputs, RECTIFIERS, activity),
        SATURATION: _by_unit(outputs, BOUNDED, saturation),
    }


def _by_unit(outputs: list[LayerOutput], kinds: Any, statistic: Any) -> dict[str, Array]:
    """Return a statistic of each unit (units,) of the layers of some kinds, by name."""
    found: dict[str, Array] = {}
    for output in outputs:
        if output.kind not in kinds:
            continue
        # (copies, units), a row per name
        names = copy_names(output.path, output.copies)
        found |= dict(zip(names, statistic(output), strict=True))
    return found


def _by_name(layers: Columns, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Sort arrays by name into the order of the network."""
    return {name: arrays[name] for name in layers.names if name in arrays}
