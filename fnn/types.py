"""The contracts of fnn, and the arrays it speaks of, each named once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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

Shape = tuple[int, ...]  # of one array, without its batch axis; a tuple of arrays has the tuple of their shapes
ImageShape = tuple[int, int, int]  # height, width, channels
Params = Any  # a pytree of floating-point arrays
State = Any  # a pytree of arrays
OptState = Any  # a pytree of arrays

Number = float | Array
Magnitude = Number | tuple[Number, Number]  # exactly this, or drawn between the two
Schedule = Callable[[Step], Scalar]
Rate = Number | Schedule
Initializer = Callable[[RandomKey, Shape], Array]
Augmentation = Callable[[RandomKey, Image], Image]
Augmentations = Callable[..., Images]
Loss = Callable[[Any, Any], "PerExample | Weighted"]
Metrics = Mapping[str, "Loss | Metric"]
Regularizer = Callable[[Params], Scalar]
Constraint = Callable[[Params], Params]
Prepare = Callable[[Array], Array]
Data = tuple[Any, Any]


class Weighted(NamedTuple):
    """Values, and how much each counts: their mean is Σ weights values / Σ weights, taken in `train`."""

    values: PerExample
    weights: PerExample


@dataclass(frozen=True)  # no tuple, for jax.jit keeps weak references to what it is given
class Metric:
    """A measure of a whole set of examples, where it is no mean over them.

    look:   (outputs, targets) -> statistics, arrays with one entry an example (n, ...)
    finish: (statistics, weights) -> value, where the weights (n,) tell how much each example counts, 0 for not at all
    """

    look: Callable[[Any, Any], Any]
    finish: Callable[[Any, PerExample], Array]

    def __call__(self, outputs: Any, targets: Any, weights: PerExample | None = None) -> Array:
        """The value of the set that these outputs and targets are."""
        statistics = self.look(outputs, targets)
        examples = jax.tree.leaves(statistics)[0].shape[0]
        return self.finish(statistics, jnp.ones(examples) if weights is None else weights)


class Layer(NamedTuple):
    """A network, or a part of one: a pair of pure functions.

    init:    (key, shape) -> (params, state, out_shape), shapes without the batch axis.
    apply:   (params, state, x, *, key=None, train=False) -> (y, state)
    rebuild: (change) -> Layer, in what is made of parts: the same with change(name, part) in place of each part.
    """

    init: Callable[[RandomKey, Shape], tuple[Params, State, Shape]]
    apply: Callable[..., tuple[Any, State]]
    rebuild: "Callable[[Callable[[str, Layer], Layer]], Layer] | None" = None


class Optimizer(NamedTuple):
    """A rule of descent: a pair of pure functions, with the signature of other JAX optimizer libraries.

    init:   (params) -> opt_state
    update: (grads, opt_state, params) -> (updates, opt_state), where params + updates are the new params.
    """

    init: Callable[[Params], OptState]
    update: Callable[[Params, OptState, Params], tuple[Params, OptState]]


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
            raise AttributeError(f"history: expected one of {', '.join(self)}, got {name}; valid_* need valid=")
        return self._arrays[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        return "History(" + ", ".join(f"{name} {getattr(array, 'shape', '')}" for name, array in self.items()) + ")"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Array]], tuple[str, ...]]:
        return [(jax.tree_util.GetAttrKey(name), array) for name, array in self.items()], tuple(self)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], arrays: Any) -> "History":
        return cls(dict(zip(names, arrays, strict=True)))


class Result(NamedTuple):
    """What a run returns."""

    train_state: TrainState
    history: History
