"""How many floating-point operations a function takes, counted in its program before anything is compiled.

XLA's own count takes the body of a loop once however often it runs, and a training run is one loop; and it leaves out
what a convolution multiplies with padding. Here a loop's body counts as often as it runs, a matrix product or a
convolution 2 for each multiplication with its addition, a reduction 1 for each number it takes in, and any other
arithmetic 1 for each floating-point number it gives; what only moves or compares numbers is free.
"""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

import jax.numpy as jnp

MOVES = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "device_put", "dynamic_slice",
    "dynamic_update_slice", "expand_dims", "gather", "iota", "optimization_barrier", "pad", "rev", "reshape", "scatter",
    "select_n", "slice", "sort", "split", "squeeze", "stop_gradient", "top_k", "transpose", "pvary", "reduce_precision",
    "random_bits", "random_wrap", "random_unwrap", "random_fold_in", "random_seed", "bitcast_convert_type",
    "stack", "unstack",
}  # fmt: skip
LABEL = "layer:"
TAKES_IN = ("reduce_", "arg", "cum")  # the beginnings of what counts by the numbers it takes in
OPERANDS = {
    "convolve": (2, 1),
    "convolve_input_gradient": (0, 1),
    "convolve_kernel_gradient": (1, 2),
}


def count(jaxpr: Any, label: str = "") -> Counter[str]:
    """The operations of a program, by the name of the innermost jitted function around them that begins with LABEL.

    What is in no such function counts under the given label. A branch counts as its dearest, a loop of unknown length
    as one turn.
    """
    total: Counter[str] = Counter()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = str(equation.params.get("name", ""))
        inside = [
            count(part, name if name.startswith(LABEL) else label) for part in _parts(equation)
        ]
        if not inside:
            total[label] += _own(equation)
        elif equation.primitive.name == "cond":
            total.update(max(inside, key=lambda branch: sum(branch.values())))
        else:
            turns = equation.params["length"] if equation.primitive.name == "scan" else 1
            for part in inside:
                total.update({at: turns * operations for at, operations in part.items()})
    return total


def _parts(equation: Any) -> Iterator[Any]:
    """The programs that an equation runs, apart from those that only say how two numbers become one."""
    if equation.primitive.name.startswith(("scatter", "select_and", *TAKES_IN)):
        return
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(part, "jaxpr", part), "eqns"):
                yield part


def _own(equation: Any) -> int:
    """The operations of an equation that runs no other program."""
    name = equation.primitive.name
    into, out = ([atom.aval for atom in atoms] for atoms in (equation.invars, equation.outvars))
    if (
        name in OPERANDS
    ):  # x, w and y of fnn's own convolutions, of which two go in and one comes out
        y, w = ([*into, *out][place] for place in OPERANDS[name])
        members = w.shape[0] if equation.params["members"] else 1
        return 2 * y.size * w.size // (members * w.shape[-1])
    if name == "conv_general_dilated":
        outputs = into[1].shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2 * out[0].size * into[1].size // max(outputs, 1)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * out[0].size * prod(into[0].shape[axis] for axis in contracted)
    if name in MOVES:
        return 0
    if name.startswith("scatter"):
        return into[2].size
    if name.startswith("reduce_window"):
        return out[0].size * prod(equation.params["window_dimensions"])
    return sum(
        one.size for one in (into if name.startswith(TAKES_IN) else out) if _is_floating(one)
    )


def _is_floating(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.inexact)
