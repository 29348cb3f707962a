"""Rules of other doctors for trainings, by their published thresholds, on the same runs.

Own code from the thresholds in papers and repositories; no code of theirs. A rule counts as the
right one for a fault generously: each maps to all of our rules that its advice could mean. Rules
that need a second run use ours: the run on 16 examples, and the check that examples are independent
are those of `diagnose.preflight`.

Sources: UMLAUT [Schoop et al. 2021], AutoTrainer [Zhang et al. 2021], DeepDiagnosis [Wardat et al.
2022], TheDeepChecker [Ben Braiek & Khomh 2023], SageMaker Debugger's built-in rules, DLCheck.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from doctor_cases import CLASSES, Setup
from doctor_runs import SHARES, Cell

from fnn import nn, train
from fnn.nn.core.composite import name_of
from fnn.types import StepRecord

SAMPLE = 256  # training examples whose activations are examined
BOUNDED = ("tanh", "sigmoid")

# Meanings of the peers' rules, as our rules.
RATE_HIGH = frozenset({"T04", "T08", "T17"})
RATE_LOW = frozenset({"T05"})
UNSTABLE = frozenset({"T02", "T04", "T08", "T09", "T14", "T17", "P11", "P04", "T11", "P05"})
NOT_FINITE = frozenset({"T01", "P01"})
VANISHES = frozenset({"T03", "P11", "T10", "P10", "P09"})
DEAD = frozenset({"T06", "P09"})
SLOW = frozenset({"T05", "T10", "T13", "T12", "E02", "E03", "P13", "T15", "P07"})
OUTPUTS = frozenset({"P06", "P04"})
NOT_TRAINED = frozenset({"P09", "P10", "T03", "T05"})
OVERFITS = frozenset({"E01", "E04"})

Flags = Iterator[frozenset[str]]


class Record(NamedTuple):
    """The evidence of a lane.

    Attributes:
        setup: Of the run.
        history: Figures of the steps and epochs.
        epoch_length: Steps per epoch.
        kinds: Makers of the layers.
        layers: Figures of the layers by name, (checkpoints, layers); the first is the start.
        modes: Loss in training and evaluation mode at the end.
        penalty: Norm of the penalty's gradient by that of the loss at checkpoints.
        found: Ids of the preflight's findings.
    """

    setup: Setup
    history: Mapping[str, np.ndarray]
    epoch_length: int
    kinds: tuple[str, ...]
    layers: Mapping[str, np.ndarray]
    modes: tuple[float, float]
    penalty: np.ndarray
    found: frozenset[str]

    def by_epoch(self, name: str) -> np.ndarray:
        """Means over epochs of a figure of the steps."""
        values = self.history[name]
        whole = len(values) // self.epoch_length * self.epoch_length
        return values[:whole].reshape(-1, self.epoch_length).mean(1)

    def of(self, name: str, kinds: tuple[str, ...] | None = None) -> np.ndarray:
        """A figure of the layers of some kinds, (checkpoints, layers)."""
        chosen = [kinds is None or kind in kinds for kind in self.kinds]
        return self.layers[name][:, chosen]


# Figures of every step, as measures of the recipe.


def _kernels(tree: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim >= 2]


def _size(leaf: jax.Array) -> jax.Array:
    return jnp.abs(leaf).mean()


def _over_kernels(
    reduce: Callable[[Any], jax.Array], value: Callable[[jax.Array], jax.Array]
) -> Callable[[StepRecord], jax.Array]:
    def measure(step: StepRecord) -> jax.Array:
        return reduce(jnp.stack([value(leaf) for leaf in _kernels(step.grads)]))

    return measure


def _ratios(step: StepRecord) -> jax.Array:
    pairs = zip(_kernels(step.params), _kernels(step.new_params), strict=True)
    return jnp.stack([_size(new - old) / _size(old) for old, new in pairs])


MEASURES = {
    "first_norm": lambda step: jnp.linalg.norm(_kernels(step.grads)[0].ravel()),
    "last_norm": lambda step: jnp.linalg.norm(_kernels(step.grads)[-1].ravel()),
    "zero_share": _over_kernels(jnp.max, lambda leaf: (leaf == 0).mean()),
    "least_grad": _over_kernels(jnp.min, _size),
    "largest_grad": _over_kernels(jnp.max, _size),
    "least_ratio": lambda step: _ratios(step).min(),
    "largest_ratio": lambda step: _ratios(step).max(),
    "largest_weight": lambda step: jnp.stack(
        [jnp.abs(leaf).max() for leaf in _kernels(step.params)]
    ).max(),
}


# Figures of the layers, at checkpoints.


@jax.jit
def _observe(recipe: train.Recipe, state: Any, inputs: Any, targets: Any) -> Any:
    """Figures of a train state: of each layer, of the loss in both modes, of the penalty."""
    tapped = nn.tap(recipe.network, "*")
    # The loss of a mode, without augmentation.
    _, outputs = tapped.apply(state.params, state.state, inputs, train=False)[0]
    layers = {}
    for path, y in outputs.items():
        flat = y.reshape(-1, y.shape[-1])
        spread = y.reshape(y.shape[0], -1, y.shape[-1]).max(1)
        layers[path] = {
            "nonpositive": (flat <= 0).mean(),
            # The percentile 95 is below 1e-5; without the sort, which compiles slowly.
            "dead": ((spread > 1e-5).mean(0) < 0.05).mean(),
            "inactive": ((flat > 0).mean(0) < 0.01).mean(),
            "std": flat.std(),
            "variance": flat.var(),
            "large": (jnp.abs(flat) >= 5).mean(),
            "bound": jnp.mean(jnp.abs(flat).mean(0) > 0.85),
        }

    def loss(params: Any, mode: bool) -> jax.Array:
        key = jax.random.key(0)
        y, _ = recipe.network.apply(params, state.state, inputs, key=key, train=mode)
        return jnp.mean(recipe.loss(y, targets))

    modes = loss(state.params, True), loss(state.params, False)
    penalty = jnp.zeros(())
    if recipe.regularizer is not None:
        of_penalty = jax.grad(recipe.regularizer)(state.params)
        of_loss = jax.grad(loss)(state.params, True)
        penalty = _norm(of_penalty) / _norm(of_loss)
    return layers, modes, penalty


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


_observe_lanes = jax.jit(jax.vmap(_observe, (None, 0, None, None)))


def records(cell: Cell, found: frozenset[str]) -> list[Record]:
    """Collect the evidence of the lanes of a cell.

    Args:
        cell: The runs.
        found: Ids of the preflight's findings.
    """
    inputs, targets = cell.setup.split.train
    sample = inputs[:SAMPLE], targets[:SAMPLE]
    observed = [
        jax.device_get(_observe_lanes(cell.recipe, cell.states[share], *sample))
        for share in (0.0, *SHARES)
    ]
    kinds = _kinds(cell.recipe.network)
    paths = [path for path in observed[0][0] if path in kinds]
    lanes = []
    for lane in range(len(cell.figures)):
        layers = {}
        for name in observed[0][0][paths[0]]:
            layers[name] = np.array(
                [[of[0][path][name][lane] for path in paths] for of in observed]
            )
        modes = tuple(float(loss[lane]) for loss in observed[-1][1])
        penalty = np.array([of[2][lane] for of in observed])
        lane_history = {name: values[lane] for name, values in cell.history.items()}
        epoch_length = len(inputs) // cell.setup.batch_size
        lane_kinds = tuple(kinds[path] for path in paths)
        lanes.append(
            Record(
                cell.setup,
                lane_history,
                epoch_length,
                lane_kinds,
                layers,
                modes,
                penalty,
                found,
            )
        )
    return lanes


def _kinds(network: Any, prefix: str = "") -> dict[str, str]:
    """Makers of the layers without parts, by path."""
    kinds = {}
    for name, part in network.parts.items():
        path = f"{prefix}{name}"
        if getattr(part, "parts", None):
            kinds |= _kinds(part, f"{path}/")
        else:
            kinds[path] = name_of(part)
    return kinds


# The rules.


def umlaut(record: Record) -> Flags:
    """Inputs outside of [-1, 1], rates, one epoch of overfitting, accuracy, static checks."""
    inputs = record.setup.split.train[0]
    if not np.isfinite(inputs).all():
        yield NOT_FINITE
    if inputs.min() < -1 or inputs.max() > 1:
        yield frozenset({"P02"})
    rate = record.history["rate"].max()
    if rate > 0.01:
        yield RATE_HIGH
    if rate < 1e-7:
        yield RATE_LOW
    if not np.isfinite(record.history["loss"]).all():
        yield NOT_FINITE | RATE_HIGH
    valid, loss = record.history["valid_loss"], record.by_epoch("loss")
    count = min(len(valid), len(loss))
    if ((np.diff(valid[:count]) > 0) & (np.diff(loss[:count]) <= 0)).any():
        yield OVERFITS
    if "accuracy" in record.history:
        valid, own = record.history["valid_accuracy"], record.by_epoch("accuracy")
        count = min(len(valid), len(own))
        late = slice(3, count)
        if ((valid[late] > 0.95) | (valid[late] - own[late] > 0.05)).any():
            yield frozenset({"P15", "E06"})
    yield from _static(record.setup)


def _static(setup: Setup) -> Flags:
    """Checks of the network's definition: dropout above .5, activations that lack or end it."""
    design = setup.design
    if any("dropout(0.9" in repr(layer) for layer in design.after.values()):
        yield frozenset({"P17"})
    if design.activation is None:
        yield frozenset({"P07", "E02"})
    if design.end:
        yield OUTPUTS
    loss = setup.options.get("loss")
    if not setup.is_regression and getattr(loss, "__name__", "") == "raw_nll":
        yield OUTPUTS


