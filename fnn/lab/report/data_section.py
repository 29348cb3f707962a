"""The section of the data: classes, ranges, duplicates; and the inputs of the network."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fnn.lab.plots.batch import batch_at_step, is_multi_label
from fnn.lab.plots.image_grid import describe_nonfinite, describe_stretch
from fnn.lab.report.markup import Markup, element, items, join, notice, section, table
from fnn.lab.report.svg import images_markup
from fnn.train.recipe import Recipe
from fnn.trees import named_leaves
from fnn.types import Data, RandomKey

MAX_CLASSES = 40  # in the table
MAX_IMAGES = 12
MAX_EXAMPLES = 100_000  # that are compared with each other
MAX_CHANNELS = 16  # in the table of inputs; more are taken together
BATCH = 64  # examples whose inputs are shown
MIN_SHARE = 0.05  # share of a class in a mixed target below which it is not named
RANGE = ("array", "examples", "shape", "dtype", "min", "mean", "max", "std", "not finite")


def data_section(data: Data, valid: Data | None, names: Sequence[str] | None) -> Markup:
    """Return the section of the data.

    Args:
        data: Validated (inputs, targets).
        valid: The same for validation, or None.
        names: Name of each class, or None.
    """
    parts = {"training": data}
    if valid is not None:
        parts["validation"] = valid
    ranges = []
    for part, (inputs, targets) in parts.items():
        for kind, tree in (("inputs", inputs), ("targets", targets)):
            for path, leaf in named_leaves(tree).items():
                row = describe_range(np.asarray(leaf))
                ranges.append((f"{part} {kind} {path}".strip(), *row))
    all_inputs = {part: pair[0] for part, pair in parts.items()}
    all_targets = {part: pair[1] for part, pair in parts.items()}
    return section(
        "data",
        "Data",
        table(RANGE, ranges),
        _class_table(all_targets, names),
        _duplicates(all_inputs),
    )


def describe_range(array: np.ndarray) -> tuple[object, ...]:
    """Return the number of examples, shape, dtype, range and moments of an array."""
    shape = "×".join(map(str, array.shape[1:]))
    head = (len(array), shape or "scalar", str(array.dtype))
    numbers = array.astype(np.float32)
    is_finite = np.isfinite(numbers)
    missing = int(numbers.size - is_finite.sum())
    kept = numbers[is_finite] if missing else numbers
    if not kept.size:
        return (*head, "", "", "", "", missing)
    # float32 would lose digits in a sum over many bytes.
    mean = kept.mean(dtype=np.float64)
    deviation = kept.std(dtype=np.float64)
    moments = map(float, (kept.min(), mean, kept.max(), deviation))
    return (*head, *moments, missing)


def class_name(index: int, names: Sequence[str] | None) -> str:
    """Return the name of a class, or its number if it has none."""
    has_name = names is not None and 0 <= index < len(names)
    return str(names[index]) if names is not None and has_name else str(index)


def _class_table(targets: Mapping[str, Any], names: Sequence[str] | None) -> Markup:
    """Return the number of examples of each class, or nothing for other targets."""
    counts = {}
    for part, labels in targets.items():
        if not _is_array(labels) or labels.ndim != 1 or labels.dtype.kind not in "iu":
            return Markup()
        # Labels below 0 have no class.
        known = np.asarray(labels)[np.asarray(labels) >= 0]
        counts[part] = np.bincount(known)
    classes = max(map(len, counts.values()))
    # (classes, sets)
    columns = np.zeros((classes, len(counts)), int)
    for place, count in enumerate(counts.values()):
        columns[: len(count), place] = count
    chosen = np.arange(classes)
    caption = None
    if classes > MAX_CLASSES:
        order = np.argsort(columns[:, 0], kind="stable")
        half = MAX_CLASSES // 2
        chosen = np.sort(np.concatenate([order[:half], order[-half:]]))
        caption = f"The {half} rarest and the {half} most frequent of {classes} classes."
    highest = np.maximum(columns.max(0), 1)
    rows = []
    for index in chosen.tolist():
        bars = map(_bar, columns[index].tolist(), highest.tolist())
        rows.append((class_name(index, names), *bars))
    return table(("class", *counts), rows, caption=caption)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array)


def _bar(count: int, highest: int) -> Markup:
    """Return a count with a bar."""
    width = f"width:{100 * count / highest:.0f}%"
    bar = element("span", class_="bar", style=width)
    number = element("span", f"{count:,}", class_="count")
    return join([number, element("span", bar, class_="bars")])


def _duplicates(inputs: Mapping[str, Any]) -> Markup:
    """Return a list of the numbers of examples that are equal to others."""
    digests = {part: _digests(tree) for part, tree in inputs.items()}
    lines = []
    for part, rows in digests.items():
        count = len(rows) - len(set(rows))
        lines.append(f"{part}: {_share(count, rows)} are equal to an earlier one")
    if "validation" in digests:
        known = set(digests["training"])
        rows = digests["validation"]
        count = sum(row in known for row in rows)
        lines.append(f"validation: {_share(count, rows)} are in the training set too")
    if max(map(len, digests.values())) == MAX_EXAMPLES:
        lines.append(f"compared: the first {MAX_EXAMPLES:,} examples of each set")
    return element("div", element("h3", "Duplicates"), items(lines))


def _share(count: int, rows: Sequence[Any]) -> str:
    share = count / max(1, len(rows))
    return f"{count:,} inputs ({share:.1%})"


def _digests(inputs: Any) -> list[bytes]:
    """Return a digest of each example."""
    leaves = [np.asarray(leaf)[:MAX_EXAMPLES] for leaf in jax.tree.leaves(inputs)]
    rows = []
    for parts in zip(*leaves, strict=True):
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            digest.update(part.tobytes())
        rows.append(digest.digest())
    return rows


def input_section(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    names: Sequence[str] | None,
) -> Markup:
    """Return the section of the inputs of the network: prepared and augmented examples.

    Args:
        key: Of the run.
        recipe: Of the run.
        data: Validated (inputs, targets).
        names: Name of each class, or None.
    """
    examples = len(jax.tree.leaves(data)[0])
    inputs, targets = batch_at_step(
        key,
        recipe,
        data,
        batch_size=min(BATCH, examples),
        step=0,
    )
    rows = []
    for path, leaf in named_leaves(inputs).items():
        array = np.asarray(leaf)
        rows.append((path or "inputs", *describe_range(array)))
        channels = array.shape[-1] if array.ndim > 1 else 1
        if 1 < channels <= MAX_CHANNELS:
            for index in range(channels):
                title = f"{path} channel {index}".strip()
                rows.append((title, *describe_range(array[..., index])))
    text = "Examples as the network gets them in training: prepared, augmented, in random order."
    body = [notice(text), table(RANGE, rows)]
    if _is_array(inputs) and inputs.ndim == 4:
        images = np.asarray(inputs)[:MAX_IMAGES]
        titles = [""] * len(images)
        if _is_array(targets):
            titles = [_title(target, names) for target in np.asarray(targets)[:MAX_IMAGES]]
        body.append(images_markup(images, titles))
        note = describe_stretch(images) + describe_nonfinite(images)
        body.append(notice(note.removeprefix("; ")))
    return section("inputs", "Inputs of the network", *body)


def _title(target: np.ndarray, names: Sequence[str] | None) -> str:
    """Return the class of an image, its main classes if mixed, or nothing for other targets."""
    if target.ndim == 0 and target.dtype.kind in "iu":
        return class_name(int(target), names)
    if target.ndim != 1 or target.dtype.kind != "f" or is_multi_label(target):
        return ""
    parts = []
    # Mixtures are of two classes.
    for index in np.argsort(-target)[:2].tolist():
        if target[index] >= MIN_SHARE:
            parts.append(f"{class_name(index, names)} {target[index]:.0%}")
    return ", ".join(parts)
