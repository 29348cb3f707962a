"""Values of fnn as plain data: recorded calls, named tuples and containers; arrays are apart.

A value becomes a table of nodes, one for each part, in which a part refers to earlier ones by their
index. Equal objects have one node, so that a layer that is used twice is read as one layer. Reading
a table calls no function: it records calls of makers, as unpickling does. Names are looked up in
the packages of fnn, in `jax.nn`, and among the functions that the caller gives. So a malicious file
cannot run code of its choice.
"""

import dataclasses
import functools
import importlib
import math
import re
import types as python_types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import CheckpointCorruptError, CheckpointVersionError, ConfigError
from fnn.lab.checkpoints.manifest import ADVICE, DTYPES, expect
from fnn.objective.loss import DeclaredLoss
from fnn.values.decorator import is_maker
from fnn.values.made import Made
from fnn.values.show import reference

# Packages whose makers, functions and classes may be named. They do not touch the disk, except for
# the readers of data sets.
ROOMS = (
    "types",
    "nn",
    "objective",
    "optim",
    "augment",
    "data",
    "train",
    "search",
    "ensemble",
    "transfer",
)
READERS = "fnn.data.sets"
# Functions of jax.numpy that may be named: those of one array that serve as activations.
OF_ONE_ARRAY = ("abs", "arctan", "cos", "exp", "log1p", "sin", "sqrt", "square", "tanh")
# Types of numbers, as in nn.cast(jnp.bfloat16).
SCALAR_TYPES: dict[str, Any] = {kind.__name__: kind for kind in (bool, int, float)}
SCALAR_TYPES |= {
    name: getattr(jnp, name) for name in DTYPES if hasattr(jnp, name) and name != "bool"
}
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)

Node = dict[str, Any]