def autotrainer(record: Record) -> Flags:
    """Gradient ratios of the first and last layer, zero gradients, oscillation, slow progress."""
    history = record.history
    first, last = history["first_norm"], history["last_norm"]
    ratio = first / np.maximum(last, 1e-30)
    if ((ratio < 1e-3) & (first < 1e-4)).any():
        yield VANISHES
    if (ratio > 70).any() or not np.isfinite(first).all():
        yield UNSTABLE
    if (history["zero_share"] >= 0.7).any():
        yield DEAD
    loss = history["loss"]
    if not np.isfinite(loss).all() or (loss > 1e3).any():
        yield NOT_FINITE | UNSTABLE | frozenset({"P02"})
    if (loss < 0).any():
        yield OUTPUTS | frozenset({"T14"})
    if (history["largest_weight"] > 5).any():
        yield UNSTABLE
    if "accuracy" not in history:
        return
    own, valid = record.by_epoch("accuracy"), history["valid_accuracy"]
    drops = np.maximum.accumulate(own) - own
    # A peak followed by a trough .03 lower, in a fifth of the epochs.
    if (drops >= 0.03).mean() >= 0.2:
        yield frozenset({"T08", "T04", "T17", "T18", "E05"})
    # Not converged; and slow: the best gain of an epoch is below .01.
    is_slow = len(own) > 1 and np.diff(own).max() < 0.01
    if own.max() < 0.6 or (is_slow and own.max() < 0.7):
        yield SLOW
    count = min(len(own), len(valid))
    gap = own[:count] - valid[:count]
    if count and gap[-1] >= (0.07 if own[-1] > 0.9 else 0.10):
        yield OVERFITS


