"""The contracts of fnn, and the arrays it speaks of, each named once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, UInt8

RandomKey = Key[Array, ""]
Scalar = Float[Array, ""]
Step = Integer[Array, ""]

Image = UInt8[Array, "height width channels"] | Float[Array, "height width channels"]
Images = UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"]
Features = Float[Array, "batch *features"]
Logits = Float[Array, "*batch classes"]
Labels = Integer[Array, "*batch"]
Probabilities = Float[Array, "*batch classes"]
PerExample = Float[Array, "*batch"]

Shape = tuple[
    int, ...
]  # of one array, without its batch axis; a tuple of arrays has the tuple of their shapes
ImageShape = tuple[int, int, int]  # height, width, channels
Params = Any  # a pytree of floating-point arrays
State = Any  # a pytree of arrays
OptState = Any  # a pytree of arrays

Number = float | Array
Magnitude = Number | tuple[Number, Number]  # exactly this, or drawn between the two
ScheduleFunction = Callable[[Step], Scalar]
Rate = Number | ScheduleFunction
Initializer = Callable[[RandomKey, Shape], Array]
Augmentation = Callable[[RandomKey, Image], Image]
Augmentations = Callable[..., Images]
LossFunction = Callable[[Any, Any], "PerExample | Weighted"]
Metrics = Mapping[str, "LossFunction | Metric"]
Regularizer = Callable[[Params], Scalar]
Constraint = Callable[[Params], Params]
Prepare = Callable[[Array], Array]
Data = tuple[Any, Any]


# Leaves whose names have a meaning: what is a weight matrix, what is added to the loss, what is not trained.
KERNEL, PENALTY, FROZEN = "kernel", "penalty", "frozen"


class Weighted(NamedTuple):
    """Values, and how much each counts: their mean is Σ weights values / Σ weights, taken in `train`."""

    values: PerExample
    weights: PerExample


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss (outputs, targets) -> one value an example, and what is known of its targets.

    A plain function is a loss too, of which nothing is known: it gets no metric by default and no check of its targets.

    Attributes:
        function: (outputs, targets) -> values (batch, ...), or Weighted.
        classes: Whether integer targets are the numbers of classes, of which the outputs' last axis has one each.
        probabilities: Whether targets of the outputs' shape are probabilities, which sum to 1 along the last axis.
        ignored: The labels that count nothing.
        metric: What is reported beside the loss unless metrics are given, under its name.
        heads: The losses of several outputs, by name, where it is made of such.
    """

    function: LossFunction
    classes: bool = False
    probabilities: bool = False
    ignored: frozenset[int] = frozenset()
    metric: "tuple[str, LossFunction | Metric] | None" = None
    heads: "Mapping[str, LossFunction] | None" = None

    def __call__(self, outputs: Any, targets: Any) -> "PerExample | Weighted":
        return self.function(outputs, targets)


@dataclass(frozen=True, eq=False)
class Metric:
    """A figure of a whole set of examples that is not a mean over them, such as an area under a curve.

    Attributes:
        per_example: (outputs, targets) -> statistics, arrays with one entry an example (n, ...).
        reduce: (statistics, weights) -> figure. The weights (n,) say how much each example counts, 0 for not at all.
    """

    per_example: Callable[[Any, Any], Any]
    reduce: Callable[[Any, PerExample], Array]

    def __call__(self, outputs: Any, targets: Any, weights: PerExample | None = None) -> Array:
        """The figure of these outputs and targets.

        Args:
            outputs: Of the network, arrays (n, ...).
            targets: Arrays (n, ...).
            weights: (n,), by default 1 for every example.
        """
        statistics = self.per_example(outputs, targets)
        examples = jax.tree.leaves(statistics)[0].shape[0]
        return self.reduce(statistics, jnp.ones(examples) if weights is None else weights)