def encode(where: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a value as plain data, and its arrays by name.

    Args:
        where: Name of the value in errors.
        value: Made values, named tuples and dataclasses of fnn, and tuples, lists and dicts of
            them, with arrays, numbers, texts and functions.

    Raises:
        ConfigError: A part cannot be recorded, such as a layer that no maker made or a lambda.
    """
    table = _Table()
    root = table.refer(where, value)
    return {"nodes": table.nodes, "root": root}, table.arrays


def decode(
    where: str,
    plain: Any,
    arrays: Mapping[str, Any],
    makers: Iterable[Callable[..., Any]] = (),
) -> Any:
    """Return the value that `encode` returned as plain data.

    Args:
        where: Name of the value in errors.
        plain: The plain data, which is not trusted.
        arrays: Its arrays by name.
        makers: Functions outside of fnn that the value names: makers, losses, `prepare`.

    Raises:
        CheckpointCorruptError: The data is not such as `encode` returns.
        CheckpointVersionError: It names a function that this version of fnn does not have.
        ConfigError: It names a function that is not among `makers`.
    """
    has_members = isinstance(plain, dict) and plain.keys() == {"nodes", "root"}
    expect(has_members, where, "nodes and root", plain)
    expect(isinstance(plain["nodes"], list), f"{where} nodes", "a list", plain["nodes"])
    reader = _Reader(where, arrays, makers)
    for node in plain["nodes"]:
        reader.append(node)
    return reader.part(plain["root"])


# Writing.


class _Table:
    """The nodes and arrays of values.

    Attributes:
        nodes: The nodes; each refers to earlier ones only.
        arrays: The arrays and random keys, by their number as a text.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.arrays: dict[str, Any] = {}
        # The value is kept, since the id of an object that is gone may be that of a new one.
        self._known: dict[int, tuple[int, Any]] = {}

    def refer(self, path: str, value: Any) -> Any:
        """Return a value that JSON can represent as it is; of others, a reference to its node."""
        # Exact types, since a subclass would be read as its base class.
        if value is None or type(value) in (bool, str, int):
            return value
        # JSON has neither infinity nor NaN.
        if type(value) is float and math.isfinite(value):
            return value
        # By identity, so that a layer that is used twice stays one layer.
        if id(value) not in self._known:
            # Its parts get their nodes first, so that references lead back.
            node = self._node(path, value)
            self._known[id(value)] = (len(self.nodes), value)
            self.nodes.append(node)
        return {"node": self._known[id(value)][0]}

    def _node(self, path: str, value: Any) -> Node:
        if isinstance(value, Made):
            contract = None if value.contract is None else reference(value.contract)
            arguments = self._named(path, value.arguments)
            name = self._name(path, value.maker)
            return {"kind": "call", "name": name, "contract": contract, "arguments": arguments}
        if isinstance(value, functools.partial):
            return {
                "kind": "partial",
                "function": self.refer(path, value.func),
                "items": self._listed(path, value.args),
                "keywords": self._named(path, value.keywords),
            }
        if isinstance(value, DeclaredLoss):
            return {"kind": "function", "name": self._name(path, value)}
        if _is_object(value):
            fields = self._named(path, _fields(value))
            return {"kind": "object", "name": self._name(path, type(value)), "fields": fields}
        # Exact types, since a named tuple of another package would lose its names.
        if type(value) in (tuple, list):
            return {"kind": type(value).__name__, "items": self._listed(path, value)}
        if type(value) is dict:
            # Pairs, since the names of a JSON object are texts alone.
            items = [
                [self.refer(path, name), self.refer(f"{path}.{name}", part)]
                for name, part in value.items()
            ]
            return {"kind": "dict", "items": items}
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            return self._array(value)
        if isinstance(value, float):
            return {"kind": "float", "text": repr(value)}
        if isinstance(value, np.dtype):
            return {"kind": "dtype", "name": value.name}
        if value in SCALAR_TYPES.values():
            return {"kind": "scalar_type", "name": value.__name__}
        return {"kind": "function", "name": self._name(path, value)}

    def _array(self, value: Any) -> Node:
        name = str(len(self.arrays))
        self.arrays[name] = value
        return {"kind": "array", "name": name, "is_numpy": not isinstance(value, jax.Array)}

    def _listed(self, path: str, values: Iterable[Any]) -> list[Any]:
        return [self.refer(f"{path}.{index}", part) for index, part in enumerate(values)]

    def _named(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.refer(f"{path}.{name}", part) for name, part in values.items()}

    def _name(self, path: str, value: Any) -> str:
        """Return the name of a function or class; ConfigError if it has none at the top level."""
        name = getattr(value, "__qualname__", None)
        module = getattr(value, "__module__", None)
        # A lambda, and a function within another, cannot be found by their names.
        if not callable(value) or not module or not NAME.fullmatch(name or "<"):
            raise ConfigError(
                path,
                "a value of a maker, an array, a number or a function of a module",
                checks.show(value),
                "decorate the function that makes it with @fnn.maker, or define it in a module",
            )
        return reference(value)


def _is_object(value: Any) -> bool:
    """Whether this is a named tuple or a dataclass of fnn."""
    return type(value).__module__.startswith("fnn.") and _is_object_class(type(value))


def _is_object_class(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def _fields(value: Any) -> dict[str, Any]:
    names = getattr(value, "_fields", None)
    if names is None:
        # Other fields follow from those of the constructor.
        names = [field.name for field in dataclasses.fields(value) if field.init]
    return {name: getattr(value, name) for name in names}


# Reading.


class _Reader:
    """The values of nodes."""

    def __init__(
        self, where: str, arrays: Mapping[str, Any], makers: Iterable[Callable[..., Any]]
    ) -> None:
        self._where = where
        self._arrays = arrays
        self._makers = {function.__name__: function for function in makers}
        self._values: list[Any] = []

    def append(self, node: Any) -> None:
        """Add the value of the next node."""
        where = f"{self._where} node {len(self._values)}"
        expect(isinstance(node, dict), where, "an object", node)
        kind = node.get("kind")
        known: dict[Any, Callable[..., Any]] = {
            "array": self._array,
            "call": self._call,
            "dict": lambda items: dict(map(self._parts, items)),
            "dtype": jnp.dtype,
            "float": float,
            "function": self._function,
            "list": self._parts,
            "object": self._object,
            "partial": self._partial,
            "scalar_type": SCALAR_TYPES.__getitem__,
            "tuple": lambda items: tuple(self._parts(items)),
        }
        expect(isinstance(kind, str) and kind in known, where, f"a kind of {[*known]}", kind)
        members = {name: value for name, value in node.items() if name != "kind"}
        try:
            # Members are given in the order of `_Table`; a missing or further one raises.
            value = known[kind](*members.values())
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            # Errors of fnn are of these classes too, and name the part already.
            if isinstance(error, CheckpointCorruptError | CheckpointVersionError | ConfigError):
                raise
            raise CheckpointCorruptError(
                where,
                f"a node {kind}",
                repr(error),
                ADVICE,
            ) from error
        self._values.append(value)

    def part(self, plain: Any) -> Any:
        """Return the value of a reference or of a plain value."""
        if not isinstance(plain, dict):
            return plain
        index: Any = plain.get("node")
        # Earlier nodes alone, so that there are no cycles; True is an int, but no index.
        is_known = type(index) is int and 0 <= index < len(self._values) and len(plain) == 1
        expect(is_known, self._where, f"one of {len(self._values)} nodes before", plain)
        return self._values[index]

    def _parts(self, items: Iterable[Any]) -> list[Any]:
        return [self.part(item) for item in items]

    def _named(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.part(value) for name, value in parts.items()}

    def _array(self, name: str, is_numpy: bool) -> Any:
        value = self._arrays[name]
        return value if is_numpy else jnp.asarray(value)

    def _call(
        self,
        name: str,
        contract: str | None,
        arguments: Mapping[str, Any],
    ) -> Any:
        maker = self._find(name)
        expect(is_maker(maker), self._where, "the name of a maker", name)
        record = maker.__dict__["record"]
        given = self._named(arguments)
        unknown = given.keys() - record.kinds.keys()
        if unknown:
            expected = f"arguments of {name}, {', '.join(record.kinds)}"
            raise CheckpointVersionError(
                self._where,
                expected,
                ", ".join(sorted(unknown)),
                "take a newer fnn",
            )
        # The call is recorded, not made, so that no code of the maker runs.
        return record.record(given, None if contract is None else self._find(contract))

    def _partial(
        self,
        function: Any,
        items: Iterable[Any],
        keywords: Mapping[str, Any],
    ) -> Any:
        return functools.partial(self.part(function), *self._parts(items), **self._named(keywords))

    def _object(self, name: str, fields: Mapping[str, Any]) -> Any:
        kind = self._find(name)
        is_class = isinstance(kind, type) and _is_object_class(kind)
        expect(is_class, self._where, "the name of a class of values", name)
        return kind(**self._named(fields))

    def _function(self, name: str) -> Any:
        function = self._find(name)
        is_function = callable(function) and not isinstance(function, type)
        expect(is_function, self._where, "the name of a function", name)
        return function

    def _find(self, name: Any) -> Any:
        """Return the function or class of a name."""
        is_name = isinstance(name, str) and NAME.fullmatch(name) is not None
        expect(is_name, self._where, "a name", name)
        head, _, last = name.rpartition(".")
        if head == "jax.nn":
            # The last name has no dot, so that only members of this module are reached.
            return getattr(jax.nn, last)
        if head == "jax.numpy" and last in OF_ONE_ARRAY:
            return getattr(jnp, last)
        if head in ROOMS:
            head = f"fnn.{head}"
        if head.startswith("fnn."):
            return self._find_own(head, last)
        if last not in self._makers:
            raise ConfigError(
                self._where,
                f"the function {name} among makers",
                ", ".join(self._makers) or "none",
                f"give it, as in makers=[{last}]",
            )
        return self._makers[last]

    def _find_own(self, module: str, name: str) -> Any:
        """Return a function or class of fnn itself."""
        room = module.split(".")[1]
        expect(room in ROOMS, self._where, f"a name in {', '.join(ROOMS)}", f"{module}.{name}")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            found = None
        home = getattr(found, "__module__", None) or ""
        # A function that reads files would do so when the model is used.
        is_reader = f"{home}.".startswith(f"{READERS}.")
        expect(not is_reader, self._where, "a function that reads no files", f"{module}.{name}")
        # A module imports functions of others, such as those of os.
        if not home.startswith("fnn.") or isinstance(found, python_types.ModuleType):
            raise CheckpointVersionError(
                self._where,
                f"a name of fnn {room}",
                f"{module}.{name}",
                "take a newer fnn",
            )
        return found
