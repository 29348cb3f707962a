"""The contracts of fnn, and names for the types of its arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, UInt8

# Arrays. jaxtyping checks dtype and rank; equal names of axes have equal sizes in one call.

RandomKey = Key[Array, ""]  # a typed key, from jax.random.key
Scalar = Float[Array, ""]
Step = Integer[Array, ""]  # an int32 number of steps or epochs

# Images have channels last. Bytes are in 0..255, floats in [0, 1].
Image = UInt8[Array, "height width channels"] | Float[Array, "height width channels"]
Images = UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"]
Features = Float[Array, "batch *features"]
Logits = Float[Array, "*batch classes"]
Labels = Integer[Array, "*batch"]  # 0 <= label < classes
Probabilities = Float[Array, "*batch classes"]  # rows sum to 1
PerExample = Float[Array, "*batch"]

# Shapes and pytrees.

Shape = tuple[int, ...]  # without the batch axis; of a tuple of arrays, the tuple of their shapes
ImageShape = tuple[int, int, int]  # height, width, channels
Params = Any  # a pytree of floating-point arrays
State = Any  # a pytree of arrays that training updates without a gradient, such as running means
OptState = Any  # a pytree of arrays
Data = tuple[Any, Any]  # (inputs, targets), pytrees of arrays whose first axis is the example

# Arguments of makers. Numbers in arguments annotated as Number, Magnitude or Rate are leaves of the
# made value, so that they can be traced, mapped over and differentiated by.

Number = float | Array
Magnitude = Number | tuple[Number, Number]  # exactly this value, or drawn between the two
ScheduleFunction = Callable[[Step], Scalar]
Rate = Number | ScheduleFunction

# Functions.

Initializer = Callable[[RandomKey, Shape], Array]
Augmentation = Callable[[RandomKey, Image], Image]
Augmentations = Callable[..., Images]  # (key, images, examples=None) -> images
# Of (outputs, targets).
LossFunction = Callable[[Any, Any], "PerExample | Weighted | HeadLosses"]
Metrics = Mapping[str, "LossFunction | Metric"]
Regularizer = Callable[[Params], Scalar]
Constraint = Callable[[Params], Params]
Prepare = Callable[[Array], Array]  # from stored inputs to inputs of the network

# Names of leaves that have a meaning.

KERNEL = "kernel"  # a weight matrix or filter: spectral_norm, lsuv and flops look for it
PENALTY = "penalty"  # in a state: added to the loss in training
# In a state: parameters that are not trained. No keyword argument has this name, so that a part
# called frozen is a part like any other.
FROZEN = "(frozen)"


class Weighted(NamedTuple):
    """Values with weights: in `train` their mean is Σ weights values / Σ weights.

    Attributes:
        values: One per example, (batch, ...).
        weights: Of the same shape, >= 0.
    """

    values: PerExample
    weights: PerExample


class HeadLosses(NamedTuple):
    """Losses of several heads: in `train` their mean is Σ_k (Σ_i weights values / Σ_i weights).

    Attributes:
        values: One per example i and head k, (batch, heads).
        weights: Of the same shape, >= 0. A head without any weight in a batch counts as 0.
    """

    values: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Aggregator:
    """How the gradients g_k of several tasks become one gradient, Σ_k c_k g_k.

    Attributes:
        init: (tasks) -> memory, arrays that the train state keeps; () for none.
        coefficients: (memory, gramian, key) -> c (tasks,). The Gramian (tasks, tasks) holds the
            inner products g_i · g_j of the batch, in float32 or wider; it is None unless
            `uses_gramian`.
        update: (memory, gramian, losses) -> memory after the step. The losses are (tasks,); that of
            a task without a labeled example in the batch is 0.
        shared: Patterns of the parameters over which the inner products are taken; None for all.
        everywhere: Whether the coefficients apply to all parameters. Otherwise the gradients by
            parameters that are not shared are added.
        uses_gramian: Whether there is a gradient of each task. Otherwise the coefficients follow
            from the memory, and a step needs one backward pass.
    """

    init: Callable[[int], Any]
    coefficients: Callable[[Any, Any, Any], Array]
    update: Callable[[Any, Any, Any], Any]
    shared: tuple[str, ...] | None = None
    everywhere: bool = True
    uses_gramian: bool = True


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss function with the properties of its targets.

    A plain function of (outputs, targets) is a loss too. Without known properties it has no default
    metric, and its targets are not checked.

    Attributes:
        function: (outputs, targets) -> values (batch, ...), or Weighted, or HeadLosses.
        classes: Whether integer targets are labels of classes. The last axis of the outputs then
            has one entry per class.
        probabilities: Whether targets of the outputs' shape are probabilities, which sum to 1 along
            the last axis.
        ignored: Labels that have weight 0.
        couples_examples: Whether the value of an example depends on the others of its batch, so
            that a batch cannot be split; None if it is not known.
        mode: "min" if a lower value is better, "max" if a higher one is; None if it is not known.
        metric: (name, function) of the metric that is reported unless metrics are given; None for
            none.
        heads: Losses by name of a network with several outputs; None for a single output.
        aggregator: How the gradients of the heads become one; None for their sum. The function
            then returns HeadLosses.
    """

    function: LossFunction
    classes: bool = False
    probabilities: bool = False
    ignored: frozenset[int] = frozenset()
    couples_examples: bool | None = None
    mode: str | None = None
    metric: "tuple[str, LossFunction | Metric] | None" = None
    heads: "Mapping[str, LossFunction] | None" = None
    aggregator: Aggregator | None = None

    def __call__(self, outputs: Any, targets: Any) -> "PerExample | Weighted | HeadLosses":
        """Return one value per example.

        Args:
            outputs: Of the network, arrays (batch, ...).
            targets: Arrays (batch, ...).
        """
        return self.function(outputs, targets)


