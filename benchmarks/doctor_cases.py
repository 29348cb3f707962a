"""Networks, data sets and healthy runs of the benchmark of the doctor.

The three data sets of a network have the same shapes, so that one compiled program serves them all.
Schedules enter a recipe as tables of their values for the same reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import data, nn, objective, optim, train
from fnn.types import Layer

TRAIN, VALID, TEST = 1280, 256, 256  # examples; 1,792 of the 1,797 digits
CLASSES = 10
FEATURES = 8  # of the regressions
BATCH_SIZE = 64  # 20 steps an epoch
EPOCHS = 20  # an epoch is 5 % of the budget
NETWORKS = {
    "mlp": ("digits", "mixture", "blobs"),
    "cnn": ("digits", "gratings", "shapes"),
    "regression": ("friedman", "ripples", "teacher"),
    "transformer": ("digits", "waves", "rhythms"),
}

Examples = tuple[np.ndarray, np.ndarray]
Parts = Mapping[int, Layer]  # layers by the number of the block that they follow


class Split(NamedTuple):
    """Training and validation examples, and a clean test set that the doctor does not get."""

    train: Examples
    valid: Examples
    test: Examples

    def map(self, change: Callable[[Examples], Examples]) -> "Split":
        return Split(change(self.train), change(self.valid), change(self.test))


@dataclass(frozen=True)
class Design:
    """A network: blocks of an affine layer, a normalization and an activation, then a head.

    Attributes:
        family: "mlp", "cnn", "regression" or "transformer".
        width: Units of the first block.
        depth: Number of blocks.
        activation: Of every block; None for none.
        activations: Of single blocks, by number from 1.
        init: Initializer of the kernels of the blocks; None for the default.
        inits: Initializers of single blocks.
        head_init: Initializer of the head.
        norm: Normalization; None for none.
        before_norm: Layers between the affine layer and the normalization of a block.
        after: Layers after a block.
        front: Layers before the first block.
        end: Layers after the head.
        wrap: Changes affine layers, by number; block depth + 1 is the head.
    """

    family: str
    width: int
    depth: int
    activation: Layer | None = field(default_factory=nn.relu)
    activations: Parts = field(default_factory=dict)
    init: Any = None
    inits: Mapping[int, Any] = field(default_factory=dict)
    head_init: Any = None
    norm: Layer | None = None
    before_norm: Parts = field(default_factory=dict)
    after: Parts = field(default_factory=dict)
    front: tuple[Layer, ...] = ()
    end: tuple[Layer, ...] = ()
    wrap: Mapping[int, Callable[[Layer], Layer]] = field(default_factory=dict)

    def network(self) -> Layer:
        """Build the network; its layers have names such as dense_1 and activation_1."""
        layers = {f"front_{index}": layer for index, layer in enumerate(self.front, 1)}
        if self.family == "transformer":
            layers |= self._embedding()
        for number in range(1, self.depth + 1):
            layers |= self._block(number)
        layers |= self._pool()
        outputs = 1 if self.family == "regression" else CLASSES
        head = nn.dense(outputs, kernel_init=self.head_init)
        layers["head"] = self._wrapped(self.depth + 1, head)
        layers |= {f"end_{index}": layer for index, layer in enumerate(self.end, 1)}
        return nn.chain(**layers)

    def _wrapped(self, number: int, layer: Layer) -> Layer:
        return self.wrap.get(number, lambda same: same)(layer)

    def _embedding(self) -> dict[str, Layer]:
        project = nn.dense(self.width, kernel_init=self.init)
        return {"dense_0": self._wrapped(0, project), "positions": nn.learned_positions(8)}

    def _block(self, number: int) -> dict[str, Layer]:
        kernel_init = self.inits.get(number, self.init)
        activation = self.activations.get(number, self.activation)
        if self.family == "transformer":
            block = nn.transformer_block(
                4, expansion=2, activation=activation, kernel_init=kernel_init, norm=self.norm
            )
            name, affine, activation_part = "block", block, {}
        else:
            width = self.width
            name, affine = "dense", nn.dense(width, kernel_init=kernel_init)
            if self.family == "cnn":
                name, affine = "conv", nn.conv(width * min(number, 2), kernel_init=kernel_init)
            # Without an activation two affine layers follow each other.
            activation_part = {} if activation is None else {f"activation_{number}": activation}
        layers = {f"{name}_{number}": self._wrapped(number, affine)}
        if number in self.before_norm:
            layers[f"inner_{number}"] = self.before_norm[number]
        if self.norm is not None and self.family != "transformer":
            layers[f"norm_{number}"] = self.norm
        layers |= activation_part
        if self.family == "cnn" and number <= 2:
            layers[f"pool_{number}"] = nn.max_pool()
        if number in self.after:
            layers[f"extra_{number}"] = self.after[number]
        return layers

    def _pool(self) -> dict[str, Layer]:
        if self.family == "cnn":
            return {"flatten": nn.flatten()}
        if self.family == "transformer":
            return {"last_norm": nn.layer_norm(), "pool": MEAN_OVER_TIME}
        return {}


def _mean_over_time() -> Layer:
    def apply(params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        # (batch, time, width) -> (batch, width)
        return x.mean(1), state

    return Layer(lambda key, shape: ({}, {}, shape[1:]), apply, name="mean_over_time")


MEAN_OVER_TIME = _mean_over_time()


@dataclass(frozen=True)
class Setup:
    """Everything of a run: a design, the options of its recipe, and its data.

    Attributes:
        design: Of the network.
        split: Data sets.
        rate: Largest learning rate.
        shape: Share of the rate by the share of the run, both in [0, 1]; None for a constant.
        optimizer: From a schedule to an optimizer.
        options: Of `train.recipe`.
        batch_size: Examples per step.
        epochs: Passes over the training examples.
    """

    design: Design
    split: Split
    rate: float
    shape: Callable[[np.ndarray], np.ndarray]
    optimizer: Callable[[Any], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = BATCH_SIZE
    epochs: int = EPOCHS

    @property
    def is_regression(self) -> bool:
        return self.design.family == "regression"

    @property
    def steps(self) -> int:
        return len(self.split.train[0]) // self.batch_size * self.epochs

    def recipe(self, **options: Any) -> train.Recipe:
        """Build the recipe.

        Args:
            options: Further options of `train.recipe`, such as instruments.
        """
        share = np.arange(self.steps) / self.steps
        rates = jnp.asarray(self.rate * self.shape(share), jnp.float32)
        loss = objective.squared_error if self.is_regression else objective.cross_entropy
        merged = {"loss": loss} | dict(self.options) | options
        return train.recipe(self.design.network(), self.optimizer(optim.table(rates)), **merged)

    def design_with(self, **changes: Any) -> "Setup":
        return replace(self, design=replace(self.design, **changes))

    def options_with(self, **changes: Any) -> "Setup":
        return replace(self, options=dict(self.options) | changes)

    def figures(self, outputs: np.ndarray) -> tuple[float, float]:
        """Error and loss on the test set, by the usual loss.

        The error is the share of wrong labels, or the unexplained share of the variance.

        Args:
            outputs: Of the network for the test set.
        """
        targets = self.split.test[1]
        if not np.isfinite(outputs).all():
            return 1.0, np.inf
        if self.is_regression:
            error = float(np.mean((outputs - targets) ** 2) / targets.var())
            return error, error
        losses = objective.cross_entropy(jnp.asarray(outputs), jnp.asarray(targets))
        return float(np.mean(outputs.argmax(-1) != targets)), float(losses.mean())


# Schedules as functions of the share of the run.


def warm_cosine(share: np.ndarray) -> np.ndarray:
    """Linear warm-up over 5 % of the run, then half a cosine to 0."""
    return np.minimum(share / 0.05 + 0.05, 1) * 0.5 * (1 + np.cos(np.pi * share))


def constant(share: np.ndarray) -> np.ndarray:
    return np.ones_like(share)


# Data sets.


@cache
def split(network: str, name: str) -> Split:
    """Load or draw a data set in the shapes of a network, and split it."""
    inputs, targets = GENERATORS[name](network)
    inputs = np.asarray(inputs, np.float32)
    if network == "mlp":
        inputs = inputs.reshape(len(inputs), -1)
    if network == "cnn":
        inputs = inputs.reshape(len(inputs), 8, 8, 1)
    if network == "transformer":
        # Eight rows of eight pixels, or eight parts of eight moments, are the steps of a sequence.
        inputs = inputs.reshape(len(inputs), 8, 8)
    order = np.random.default_rng(0).permutation(len(inputs))
    inputs = inputs[order]
    targets = np.asarray(targets)[order]
    ends = np.cumsum([TRAIN, VALID, TEST])
    parts = [slice(end - count, end) for end, count in zip(ends, (TRAIN, VALID, TEST), strict=True)]
    return Split(*[(inputs[part], targets[part]) for part in parts])


COUNT = TRAIN + VALID + TEST


def _digits(network: str) -> Any:
    digits = data.digits()
    inputs = np.concatenate([digits.train[0], digits.test[0]]) / 255
    return inputs, np.concatenate([digits.train[1], digits.test[1]])


def _blobs(network: str) -> Any:
    """Ten overlapping Gaussian clusters."""
    key = jax.random.key(1)
    return data.synthetic.blobs(key, COUNT, classes=CLASSES, features=64, spread=1.6)


def _mixture(network: str) -> Any:
    """Three clusters per class, in 12 of the directions: classes that no linear map separates."""
    key = jax.random.key(2)
    points, labels = data.synthetic.blobs(key, COUNT, classes=30, features=12, spread=0.45)
    turn = jax.random.normal(jax.random.fold_in(key, 2), (12, 64)) / np.sqrt(12)
    return points @ turn, labels % CLASSES


def _gratings(network: str) -> Any:
    key = jax.random.key(3)
    images, labels = data.synthetic.gratings(
        key, COUNT, classes=CLASSES, size=8, waves=2.0, noise=0.15
    )
    return np.asarray(images) / 255, labels


def _shapes(network: str) -> Any:
    """Ten outlines at random places, with noise."""
    generator = np.random.default_rng(4)
    patterns = generator.random((CLASSES, 5, 5)) < 0.5
    labels = np.arange(COUNT, dtype=np.int32) % CLASSES
    images = 0.15 * generator.random((COUNT, 8, 8))
    for image, label in zip(images, labels, strict=True):
        row, column = generator.integers(0, 4, 2)
        image[row : row + 5, column : column + 5] += 0.6 * patterns[label]
    return np.clip(images + 0.1 * generator.standard_normal(images.shape), 0, 1), labels


def _waves(network: str) -> Any:
    """Sine waves of ten frequencies with random phase, 64 moments each."""
    generator = np.random.default_rng(5)
    labels = np.arange(COUNT, dtype=np.int32) % CLASSES
    time = np.arange(64) / 64
    phase = generator.random((COUNT, 1))
    cycles = 2 + labels[:, None]
    waves = np.sin(2 * np.pi * (cycles * time + phase))
    return waves + 0.25 * generator.standard_normal(waves.shape), labels


def _rhythms(network: str) -> Any:
    """Eight moments of eight channels: the label counts the loud moments and their kind."""
    generator = np.random.default_rng(6)
    labels = np.arange(COUNT, dtype=np.int32) % CLASSES
    loud = 1 + labels % 5
    kinds = generator.standard_normal((2, 8))
    order = generator.permuted(np.tile(np.arange(8), (COUNT, 1)), axis=1)
    is_loud = order < loud[:, None]
    pulses = is_loud[:, :, None] * kinds[labels // 5][:, None, :]
    return pulses + 0.35 * generator.standard_normal((COUNT, 8, 8)), labels


def _standard(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean()) / values.std()).astype(np.float32)[:, None]


def _friedman(network: str) -> Any:
    """The first function of Friedman 1991, with three features that do not matter."""
    generator = np.random.default_rng(7)
    x = generator.random((COUNT, FEATURES))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y += 10 * x[:, 3] + 5 * x[:, 4] + generator.standard_normal(COUNT)
    return (x - 0.5) * np.sqrt(12), _standard(y)


def _ripples(network: str) -> Any:
    generator = np.random.default_rng(8)
    x = generator.standard_normal((COUNT, FEATURES))
    y = np.sin(1.5 * x[:, 0]) + np.cos(x[:, 1]) * x[:, 2] + 0.5 * np.abs(x[:, 3])
    return x, _standard(y + 0.15 * generator.standard_normal(COUNT))


def _teacher(network: str) -> Any:
    """A random network of one hidden layer."""
    generator = np.random.default_rng(9)
    x = generator.standard_normal((COUNT, FEATURES))
    hidden = np.tanh(x @ generator.standard_normal((FEATURES, 12)) / 2)
    y = hidden @ generator.standard_normal(12)
    return x, _standard(y + 0.15 * y.std() * generator.standard_normal(COUNT))


GENERATORS = {
    "digits": _digits,
    "blobs": _blobs,
    "mixture": _mixture,
    "gratings": _gratings,
    "shapes": _shapes,
    "waves": _waves,
    "rhythms": _rhythms,
    "friedman": _friedman,
    "ripples": _ripples,
    "teacher": _teacher,
}


def healthy(network: str, name: str) -> Setup:
    """Return the healthy run of a network on a data set, which faults then change."""
    examples = split(network, name)
    if network == "mlp":
        return Setup(Design("mlp", 48, 3), examples, 3e-3, warm_cosine, optim.adam)
    if network == "cnn":
        design = Design("cnn", 8, 2, norm=nn.batch_norm())
        return Setup(design, examples, 0.05, warm_cosine, optim.momentum)
    if network == "regression":
        return Setup(Design("regression", 48, 3), examples, 5e-3, warm_cosine, optim.adam)
    design = Design("transformer", 32, 1, activation=nn.gelu())
    return Setup(design, examples, 3e-3, warm_cosine, optim.adamw)
