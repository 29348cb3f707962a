"""The public makers and their numbers; `registry.py` has an example of each."""

import inspect
import types as python_types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from exercises import EXERCISES
from registry import REGISTRY, VALUES, batch_for

from fnn import augment, nn, objective, optim
from fnn.objective.loss import DeclaredLoss
from fnn.types import Magnitude, Number, Rate

ROOMS = {"nn": nn, "optim": optim, "augment": augment, "objective": objective}
LOSSES = [name for name, entry in REGISTRY.items() if entry.batch is not None]
NETWORKS = {name: entry.call for name, entry in REGISTRY.items() if entry.network}
# The example call of every other maker, by name.
CALLS = {
    name: entry.call
    for name, entry in REGISTRY.items()
    if entry.maker and not entry.network and entry.batch is None
}
# How an argument is declared that may be one number.
NUMERIC = (Number, Rate, Magnitude, Number | None, Number | str)


class Knobs(NamedTuple):
    """The numeric arguments of a maker, and the usual value of each."""

    maker: str
    usual: dict[str, float]

    def outcome(self, values: Any) -> Any:
        """The result of the example with these values of all numbers."""
        return outcome(self.maker, **values)


def public(rooms: Mapping[str, python_types.ModuleType] = ROOMS) -> dict[str, Callable[..., Any]]:
    """Every public function of the rooms, by name."""
    return {
        f"{room}.{name}": value
        for room, module in rooms.items()
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, python_types.FunctionType | DeclaredLoss)
    }


def knobs(*, networks: bool = False) -> Iterator[Knobs]:
    """The numeric arguments of each maker, either of networks or of all others."""
    for maker, function in public().items():
        given = REGISTRY[maker].call
        names = inspect.signature(function).parameters.items()
        numeric = {name: own.default for name, own in names if own.annotation in NUMERIC}
        usual = {name: given.get(name, default) for name, default in numeric.items()}
        walked = maker in NETWORKS if networks else maker in CALLS or maker in LOSSES
        if usual and walked:
            for name, value in usual.items():
                usual[name] = value if is_number(value) else tried(maker, name)[0]
            yield Knobs(maker, usual)


def tried(maker: str, name: str) -> tuple[float, float]:
    """Two values for a number of that maker."""
    return REGISTRY[maker].values.get(name, VALUES.get(name, (0.1, 0.3)))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def outcome(maker: str, **options: Any) -> Any:
    """The result of the value that a maker returns, on a small example."""
    if maker in LOSSES:
        return public()[maker](*batch_for(maker, 7), **options)
    product = public()[maker](**REGISTRY[maker].call | options)
    return EXERCISES[kind(maker)](product, maker)


def kind(maker: str) -> Any:
    """The declared return type of a maker."""
    return inspect.signature(public()[maker]).return_annotation
