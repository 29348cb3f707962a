"""Printing of values as the Python expression that makes them, indented where it is long."""

import builtins
import functools
import sys
import textwrap
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDTH = 88  # columns of a line
MAX_SIZE = 100  # numbers of the largest array that is printed completely
INDENT = "    "

# The parts of an expression, each with the text before it, such as "rate=".
Parts = list[tuple[str, Any]]


class Shown:
    """Base class of values that print as a call."""

    def shown_call(self) -> tuple[str, list[tuple[str | None, Any]]]:
        """The name of the function, and the arguments, each with its keyword or None."""
        return type(self).__name__, []

    def shown_text(self) -> str | None:
        """The text to print instead of a call, or None."""
        return None


def shown(value: Any, indent: int = 0) -> str:
    """Format a value as a Python expression.

    Args:
        value: Any value.
        indent: Columns before the expression on its first line.

    Returns:
        One line if it fits into WIDTH columns, else one line for each argument.
    """
    head, parts, tail = split_expression(value)
    if parts is None:
        # A long array has several lines.
        return head.replace("\n", "\n" + " " * (indent + len(INDENT)))
    texts = [prefix + shown(part, indent + len(INDENT)) for prefix, part in parts]
    line = head + ", ".join(texts) + tail
    fits = "\n" not in line and indent + len(line) <= WIDTH
    if fits or not parts:
        return line
    inner = "\n" + " " * (indent + len(INDENT))
    body = f",{inner}".join(texts)
    # A trailing comma, as formatters write it; the ",)" of a tuple of one has one already.
    return f"{head}{inner}{body},\n{' ' * indent}{tail.lstrip(',')}"


def split_expression(value: Any) -> tuple[str, Parts | None, str]:
    """Split an expression into its opening text, its parts (None for an atom) and its end."""
    if isinstance(value, Shown):
        text = value.shown_text()
        if text is not None:
            return text, None, ""
        name, arguments = value.shown_call()
        parts = [("" if keyword is None else f"{keyword}=", part) for keyword, part in arguments]
        return f"{name}(", parts, ")"
    if isinstance(value, functools.partial):
        parts = [("", part) for part in (value.func, *value.args)]
        parts += [(f"{name}=", part) for name, part in value.keywords.items()]
        return "functools.partial(", parts, ")"
    if type(value) is tuple:
        return "(", [("", part) for part in value], ",)" if len(value) == 1 else ")"
    if type(value) is list:
        return "[", [("", part) for part in value], "]"
    if type(value) is dict:
        return "{", [(f"{name!r}: ", part) for name, part in value.items()], "}"
    return format_atom(value), None, ""


def format_atom(value: Any) -> str:
    """Format a value without parts."""
    if isinstance(value, float):
        # A float64 of NumPy is a float too, with a repr of its own.
        return format_number(value, repr(float(value)))
    if isinstance(value, jax.core.Tracer):
        return f"<traced {value.dtype}{list(value.shape)}>"
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return format_array(value)
    if isinstance(value, type | Callable) and hasattr(value, "__qualname__"):
        return reference(value)
    return repr(value)


def format_number(value: float, text: str) -> str:
    """Format a float; whole numbers without a fraction, NaN and infinities as float('nan')."""
    return text.removesuffix(".0") if np.isfinite(value) else f"float('{text}')"


def format_array(value: Any) -> str:
    """Format a scalar as its number, an array as a call, a large array by dtype and shape."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return format_key(value)
    host = np.asarray(value)
    if host.dtype == jax.dtypes.float0:  # JAX's gradient by integers and keys
        return "None"
    if host.ndim == 0:
        # "V" is the kind of bfloat16 and other dtypes that NumPy does not know.
        is_float = host.dtype.kind in "fV"
        return format_number(float(host), str(host)) if is_float else repr(host.item())
    if host.size > MAX_SIZE:
        return f"<array {host.dtype}{list(host.shape)}>"
    items = _shortest_floats(host) if host.dtype.kind == "f" else host.tolist()
    module = "numpy" if isinstance(value, np.ndarray) else "jax.numpy"
    return f"{module}.array({_filled(items)}, dtype='{host.dtype}')"


def _filled(items: Any) -> str:
    """Format nested lists of numbers, with as many on a line as fit."""

    def listed(part: Any) -> str:
        is_list = isinstance(part, list)
        return f"[{', '.join(map(listed, part))}]" if is_list else format_atom(part)

    return textwrap.fill(
        listed(items), WIDTH - len(INDENT), break_long_words=False, break_on_hyphens=False
    )


def _shortest_floats(host: np.ndarray) -> Any:
    """Nested lists of floats, each the shortest decimal that reads back in the array's dtype."""
    return [_shortest_floats(part) for part in host] if host.ndim else float(str(host))


def format_key(value: jax.Array) -> str:
    """Format a random key as jax.random.key(seed) where it is one, else by its words."""
    data = np.asarray(jax.random.key_data(value))
    impl = str(jax.random.key_impl(value))
    is_seed = data.ndim == 1 and not data[:-1].any() and impl == "threefry2x32"
    if is_seed:
        return f"jax.random.key({data[-1]})"
    words = f"jax.numpy.array({data.tolist()}, dtype='uint32')"
    return f"jax.random.wrap_key_data({words}, impl='{impl}')"


def reference(value: Any) -> str:
    """The name of a function or class: fnn's by its public path, such as nn.dense.

    Args:
        value: A function or class.
    """
    module = value.__module__ or ""
    name = value.__qualname__
    if module in (builtins.__name__, "__main__"):
        return name
    if module.startswith("fnn."):
        room = module.split(".")[1]
        if getattr(sys.modules.get(f"fnn.{room}"), name, None) is value:
            return f"{room}.{name}"
    # Functions of JAX are defined in private modules.
    if getattr(jnp, name, None) is value:
        return f"jax.numpy.{name}"
    if getattr(jax.nn, name, None) is value:
        return f"jax.nn.{name}"
    return f"{module}.{name}"


def public_names(namespace: Mapping[str, Any], *modules: str) -> list[str]:
    """Return the names that a package re-exports, for its `__all__`.

    Python binds the modules of a package in its namespace too; they are left out.

    Args:
        namespace: The `globals()` of the package, at the end of its file.
        *modules: Names of modules that are public.
    """
    names = []
    for name, value in namespace.items():
        is_public = not isinstance(value, ModuleType) or name in modules
        if is_public and not name.startswith("_"):
            names.append(name)
    return sorted(names)
