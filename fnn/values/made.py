"""Made values: recorded calls as pytrees that print, compare, hash, copy and can be pickled."""

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
    """A recorded call without its leaves: the static part of the pytree.

    Two structures are equal if they were made alike. Functions and other objects without an
    equality of their own are compared by identity.

    Attributes:
        maker: The `Maker`.
        call: Pairs of a name and an argument, with a hole for each leaf.
        keys: The paths of the leaves.
        identity: A hashable object that is equal for equal structures.
    """

    __slots__ = ("__weakref__", "_hash", "call", "identity", "keys", "maker")

    def __init__(self, maker: Any, call: tuple[tuple[str, Any], ...], keys: tuple[str, ...]):
        self.maker = maker
        self.call = call
        self.keys = keys
        self.identity = (maker, identity_of(call))
        self._hash = hash(self.identity)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Structure) or self._hash != other._hash:
            return False
        return self.identity == other.identity

    def __repr__(self) -> str:
        return f"{self.maker.name}({', '.join(self.keys)})"

    def filled(self, children: tuple[Any, ...]) -> dict[str, Any]:
        """The arguments by name, with the children put into the holes."""
        rest = iter(children)
        return {name: fill(value, rest) for name, value in self.call}


class Made(Shown):
    """The base class of made values.

    Attributes:
        cache: Results derived from the value, such as its flat form. Not part of it, never copied.
        contract: The class whose fields it has, such as Layer; None for a function.
    """

    _structure: Structure
    _children: tuple[Any, ...]
    _built: Any
    cache: dict[Any, Any]
    contract: Any = None
    __iter__ = None  # Items are by path; without this, Python would iterate by integers.

    @classmethod
    def _of(cls, structure: Structure, children: tuple[Any, ...], built: Any = None) -> Any:
        self = object.__new__(cls)
        # Contracts are frozen dataclasses, so that attributes cannot be assigned.
        self.__dict__.update(_structure=structure, _children=children, _built=built, cache={})
        return self

    @property
    def maker(self) -> Callable[..., Any]:
        """The maker that was called."""
        return self._structure.maker.public

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the call by name, without those left at their defaults."""
        return self._structure.filled(self._children)

    @property
    def identity(self) -> Any:
        """A hashable object, equal for values that differ only in numbers.

        It holds objects of the value by weak references only.
        """
        children = (child.identity if isinstance(child, Made) else None for child in self._children)
        return (self._structure.identity, *children)

    @property
    def children(self) -> tuple[Any, ...]:
        """The leaves and made values among the arguments, in order."""
        return self._children

    @property
    def built(self) -> Any:
        """The object that the maker builds from the arguments, such as a Layer of two functions.

        All parts are built at the same time. A part that was built later, inside a loop of a
        compiled program, would hold tracers of that loop and fail outside of it.
        """
        if self._built is None:
            for key, child in self.by_key():
                expect_leaf(f"{self._structure.maker.name} {key}", child)
                if isinstance(child, Made):
                    _ = child.built
            maker = self._structure.maker
            self.__dict__["_built"] = maker.apply(maker.build, self.arguments)
        return self._built

    def replace(self, **changes: Any) -> Any:
        """The value of the same call with some arguments changed.

            recipe.replace(optimizer=optim.sgd(0.1))

        Args:
            changes: Arguments of the maker, by name.

        Raises:
            ConfigError: The maker has no argument of that name.
        """
        maker = self._structure.maker
        known = [name for name in maker.kinds if maker._key(name)]
        for name in changes.keys() - set(known):
            expected = f"one of {', '.join(known)}"
            raise ConfigError(f"{maker.name} {name}", expected, repr(name), "check the spelling")
        arguments = self.arguments | changes
        ordered = {name: arguments[name] for name in maker.kinds if name in arguments}
        return maker.apply(maker.public, ordered)

    def recorded(self, arguments: dict[str, Any]) -> Any:
        """The value of a call of the same maker with these arguments, not built."""
        return self._structure.maker.record(arguments, self.contract)

    def by_key(self) -> list[tuple[str, Any]]:
        """The leaves and made values among the arguments, each with its path."""
        return list(zip(self._structure.keys, self._children, strict=True))

    def __getitem__(self, path: str) -> Any:
        """The leaf or made value at a path.

            recipe["optimizer.rate.peak"], recipe["network.4"]

        Args:
            path: Names of arguments, and indices in *args, lists and tuples, joined by dots.

        Raises:
            ConfigError: There is no leaf at this path; the error lists the paths.
        """
        for key, child in self.by_key():
            if path == key:
                return child
            if path.startswith(f"{key}.") and isinstance(child, Made):
                return child[path.removeprefix(f"{key}.")]
        known = ", ".join(self._structure.keys) or "none"
        expected = f"the path of a leaf or a made value, among {known}"
        raise ConfigError(f"{self._structure.maker.name} path", expected, path, "check the name")

    def replace_at(self, path: str, value: Any) -> Any:
        """The value of the same call with the leaf or made value at a path replaced.

            recipe.replace_at("optimizer.rate.peak", 0.1)

        Args:
            path: As for `[]`, or the name of an argument that was left at its default.
            value: The new leaf or made value.

        Raises:
            ConfigError: There is no leaf at this path; the error lists the paths.
        """
        maker = self._structure.maker
        children = list(self._children)
        for index, (key, child) in enumerate(self.by_key()):
            if path == key:
                children[index] = value
            elif path.startswith(f"{key}.") and isinstance(child, Made):
                children[index] = child.replace_at(path.removeprefix(f"{key}."), value)
            else:
                continue
            return maker.apply(maker.public, self._structure.filled(tuple(children)))
        if path in maker.kinds:
            return self.replace(**{path: value})
        # Raises the error with the known paths.
        return self[path]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Made) or self._structure != other._structure:
            return False
        return all(map(equal, self._children, other._children))

    def __hash__(self) -> int:
        return hash((self._structure, *map(hash_of, self._children)))

    def __repr__(self) -> str:
        return shown(self)

    def shown_call(self) -> tuple[str, list[tuple[str | None, Any]]]:
        """The maker's name and the arguments, positional as far as the maker allows."""
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
        """The text of a maker with a `show` function, or None."""
        maker = self._structure.maker
        return None if maker.show is None else maker.apply(maker.show, self.arguments)

    def __copy__(self) -> Any:
        return self  # It is immutable.

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return remade, (self._structure.maker.public, pack(self.arguments), self.contract)