@dataclass(frozen=True, eq=False)
class Layer:
    """A network, or a part of one: a pair of pure functions.

    Attributes:
        init: (key, shape) -> (params, state, out_shape), shapes without the batch axis.
        apply: (params, state, x, *, key=None, train=False) -> (y, state)
        name: What the layer is called in a chain, `name_0`, and so in the params; None for the name of its maker.
        parts: What it is made of, by name: layers, or functions that give one, as the body of a `repeat` may be.
        with_parts: (parts) -> Layer, the same layer made of other parts of the same names.
        by_name: Whether its params and state are dicts of those of its parts, as they are, by these names.
    """

    init: Callable[[RandomKey, Shape], tuple[Params, State, Shape]]
    apply: Callable[..., tuple[Any, State]]
    name: str | None = None
    parts: "Mapping[str, Layer | Callable[..., Layer]]" = field(default_factory=dict)
    with_parts: "Callable[[Mapping[str, Any]], Layer] | None" = None
    by_name: bool = False


@dataclass(frozen=True, eq=False)
class Schedule:
    """A value that changes with the step: schedule(step) -> value. A plain function is one too.

    Attributes:
        function: (step) -> value
        steps: The steps after which it no longer changes; None where it has no end.
    """

    function: ScheduleFunction
    steps: Number | None = None

    def __call__(self, step: Step) -> Scalar:
        return self.function(step)


@dataclass(frozen=True, eq=False)
class Optimizer:
    """A rule of descent: a pair of pure functions, with the signature of other JAX optimizer libraries.

    Attributes:
        init: (params) -> opt_state
        update: (grads, opt_state, params, **extra) -> (updates, opt_state); params + updates are the new params.
        step: (grads, opt_state, params, **extra) -> (params, opt_state), the same and the addition in one pass over
            memory; None where there is no such way.
    """

    init: Callable[[Params], OptState]
    update: Callable[..., tuple[Params, OptState]]
    step: Callable[..., tuple[Params, OptState]] | None = None


@runtime_checkable
class HasRate(Protocol):
    """An optimizer state that knows the rate of its last step; None where it wraps one that does not."""

    @property
    def rate(self) -> Any: ...


@runtime_checkable
class AveragesParams(Protocol):
    """An optimizer state that keeps an average of the parameters."""

    def averaged(self, params: Params) -> Params:
        """The average, these parameters being the last."""


@runtime_checkable
class ScalesLoss(Protocol):
    """An optimizer state that multiplies the loss before its gradient is taken."""

    def scaled(self, loss: Any) -> Any:
        """The loss to take the gradient of."""


class TrainState(NamedTuple):
    """Everything a run carries; nothing else exists."""

    params: Params
    state: State
    opt_state: OptState
    step: Step
    key: RandomKey
    watch: Any = ()  # what early stopping remembers, if the run has any


@jax.tree_util.register_pytree_with_keys_class
class History(Mapping[str, Array]):
    """What a run recorded, an array a name: `history.loss`, `history["loss"]`, `dict(history)`.

    Per step (steps,): loss, the metrics, rate, finite. Per epoch (epochs,): valid_loss and the valid metrics.
    Under vmap every array has a leading lane axis.
    """

    def __init__(self, arrays: Mapping[str, Array]):
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getattr__(self, name: str) -> Array:
        if name.startswith("_") or name not in self._arrays:
            raise AttributeError(
                f"history: expected one of {', '.join(self)}, got {name}; valid_* need valid="
            )
        return self._arrays[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        return (
            "History("
            + ", ".join(f"{name} {getattr(array, 'shape', '')}" for name, array in self.items())
            + ")"
        )

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Array]], tuple[str, ...]]:
        return [(jax.tree_util.GetAttrKey(name), array) for name, array in self.items()], tuple(
            self
        )

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], arrays: Any) -> "History":
        return cls(dict(zip(names, arrays, strict=True)))


class Weights(NamedTuple):
    """What inference needs of a network: its parameters and its state."""

    params: Params
    state: State


class StepRecord(NamedTuple):
    """A step of training as a measure of a recipe gets it: what was before, the gradients, and what came of them."""

    params: Params
    state: State
    opt_state: OptState
    grads: Params
    new_params: Params
    new_state: State
    new_opt_state: OptState


Measure = Callable[[StepRecord], Scalar]


class Result(NamedTuple):
    """What a run returns."""

    train_state: TrainState
    history: History
