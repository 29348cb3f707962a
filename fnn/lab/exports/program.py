"""Programs of JAX: trained networks that run without fnn, on any platform, for any batch size."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from fnn import checks, ensemble
from fnn.errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    ConfigError,
    DTypeError,
    ShapeError,
)
from fnn.lab.disk import as_path, make_folder, replace_file, write_errors
from fnn.lab.exports.function import expect_size, expect_source, input_shapes, make_function, traced
from fnn.lab.exports.model_card import make_card, read_card, write_card
from fnn.train.arrays import convert_inputs
from fnn.train.recipe import Recipe
from fnn.types import TrainState, Weights

PROGRAM = "program.jax"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
Model = tuple[Recipe, TrainState | Weights] | ensemble.Predictor


def export(
    path: str | os.PathLike[str],
    model: Model,
    inputs: Any,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    batch: int | None = None,
    classes: Sequence[str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Export a trained network as one program of JAX, which runs without fnn.

        figures = train.evaluate(recipe, result.train_state, digits.test)
        lab.export("digits", (recipe, result.train_state), digits.test[0], metrics=figures)

    The program maps inputs as they are stored to the outputs of `train.predict`: the recipe's
    `prepare` and the weights are parts of it, and it is one for all platforms and batch sizes.
    `lab.load_export` runs it, and so does plain JAX:

        program = jax.export.deserialize(Path("digits/program.jax").read_bytes())
        outputs = program.call(inputs)

    JAX runs programs of versions up to six months older. Layers that sample at train=False are an
    error, since a program has no key. Needs the extra `export` of fnn.

    Args:
        path: A folder, which is made if it does not exist. It gets `program.jax`, and a model card
            as `card.json` and `card.md`: shapes, preprocessing, classes, metrics and versions.
        model: (recipe, train state or weights), or an `ensemble.predictor` with its combination
            and calibration. Parameters are averaged as for `train.weights`.
        inputs: Arrays whose first axis is the example, as in training, or jax.ShapeDtypeStruct.
            Only shapes and dtypes are used.
        platforms: Where the program can run: "cpu", "cuda", "rocm" and "tpu".
        batch: Examples of a call; None for any number.
        classes: The names of the classes for the card, in the order of the logits; those of a
            predictor if None.
        metrics: Numbers by name for the card, such as those of `train.evaluate`.

    Returns:
        The absolute path of the folder.

    Raises:
        ConfigError: An argument is not of the type described here, the network needs to know the
            batch size, the weights are larger than a program can be, or the package flatbuffers is
            not installed.
        FnnError: The inputs do not fit the recipe, as for `train.predict`.
        ShapeError: There are other classes than names.
        WriteError: The disk refused it.
    """
    _expect_flatbuffers("export")
    source = expect_source("export", model)
    expect_size("export", source)
    names = _expect_platforms(platforms)
    shapes = input_shapes("export", source, inputs, batch)
    function = make_function(source)
    make = jax.export.export(jax.jit(function), platforms=names)

    def trace() -> jax.export.Exported:
        return make(shapes)

    exported = traced("export", trace, batch)
    raw = _serialize(exported)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    card = make_card(
        source,
        shapes,
        outputs,
        classes,
        metrics,
    )
    card["programs"]["jax"] = {
        "file": PROGRAM,
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "platforms": list(exported.platforms),
        "calling_convention": exported.calling_convention_version,
    }
    folder = as_path("export path", path)
    with write_errors(PROGRAM, folder, len(raw)):
        make_folder(folder)
        replace_file(folder / PROGRAM, [raw])
    # The card is last: until then its digest shows that the export was interrupted.
    write_card(folder, card)
    return folder


