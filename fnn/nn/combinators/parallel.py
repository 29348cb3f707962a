"""Several layers side by side."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.combinators.joins import SUM, end_to_end
from fnn.nn.composite import Go, Parts, by_place, composite
from fnn.types import Layer
from fnn.values import maker

JOINS = ("concat", "sum", "tuple", "dict")


@maker
def parallel(*layers: Layer, join: str = "concat", axis: int = -1, **named: Layer) -> Layer:
    """The same x through every layer, and their outputs together, y = join(f_1(x), ..., f_n(x)).

    join="concat" sets them end to end along the axis (1 is the first one of an example), "sum" adds them up, "tuple"
    keeps them apart in order, and "dict" by name, as the heads of a network that predicts several things; out_shape is
    then a tuple, or a dict, of shapes. Names are those of `chain`. ConfigError for an unknown join, or for no layers;
    ShapeError where outputs do not fit.
    """
    checks.choice("parallel join", join, JOINS)
    parts = by_place("parallel", layers, named)
    if not parts:
        raise ConfigError("parallel", "at least one layer", "none", "nn.chain() passes x on")
    end_to_end("parallel", axis)
    return _side_by_side(parts, join, axis)


def _side_by_side(parts: Parts, join: str, axis: int) -> Layer:
    def all_of(go: Go, x: Any, close: Callable[[dict[str, Any]], Any]) -> Any:
        return close({name: go(name, x) for name in parts})

    one = {"concat": end_to_end("parallel", axis), "sum": SUM}.get(join)
    if one is None:
        close = dict if join == "dict" else _values
        shapes = arrays = partial(all_of, close=close)
    else:
        shapes = partial(all_of, close=lambda shapes: one.shape("parallel", _values(shapes)))
        arrays = partial(all_of, close=lambda arrays: one.array("parallel", _values(arrays)))
    return composite("parallel", parts, shapes, arrays)


def _values(outputs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(outputs.values())
