"""The section of the data: classes, ranges, duplicates; and the inputs of the network."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fnn.lab.plots.batch import batch_at_step, is_multi_label
from fnn.lab.plots.image_grid import describe_nonfinite, describe_stretch
from fnn.lab.report.markup import Markup, element, join, notice, section, table
from fnn.lab.report.svg import images_markup
from fnn.train.recipe import Recipe
from fnn.trees import named_leaves
from fnn.types import Data, RandomKey

MAX_CLASSES = 40  # in the table
MAX_IMAGES = 12
MAX_EXAMPLES = 100_000  # that are compared with each other
MAX_CHANNELS = 16  # in the table of inputs; more are taken together


def data_section(data: Data, valid: Data | None, names: Sequence[str] | None) -> Markup:
    """Return the section of the data.

    Args:
        data: Validated (inputs, targets).
        valid: The same for validation, or None.
        names: Name of each class, or None.
    """
    parts = {"training": data} | ({} if valid is None else {"validation": valid})
    ranges = []
    for part, (inputs, targets) in parts.items():
        for kind, tree in (("inputs", inputs), ("targets", targets)):
            for path, leaf in named_leaves(tree).items():
                title = " ".join(filter(None, (part, kind, path)))
                ranges.append((title, *_range(np.asarray(leaf))))
    head = ("array", "examples", "shape", "dtype", "min", "mean", "max", "std", "not finite")
    return section(
        "data",
        "Data",
        table(head, ranges),
        _class_table({part: data[1] for part, data in parts.items()}, names),
        _duplicates({part: data[0] for part, data in parts.items()}),
    )


def _range(array: np.ndarray) -> tuple[object, ...]:
    """Return the number of examples, shape, dtype, range and moments of an array."""
    head = (len(array), "×".join(map(str, array.shape[1:])) or "scalar", str(array.dtype))
    if not array.size:
        return (*head, "", "", "", "", 0)
    # float32 would lose the mean of many bytes.
    numbers = array.astype(np.float32)
    is_finite = np.isfinite(numbers)
    missing = int(numbers.size - is_finite.sum())
    if missing == numbers.size:
        return (*head, "", "", "", "", missing)
    kept = numbers if not missing else numbers[is_finite]
    mean = float(kept.mean(dtype=np.float64))
    deviation = float(kept.std(dtype=np.float64))
    return (*head, float(kept.min()), mean, float(kept.max()), deviation, missing)


def _class_table(targets: dict[str, Any], names: Sequence[str] | None) -> Markup:
    """Return the number of examples of each class, or nothing for other targets."""
    counts = {}
    for part, tree in targets.items():
        labels = np.asarray(tree) if not isinstance(tree, dict | tuple | list) else np.zeros(0)
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not labels.size:
            return Markup()
        if labels.min() < 0:
            return Markup()
        counts[part] = np.bincount(labels)
    classes = max(map(len, counts.values()))
    # (sets, classes)
    rows = np.array([np.pad(count, (0, classes - len(count))) for count in counts.values()])
    shown = list(range(classes))
    caption = None
    if classes > MAX_CLASSES:
        order = np.argsort(rows[0], kind="stable")
        half = MAX_CLASSES // 2
        shown = sorted([*order[:half].tolist(), *order[-half:].tolist()])
        caption = f"The {half} rarest and the {half} most frequent of {classes} classes."
    lines = []
    for index in shown:
        label = str(index) if names is None or index >= len(names) else names[index]
        lines.append((label, *(_bar(int(row[index]), int(row.max())) for row in rows)))
    return table(("class", *counts), lines, caption=caption)


def _bar(count: int, highest: int) -> Markup:
    """Return a count with a bar."""
    width = 100 * count / max(1, highest)
    bar = element("span", class_="bar", style=f"width:{width:.0f}%")
    return join(
        [element("span", f"{count:,}", class_="count"), element("span", bar, class_="bars")]
    )


def _duplicates(inputs: dict[str, Any]) -> Markup:
    """Return a sentence on examples that are equal to others."""
    digests = {part: _digests(tree) for part, tree in inputs.items()}
    lines = []
    for part, rows in digests.items():
        count = len(rows) - len(set(rows))
        share = count / max(1, len(rows))
        lines.append(f"{part}: {count:,} inputs ({share:.1%}) are equal to an earlier one")
    if "validation" in digests:
        known = set(digests["training"])
        rows = digests["validation"]
        count = sum(row in known for row in rows)
        share = count / max(1, len(rows))
        lines.append(f"validation: {count:,} inputs ({share:.1%}) are in the training set too")
    if max(map(len, digests.values())) == MAX_EXAMPLES:
        lines.append(f"compared: the first {MAX_EXAMPLES:,} examples of each set")
    return element(
        "div", element("h3", "Duplicates"), element("ul", *(element("li", x) for x in lines))
    )


def _digests(inputs: Any) -> list[bytes]:
    """Return a digest of each example."""
    leaves = [np.ascontiguousarray(leaf[:MAX_EXAMPLES]) for leaf in jax.tree.leaves(inputs)]
    rows = []
    for parts in zip(*leaves, strict=True):
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
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
    count = min(64, len(jax.tree.leaves(data)[0]))
    inputs, targets = batch_at_step(key, recipe, data, batch_size=count, step=0)
    rows = []
    for path, leaf in named_leaves(inputs).items():
        array = np.asarray(leaf)
        rows.append((path or "inputs", *_range(array)))
        channels = array.shape[-1] if array.ndim > 1 else 1
        if 1 < channels <= MAX_CHANNELS:
            for index in range(channels):
                title = " ".join(filter(None, (path, f"channel {index}")))
                rows.append((title, *_range(array[..., index])))
    head = ("array", "examples", "shape", "dtype", "min", "mean", "max", "std", "not finite")
    text = "Examples as the network gets them in training: prepared, augmented, in random order."
    body = [notice(text), table(head, rows)]
    images = np.asarray(inputs) if not isinstance(inputs, dict | tuple | list) else np.zeros(0)
    if images.ndim == 4:
        titles = [_target_title(np.asarray(one), names) for one in np.asarray(targets)[:MAX_IMAGES]]
        body.append(images_markup(images[:MAX_IMAGES], titles))
        note = describe_stretch(images[:MAX_IMAGES]) + describe_nonfinite(images[:MAX_IMAGES])
        if note:
            body.append(notice(note.removeprefix("; ")))
    return section("inputs", "Inputs of the network", *body)


def _target_title(target: np.ndarray, names: Sequence[str] | None) -> str:
    """Return the class of an image, its main classes if mixed, or nothing for other targets."""

    def name(index: int) -> str:
        return str(index) if names is None or index >= len(names) else str(names[index])

    if target.ndim == 0 and target.dtype.kind in "iu":
        return name(int(target))
    if target.ndim != 1 or target.dtype.kind != "f" or is_multi_label(target):
        return ""
    # Mixtures are of two classes.
    chosen = [index for index in np.argsort(-target)[:2].tolist() if target[index] >= 0.05]
    return ", ".join(f"{name(index)} {target[index]:.0%}" for index in chosen)
