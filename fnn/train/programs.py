"""Compiled programs, cached by the structure of a recipe.

A program takes the numbers of a recipe as arguments, so recipes that differ in numbers alone share
it. It lives as long as a recipe of its structure does, and longer while its structure is among the
MAX_RECENT most recently used ones. Therefore making a recipe again compiles nothing.

A program holds no array and no function of a recipe strongly. Objects that are compared by identity
are referenced weakly, and when one of them is deleted, the program is deleted too.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from fnn import trees
from fnn.train.devices import current_layout
from fnn.types import TrainState
from fnn.values import Same, objects_of

MAX_RECENT = 4  # enough for a few recipes in turn; each structure more would hold more memory

_MISSING = object()

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# The key is the identity of a recipe's structure. An entry lasts as long as a recipe refers to it.
_by_identity: "weakref.WeakValueDictionary[Any, Programs]" = weakref.WeakValueDictionary()

# The most recently used programs, by id, which keep them alive.
_recent: "OrderedDict[int, Programs]" = OrderedDict()

# The structure of the recipe whose function is being called. Tracing needs it, but the jitted
# function must not hold it.
_structure: ContextVar[Any] = ContextVar("structure")


class Flat(NamedTuple):
    """The flat form of a recipe.

    Attributes:
        leaves: Its leaves, Python floats as arrays.
        structure: Its structure.
        placed: The leaves with numbers on devices, by their sharding.
    """

    leaves: list[Any]
    structure: Any
    placed: dict[Sharding, list[Any]]


class Programs:
    """The compiled functions of recipes of one structure.

    Attributes:
        jitted: Jitted functions of the leaves of a recipe, by the function of the recipe and the
            layout over devices.
        facts: Results of tracing that depend on the structure alone, without arrays, by key.
        watches: References that call back when an object of the structure is deleted.
    """

    def __init__(self) -> None:
        self.jitted: dict[Hashable, Callable[..., Any]] = {}
        self.facts: dict[Hashable, Any] = {}
        self.watches: list[Any] = []

    def function(self, function: Callable[..., Any], static: tuple[int, ...]) -> Callable[..., Any]:
        """Return function(recipe, *arguments) as a jitted function of the recipe's leaves."""
        # A layout of examples over devices changes what is traced. Without one, the function alone
        # is the key, whose hash takes less time.
        layout = current_layout()
        key: Hashable = function if layout is None else (function, layout)
        jitted = self.jitted.get(key)
        if jitted is None:

            def program(leaves: Any, *arguments: Any) -> Any:
                recipe = jax.tree.unflatten(_structure.get(), leaves)
                # Build now, in the outermost trace: a part that is first built within a loop of
                # the program would hold tracers of that loop.
                _ = recipe.built
                return function(recipe, *arguments)

            program.__name__ = function.__name__
            jitted = self.jitted[key] = jax.jit(program, static_argnums=static)
        return jitted

    def watch(self, objects: Iterable[Same]) -> None:
        """Delete the programs as soon as one of these objects is deleted."""
        # A strong reference would be a cycle, which only the garbage collector could free.
        forget = weakref.WeakMethod(self.forget)

        def on_gone(_: Any) -> None:
            method = forget()
            if method is not None:
                method()

        self.watches = [same.on_gone(on_gone) for same in objects]

    def forget(self) -> None:
        """Delete the programs."""
        _recent.pop(id(self), None)
        self.jitted.clear()
        self.facts.clear()


def programs_of(recipe: Any) -> Programs:
    """Return the programs of the recipe's structure."""
    programs = recipe.cache.get("programs")
    if programs is None:
        identity = recipe.identity
        programs = _by_identity.get(identity)
        if programs is None:
            programs = Programs()
            _by_identity[identity] = programs
            programs.watch(objects_of(identity))
        recipe.cache["programs"] = programs
    _recent[id(programs)] = programs
    _recent.move_to_end(id(programs))
    while len(_recent) > MAX_RECENT:
        _recent.popitem(last=False)
    return programs