@dataclass(frozen=True, eq=False)
class Metric:
    """A figure of a set of examples that is not a mean over them, such as the area under a curve.

    Attributes:
        per_example: (outputs, targets) -> statistics, arrays with one entry per example (n, ...).
        reduce: (statistics, weights) -> figure. The weights (n,) of the examples are >= 0; an
            example with weight 0 does not count.
        mode: "min" if a lower figure is better, "max" if a higher one is; None if neither is.
    """

    per_example: Callable[[Any, Any], Any]
    reduce: Callable[[Any, PerExample], Array]
    mode: str | None = None

    def __call__(
        self,
        outputs: Any,
        targets: Any,
        weights: PerExample | None = None,
    ) -> Array:
        """Return the figure of these outputs and targets.

        Args:
            outputs: Of the network, arrays (n, ...).
            targets: Arrays (n, ...).
            weights: (n,), by default 1 for every example.
        """
        statistics = self.per_example(outputs, targets)
        if weights is None:
            examples = jax.tree.leaves(statistics)[0].shape[0]
            weights = jnp.ones(examples)
        return self.reduce(statistics, weights)


@dataclass(frozen=True, eq=False)
class Layer:
    """A network, or a part of one, as a pair of pure functions.

    Attributes:
        init: (key, shape) -> (params, state, out_shape). Shapes are without the batch axis.
        apply: (params, state, x, *, key=None, train=False) -> (y, state). A layer that draws noise
            in training needs the key.
        name: Its name in a chain, `name_0`, which is its key in params and state; None for the name
            of its maker.
        parts: The layers it consists of by name, or functions that return one, as the body of a
            `repeat` may be.
        with_parts: (parts) -> the same layer with other parts of the same names; None if parts
            cannot be replaced.
        by_name: Whether its params and state are dicts of those of its parts, unchanged, by these
            names.
        decoder: (span) -> the layer that processes sequences part by part, with the same params.
            Its state also keeps all that a later part needs of the earlier ones. None if there is
            no such layer: y at a position depends on later positions, or it is not known.
    """

    init: Callable[[RandomKey, Shape], tuple[Params, State, Shape]]
    apply: Callable[..., tuple[Any, State]]
    name: str | None = None
    parts: "Mapping[str, Layer | Callable[..., Layer]]" = field(default_factory=dict)
    with_parts: "Callable[[Mapping[str, Any]], Layer] | None" = None
    by_name: bool = False
    decoder: "Callable[[Span], Layer] | None" = None


