"""Made values: recorded calls that are pytrees, print, compare, hash, and can be copied and pickled."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from typing import Any

import jax

from fnn.errors import ConfigError
from fnn.values.leaves import equal, expect_leaf, hash_of, pack, unpack
from fnn.values.show import Shown, reference, shown
from fnn.values.structure import fill, identity_of


class Structure:
    """A recorded call without its leaves: the maker, and its arguments by name with a hole for each leaf.

    keys are the paths to the leaves. Two structures are equal if they were made alike: functions and other objects
    without an equality of their own are compared by identity.
    """

    __slots__ = ("__weakref__", "_hash", "call", "identity", "keys", "maker")

    def __init__(self, maker: Any, call: tuple[tuple[str, Any], ...], keys: tuple[str, ...]):
        self.maker, self.call, self.keys = maker, call, keys
        self.identity = (maker, identity_of(call))
        self._hash = hash(self.identity)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Structure)
            and self._hash == other._hash
            and self.identity == other.identity
        )

    def __repr__(self) -> str:
        return f"{self.maker.name}({', '.join(self.keys)})"

    def filled(self, children: tuple[Any, ...]) -> dict[str, Any]:
        """The arguments by name, with these children in the holes."""
        rest = iter(children)
        return {name: fill(value, rest) for name, value in self.call}


class Made(Shown):
    """A value that remembers the call that made it.

    cache holds what others have found out of the value, such as its flat form. It is no part of it, and is not copied.
    """

    _structure: Structure
    _children: tuple[Any, ...]
    _built: Any
    cache: dict[Any, Any]
    contract: Any = None  # the class whose fields it has, such as Layer; None for a function
    __iter__ = None  # it has items by path, and is no sequence

    @classmethod
    def _of(cls, structure: Structure, children: tuple[Any, ...], built: Any = None) -> Any:
        self = object.__new__(cls)
        # Not by assignment: contracts are frozen.
        self.__dict__.update(_structure=structure, _children=children, _built=built, cache={})
        return self

    @property
    def maker(self) -> Callable[..., Any]:
        """The function that made it."""
        return self._structure.maker.public

    @property
    def arguments(self) -> dict[str, Any]:
        """What the maker was called with, by name, without what was left at its default."""
        return self._structure.filled(self._children)

    @property
    def identity(self) -> Any:
        """What it has in common with values that differ in numbers alone; it holds no object of the value strongly."""
        return (
            self._structure.identity,
            *(child.identity if isinstance(child, Made) else None for child in self._children),
        )

    @property
    def children(self) -> tuple[Any, ...]:
        """The leaves and made values among the arguments, in order."""
        return self._children

    @property
    def built(self) -> Any:
        """What the maker builds of the arguments.

        Its parts are built with it: what is built first within a loop of a compiled program may hold numbers of that
        loop, of no use elsewhere.
        """
        if self._built is None:
            for key, child in zip(self._structure.keys, self._children, strict=True):
                expect_leaf(f"{self._structure.maker.name} {key}", child)
                if isinstance(child, Made):
                    _ = child.built
            self.__dict__["_built"] = self._structure.maker.apply(
                self._structure.maker.build, self.arguments
            )
        return self._built

    def replace(self, **changes: Any) -> Any:
        """The value of the same call with these arguments changed, as in recipe.replace(optimizer=optim.sgd(0.1)).

        Raises:
            ConfigError: The maker has no argument of that name.
        """
        maker = self._structure.maker
        known = [name for name in maker.kinds if maker._key(name)]
        for name in changes.keys() - set(known):
            raise ConfigError(
                f"{maker.name} {name}",
                f"one of {', '.join(known)}",
                repr(name),
                "check the spelling",
            )
        arguments = self.arguments | changes
        ordered = {name: arguments[name] for name in maker.kinds if name in arguments}
        return maker.apply(maker.public, ordered)

    def __getitem__(self, path: str) -> Any:
        """The leaf or made value at a path, as in recipe["optimizer.rate.peak"] or recipe["network.4"].

        Args:
            path: Names of arguments, and places in *args, lists and tuples, with dots between them.

        Raises:
            ConfigError: There is no leaf at this path; the error lists the paths there are.
        """
        for key, child in zip(self._structure.keys, self._children, strict=True):
            if path == key:
                return child
            if path.startswith(f"{key}.") and isinstance(child, Made):
                return child[path.removeprefix(f"{key}.")]
        known = ", ".join(self._structure.keys) or "none"
        raise ConfigError(
            f"{self._structure.maker.name} path",
            f"a leaf or a made value among {known}",
            path,
            "see repr",
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Made)
            and self._structure == other._structure
            and all(map(equal, self._children, other._children))
        )

    def __hash__(self) -> int:
        return hash((self._structure, *map(hash_of, self._children)))

    def __repr__(self) -> str:
        return shown(self)

    def shown_call(self) -> tuple[str, list[tuple[str | None, Any]]]:
        """The maker and what it was called with: by position as far as the maker takes it so."""
        maker = self._structure.maker
        found: list[tuple[str | None, Any]] = []
        by_position = True
        given = self.arguments
        for name, kind in maker.kinds.items():
            if kind is inspect.Parameter.VAR_POSITIONAL:
                found += [(None, part) for part in given.get(name, ())]
            elif kind is inspect.Parameter.VAR_KEYWORD:
                found += list(given.get(name, {}).items())
            elif name in given:
                by_position &= kind is not inspect.Parameter.KEYWORD_ONLY
                found.append((None if by_position else name, given[name]))
            else:
                by_position = False
        return reference(maker.public), found

    def shown_text(self) -> str | None:
        """The text of a maker that prints in a way of its own."""
        maker = self._structure.maker
        return None if maker.show is None else maker.apply(maker.show, self.arguments)

    def __copy__(self) -> Any:
        return self  # for nothing changes it

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return remade, (self._structure.maker.public, pack(self.arguments), self.contract)


def expect_leaves(where: str, value: Any) -> None:
    """Raise ConfigError, naming the path, where a leaf of a made value was replaced by something that is no number."""
    if not isinstance(value, Made) or value._built is not None:
        return
    for key, child in zip(value._structure.keys, value._children, strict=True):
        path = f"{where}.{key}" if where else key
        expect_leaf(path, child)
        expect_leaves(path, child)


def remade(public: Callable[..., Any], packed: dict[str, Any], contract: Any) -> Any:
    """The value of a call, as it was, whatever stands in the place of its numbers."""
    return public.__dict__["record"].record(unpack(packed), contract)


# The classes of made values: one for each contract, and one for functions.


def _delegate(field: Field[Any]) -> property:
    """A field of the contract. A made argument of that name is given as it is, without building the rest."""
    name = field.name

    def get(self: Made) -> Any:
        if self._built is None and name in self._structure.keys:
            child = self._children[self._structure.keys.index(name)]
            if isinstance(child, Made):
                return child
        if field.default is MISSING:
            return getattr(self.built, name)
        return getattr(
            self.built, name, field.default
        )  # of another library's optimizer, which has no such field

    return property(get)


def _name(self: Any) -> str:
    """The name that was given to what is built, or else that of the maker."""
    built = self.built
    given = None if isinstance(built, Made) else built.name
    return given or self._structure.maker.name


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.built(*args, **kwargs)


_classes: dict[Any, type[Made]] = {}


def is_contract(kind: Any) -> bool:
    """Whether it is a class of values that makers may return: a dataclass."""
    return isinstance(kind, type) and is_dataclass(kind)


def contract_of(built: Any) -> Any:
    """The contract of what a maker has built; None for a function."""
    if isinstance(built, Made):
        return built.contract
    return type(built) if is_contract(type(built)) else None


def required(contract: Any) -> list[str]:
    """The fields that what is built must have."""
    own = [] if contract is None else fields(contract)
    return [
        field.name for field in own if field.default is MISSING and field.default_factory is MISSING
    ]


def made_class(kind: Any) -> Any:
    """The class of made values with this contract: a subclass of it, whose fields are built late."""
    if kind not in _classes:
        body: dict[str, Any] = {
            "__module__": __name__,
            "__eq__": Made.__eq__,
            "__hash__": Made.__hash__,
        }
        body["contract"] = kind
        if kind is None:
            cls = type("MadeFunction", (Made,), body | {"__call__": _call})
        else:
            body |= {field.name: _delegate(field) for field in fields(kind)}
            if "name" in body:
                body["name"] = property(_name)
            cls = type(f"Made{kind.__name__}", (Made, kind), body)
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, partial(_unflatten, cls), _flatten
        )
        _classes[kind] = cls
    return _classes[kind]


def _flatten(value: Made) -> tuple[tuple[Any, ...], Structure]:
    return value._children, value._structure


def _flatten_with_keys(value: Made) -> tuple[list[tuple[Any, Any]], Structure]:
    keys = map(jax.tree_util.GetAttrKey, value._structure.keys)
    return list(zip(keys, value._children, strict=True)), value._structure


def _unflatten(cls: Any, structure: Structure, children: Any) -> Any:
    return cls._of(structure, tuple(children))
