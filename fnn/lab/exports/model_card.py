"""Model cards: all that a user of an exported program has to know, as JSON and as Markdown."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import checks, trees
from fnn.errors import CheckpointCorruptError, CheckpointVersionError, ConfigError, ShapeError
from fnn.lab.disk import replace_file, write_errors
from fnn.lab.exports.function import Source
from fnn.values.show import shown

FORMAT = 1  # raised when a reader of this version would misread a card
CARD = "card.json"
TEXT = "card.md"
MAX_CARD_BYTES = 1 << 24
PACKAGES = ("fnn", "jax", "jaxlib", "numpy")


def make_card(
    source: Source,
    inputs: Any,
    outputs: Any,
    classes: Sequence[str] | None,
    metrics: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the card of a model, without its programs.

    Args:
        source: The model.
        inputs: Shapes and dtypes of the inputs of the program.
        outputs: Those of its outputs.
        classes: The names of the classes, in the order of the logits; None for those of the model.
        metrics: Figures by name, such as those of `train.evaluate`; None for none.
    """
    names = _expect_classes(source, outputs, classes)
    parameters = 0
    for member in source.members:
        leaves = jax.tree.leaves(member.weights.params)
        parameters += sum(leaf.size for leaf in leaves)
    versions = {package: version(package) for package in PACKAGES}
    return {
        "format": FORMAT,
        "inputs": _describe("inputs", inputs),
        "outputs": _describe("outputs", outputs),
        "preprocessing": _text(source.recipe.prepare),
        "networks": [_text(member.recipe.network) for member in source.members],
        "calibration": None if source.predictor is None else _text(source.predictor.calibration),
        "parameters": parameters,
        "classes": names,
        "metrics": _expect_metrics(metrics),
        "versions": versions | {"python": platform.python_version()},
        "programs": {},
    }


def _describe(name: str, tree: Any) -> list[dict[str, Any]]:
    """Return name, shape and dtype of each array of a tree."""
    described = []
    for path, leaf in trees.named_leaves({name: tree}).items():
        # A symbol is the name of the size.
        shape = [size if isinstance(size, int) else str(size) for size in leaf.shape]
        described.append({"name": path, "shape": shape, "dtype": str(leaf.dtype)})
    return described


def _text(value: Any) -> str | None:
    """Return a value as the code that makes it; None of None."""
    if value is None:
        return None
    # The arrays of a value such as `whitening` would fill pages.
    text = shown(value)
    return text if len(text) < 4000 else f"{text[:4000]} ..."


def _expect_classes(
    source: Source,
    outputs: Any,
    classes: Sequence[str] | None,
) -> list[str] | None:
    """Return the names of the classes; an error unless they are names, one for each logit."""
    given = source.classes if classes is None else classes
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        raise ConfigError(
            "export classes",
            "a sequence of names",
            checks.show(given),
            "give a list with one name for each class",
        )
    names = [str(name) for name in given]
    leaves = jax.tree.leaves(outputs)
    logits = leaves[0].shape[-1] if len(leaves) == 1 else None
    # One output is the logit of the second of two classes.
    if logits is None or max(logits, 2) != len(names):
        got = f"outputs {[tuple(map(str, leaf.shape)) for leaf in leaves]}"
        raise ShapeError(
            "export classes",
            f"one logit for each of {len(names)} classes",
            got,
            "name each class of the logits",
        )
    return names


def _expect_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Return metrics as Python numbers; ConfigError for others."""
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise ConfigError(
            "export metrics",
            "a dict of numbers by name",
            checks.show(metrics),
            "give that of train.evaluate",
        )
    numbers = {}
    for name, value in metrics.items():
        array = np.asarray(value)
        is_number = array.shape == () and array.dtype.kind in "fiub"
        # JSON has no NaN.
        if not is_number or not np.isfinite(array):
            raise ConfigError(
                f"export metrics {name}",
                "a finite number",
                checks.show(value),
                "leave it out",
            )
        numbers[str(name)] = array.item()
    return numbers


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write both forms of a card into a folder."""
    plain = json.dumps(card, indent=2, allow_nan=False) + "\n"
    for name, text in ((CARD, plain), (TEXT, to_markdown(card))):
        raw = text.encode()
        with write_errors(name, folder, len(raw)):
            replace_file(folder / name, [raw])


def read_card(where: str, folder: Path) -> dict[str, Any]:
    """Read the card in a folder.

    Args:
        where: Name of the function in errors.
        folder: Where a program was exported.

    Raises:
        CheckpointCorruptError: The file is no card.
        CheckpointVersionError: The card has a newer format.
        ConfigError: There is no card.
    """
    path = folder / CARD
    if not path.is_file():
        raise ConfigError(
            f"{where} path",
            f"a folder with a {CARD}, as lab.export writes it",
            folder,
            "give the folder of an exported model",
        )
    with path.open("rb") as file:
        raw = file.read(MAX_CARD_BYTES)
    try:
        card = json.loads(raw)
        found = int(card["format"])
        complete = isinstance(card["programs"], dict)
    except (ValueError, TypeError, KeyError):
        complete = False
    if not complete:
        raise CheckpointCorruptError(
            f"{where} {path.name}",
            "a model card",
            f"{len(raw)} other bytes",
            "export the model again",
        )
    if found > FORMAT:
        raise CheckpointVersionError(
            f"{where} {path.name}",
            f"format {FORMAT} or older",
            f"format {found}",
            "install a newer fnn",
        )
    return card


def to_markdown(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown."""
    lines = ["# Model card", ""]
    rows = [(array["name"], array) for array in card["inputs"] + card["outputs"]]
    lines += _table(
        ("array", "shape", "dtype"),
        [
            (name, f"({', '.join(map(str, array['shape']))})", array["dtype"])
            for name, array in rows
        ],
    )
    lines += ["The first axis is the example.", ""]
    lines += [f"**Preprocessing**, included in the program: `{card['preprocessing']}`", ""]
    lines += [f"**Parameters**: {card['parameters']:,}", ""]
    if card["classes"] is not None:
        lines += [f"**Classes**, in the order of the outputs: {', '.join(card['classes'])}", ""]
    if card["metrics"]:
        figures = [(name, f"{value:.6g}") for name, value in card["metrics"].items()]
        lines += _table(("metric", "value"), figures)
    for title, code in _code(card).items():
        lines += [f"## {title}", "", "```python", code, "```", ""]
    versions = [f"{package} {number}" for package, number in card["versions"].items()]
    lines += [f"Made with {', '.join(versions)}."]
    return "\n".join(lines) + "\n"


def _code(card: Mapping[str, Any]) -> dict[str, str]:
    """Return pieces of code by title: how each program is run, and the networks."""
    programs = card["programs"]
    pieces = {}
    if "jax" in programs:
        pieces["Run with JAX, without fnn"] = "\n".join(
            [
                "from pathlib import Path",
                "",
                "from jax import export",
                "",
                f'program = export.deserialize(Path("{programs["jax"]["file"]}").read_bytes())',
                "outputs = program.call(inputs)",
            ]
        )
    if "onnx" in programs:
        pieces["Run with onnxruntime"] = "\n".join(
            [
                "import onnxruntime",
                "",
                f'session = onnxruntime.InferenceSession("{programs["onnx"]["file"]}")',
                "inputs_by_name = {session.get_inputs()[0].name: inputs}",
                "outputs = session.run(None, inputs_by_name)[0]",
            ]
        )
    for index, network in enumerate(card["networks"]):
        pieces[f"Network {index + 1}"] = network
    return pieces


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of Markdown, with an empty line at its end."""
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