class Span(NamedTuple):
    """The part of each sequence (batch, time, ...) that a decoder processes at once.

    Attributes:
        start: Number of earlier positions of each sequence, int32 (batch,).
        length: Number of positions of each in this part, int32 (batch,); padding follows them.
        capacity: Largest number of positions of a sequence, all parts together.
        is_first: Whether this is the first part, so that there are no earlier positions.
    """

    start: Array
    length: Array
    capacity: int
    is_first: bool

    def positions(self, time: int) -> Array:
        """Return the positions of the steps of this part, int32 (batch, time).

        Args:
            time: Number of steps, with padding.
        """
        return self.start[:, None] + jnp.arange(time, dtype=jnp.int32)[None]


@dataclass(frozen=True, eq=False)
class KernelInitializer:
    """An initializer whose draws depend on the numbers of inputs and outputs that a kernel joins.

    Other functions of (key, shape) are initializers too, and draw the kernels of all groups alike.

    Attributes:
        draw: (key, shape, groups) -> kernel (..., inputs, outputs), where an output sees the inputs
            of its group: `inputs` are those of one group, `outputs` those of all.
    """

    draw: Callable[[RandomKey, Shape, int], Array]

    def __call__(self, key: RandomKey, shape: Shape) -> Array:
        """Return a kernel of one group.

        Args:
            key: Random key.
            shape: Shape of the kernel.
        """
        return self.draw(key, shape, 1)


@dataclass(frozen=True, eq=False)
class Schedule:
    """A value that depends on the step, such as a learning rate.

    A plain function of the step is a schedule too.

    Attributes:
        function: (step) -> value, for the int32 number of steps before this one.
        steps: Number of steps after which the value is constant; None if there is no such number.
    """

    function: ScheduleFunction
    steps: Number | None = None

    def __call__(self, step: Step) -> Scalar:
        """Return the value at a step.

        Args:
            step: Number of steps before this one, int32 scalar.
        """
        return self.function(step)


@dataclass(frozen=True, eq=False)
class Optimizer:
    """An optimizer as a pair of pure functions, with the signature of other JAX libraries.

    Attributes:
        init: (params) -> opt_state.
        update: (grads, opt_state, params, **extra) -> (updates, opt_state). The new parameters are
            params + updates.
        step: (grads, opt_state, params, **extra) -> (params, opt_state). The same with the addition
            included, in one pass over memory; None if there is no such function.
    """

    init: Callable[[Params], OptState]
    update: Callable[..., tuple[Params, OptState]]
    step: Callable[..., tuple[Params, OptState]] | None = None


# Capabilities of optimizer states.


@runtime_checkable
class HasRate(Protocol):
    """An optimizer state that has the learning rate of its last step.

    Attributes:
        rate: Scalar; None in a state that wraps one without a rate.
    """

    @property
    def rate(self) -> Any: ...


@runtime_checkable
class AveragesParams(Protocol):
    """An optimizer state that keeps an average of the parameters, used in evaluation."""

    def averaged(self, params: Params) -> Params:
        """Return the average.

        Args:
            params: The current parameters, which the average may include.
        """


@runtime_checkable
class FreezesParams(Protocol):
    """An optimizer state that knows which parameters are not trained."""

    def frozen_paths(self) -> frozenset[str]:
        """Return the paths of these parameters; they follow from the structure of the state."""


@runtime_checkable
class ScalesLoss(Protocol):
    """An optimizer state that scales the loss before differentiation, for half precision."""

    def scaled(self, loss: Any) -> Any:
        """Return the loss to differentiate.

        Args:
            loss: Scalar, without the scale.
        """


# Values of a run.


class TrainState(NamedTuple):
    """The complete state of a training run.

    Attributes:
        params: Parameters of the network.
        state: State of the network, such as running means of batch norm.
        opt_state: State of the optimizer.
        step: Number of steps taken, int32 scalar.
        key: Key of the run. It does not change; each use folds in a purpose and a count.
        watch: Memory of early stopping, (best, stalled, kept); empty if the run has none.
    """

    params: Params
    state: State
    opt_state: OptState
    step: Step
    key: RandomKey
    watch: Any = ()