def deepdiagnosis(record: Record) -> Flags:
    """Dead and saturated elements, vanishing gradients, variances, rates, unchanged weights."""
    history = record.history
    if not np.isfinite(history["loss"]).all():
        yield NOT_FINITE | UNSTABLE
    if (record.of("nonpositive", ("relu",)) >= 0.7).any():
        yield DEAD
    if _saturates(record, "large"):
        yield frozenset({"T07", "P11"})
    if (history["least_grad"] < 1e-7).any():
        yield VANISHES
    variance = record.layers["variance"][0]
    if (variance < 1e-5).any() or (variance > 10).any():
        yield frozenset({"P11", "P04", "T11", "P02", "P10"})
    rate = history["rate"].max()
    if rate > 0.1:
        yield RATE_HIGH
    if rate < 1e-5:
        yield RATE_LOW
    if (history["largest_ratio"] == 0).any():
        yield NOT_TRAINED
    own = record.by_epoch("loss")
    if len(own) > 3 and (np.diff(own)[:3] >= 0).all():
        yield SLOW | frozenset({"T14"})


def _saturates(record: Record, name: str) -> bool:
    """Whether the inputs of more than half of the units of a bounded layer are large."""
    before = [index - 1 for index, kind in enumerate(record.kinds) if kind in BOUNDED and index]
    return bool((record.layers[name][:, before] > 0.5).any())


def thedeepchecker(record: Record) -> Flags:
    """Dead and saturated units, activations, gradients, update ratios, losses, labels, checks."""
    history = record.history
    if (record.of("dead", ("relu",)) > 0.5).any():
        yield DEAD
    if (record.of("bound", BOUNDED) > 0.5).any():
        yield frozenset({"T07", "P11"})
    deviation = record.of("std", ("relu", "gelu", *BOUNDED))[0]
    if ((deviation < 0.5) | (deviation > 2.0)).any():
        yield frozenset({"P11", "P04", "T11", "P10", "P02"})
    if (history["least_grad"] < 1e-6).any():
        yield VANISHES
    if (history["largest_grad"] > 1e6).any():
        yield UNSTABLE
    with np.errstate(divide="ignore"):
        window = np.ones(10) / 10
        least = np.convolve(np.log10(np.maximum(history["least_ratio"], 1e-12)), window, "valid")
        most = np.convolve(np.log10(np.maximum(history["largest_ratio"], 1e-12)), window, "valid")
    if (most > -1).any():
        yield RATE_HIGH
    if (least < -4).any():
        yield RATE_LOW | VANISHES
    if (history["least_ratio"][1:] == 0).any():
        yield NOT_TRAINED
    yield from _losses(record)
    yield from _checks(record)