def _expect_flatbuffers(where: str) -> None:
    """Raise ConfigError unless the package by which JAX stores programs is installed."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ConfigError(
            where,
            "flatbuffers, by which JAX stores programs",
            "no such package",
            "pip install '.[export]' in the checkout of fnn",
        ) from None


def _expect_platforms(platforms: Any) -> tuple[str, ...]:
    """Return the platforms; ConfigError unless they are names of some."""
    # A text is a sequence of letters.
    is_sequence = isinstance(platforms, Sequence) and not isinstance(platforms, str)
    if not is_sequence or not platforms:
        raise ConfigError(
            "export platforms",
            "a sequence of names",
            checks.show(platforms),
            'as in ("cpu", "cuda")',
        )
    for name in platforms:
        checks.choice("export platforms", name, PLATFORMS)
    return tuple(platforms)


def _serialize(exported: jax.export.Exported) -> bytes:
    """Return a program as bytes; ConfigError if its outputs are in containers of a library."""
    try:
        return bytes(exported.serialize())
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            "export model",
            "outputs in tuples, lists and dicts",
            reason,
            "let the network return a dict",
        ) from error


@dataclass(frozen=True)
class LoadedProgram:
    """A program that `lab.load_export` read, as a function of inputs.

    Attributes:
        card: Its model card.
        exported: The program, as `jax.export.deserialize` returns it.
    """

    card: dict[str, Any]
    exported: jax.export.Exported

    @cached_property
    def _compiled(self) -> Any:
        # Compiled once for each batch size.
        return jax.jit(self.exported.call)

    def __call__(self, inputs: Any) -> Any:
        """Compute the outputs (n, ...) for inputs (n, ...), those of `train.predict`.

        Args:
            inputs: Arrays whose first axis is the example, as in training.

        Raises:
            ConfigError: The program is not for this platform.
            DTypeError: An array has another dtype than the program takes.
            ShapeError: An array has another shape.
        """
        converted = convert_inputs("inputs", inputs)
        self._expect_fit(converted)
        try:
            return self._compiled(converted)
        except ValueError as error:
            # JAX knows which platforms the arrays are on.
            if "platform" not in str(error):
                raise
            raise ConfigError(
                "load_export",
                f"one of the platforms {', '.join(self.exported.platforms)}",
                jax.default_backend(),
                "export the model for this platform",
            ) from error

    def _expect_fit(self, inputs: Any) -> None:
        """Raise an error unless the inputs have the structure, shapes and dtypes of the program."""
        (arguments, _) = jax.tree.unflatten(self.exported.in_tree, self.exported.in_avals)
        (wanted,) = arguments
        structure: Any = jax.tree.structure(inputs)
        if structure != jax.tree.structure(wanted):
            raise ShapeError(
                "inputs",
                f"the structure {checks.describe_tree(wanted)}",
                checks.describe_tree(inputs),
                "give inputs as in training",
            )
        for leaf, like in zip(jax.tree.leaves(inputs), jax.tree.leaves(wanted), strict=True):
            dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
            if dtype != like.dtype:
                raise DTypeError(
                    "inputs",
                    f"dtype {like.dtype}, as in training",
                    dtype,
                    "cast them, and keep the scale of the training inputs",
                )
            batch = like.shape[0]
            is_batch = not isinstance(batch, int) or leaf.shape[:1] == (batch,)
            if leaf.shape[1:] != like.shape[1:] or not is_batch:
                raise ShapeError(
                    "inputs",
                    f"({', '.join(map(str, like.shape))})",
                    leaf.shape,
                    "give inputs of the shape of those of training",
                )


def load_export(path: str | os.PathLike[str]) -> LoadedProgram:
    """Load a program that `lab.export` wrote.

        program = lab.load_export("digits")
        outputs = program(inputs)
        print(program.card["classes"], program.card["metrics"])

    Args:
        path: The folder.

    Returns:
        The program, a function of inputs, with its model card as `card`.

    Raises:
        CheckpointCorruptError: The program is not as it was written.
        CheckpointVersionError: The card has a newer format, or JAX is too old or too new for the
            program.
        ConfigError: There is no such export, or the package flatbuffers is not installed.
    """
    _expect_flatbuffers("load_export")
    folder = as_path("load_export path", path)
    card = read_card("load_export", folder)
    entry = card["programs"].get("jax")
    file = folder / PROGRAM
    if entry is None or not file.is_file():
        raise ConfigError(
            "load_export path",
            f"a folder with {PROGRAM}",
            folder,
            "write one by lab.export",
        )
    raw = file.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != entry["sha256"]:
        raise CheckpointCorruptError(
            f"load_export {file.name}",
            f"SHA-256 {entry['sha256']}",
            digest,
            "export the model again",
        )
    try:
        exported = jax.export.deserialize(bytearray(raw))
    except ValueError as error:
        raise CheckpointVersionError(
            f"load_export {file.name}",
            f"a program that JAX {jax.__version__} runs",
            f"one of JAX {card['versions']['jax']}",
            "export the model again with a version of JAX near this one",
        ) from error
    return LoadedProgram(card, exported)
