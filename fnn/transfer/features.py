"""Features: the outputs of an inner layer of a trained network."""

from typing import Any, NamedTuple

import jax

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn import tap
from fnn.train.evaluate import map_batches
from fnn.train.inputs import validate_inputs
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.transfer.head import as_recipe, body_of, expect_path, find_head, fitting_weights
from fnn.types import Layer, Step, TrainState, Weights


class Cut(NamedTuple):
    """The place in a network where its features are read.

    Attributes:
        path: Path of a layer; "" for the whole network.
        is_input: Whether the features are the input of the layer, not its output.
    """

    path: str
    is_input: bool


def features(
    recipe: Recipe | Layer,
    train_state: TrainState | Weights,
    inputs: Any,
    *,
    layer: str | None = None,
    batch_size: int = 256,
) -> Any:
    """Compute the output of an inner layer for inputs (n, ...), in inference mode.

        x = transfer.features(recipe, train_state, images)                      # (n, width)
        early = transfer.features(recipe, train_state, images, layer="conv_4")  # (n, h, w, c)

    All batches run in one compiled program. Layers behind the chosen one are not computed. Inputs
    are prepared, and parameters averaged, as in `train.predict`.

    Args:
        recipe: Of the network, from `train.recipe`; it needs no optimizer. Or the network alone,
            whose inputs are prepared by `data.to_float`.
        train_state: Of a run of this recipe; or `Weights`, such as Weights(*lab.load_weights(...)).
        inputs: Arrays whose first axis is the example.
        layer: Path of the layer, as of `nn.tap`. By default the features are the input of the
            dense layer in which the network ends; those of a network without such a head are its
            output.
        batch_size: Examples that pass through the network at once.

    Returns:
        The features, arrays (n, ...) in the structure of the layer's output.

    Raises:
        ConfigError: There is no layer at the path; the message lists close ones. Or the network has
            several outputs, so that a layer must be chosen.
        TreeMismatchError: The weights are those of another network.
        FnnError: The inputs do not fit the recipe, as for `train.predict`.
    """
    made = as_recipe("features", recipe)
    checks.whole("features batch_size", batch_size)
    inputs = validate_inputs("inputs", made, inputs)
    given = fitting_weights("features", made, train_state, inputs)
    # The cut is static: each place in the network has a program of its own.
    cut = find_cut("features", made.network, given, layer)
    found = features_at(
        made,
        given,
        inputs,
        cut,
        batch_size,
    )
    # By default the features are meant for a probe, which takes one array.
    if layer is None and not isinstance(found, jax.Array):
        raise ConfigError(
            "features layer",
            "the path of a layer, of a network with several outputs",
            None,
            "give layer=",
        )
    return found


def find_cut(
    where: str,
    network: Layer,
    given: Weights,
    layer: str | None,
) -> Cut:
    """Return where the features are read, by default at the input of the head."""
    if layer is not None:
        return Cut(expect_path(f"{where} layer", network, layer), is_input=False)
    # A network without a head is a body as a whole: the path is empty.
    return Cut(find_head(where, network, given) or "", is_input=True)


@per_recipe(static=(3, 4))
def features_at(
    recipe: Recipe,
    given: Weights,
    inputs: Any,
    cut: Cut,
    batch_size: int,
) -> Any:
    """Return the features of validated inputs, read at a place of the network."""

    def of_batch(index: Step, batch: Any) -> Any:
        return read(recipe.network, given, recipe.prepare(batch), cut)

    return map_batches(of_batch, (inputs,), batch_size)


def read(
    network: Layer,
    given: Weights,
    x: Any,
    cut: Cut,
) -> Any:
    """Return the features of a prepared batch."""
    if cut.is_input:
        body = body_of(network, cut.path) if cut.path else network
        # An identity is in the place of the head, so the output is its input.
        y, _ = body.apply(given.params, given.state, x, train=False)
        return y
    # The final output is not used, and the compiler removes the layers behind the tap.
    (_, outputs), _ = tap(network, cut.path).apply(given.params, given.state, x, train=False)
    return outputs[cut.path]
