"""How values print: as the Python expression that makes them, indented where it is long."""

import builtins
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDTH = 88  # columns of a line
MOST = 100  # numbers of an array that is printed whole
INDENT = "    "


class Shown:
    """Something that prints as a call."""

    def shown_call(self) -> tuple[str, list[tuple[str | None, Any]]]:
        """The function's name, and its arguments: each with its keyword, or None where it is positional."""
        return type(self).__name__, []

    def shown_text(self) -> str | None:
        """The text to print, where it is no call."""
        return None


def shown(value: Any, indent: int = 0) -> str:
    """The expression, on one line where it fits into the width, else with an argument a line."""
    head, parts, tail = parts_of(value)
    if parts is None:
        return head
    texts = [keyword + shown(part, indent + len(INDENT)) for keyword, part in parts]
    line = head + ", ".join(texts) + tail
    if ("\n" not in line and indent + len(line) <= WIDTH) or not parts:
        return line
    inner = "\n" + " " * (indent + len(INDENT))
    return f"{head}{inner}{f',{inner}'.join(texts)},\n{' ' * indent}{tail.lstrip(',')}"


def parts_of(value: Any) -> tuple[str, list[tuple[str, Any]] | None, str]:
    """What an expression begins with, its parts with what stands before each, and what it ends with."""
    if isinstance(value, Shown):
        text = value.shown_text()
        if text is not None:
            return text, None, ""
        name, arguments = value.shown_call()
        return (
            f"{name}(",
            [("" if keyword is None else f"{keyword}=", part) for keyword, part in arguments],
            ")",
        )
    if isinstance(value, functools.partial):
        positional = [("", part) for part in (value.func, *value.args)]
        return (
            "functools.partial(",
            positional + [(f"{name}=", part) for name, part in value.keywords.items()],
            ")",
        )
    if type(value) is tuple:
        return "(", [("", part) for part in value], ",)" if len(value) == 1 else ")"
    if type(value) is list:
        return "[", [("", part) for part in value], "]"
    if type(value) is dict:
        return "{", [(f"{name!r}: ", part) for name, part in value.items()], "}"
    return atom(value), None, ""


def atom(value: Any) -> str:
    """The text of what has no parts."""
    if isinstance(value, float):
        return number(value, repr(value))
    if isinstance(value, jax.core.Tracer):
        return f"<traced {value.dtype}{list(value.shape)}>"
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return array(value)
    if isinstance(value, type | Callable) and hasattr(value, "__qualname__"):
        return reference(value)
    return repr(value)


def number(value: float, text: str) -> str:
    """A number as it is written: whole ones without a fraction."""
    return text.removesuffix(".0") if np.isfinite(value) else f"float('{text}')"


def array(value: Any) -> str:
    """A scalar as its number, an array as the call that makes it; one of many numbers by its dtype and shape alone."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return key(value)
    host = np.asarray(value)
    if host.dtype == jax.dtypes.float0:  # the gradient by what is no real number
        return "None"
    if host.ndim == 0:
        return number(float(host), str(host)) if host.dtype.kind in "fV" else repr(host.item())
    if host.size > MOST:
        return f"<array {host.dtype}{list(host.shape)}>"
    items = host.tolist() if host.dtype.kind != "f" else _shortest(host)
    module = "numpy" if isinstance(value, np.ndarray) else "jax.numpy"
    return f"{module}.array({shown(items)}, dtype='{host.dtype}')"


def _shortest(host: np.ndarray) -> Any:
    """The numbers as nested lists, each the shortest that gives it again in its dtype."""
    return [_shortest(part) for part in host] if host.ndim else float(str(host))


def key(value: jax.Array) -> str:
    """A random key as the call that makes it."""
    data = np.asarray(jax.random.key_data(value))
    if data.ndim == 1 and not data[:-1].any() and str(jax.random.key_impl(value)) == "threefry2x32":
        return f"jax.random.key({data[-1]})"
    words = f"jax.numpy.array({data.tolist()}, dtype='uint32')"
    return f"jax.random.wrap_key_data({words}, impl='{jax.random.key_impl(value)}')"


def reference(value: Any) -> str:
    """The name by which a function or class is found after `import fnn`'s rooms, jax and numpy."""
    module, name = value.__module__ or "", value.__qualname__
    if module == builtins.__name__ or module == "__main__":
        return name
    if module.startswith("fnn."):
        room = module.split(".")[1]
        if getattr(sys.modules.get(f"fnn.{room}"), name, None) is value:
            return f"{room}.{name}"
    if getattr(jnp, name, None) is value:
        return f"jax.numpy.{name}"
    if getattr(jax.nn, name, None) is value:
        return f"jax.nn.{name}"
    return f"{module}.{name}"