def _losses(record: Record) -> Flags:
    loss = record.by_epoch("loss")
    if not np.isfinite(loss).all():
        yield NOT_FINITE | UNSTABLE
    if len(loss) > 5 and loss[5] > 0.95 * loss[0]:
        yield SLOW
    lowest = np.minimum.accumulate(loss)
    if (loss >= 2 * np.abs(lowest)).any():
        yield UNSTABLE
    steps = record.history["loss"]
    changes = np.sign(np.diff(steps[-50:]))
    if len(changes) > 10 and (changes[1:] != changes[:-1]).mean() > 0.5:
        yield frozenset({"T08", "T04", "T18", "E05"})
    if not record.setup.is_regression:
        chance = np.log(CLASSES)
        if abs(steps[0] - chance) >= chance:
            yield frozenset({"P04", "T11", "P11", "P06", "P02", "P05"})
    if (loss <= 1e-5).any():
        yield OVERFITS


def _checks(record: Record) -> Flags:
    inputs, targets = record.setup.split.train
    in_unit = inputs.min() >= -1 and inputs.max() <= 1
    is_standard = np.abs(inputs.mean()) < 0.1 and np.abs(inputs.std() - 1) < 0.1
    if not (in_unit or is_standard):
        yield frozenset({"P02"})
    if not record.setup.is_regression:
        shares = np.bincount(targets, minlength=CLASSES) / len(targets)
        entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-12)))
        if (np.exp(entropy) - 1) / (CLASSES - 1) < 0.5:
            yield frozenset({"P03", "E09"})
    for rule in ("P05", "P08", "P13"):
        if rule in record.found:
            yield frozenset({rule, "T13"}) if rule == "P13" else frozenset({rule})
    training, evaluation = record.modes
    if abs(training - evaluation) > 0.5 * abs(training):
        yield frozenset({"T16", "P16", "P17"})
    grows = record.penalty[1:] >= 2 * record.penalty[:-1]
    if (record.penalty[1:] > 0).any() and grows.any():
        yield frozenset({"T15", "T19", "E02"})


def sagemaker(record: Record) -> Flags:
    """Built-in rules of the debugger."""
    history = record.history
    if (record.of("inactive", ("relu",)) > 0.5).any():
        yield DEAD
    if (record.of("bound", BOUNDED) > 0.9999).any():
        yield frozenset({"T07", "P11"})
    if (history["least_grad"] < 1e-7).any():
        yield VANISHES
    ratio = history["largest_ratio"]
    if (ratio > 10).any():
        yield RATE_HIGH
    if (history["least_ratio"][1:] < 1e-8).any():
        yield RATE_LOW | NOT_TRAINED
    if not np.isfinite(history["loss"]).all():
        yield NOT_FINITE | UNSTABLE
    variance = record.layers["variance"][0]
    if variance.max() > 10 * max(variance.min(), 1e-30):
        yield frozenset({"P11", "P04", "T11", "P10", "P02"})
    own, valid = record.by_epoch("loss"), history["valid_loss"]
    count = min(len(own), len(valid))
    if ((valid[:count] - own[:count]) / np.abs(own[:count]) > 0.1).any():
        yield OVERFITS
    if len(own) > 1 and (np.diff(own) > -0.001 * np.abs(own[:-1])).any():
        yield SLOW | frozenset({"T14"})
    if not record.setup.is_regression:
        counts = np.bincount(record.setup.split.train[1], minlength=CLASSES)
        if counts.max() > 10 * max(counts.min(), 1):
            yield frozenset({"P03", "E09"})


def dlcheck(record: Record) -> Flags:
    """Update ratios, dead units, gradients, scale of the inputs, leakage by a fast loss."""
    history = record.history
    inputs = record.setup.split.train[0]
    if not np.isfinite(history["loss"]).all():
        yield NOT_FINITE | UNSTABLE
    if (history["largest_ratio"] > 10).any():
        yield RATE_HIGH
    if (history["least_ratio"][1:] < 1e-8).any():
        yield RATE_LOW | NOT_TRAINED
    if (record.of("nonpositive", ("relu",)) > 0.95).any():
        yield DEAD
    if (history["least_grad"] < 1e-7).any():
        yield VANISHES
    if (history["largest_grad"] > 1e6).any():
        yield UNSTABLE
    if np.abs(inputs.mean()) > 10 or inputs.std() > 100:
        yield frozenset({"P02"})
    if (history["loss"][:10] < 0.8).any():
        yield frozenset({"P15", "E06", "P04"})


PEERS: dict[str, Callable[[Record], Flags]] = {
    "UMLAUT": umlaut,
    "AutoTrainer": autotrainer,
    "DeepDiagnosis": deepdiagnosis,
    "TheDeepChecker": thedeepchecker,
    "SageMaker": sagemaker,
    "DLCheck": dlcheck,
}