def per_recipe(*, static: tuple[int, ...] = ()) -> Callable[[F], F]:
    """Compile function(recipe, *arguments) once for each structure of a recipe.

    Args:
        static: Positions of static arguments. The recipe has position 0.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def call(recipe: Any, *arguments: Any) -> Any:
            programs = programs_of(recipe)
            flat = _flatten_recipe(recipe)
            leaves = _place(recipe, flat, arguments)
            token = _structure.set(flat.structure)
            try:
                return programs.function(function, static)(leaves, *arguments)
            finally:
                _structure.reset(token)

        return cast(F, call)

    return decorate


def lower(
    function: Callable[..., Any],
    static: tuple[int, ...],
    recipe: Any,
    *arguments: Any,
) -> Any:
    """Return the lowered program that `per_recipe` runs for these arguments, to inspect it.

    Compiling it takes no time where the program has been compiled, and the reverse.

    Args:
        function: The function that was decorated.
        static: Positions of static arguments, those of the decorator.
        recipe: The recipe.
        arguments: The other arguments.
    """
    leaves, structure, _ = _flatten_recipe(recipe)
    token = _structure.set(structure)
    try:
        program: Any = programs_of(recipe).function(function, static)
        return program.lower(leaves, *arguments)
    finally:
        _structure.reset(token)


def cached(recipe: Any, key: Hashable, compute: Callable[[], T]) -> T:
    """Return the result of compute(), cached in the recipe under a key.

    Args:
        recipe: A made value. The result lives as long as it does.
        key: Everything that the result depends on besides the recipe.
        compute: The computation.
    """
    return _find(recipe.cache, key, compute)


def shared(recipe: Any, key: Hashable, compute: Callable[[], T]) -> T:
    """Return the result of compute(), cached for all recipes of the structure of this one.

    Args:
        recipe: A made value.
        key: Everything that the result depends on besides the structure.
        compute: The computation, whose result holds no array and no function.
    """
    return _find(programs_of(recipe).facts, key, compute)


def _find(results: dict[Any, Any], key: Hashable, compute: Callable[[], T]) -> T:
    # One search: the hash of a key of many shapes takes a part of the time of a small program.
    result = results.get(key, _MISSING)
    if result is _MISSING:
        result = results[key] = compute()
    return cast(T, result)


def _flatten_recipe(recipe: Any) -> Flat:
    """Return the flat form of a recipe."""
    # Arrays have a dtype, so that 0.1 and float32(0.1) share a program. JAX's default dtype is
    # part of the key, since it changes under jax.enable_x64.
    dtype = jax.dtypes.canonicalize_dtype(float)
    # Each call of a program comes here: a search without a closure takes half of the time.
    flat = recipe.cache.get(dtype)
    if flat is None:
        leaves, structure = jax.tree.flatten(recipe)
        arrays = [np.asarray(leaf, dtype) if isinstance(leaf, float) else leaf for leaf in leaves]
        flat = recipe.cache[dtype] = Flat(arrays, structure, {})
    return cast(Flat, flat)


def _place(recipe: Any, flat: Flat, arguments: tuple[Any, ...]) -> list[Any]:
    """Return the leaves of a recipe with its numbers on the devices of the arguments.

    A number on the host would be copied to the device in each call, which takes longer than the
    call of a small program, and which `jax.transfer_guard` forbids.
    """
    # One array stands for all of them. Each call of a program comes here, and a small step takes
    # less time than a search: the step of a train state and the inputs are found at once.
    first = arguments[0]
    state = first if isinstance(first, TrainState) else arguments[-1]
    like: Any
    if isinstance(state, TrainState):
        like = state.step
    else:
        second = arguments[1] if len(arguments) > 1 else None
        # The sharding of a key is computed each time, that of data is known.
        like = second[0] if type(second) is tuple and second else second
        if not isinstance(like, jax.Array):
            like = trees.first_leaf(first)
    # Within a program, numbers of NumPy become its constants.
    if not isinstance(like, jax.Array) or isinstance(like, Tracer):
        return flat.leaves
    sharding = like.sharding
    placed = flat.placed.get(sharding)
    if placed is None:
        placed = []
        for given, leaf in zip(jax.tree.leaves(recipe), flat.leaves, strict=True):
            # An array of the caller may be modified later.
            is_number = isinstance(given, int | float | np.generic)
            placed.append(_put(leaf, sharding) if is_number else leaf)
        flat.placed[sharding] = placed
    return placed


def _put(number: Any, sharding: Sharding) -> Any:
    """Copy a number to all devices of a sharding."""
    device, *others = sharding.device_set
    # Not traced into a program that may be under construction.
    with jax.ensure_compile_time_eval():
        if not others:
            # Not tied to the device: other arguments may be on another one.
            with jax.default_device(device):
                return jax.device_put(number)
        # Devices of other processes would have to agree on the number.
        if isinstance(sharding, NamedSharding) and sharding.is_fully_addressable:
            return jax.device_put(number, NamedSharding(sharding.mesh, PartitionSpec()))
    return number
