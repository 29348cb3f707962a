"""The gradient of the loss of a step by the parameters and by the outputs of the layers."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import Array

from fnn.nn.transforms.tap import Tapped, offsets, record, split, with_offsets
from fnn.train.figures import LOSS
from fnn.train.inputs import NOISE, derive_key
from fnn.train.measure import mean, measure_examples
from fnn.train.recipe import Recipe
from fnn.types import Params, State, TrainState


class LayerGradients(NamedTuple):
    """The result of differentiating the loss of a step.

    Attributes:
        loss: Of the batch, without penalties.
        outputs: Of the layers, by path.
        grads: Gradient by the parameters.
        by_outputs: Gradients by the outputs of the layers, by path.
    """

    loss: Array
    outputs: Mapping[str, Tapped]
    grads: Params
    by_outputs: Mapping[str, Tapped]


def differentiate(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
    paths: Sequence[str],
) -> LayerGradients:
    """Differentiate the loss in training mode, with the noise of the next step.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the step.
        inputs: Arrays (batch, ...), augmented and prepared.
        targets: Arrays (batch, ...).
        paths: Paths of the layers; none for a network that is a single layer.
    """
    network = record("differentiate", recipe.network, tuple(paths)) if paths else recipe.network
    key = derive_key(train_state, NOISE, train_state.step)

    def loss(params: Params, added: State) -> tuple[Array, State]:
        state = with_offsets(train_state.state, added)
        outputs, marked = network.apply(params, state, inputs, key=key, train=True)
        return mean(measure_examples(recipe, outputs, targets)[LOSS]), marked

    params = train_state.params
    added: State = {}
    if paths:
        # Zeros that are added to the outputs: the gradient by them is that by the outputs.
        added = offsets(jax.eval_shape(partial(loss, added={}), params)[1])
    (value, marked), (grads, marked_grads) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        params, added
    )
    _, outputs = split(marked)
    _, by_outputs = split(marked_grads)
    return LayerGradients(value, outputs, grads, by_outputs)
