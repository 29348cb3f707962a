"""Seeded faults of the benchmark of the doctor: each changes a healthy run, and knows its name.

The right rules of a fault were chosen by their meaning, before any result: a rule is right if it
names the cause, or if its first advice removes it. `also` are the rules that name true consequences
of the fault. They do not count as found, and are not false alarms.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from doctor_cases import CLASSES, NETWORKS, Examples, Setup, Split, constant
from doctor_cases import warm_cosine as usual_shape

from fnn import nn, objective, optim
from fnn.types import Layer, Optimizer
from fnn.values import maker

ALL = tuple(NETWORKS)
CLASSIFIERS = ("mlp", "cnn", "transformer")
PLAIN = ("mlp", "regression")  # networks of dense layers
STACKS = ("mlp", "cnn", "regression")  # networks of numbered blocks

# Consequences that several faults share.
LEARNS_NOTHING = {"T13", "E10", "E02", "E09", "P13", "P14", "E08"}
LEARNS_SLOWLY = {"T05", "T13", "E02", "E03", "E09", "E10", "P13"}
DIVERGES = {"T01", "T02", "T04", "T06", "T08", "T09", "T13", "T14", "T17", "E05", "E09", "E10"}
OVERFITS = {"E01", "E03", "E04", "E07", "E08"}
BAD_SIGNALS = {"P11", "P13", "T02", "T03", "T04", "T05", "T06", "T07", "T10", "T13", "E02", "E10"}


@dataclass(frozen=True)
class Fault:
    """A seeded fault.

    Attributes:
        name: Its name.
        change: From a healthy setup to one with the fault.
        right: Rules that name the cause.
        also: Rules that name consequences.
        networks: Networks in which it makes sense.
        block: Number of the block where it is; 0 for none.
        direction: "forward" or "backward" for a NaN.
        is_harmful: Whether it must raise the error on the test set. Otherwise it is a fault by
            definition: the error on a clean test set cannot show it.
    """

    name: str
    change: Callable[[Setup], Setup]
    right: frozenset[str]
    also: frozenset[str]
    networks: tuple[str, ...]
    block: int = 0
    direction: str | None = None
    is_harmful: bool = True

    def is_right_layer(self, path: str | None) -> bool:
        """Return whether a layer or parameter belongs to the block of the fault.

        Args:
            path: Of the layer or parameter.
        """
        parts = (path or "").split("/")[0].split("_")
        if self.direction is not None:
            return parts == ["extra", str(self.block)]
        return parts[-1] == str(self.block)


FAULTS: dict[str, Fault] = {}


def fault(
    right: str,
    also: set[str] | None = None,
    networks: tuple[str, ...] = ALL,
    **options: Any,
) -> Callable[[Callable[[Setup], Setup]], Callable[[Setup], Setup]]:
    """Register a function as a fault under its own name."""

    def register(change: Callable[[Setup], Setup]) -> Callable[[Setup], Setup]:
        ids = frozenset(right.split())
        consequences = frozenset(also or ()) - ids
        name = change.__name__
        FAULTS[name] = Fault(name, change, ids, consequences, networks, **options)
        return change

    return register


def with_inputs(setup: Setup, change: Callable[[np.ndarray], np.ndarray]) -> Setup:
    """Change the inputs of all three sets, as a bug in the preprocessing does."""
    changed = setup.split.map(lambda part: (change(part[0]).astype(np.float32), part[1]))
    return replace(setup, split=changed)


def with_train(setup: Setup, change: Callable[[Examples], Examples]) -> Setup:
    return replace(setup, split=setup.split._replace(train=change(setup.split.train)))


# Losses and outputs.


def raw_nll(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(outputs, targets[:, None], -1)[:, 0]


@fault("P04 P06", LEARNS_NOTHING | DIVERGES, CLASSIFIERS)
def missing_softmax(setup: Setup) -> Setup:
    metrics = {"accuracy": objective.accuracy}
    return setup.options_with(loss=raw_nll, metrics=metrics)


@fault("P06", LEARNS_SLOWLY, CLASSIFIERS)
def double_softmax(setup: Setup) -> Setup:
    return setup.design_with(end=(nn.softmax(),))


@fault("P06", LEARNS_SLOWLY | {"T06", "P09"})
def relu_outputs(setup: Setup) -> Setup:
    return setup.design_with(end=(nn.relu(),))


@fault("P06", LEARNS_SLOWLY | {"T07"})
def tanh_outputs(setup: Setup) -> Setup:
    return setup.design_with(end=(nn.tanh(),))


def negative_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return -objective.cross_entropy(outputs, targets)


def negative_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return -objective.squared_error(outputs, targets)


@fault("P04 T14 T13 E10 P13", LEARNS_NOTHING | DIVERGES)
def flipped_loss(setup: Setup) -> Setup:
    loss = negative_error if setup.is_regression else negative_loss
    metrics = None if setup.is_regression else {"accuracy": objective.accuracy}
    return setup.options_with(loss=loss, metrics=metrics)


@maker
def ascent(inner: Optimizer) -> Optimizer:
    """An optimizer with the sign of its updates flipped."""

    def update(grads: Any, opt_state: Any, params: Any, **extra: Any) -> Any:
        updates, opt_state = inner.update(grads, opt_state, params, **extra)
        return jax.tree.map(jnp.negative, updates), opt_state

    return Optimizer(inner.init, update)


@fault("T14 T13 E10 P13", LEARNS_NOTHING | DIVERGES | {"P14"})
def flipped_update(setup: Setup) -> Setup:
    usual = setup.optimizer
    return replace(setup, optimizer=lambda rate: ascent(usual(rate)))


def batch_axis_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return raw_nll(jax.nn.log_softmax(outputs, axis=0), targets)


@fault("P04 P05 P08 P13 T13 E10", LEARNS_NOTHING, CLASSIFIERS)
def wrong_axis(setup: Setup) -> Setup:
    return setup.options_with(loss=batch_axis_loss, metrics={"accuracy": objective.accuracy})


def index_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.mean((outputs - targets[:, None]) ** 2, -1)


@fault("P04 P13 T13 E09 E10", LEARNS_NOTHING, CLASSIFIERS)
def wrong_loss(setup: Setup) -> Setup:
    return setup.options_with(loss=index_error, metrics={"accuracy": objective.accuracy})


def broadcast_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    # (n, 1) - (n,) is (n, n).
    return jnp.mean((outputs - targets[:, 0]) ** 2, -1)


@fault("P05 P08 P13 P14 T13 E10", LEARNS_NOTHING, ("regression",))
def broadcast_loss(setup: Setup) -> Setup:
    return setup.options_with(loss=broadcast_error)


def summed_loss_of_classes(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return objective.cross_entropy(outputs, targets) * len(outputs)


def summed_loss_of_numbers(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return objective.squared_error(outputs, targets) * len(outputs)


@fault("P05 T04 T02 T08", LEARNS_NOTHING | DIVERGES | {"P04"})
def summed_loss(setup: Setup) -> Setup:
    loss = summed_loss_of_numbers if setup.is_regression else summed_loss_of_classes
    metrics = None if setup.is_regression else {"accuracy": objective.accuracy}
    slow = replace(setup, optimizer=optim.momentum, rate=0.03)
    return slow.options_with(loss=loss, metrics=metrics)


# Data.


@fault("P14 E07 E10 T13", LEARNS_NOTHING | OVERFITS | {"E02"})
def shuffled_labels(setup: Setup) -> Setup:
    order = np.random.default_rng(10).permutation(len(setup.split.train[1]))
    return with_train(setup, lambda part: (part[0], part[1][order]))


@fault("E09 E10", {"E01", "E04", "E08", "P15"}, CLASSIFIERS)
def label_offset(setup: Setup) -> Setup:
    return with_train(setup, lambda part: (part[0], (part[1] + 1) % CLASSES))


@fault("E07", OVERFITS | {"E02", "E06"}, CLASSIFIERS)
def label_noise(setup: Setup) -> Setup:
    generator = np.random.default_rng(11)

    def change(part: Examples) -> Examples:
        noisy = generator.random(len(part[1])) < 0.3
        drawn = generator.integers(0, CLASSES, len(part[1]), dtype=part[1].dtype)
        return part[0], np.where(noisy, drawn, part[1])

    return with_train(setup, change)


@fault("P03 E09", OVERFITS | {"E10", "E02", "T13", "E05"}, CLASSIFIERS)
def imbalance(setup: Setup) -> Setup:
    def thin(part: Examples, share: float) -> Examples:
        keep = np.zeros(len(part[1]), bool)
        for label in range(CLASSES):
            members = np.flatnonzero(part[1] == label)
            keep[members[: len(members) if label == 0 else max(1, int(share * len(members)))]] = (
                True
            )
        return part[0][keep], part[1][keep]

    train, valid, test = setup.split
    # The least frequent classes keep 3 of about 128 examples. The number of steps stays the same.
    thinned = Split(thin(train, 0.025), thin(valid, 0.1), test)
    steps = setup.steps
    batch_size = 16
    epochs = round(steps / (len(thinned.train[0]) // batch_size))
    return replace(setup, split=thinned, batch_size=batch_size, epochs=epochs)


@fault("P15", {"E06"}, is_harmful=False)
def leakage(setup: Setup) -> Setup:
    train, valid, test = setup.split
    half = len(valid[0]) // 2
    inputs = np.concatenate([train[0][:half], valid[0][half:]])
    targets = np.concatenate([train[1][:half], valid[1][half:]])
    return replace(setup, split=Split(train, (inputs, targets), test))


@fault("P02", BAD_SIGNALS | DIVERGES | LEARNS_SLOWLY | OVERFITS | {"P04", "T11"})
def raw_range(setup: Setup) -> Setup:
    return with_inputs(setup, lambda x: x * 255)


@fault("P02", BAD_SIGNALS | DIVERGES | LEARNS_SLOWLY | OVERFITS | {"P04", "T11"})
def offset_inputs(setup: Setup) -> Setup:
    return with_inputs(setup, lambda x: x + 100)


@fault("P02", BAD_SIGNALS | LEARNS_SLOWLY)
def doubly_normalized(setup: Setup) -> Setup:
    return with_inputs(setup, lambda x: x * 0.004)


@fault("P02", BAD_SIGNALS | DIVERGES | LEARNS_SLOWLY | {"P04", "T11", "E05"}, PLAIN)
def large_feature(setup: Setup) -> Setup:
    def change(x: np.ndarray) -> np.ndarray:
        scale = np.ones(x.shape[1])
        scale[x.shape[1] // 2] = 1000
        return x * scale

    return with_inputs(setup, change)


@fault("P01 T01", LEARNS_NOTHING, is_harmful=False)
def nan_inputs(setup: Setup) -> Setup:
    def change(part: Examples) -> Examples:
        inputs = part[0].copy()
        inputs[7].flat[3] = np.nan
        return inputs, part[1]

    return with_train(setup, change)


@fault("P02 P14 E10 T13", LEARNS_NOTHING | {"P09", "P11", "T03", "T05", "T06", "P15", "E07"})
def blank_inputs(setup: Setup) -> Setup:
    return with_inputs(setup, lambda x: x * 0)


@fault("P02 T02 T09", DIVERGES | BAD_SIGNALS | {"P04", "E07"})
def outliers(setup: Setup) -> Setup:
    def change(part: Examples) -> Examples:
        inputs = part[0].copy()
        inputs[[3, 300]] *= 1000
        return inputs, part[1]

    return with_train(setup, change)


@fault("P02 P04 T05", BAD_SIGNALS | LEARNS_SLOWLY | DIVERGES, ("regression",))
def unscaled_targets(setup: Setup) -> Setup:
    scaled = setup.split.map(lambda part: (part[0], part[1] * np.float32(1000)))
    return replace(setup, split=scaled)


# Initialization.


def scaled_init(setup: Setup, scale: float) -> Setup:
    """Multiply the variance of all initial kernels, those of the head too."""
    init = nn.variance_scaling(scale)
    return setup.design_with(init=init, head_init=init)


@fault("P10 P09 T03", LEARNS_SLOWLY | LEARNS_NOTHING | BAD_SIGNALS)
def zero_init(setup: Setup) -> Setup:
    zero = nn.zeros()
    return setup.design_with(init=zero, head_init=zero)


@fault("P10", LEARNS_SLOWLY | LEARNS_NOTHING | BAD_SIGNALS | {"P04"})
def constant_init(setup: Setup) -> Setup:
    same = nn.constant(0.1)
    return setup.design_with(init=same, head_init=same)


@fault("P11 P04 T11 T02", BAD_SIGNALS | DIVERGES | OVERFITS)
def large_init(setup: Setup) -> Setup:
    return scaled_init(setup, 100.0)


@fault("P11 T10 T03", BAD_SIGNALS | LEARNS_SLOWLY)
def small_init(setup: Setup) -> Setup:
    return scaled_init(setup, 1e-4)


@fault("P04 T11", BAD_SIGNALS | DIVERGES | OVERFITS)
def large_head(setup: Setup) -> Setup:
    return setup.design_with(head_init=nn.variance_scaling(400.0))


# Rates.


@fault("T04 T08 T17", DIVERGES | LEARNS_NOTHING)
def high_rate(setup: Setup) -> Setup:
    return replace(setup, rate=setup.rate * 100)


@fault("T04 T08 T17", DIVERGES | LEARNS_NOTHING)
def highish_rate(setup: Setup) -> Setup:
    return replace(setup, rate=setup.rate * 25)


@fault("T05", LEARNS_SLOWLY)
def low_rate(setup: Setup) -> Setup:
    return replace(setup, rate=setup.rate / 300)


@fault("T05", LEARNS_SLOWLY)
def lowish_rate(setup: Setup) -> Setup:
    return replace(setup, rate=setup.rate / 60)


@fault("T12", LEARNS_SLOWLY)
def early_cut(setup: Setup) -> Setup:
    return replace(setup, shape=lambda share: np.where(share < 0.1, 1.0, 0.01))


@fault("T08 T18 E05 T04", {"E03", "E04", "E08", "E01", "T09", "T06", "T17"})
def never_cut(setup: Setup) -> Setup:
    return replace(setup, shape=constant, rate=setup.rate * 10)


@fault("T04 T08 T02 T09 T10", DIVERGES | LEARNS_NOTHING, ("transformer", "cnn"))
def no_warmup(setup: Setup) -> Setup:
    # With a warm-up over 5 % of the run these rates do no harm.
    rate = 0.03 if setup.design.family == "transformer" else 1.0
    return replace(setup, rate=rate, shape=lambda share: np.where(share < 0.5, 1.0, 2 - 2 * share))


@fault("T05", LEARNS_SLOWLY)
def large_epsilon(setup: Setup) -> Setup:
    rate = 3e-3
    return replace(setup, rate=rate, optimizer=lambda rate: optim.adam(rate, eps=1.0))


@fault("T05", LEARNS_SLOWLY)
def tight_clip(setup: Setup) -> Setup:
    def optimizer(rate: Any) -> Optimizer:
        return optim.clip_by_global_norm(optim.sgd(rate), 1e-3)

    return replace(setup, rate=0.1, optimizer=optimizer)


@fault("T08 T04 T17", DIVERGES | LEARNS_NOTHING)
def high_momentum(setup: Setup) -> Setup:
    def optimizer(rate: Any) -> Optimizer:
        return optim.momentum(rate, momentum=0.995)

    return replace(setup, rate=0.05, optimizer=optimizer)


# Regularization and capacity.


@fault("T15 T19 E02", LEARNS_NOTHING | LEARNS_SLOWLY)
def heavy_penalty(setup: Setup) -> Setup:
    return setup.options_with(regularizer=objective.l2(0.3))


@fault("P17 E02", LEARNS_NOTHING | LEARNS_SLOWLY | {"T18", "E06"})
def heavy_dropout(setup: Setup) -> Setup:
    blocks = range(1, setup.design.depth + 1)
    return setup.design_with(after={number: nn.dropout(0.9) for number in blocks})


@fault("P16", LEARNS_SLOWLY | {"T16", "P17", "E06", "E05"}, STACKS)
def dropout_before_norm(setup: Setup) -> Setup:
    blocks = range(1, setup.design.depth + 1)
    dropped = {number: nn.dropout(0.5) for number in blocks}
    return setup.design_with(before_norm=dropped, norm=nn.batch_norm())


@fault("E01 E04", {"E08", "E07", "E05"})
def overfit(setup: Setup) -> Setup:
    few = with_train(setup, lambda part: (part[0][:96], part[1][:96]))
    wide = few.design_with(width=4 * setup.design.width)
    return replace(wide, batch_size=32, epochs=setup.steps // 3, shape=constant)


@fault("E02", {"E03", "E09", "E10", "P13", "T05", "T06", "E05"})
def underfit(setup: Setup) -> Setup:
    if setup.design.family == "transformer":
        return setup.design_with(width=4)
    # Few units with relu would be dead at the start, which is another fault.
    return setup.design_with(width=2, activation=nn.leaky_relu(0.1))


@fault("E03 E02", LEARNS_SLOWLY)
def too_short(setup: Setup) -> Setup:
    return replace(setup, epochs=2, shape=constant, rate=setup.rate / 4)


# Activations and depth.


@fault("T07 P11", BAD_SIGNALS | OVERFITS | LEARNS_SLOWLY | {"P04"}, STACKS)
def saturated(setup: Setup) -> Setup:
    init = nn.variance_scaling(1000.0)
    return setup.design_with(activation=nn.tanh(), norm=None, init=init)


@fault("T07 P11", BAD_SIGNALS | OVERFITS | LEARNS_SLOWLY | {"P04"}, STACKS, block=2)
def saturated_block(setup: Setup) -> Setup:
    inits = {2: nn.variance_scaling(10000.0)}
    return setup.design_with(activation=nn.tanh(), norm=None, inits=inits)


@fault("T03 P11 T10", BAD_SIGNALS | LEARNS_NOTHING | LEARNS_SLOWLY, STACKS)
def vanishing(setup: Setup) -> Setup:
    return setup.design_with(activation=nn.sigmoid(), depth=8, norm=None)


@fault("P11 T02 P04 T11", BAD_SIGNALS | DIVERGES | OVERFITS, STACKS)
def exploding(setup: Setup) -> Setup:
    return setup.design_with(init=nn.variance_scaling(18.0), depth=8, norm=None)


def _bias(value: float) -> Layer:
    def apply(params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        return x + params["bias"], state

    def init(key: Any, shape: Any) -> Any:
        return {"bias": jnp.full(shape[-1:], value)}, {}, shape

    return Layer(init, apply, name="bias")


LOW_BIAS = _bias(-12.0)


@fault("T06", BAD_SIGNALS | LEARNS_NOTHING | {"P09"}, STACKS, block=2)
def dead_by_bias(setup: Setup) -> Setup:
    return setup.design_with(activations={2: nn.chain(LOW_BIAS, nn.relu())})


@fault("T06 T04", DIVERGES | LEARNS_NOTHING | {"P09", "T03"}, PLAIN)
def dead_by_rate(setup: Setup) -> Setup:
    def shape(share: np.ndarray) -> np.ndarray:
        return np.where(share < 0.02, 300.0, usual_shape(share))

    return replace(setup, shape=shape)


# Batch norm and batches.


@fault("P11 T10 T03", BAD_SIGNALS | LEARNS_SLOWLY | LEARNS_NOTHING, ("cnn",))
def no_norm(setup: Setup) -> Setup:
    return setup.design_with(norm=None, depth=9)


FIXED_NORM = nn.inference(nn.batch_norm(), params=False)


@fault("P11 T10 T03 T16", BAD_SIGNALS | LEARNS_SLOWLY | LEARNS_NOTHING, ("cnn",))
def norm_in_evaluation_mode(setup: Setup) -> Setup:
    return setup.design_with(norm=FIXED_NORM, depth=9)


@fault("T16", {"E01", "E02", "E05", "E06", "E08", "E09", "E10", "E04", "E03"}, STACKS)
def slow_statistics(setup: Setup) -> Setup:
    return setup.design_with(norm=nn.batch_norm(momentum=0.9995))


def _always_training(inner: Layer) -> Layer:
    def apply(params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        return inner.apply(params, state, x, key=key, train=True)

    return Layer(inner.init, apply, name=inner.name)


TRAINING_NORM = _always_training(nn.batch_norm())


@fault("P08 T16", {"E05"}, STACKS, is_harmful=False)
def norm_in_training_mode(setup: Setup) -> Setup:
    return setup.design_with(norm=TRAINING_NORM)


@fault("T18 T16", DIVERGES | LEARNS_SLOWLY | {"E05", "E06", "E08", "E01"}, STACKS)
def small_batches(setup: Setup) -> Setup:
    # As many steps as the healthy run, each with 2 examples.
    normed = setup.design_with(norm=nn.batch_norm())
    few = with_train(normed, lambda part: (part[0][:640], part[1][:640]))
    return replace(few, batch_size=2, epochs=2)


# The structure of the network and of the update.


@fault("P07", {"E02", "T05", "P13"}, STACKS)
def no_activations(setup: Setup) -> Setup:
    return setup.design_with(activation=None, norm=None)


def mix_batch(x: jax.Array) -> jax.Array:
    # A reshape in the place of a transpose.
    return x.reshape(x.shape[-1], -1).T.reshape(x.shape)


@fault("P08", LEARNS_NOTHING | LEARNS_SLOWLY | OVERFITS, STACKS, block=1)
def mixed_batch(setup: Setup) -> Setup:
    return setup.design_with(after={1: nn.elementwise(mix_batch)})


def blank(x: jax.Array) -> jax.Array:
    return 0 * x


@fault("P14 P09 P11 E10 T13", LEARNS_NOTHING | BAD_SIGNALS | {"P10", "T06", "T03", "E07"}, STACKS)
def ignored_input(setup: Setup) -> Setup:
    return setup.design_with(after={1: nn.elementwise(blank)})


def stop(x: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(x)


@fault("P09", LEARNS_SLOWLY | {"P12", "T03"}, STACKS, block=2, is_harmful=False)
def stopped_gradient(setup: Setup) -> Setup:
    return setup.design_with(activations={2: nn.chain(nn.elementwise(stop), nn.relu())})


@fault("P09", LEARNS_SLOWLY | {"T03"}, STACKS, block=1, is_harmful=False)
def frozen(setup: Setup) -> Setup:
    usual = setup.optimizer
    still = {"*_1/*": optim.sgd(0.0)}
    return replace(setup, optimizer=lambda rate: optim.partition(still, usual(rate)))


def log(x: jax.Array) -> jax.Array:
    return jnp.log(x)


@fault("T01", {"P01", "P11", "P04", "P13"}, ALL, block=1, direction="forward", is_harmful=False)
def nan_forward(setup: Setup) -> Setup:
    return setup.design_with(after={1: nn.elementwise(log)})


def root(x: jax.Array) -> jax.Array:
    # The slope at 0 is infinite. An inner 0 of relu would not pass it on, the largest value does.
    return jnp.sqrt(x.max(-1, keepdims=True) - x)


@fault("T01", {"P12", "P13"}, ALL, block=1, direction="backward", is_harmful=False)
def nan_backward(setup: Setup) -> Setup:
    return setup.design_with(after={1: nn.elementwise(root)})


def _divide_late(steps: int) -> Layer:
    """Divides by 0 in the last of a number of training steps."""

    def apply(params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        left = state["left"] - train
        return x / jnp.where(left == 0, 0.0, 1.0), {"left": left}

    return Layer(lambda key, shape: ({}, {"left": jnp.float32(steps)}, shape), apply, name="divide")


DIVIDE_LATE = _divide_late(120)


@fault("T01", {"E10", "E09"}, STACKS, block=2, direction="forward", is_harmful=False)
def nan_late(setup: Setup) -> Setup:
    return setup.design_with(after={2: DIVIDE_LATE})


# Augmentation.


def distort(key: jax.Array, image: jax.Array) -> jax.Array:
    return 10 * image - 3


def drown(key: jax.Array, image: jax.Array) -> jax.Array:
    return image + 3 * jax.random.normal(key, image.shape)


@fault("P18", BAD_SIGNALS | LEARNS_SLOWLY | OVERFITS)
def broken_augmentation(setup: Setup) -> Setup:
    return setup.options_with(augment=distort)


@fault("P18", LEARNS_NOTHING | LEARNS_SLOWLY | OVERFITS | {"E06"})
def noisy_augmentation(setup: Setup) -> Setup:
    return setup.options_with(augment=drown)
