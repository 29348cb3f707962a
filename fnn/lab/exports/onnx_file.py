"""Files of ONNX, by the converter jax2onnx, compared with fnn when they are written."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError
from fnn.lab.disk import as_path, make_folder, replace_file, write_errors
from fnn.lab.exports.function import (
    Source,
    expect_size,
    expect_source,
    input_shapes,
    make_function,
    traced,
)
from fnn.lab.exports.model_card import CARD, make_card, read_card, write_card
from fnn.lab.exports.program import Model

FILE = "model.onnx"
COMPARED = 16  # examples on which onnxruntime is compared with fnn
# Largest difference, as a share of the largest output. Sums in another order differ by 1e-6.
TOLERANCE = 1e-4
# Operations that contain one program, by the name of its parameter.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "checkpoint": "jaxpr",
}


def export_onnx(
    path: str | os.PathLike[str],
    model: Model,
    inputs: Any,
    *,
    batch: int | None = None,
    classes: Sequence[str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Export a trained network to ONNX, by the converter jax2onnx.

    The graph maps inputs as they are stored to the outputs of `train.predict`, with the recipe's
    `prepare` and the weights inside. onnxruntime runs it on up to 16 of the inputs before it is
    written, and its outputs must equal those of fnn. docs/export.md has the operations that work.
    Needs the extra `onnx` of fnn.

    Args:
        path: A folder, which is made if it does not exist. It gets `model.onnx` and a model card,
            as for `lab.export`. A program that `lab.export` wrote there for the same model stays.
        model: (recipe, train state or weights), or an `ensemble.predictor`.
        inputs: An array whose first axis is the example, as in training; or a tuple of them.
        batch: Examples of a call; None for any number.
        classes: As for `lab.export`.
        metrics: As for `lab.export`.

    Returns:
        The absolute path of the folder.

    Raises:
        ConfigError: An argument is not of the type described here, the converter does not know an
            operation of the network, the graph has other outputs than fnn, or the package jax2onnx
            is not installed.
        FnnError: The inputs do not fit the recipe, as for `train.predict`.
        ShapeError: There are other classes than names.
        WriteError: The disk refused it.
    """
    to_onnx = _converter()
    source = expect_source("export_onnx", model)
    expect_size("export_onnx", source)
    shapes = input_shapes("export_onnx", source, inputs, batch)
    function = make_function(source)
    make = jax.make_jaxpr(function, return_shape=True)
    program, outputs = traced("export_onnx", lambda: make(shapes), batch)
    card = make_card(
        source,
        shapes,
        outputs,
        classes,
        metrics,
    )

    def plain(*arrays: Any) -> Any:
        return _evaluate(program, arrays)

    try:
        graph = to_onnx(plain, jax.tree.leaves(shapes), model_name="fnn")
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            "export_onnx model",
            "operations that jax2onnx converts",
            reason,
            "use lab.export, or replace that layer",
        ) from error
    raw = graph.SerializeToString()
    card["programs"] = _other_programs(path, card)
    card["programs"]["onnx"] = {
        "file": FILE,
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "opset": next(entry.version for entry in graph.opset_import if not entry.domain),
        "operators": sorted({node.op_type for node in _nodes(graph.graph)}),
        "compared": _compare(source, raw, inputs, batch),
    }
    folder = as_path("export_onnx path", path)
    with write_errors(FILE, folder, len(raw)):
        make_folder(folder)
        replace_file(folder / FILE, [raw])
    write_card(folder, card)
    return folder


def _converter() -> Callable[..., Any]:
    """Import the converter; ConfigError if it is not installed."""
    try:
        # An optional package that imports several libraries.
        from jax2onnx import to_onnx
    except ImportError:
        raise ConfigError(
            "export_onnx",
            "jax2onnx and onnxruntime",
            "no such package",
            "pip install '.[onnx]' in the checkout of fnn",
        ) from None
    return to_onnx


def _other_programs(path: str | os.PathLike[str], card: dict[str, Any]) -> dict[str, Any]:
    """Return the programs in the folder that belong to the same model."""
    folder = as_path("export_onnx path", path)
    if not (folder / CARD).is_file():
        return {}
    before = read_card("export_onnx", folder)
    programs = before.pop("programs")
    own = {name: value for name, value in card.items() if name != "programs"}
    return programs if before == own else {}


# The program in operations that converter and runtime know.