# A pytree with named children, so that errors and checkpoints can name them.
@jax.tree_util.register_pytree_with_keys_class
class History(Mapping[str, Array]):
    """The recorded figures of a run, one array per name.

    An array is an attribute and an item: `history.loss`, `history["loss"]`, `dict(history)`. Per
    step (steps,): loss, the metrics, rate and finite. Per epoch (epochs,): valid_loss and the valid
    metrics. The arrays of instruments are (steps, layers) or (steps, parameters). Under vmap every
    array has a leading lane axis.

    Args:
        arrays: The figures by name.
        findings: Faults that `lab.fit` found in them. They are no arrays: what jax.tree.map returns
            has none.
    """

    def __init__(self, arrays: Mapping[str, Array], findings: Sequence[Any] = ()):
        self._arrays = dict(arrays)
        self.findings = findings

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getattr__(self, name: str) -> Array:
        if name not in self._arrays:
            names = ", ".join(self)
            message = f"history: expected one of {names}, got {name}; valid_* need valid="
            raise AttributeError(message)
        return self._arrays[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __reduce__(self) -> Any:
        # Otherwise a copy would be asked for attributes before it has arrays.
        return History, (self._arrays, self.findings)

    def __repr__(self) -> str:
        # jax.tree.map may replace an array by any value, which may have no shape.
        shapes = [f"{name} {getattr(array, 'shape', '')}" for name, array in self.items()]
        return f"History({', '.join(shapes)})"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Array]], tuple[str, ...]]:
        """Return the (key, array) pairs and, as static data, the names."""
        children = [(jax.tree_util.GetAttrKey(name), array) for name, array in self.items()]
        return children, tuple(self)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], arrays: Any) -> "History":
        """Return the history of these arrays.

        Args:
            names: Names of the figures, in order.
            arrays: Their arrays.
        """
        return cls(dict(zip(names, arrays, strict=True)))


class Weights(NamedTuple):
    """The values that inference needs.

    Attributes:
        params: Parameters of the network, averaged where the optimizer keeps an average.
        state: State of the network.
    """

    params: Params
    state: State


class StepRecord(NamedTuple):
    """A training step, as the measures of a recipe receive it.

    Attributes:
        params: Parameters before the step.
        state: State of the network before the step.
        opt_state: State of the optimizer before the step.
        grads: Gradient of the loss + penalty by the parameters, times the loss scale if there is
            one. With an aggregator, its combination of the gradients of the tasks.
        new_params: Parameters after the step. These are computed also where the step is skipped.
        new_state: State of the network after the step.
        new_opt_state: State of the optimizer after the step.
    """

    params: Params
    state: State
    opt_state: OptState
    grads: Params
    new_params: Params
    new_state: State
    new_opt_state: OptState


Measure = Callable[[StepRecord], Scalar]


class InstrumentedStep(NamedTuple):
    """A training step, as the instruments of a recipe get it.

    Attributes:
        network: The network.
        record: Its parameters, states and gradients. The gradients are those of the loss, without
            the factor of a loss scale.
        inputs: Of the network, (batch, ...); with micro-batches, those of the first one.
        key: The key of the noise of the step; with micro-batches, that of the first one.
    """

    network: Layer
    record: StepRecord
    inputs: Any
    key: RandomKey


@dataclass(frozen=True, eq=False)
class Instruments:
    """Statistics of layers and parameters that a run records at some of its steps.

    Attributes:
        names: Names of the arrays in the history.
        every: Steps between two that are measured, beginning with the first step.
        measure: (step) -> arrays by name, (columns, ...), in floating point. The rows of steps that
            are not measured are NaN.
        columns: (network, params, shape) -> by the name of each array, the paths of the layers or
            parameters along its first axis, where `shape` is that of one example.
    """

    names: tuple[str, ...]
    every: int
    measure: Callable[[InstrumentedStep], dict[str, Array]]
    columns: Callable[[Layer, Params, Any], dict[str, tuple[str, ...]]]


class Result(NamedTuple):
    """The result of a run.

    Attributes:
        train_state: The last train state, or the best one with early stopping.
        history: The figures of all steps and epochs.
    """

    train_state: TrainState
    history: History

    @property
    def findings(self) -> Sequence[Any]:
        """Faults that the history shows, from `lab.fit`; empty from other functions."""
        return self.history.findings
