"""The evidence of an examination: recorded curves, and statistics at the start and the end."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import trees
from fnn.diagnose.baselines import Baselines, find_baselines, remember
from fnn.diagnose.localize import Location
from fnn.diagnose.loss_probes import Probes, probe_loss
from fnn.diagnose.observation import Observation, layer_kinds, leaf_paths, observe
from fnn.optim.transform import frozen_paths
from fnn.train.inputs import example_shapes
from fnn.train.recipe import Recipe
from fnn.types import Data, TrainState

MAX_SAMPLE = 1024  # training examples whose outputs are examined
MAX_VALID = 1024
CLASSES, VALUES, OTHER = "classes", "values", "other"  # kinds of targets
RUNNING = ("mean", "var")  # names of the running statistics of batch normalization


class Task(NamedTuple):
    """The kind of the targets, and figures that need no network.

    Attributes:
        kind: "classes" for labels or probabilities of classes, "values" for targets of the size of
            the outputs, "other" else.
        targets: Labels or values of the sample of training examples, (n, ...).
        valid_targets: The same of validation, (v, ...); () without.
        shares: Share of each class in the targets, (classes,); empty without classes.
        probes: Loss at known outputs.
        baselines: Scores of predictors without a network.
    """

    kind: str
    targets: Any
    valid_targets: Any
    shares: np.ndarray
    probes: Probes
    baselines: Baselines


class Evidence(NamedTuple):
    """All that the rules of an examination read, as arrays of NumPy.

    Attributes:
        history: Recorded figures by name: loss, rate and others (steps,), of validation (epochs,).
        epoch_length: Steps per epoch.
        batch_size: Examples per step.
        examples: Number of training examples.
        layers: Paths of the leaf layers, in order.
        kinds: Names of these layers, such as "relu".
        parameters: Paths of the parameters.
        frozen: Paths of the parameters that the optimizer does not train.
        change: Root mean square change of each parameter during the run relative to its size,
            (parameters,); 0 if it has not changed at all.
        still: Paths of running statistics that have not changed during the run.
        start: Statistics at the start of the run.
        end: Statistics at its end, or before its first non-finite step.
        task: Of the run.
        location: Where the first non-finite number arose; None if there is none.
        is_cut: Whether the history and the end are those before this step, after which the run is
            lost.
        columns: Paths of the layers or parameters along the second axis of the arrays of
            instruments in the history, by name; empty without instruments.
    """

    history: Mapping[str, np.ndarray]
    epoch_length: int
    batch_size: int
    examples: int
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    parameters: tuple[str, ...]
    frozen: frozenset[str]
    change: np.ndarray
    still: tuple[str, ...]
    start: Observation
    end: Observation
    task: Task
    location: Location | None = None
    is_cut: bool = False
    columns: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def collect(
    recipe: Recipe,
    ends: tuple[TrainState, TrainState],
    history: Mapping[str, Any],
    data: Data,
    valid: Data | None,
    batch_size: int,
    location: Location | None,
    is_cut: bool,
) -> Evidence:
    """Collect the evidence of a run.

    Args:
        recipe: From `train.recipe`.
        ends: Train states at the start and at the end of the run.
        history: Recorded figures by name.
        data: Validated (inputs, targets) of training.
        valid: Validated (inputs, targets) of validation; None for none.
        batch_size: Examples per step.
        location: Where the first non-finite number arose, or None.
        is_cut: Whether history and train state end before this step.
    """
    first, last = ends
    instruments = recipe.instruments
    columns: Mapping[str, tuple[str, ...]] = {}
    if instruments is not None:
        shapes = example_shapes(recipe, data[0])
        columns = instruments.columns(recipe.network, first.params, shapes)
        # The steps that are computed here need none.
        made: Any = recipe
        recipe = made.replace(instruments=None)
    examples = len(jax.tree.leaves(data)[0])
    rows = spread_rows(data)
    if valid is not None:
        valid_examples = len(jax.tree.leaves(valid)[0])
        # Arrays that are not cut keep their identity, by which baselines are remembered.
        if valid_examples > MAX_VALID:
            valid = _take(valid, _spread(valid_examples, MAX_VALID))
    # With the same arguments, so that one program serves both ends.
    start = observe(
        recipe,
        first,
        data,
        valid,
        rows,
        batch_size,
    )
    end = observe(
        recipe,
        last,
        data,
        valid,
        rows,
        batch_size,
    )
    paths = leaf_paths(recipe)
    kinds = layer_kinds(recipe.network)
    return Evidence(
        history={name: np.asarray(values) for name, values in history.items()},
        epoch_length=examples // batch_size,
        batch_size=batch_size,
        examples=examples,
        layers=paths,
        kinds=tuple(kinds[path] for path in paths),
        parameters=tuple(trees.named_leaves(first.params)),
        frozen=frozen_paths(last.opt_state),
        change=_changes(first.params, last.params),
        still=unchanged_statistics(first.state, last.state),
        start=start,
        end=end,
        task=find_task(
            recipe,
            end.outputs,
            data,
            valid,
            rows,
        ),
        location=location,
        is_cut=is_cut,
        columns=columns,
    )


def find_task(
    recipe: Recipe,
    outputs: Any,
    data: Data,
    valid: Data | None,
    rows: np.ndarray,
) -> Task:
    """Describe the task of a run.

    Args:
        recipe: From `train.recipe`.
        outputs: Of the network for the sample, (n, ...).
        data: Validated (inputs, targets) of training.
        valid: Validated (inputs, targets) of validation; None for none.
        rows: Indices of the sample, (n,).
    """
    targets = jax.tree.map(lambda array: np.asarray(array)[rows], data[1])
    valid_targets: Any = () if valid is None else jax.tree.map(np.asarray, valid[1])
    kind = _kind(recipe, outputs, targets)
    if kind == OTHER:
        return Task(
            kind,
            targets,
            valid_targets,
            np.zeros(0),
            Probes(),
            Baselines(),
        )
    labels = None
    shares = None
    probed = targets
    if kind == CLASSES:
        labels = targets = _labels(targets, outputs)
        valid_targets = () if valid is None else _labels(valid_targets, outputs)
        counts = np.bincount(labels.reshape(-1), minlength=outputs.shape[-1])
        shares = counts / labels.size
    probes = probe_loss(
        recipe,
        probed,
        outputs,
        labels,
        shares,
    )
    if recipe.loss.couples_examples:
        # It is meant.
        probes = probes._replace(coupling=0.0)
    baselines = Baselines()
    if _have_distances(data[0]) and (labels is None or labels.ndim == 1):
        classes = 0 if shares is None else len(shares)
        baselines = baselines_of(
            data,
            valid,
            rows,
            classes,
        )
    no_shares = np.zeros(0) if shares is None else shares
    return Task(
        kind,
        targets,
        valid_targets,
        no_shares,
        probes,
        baselines,
    )


def _kind(
    recipe: Recipe,
    outputs: Any,
    targets: Any,
) -> str:
    if not hasattr(outputs, "dtype") or not hasattr(targets, "dtype"):
        return OTHER
    if outputs.ndim < 2:
        return OTHER
    classes = outputs.shape[-1]
    if np.issubdtype(targets.dtype, np.integer):
        if targets.shape != outputs.shape[:-1] or classes < 2:
            return OTHER
        is_label = targets.min() >= 0 and targets.max() < classes
        return CLASSES if is_label else OTHER
    if recipe.loss.probabilities:
        return CLASSES if targets.shape == outputs.shape and classes > 1 else OTHER
    # A loss may compare (n, 1) with (n,), which is a frequent mistake.
    return VALUES if targets.size == outputs.size else OTHER


def _labels(
    targets: np.ndarray,
    outputs: np.ndarray,
) -> np.ndarray:
    """Return the labels of classes: the targets, or the most probable classes of them."""
    return targets.argmax(-1) if targets.ndim == outputs.ndim else targets


def _have_distances(inputs: Any) -> bool:
    """Return whether the inputs are one array of floats or bytes, not tokens."""
    if not hasattr(inputs, "dtype"):
        return False
    return bool(np.issubdtype(inputs.dtype, np.floating) or inputs.dtype == np.uint8)


def baselines_of(
    data: Data,
    valid: Data | None,
    rows: np.ndarray,
    classes: int,
) -> Baselines:
    """Return the scores of predictors without a network, found once for the same arrays.

    Args:
        data: (inputs, targets) of training, arrays.
        valid: (inputs, targets) of validation; None for none.
        rows: Indices of the sample of training examples, (n,).
        classes: Number of classes; 0 for other targets.
    """

    def find() -> Baselines:
        inputs, targets = jax.tree.map(np.asarray, _take(data, rows))
        held: Any = (None, None)
        if valid is not None:
            held = jax.tree.map(np.asarray, valid)
        valid_inputs, valid_targets = held
        if classes and targets.ndim > 1:
            targets = targets.argmax(-1)
            valid_targets = None if valid_targets is None else valid_targets.argmax(-1)
        return find_baselines(
            inputs,
            targets,
            valid_inputs,
            valid_targets,
            classes,
        )

    arrays = [*data, *(valid or ())]
    return remember(classes, arrays, find)


def spread_rows(data: Data) -> np.ndarray:
    """Return the indices of the training examples that are examined."""
    return _spread(len(jax.tree.leaves(data)[0]), MAX_SAMPLE)


def _spread(
    examples: int,
    limit: int,
) -> np.ndarray:
    """Return evenly spaced indices of at most `limit` examples."""
    return np.linspace(0, examples - 1, min(examples, limit)).astype(np.int32)


def _take(
    data: Any,
    rows: np.ndarray,
) -> Any:
    return jax.tree.map(lambda array: array[rows], data)


def _changes(
    before: Any,
    after: Any,
) -> np.ndarray:
    """Return the relative change of each parameter, exactly 0 if no number has changed."""
    changes = []
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        old, new = np.asarray(old, float), np.asarray(new, float)
        size = np.sqrt(np.square(old).mean())
        change = np.sqrt(np.square(new - old).mean())
        changes.append(change / size if size > 0 else change)
    return np.array(changes)


def unchanged_statistics(
    before: Any,
    after: Any,
) -> tuple[str, ...]:
    """Return the paths of running statistics of layers where none has changed at all."""
    old, new = trees.named_leaves(before), trees.named_leaves(after)
    still = []
    moved = set()
    for path, array in old.items():
        layer, _, name = path.rpartition("/")
        if name not in RUNNING or path not in new:
            continue
        if np.array_equal(array, new[path]):
            still.append(path)
        else:
            # The mean of dead units stays 0, while their variance changes.
            moved.add(layer)
    return tuple(path for path in still if path.rpartition("/")[0] not in moved)