def _evaluate(program: Any, arrays: Sequence[Any]) -> list[Any]:
    """Evaluate a jaxpr with calls inlined, and some operations in another form.

    The converter replaces functions of jax.numpy while it traces, and knows more of them than of
    the operations that they consist of. Networks are traced before, since it does not know all of
    their arguments.
    """
    # Importing it takes a third as long as importing all of fnn.
    from jax.extend.core import ClosedJaxpr, Literal

    values: dict[Any, Any] = {}

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    # That of jax.checkpoint has no constants.
    closed = program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())
    jaxpr = closed.jaxpr
    values.update(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, arrays, strict=True))
    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        results = _apply(equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, operands: list[Any]) -> Sequence[Any]:
    """Return the results of one operation."""
    name = equation.primitive.name
    if name in CALLS:
        return _evaluate(equation.params[CALLS[name]], operands)
    if name == "pad":
        x, fill = operands
        return [_pad(x, fill, equation.params["padding_config"])]
    # onnxruntime has no selection of booleans.
    if name == "select_n" and len(operands) == 3 and operands[1].dtype == jnp.bool:
        condition, when_false, when_true = operands
        return [(condition & when_true) | (~condition & when_false)]
    # The bodies of loops.
    params = {key: _rewrite(value) for key, value in equation.params.items()}
    results = equation.primitive.bind(*operands, **params)
    return results if equation.primitive.multiple_results else [results]


def _rewrite(value: Any) -> Any:
    """Return a parameter of an operation, programs among them evaluated by `_evaluate`."""
    from jax.extend.core import ClosedJaxpr

    # The branches of a conditional.
    if isinstance(value, tuple) and value and isinstance(value[0], ClosedJaxpr):
        return tuple(map(_rewrite, value))
    if not isinstance(value, ClosedJaxpr):
        return value

    def body(*arrays: Any) -> list[Any]:
        return _evaluate(value, arrays)

    return jax.make_jaxpr(body)(*value.in_avals)


def _pad(
    x: Any,
    fill: Any,
    config: Sequence[tuple[int, int, int]],
) -> Any:
    """Pad or crop an array by concatenation; the converter has no `lax.pad` of any batch size."""
    if any(interior for _, _, interior in config):
        return jax.lax.pad(x, fill, config)
    for axis, (low, high, _) in enumerate(config):
        end = x.shape[axis] + min(high, 0)
        if low < 0 or high < 0:
            x = jax.lax.slice_in_dim(x, max(-low, 0), end, axis=axis)
        parts = []
        for count in (low, high):
            shape = (*x.shape[:axis], max(count, 0), *x.shape[axis + 1 :])
            parts.append(jax.lax.broadcast(fill, shape))
        if low > 0 or high > 0:
            joined = [part for part in (parts[0], x, parts[1]) if part.shape[axis] != 0]
            x = jax.lax.concatenate(joined, axis)
    return x


# Comparison.


def _nodes(graph: Any) -> list[Any]:
    """Return the nodes of a graph and of the graphs within it, such as the body of a loop."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                nodes += _nodes(attribute.g)
    return nodes


def _compare(
    source: Source,
    raw: bytes,
    inputs: Any,
    batch: int | None,
) -> dict[str, Any]:
    """Run the graph on some inputs; ConfigError if its outputs differ from those of fnn.

    Returns:
        The number of examples, and the largest difference and output.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: unused constants are warnings
    session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    examples = batch or COMPARED
    leaves = [np.asarray(leaf)[:examples] for leaf in jax.tree.leaves(inputs)]
    names = [entry.name for entry in session.get_inputs()]
    found = session.run(None, dict(zip(names, leaves, strict=True)))
    arrays = jax.tree.unflatten(jax.tree.structure(inputs), leaves)
    wanted = jax.tree.leaves(jax.jit(make_function(source))(arrays))
    difference = 0.0
    largest = 0.0
    for one, other in zip(found, wanted, strict=True):
        reference = np.asarray(other)
        difference = max(difference, float(np.abs(one - reference).max()))
        largest = max(largest, float(np.abs(reference).max()))
    # NaN is no number that is small enough.
    if not difference <= TOLERANCE * max(largest, 1e-6):
        raise ConfigError(
            "export_onnx model",
            f"outputs of onnxruntime that equal those of fnn, up to {largest:.3g}",
            f"a difference of {difference:.3g}",
            "use lab.export",
        )
    return {"examples": len(leaves[0]), "difference": difference, "largest_output": largest}
