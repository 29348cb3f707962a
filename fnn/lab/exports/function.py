"""The function that is exported: from inputs as they are stored to outputs, weights included."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, ensemble, trees
from fnn.ensemble.members import Member
from fnn.errors import ConfigError
from fnn.lab.checkpoints.host import is_key
from fnn.train.evaluate import expect_weights, forward_pass
from fnn.train.inputs import validate_inputs
from fnn.train.recipe import Recipe
from fnn.types import TrainState, Weights
from fnn.xla import portable_kernels

# Both formats store a program in a buffer with offsets of 31 bits; 64 MiB are for the program.
MAX_BYTES = 2**31 - 2**26
# Errors of JAX for Python code that needs the number of a symbol. Their module differs by version.
SYMBOL_ERRORS = ("InconclusiveDimensionOperation", "ConcretizationTypeError")
BATCH = "batch"  # name of a batch size that is chosen when the program is called


class Source(NamedTuple):
    """A model that is exported.

    Attributes:
        members: Its networks with their weights; one if it is a recipe with weights.
        predictor: The predictor, None if the model is a recipe with weights.
        classes: The names of the classes, None if it has none.
    """

    members: list[Member]
    predictor: ensemble.Predictor | None
    classes: tuple[str, ...] | None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first network."""
        return self.members[0].recipe


def expect_source(where: str, model: Any) -> Source:
    """Return the networks of a model; ConfigError unless it is a pair or a predictor.

    Args:
        where: Name of the function in errors.
        model: (recipe, train state or weights), or a predictor.
    """
    if isinstance(model, ensemble.Predictor):
        return Source(list(model.members), model, model.classes)
    # A train state and a Result are tuples too.
    is_pair = isinstance(model, tuple | list) and type(model) in (tuple, list, Member)
    if not is_pair or len(model) != 2 or not isinstance(model[1], TrainState | Weights):
        raise ConfigError(
            f"{where} model",
            "a pair (recipe, train state or weights), or a predictor",
            _types(model) if isinstance(model, tuple | list) else checks.show(model),
            "as in (recipe, result.train_state)",
        )
    trees.expect_known(f"{where} model", model)
    recipe, given = model
    weights = expect_weights(where, recipe, given)
    return Source([Member(recipe, weights)], None, None)


def _types(model: Any) -> str:
    """Return the types of a pair, or the type of any other tuple or list."""
    if type(model) not in (tuple, list):
        return type(model).__name__
    return f"({', '.join(type(entry).__name__ for entry in model)})"


def input_shapes(
    where: str,
    source: Source,
    inputs: Any,
    batch: int | None,
) -> Any:
    """Return the shapes and dtypes of the inputs of the program.

    Args:
        where: Name of the function in errors.
        source: The model.
        inputs: Arrays whose first axis is the example, as in training. Only shapes and dtypes are
            used.
        batch: The batch size of the program; None for a symbol.
    """
    is_abstract = [isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(inputs)]
    if not is_abstract or not all(is_abstract):
        _expect_no_targets(where, source, inputs)
        inputs = validate_inputs("inputs", source.recipe, inputs)
    if not _is_plain(inputs):
        raise ConfigError(
            f"{where} inputs",
            "arrays, in tuples, lists and dicts",
            type(inputs).__name__,
            "give a dict: programs elsewhere do not know other containers",
        )
    size: Any = batch
    if batch is None:
        (size,) = jax.export.symbolic_shape(BATCH)
    else:
        checks.whole(f"{where} batch", batch)

    def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
        # JAX narrows 64-bit numbers, as it does in training.
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), dtype)

    return jax.tree.map(shape_of, inputs)


def _expect_no_targets(where: str, source: Source, inputs: Any) -> None:
    """Raise ConfigError for (inputs, targets), of which the inputs alone fit the network."""
    if type(inputs) is not tuple or len(inputs) != 2:
        return
    try:
        validate_inputs("inputs", source.recipe, inputs)
    except Exception:  # also of a layer that is not of this library
        try:
            validate_inputs("inputs", source.recipe, inputs[0])
        except Exception:
            # The error of the inputs as they are is raised below.
            return
        raise ConfigError(
            f"{where} inputs",
            "inputs alone",
            "a pair (inputs, targets)",
            "leave the targets out, as in data.test[0]",
        ) from None


def _is_plain(tree: Any) -> bool:
    """Return whether a tree consists of tuples, lists, dicts and leaves."""
    if isinstance(tree, tuple | list):
        return type(tree) in (tuple, list) and all(map(_is_plain, tree))
    if isinstance(tree, dict):
        return type(tree) is dict and all(map(_is_plain, tree.values()))
    structure: Any = jax.tree.structure(tree)
    return structure == jax.tree.structure(0)


def make_function(source: Source) -> Callable[[Any], Any]:
    """Return the function (inputs) -> outputs of a model, for one trace within `traced`."""
    members = [Member(member.recipe, _on_host(member.weights)) for member in source.members]
    predictor = source.predictor

    def predict(member: Member, inputs: Any) -> Any:
        weights = jax.tree.map(jnp.asarray, member.weights)
        return forward_pass(
            member.recipe,
            weights,
            inputs,
            None,
            jnp.int32(0),
        )

    def function(inputs: Any) -> Any:
        outputs = [predict(member, inputs) for member in members]
        if predictor is None:
            return outputs[0]
        # (members, n, ...) -> (n, ...)
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *outputs)
        return predictor.join(stacked)

    return function


def _on_host(weights: Weights) -> Weights:
    """Return weights as arrays of NumPy, which belong to no device; keys stay."""

    def move(leaf: Any) -> Any:
        return leaf if is_key(leaf) else np.asarray(leaf)

    return jax.tree.map(move, weights)


def traced(
    where: str,
    trace: Callable[[], Any],
    batch: int | None,
) -> Any:
    """Return trace(), with portable kernels and with an error of fnn where it fails.

    Args:
        where: Name of the function in errors.
        trace: Traces the function.
        batch: The batch size, None for a symbol.
    """
    try:
        with portable_kernels():
            return trace()
    except Exception as error:
        if batch is not None or type(error).__name__ not in SYMBOL_ERRORS:
            raise
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{where} batch",
            "a network that takes a batch of any size",
            f"one that needs its size while it is traced ({reason})",
            "give batch=, the one batch size of the program",
        ) from error


def expect_size(where: str, source: Source) -> None:
    """Raise ConfigError if the weights do not fit the format of a program."""
    leaves = jax.tree.leaves([member.weights for member in source.members])
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    if size > MAX_BYTES:
        raise ConfigError(
            f"{where} model",
            f"weights of at most {MAX_BYTES} bytes, which a program holds",
            f"{size} bytes",
            "convert them to half precision, or save them by lab.export_safetensors",
        )