def expect_leaves(where: str, value: Any) -> None:
    """Raise ConfigError with the path if a leaf was replaced by something that is not a number.

    Args:
        where: Path of the value, empty for the root.
        value: A made value; others have no leaves to check.
    """
    if not isinstance(value, Made) or value._built is not None:
        return
    for key, child in value.by_key():
        path = f"{where}.{key}" if where else key
        expect_leaf(path, child)
        expect_leaves(path, child)


def remade(public: Callable[..., Any], packed: dict[str, Any], contract: Any) -> Any:
    """Make the value of a pickled call, without checking its leaves."""
    return public.__dict__["record"].record(unpack(packed), contract)


# Classes of made values: one for each contract, and one for functions.


def _delegate(field: Field[Any]) -> property:
    """A property that reads a field of the contract from the built object.

    A made argument of the same name is returned directly, without building the rest.
    """
    name = field.name

    def get(self: Made) -> Any:
        if self._built is None and name in self._structure.keys:
            child = self._children[self._structure.keys.index(name)]
            if isinstance(child, Made):
                return child
        if field.default is MISSING:
            return getattr(self.built, name)
        # An optimizer of another library has no such field.
        return getattr(self.built, name, field.default)

    return property(get)


def _name(self: Any) -> str:
    """The name of the built object, or that of the maker."""
    built = self.built
    given = None if isinstance(built, Made) else built.name
    return given or self._structure.maker.name


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.built(*args, **kwargs)


_classes: dict[Any, type[Made]] = {}


def is_contract(kind: Any) -> bool:
    """Whether an annotation is a class of values that makers return: a dataclass."""
    return isinstance(kind, type) and is_dataclass(kind)


def contract_of(built: Any) -> Any:
    """The contract of a built object; None for a function."""
    if isinstance(built, Made):
        return built.contract
    return type(built) if is_contract(type(built)) else None


def required(contract: Any) -> list[str]:
    """The names of the fields without defaults, which a built object must have."""
    if contract is None:
        return []
    return [
        field.name
        for field in fields(contract)
        if field.default is MISSING and field.default_factory is MISSING
    ]


def made_class(kind: Any) -> Any:
    """The class of made values of a contract: a subclass whose fields are built on first use."""
    if kind not in _classes:
        body: dict[str, Any] = {
            "__module__": __name__,
            "__eq__": Made.__eq__,
            "__hash__": Made.__hash__,
            "contract": kind,
        }
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
