"""Compiled programs by the structure of a recipe.

A program takes a recipe's numbers as arguments, so recipes that differ in numbers alone share it. It lives as long as a
recipe of its structure does, and beyond that while it is among the KEPT most recently used ones, so that a recipe made
again compiles nothing. It holds no array and no function of a recipe: objects that are compared by identity are
remembered weakly, and when one of them is gone, so is the program.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from fnn.values import Same, objects_of

KEPT = 4

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_by_identity: "weakref.WeakValueDictionary[Any, Programs]" = weakref.WeakValueDictionary()
_recent: "OrderedDict[int, Programs]" = OrderedDict()
# Of the recipe whose function is called: what a program is traced with, but does not hold.
_structure: ContextVar[Any] = ContextVar("structure")


class Programs:
    """The compiled functions of recipes of one structure."""

    def __init__(self) -> None:
        self.jitted: dict[Callable[..., Any], Callable[..., Any]] = {}
        self.watches: list[Any] = []

    def function(self, function: Callable[..., Any], static: tuple[int, ...]) -> Callable[..., Any]:
        """function(recipe, *arguments) as a compiled one of the recipe's leaves and the arguments."""
        if function not in self.jitted:

            def program(leaves: Any, *arguments: Any) -> Any:
                recipe = jax.tree.unflatten(_structure.get(), leaves)
                _ = recipe.built  # now, in the outermost trace
                return function(recipe, *arguments)

            program.__name__ = function.__name__
            self.jitted[function] = jax.jit(program, static_argnums=static)
        return self.jitted[function]

    def watch(self, objects: Iterable[Same]) -> None:
        """Forget as soon as one of these objects is gone."""
        forget = weakref.WeakMethod(
            self.forget
        )  # held weakly, or else the programs would be in a cycle

        def on_gone(_: Any) -> None:
            if (own := forget()) is not None:
                own()

        self.watches = [same.on_gone(on_gone) for same in objects]

    def forget(self) -> None:
        """Drop the programs: an object that they are compiled for is gone."""
        _recent.pop(id(self), None)
        self.jitted.clear()


def programs_of(recipe: Any) -> Programs:
    """The programs of the recipe's structure."""
    own = recipe.cache.get("programs")
    if own is None:
        identity = recipe.identity
        own = _by_identity.get(identity)
        if own is None:
            own = _by_identity[identity] = Programs()
            own.watch(objects_of(identity))
        recipe.cache["programs"] = own
    _recent[id(own)] = own
    _recent.move_to_end(id(own))
    while len(_recent) > KEPT:
        _recent.popitem(last=False)
    return own


def per_recipe(*, static: tuple[int, ...] = ()) -> Callable[[F], F]:
    """Compile function(recipe, *arguments) once for each structure of a recipe.

    Args:
        static: The places of arguments that are static, where the recipe is at 0.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def call(recipe: Any, *arguments: Any) -> Any:
            programs = programs_of(recipe)
            leaves, structure = _flat(recipe)
            token = _structure.set(structure)
            try:
                return programs.function(function, static)(leaves, *arguments)
            finally:
                _structure.reset(token)

        return cast(F, call)

    return decorate


def cached(recipe: Any, key: Hashable, compute: Callable[[], T]) -> T:
    """What compute() returned when it was first called for this recipe and key; it is kept as long as the recipe.

    Args:
        recipe: A made value.
        key: What the result depends on besides the recipe.
        compute: The computation.
    """
    if key not in recipe.cache:
        recipe.cache[key] = compute()
    return recipe.cache[key]


def _flat(recipe: Any) -> tuple[list[Any], Any]:
    """The recipe's leaves and its structure; Python floats in JAX's default dtype, so that 0.1 is float32(0.1)."""
    dtype = jnp.result_type(float)

    def flatten() -> tuple[list[Any], Any]:
        leaves, structure = jax.tree.flatten(recipe)
        return [np.asarray(x, dtype) if isinstance(x, float) else x for x in leaves], structure

    return cached(recipe, dtype, flatten)
