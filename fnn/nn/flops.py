"""Number of floating-point operations of a function, counted in its jaxpr before compilation.

XLA's cost analysis counts the body of a loop once, and a training run is one loop; it also leaves
out the multiplications of a convolution with padding. Here the body of a loop counts once for each
iteration, a matrix product or convolution 2 for each multiply-add, a reduction 1 for each number of
its input, and any other arithmetic 1 for each floating-point number of its output. Moving and
comparing numbers is free.
"""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

import jax.numpy as jnp

from fnn.xla import subjaxprs

# Primitives that only move, convert or draw numbers.
FREE = {
    "bitcast_convert_type", "broadcast_in_dim", "concatenate", "convert_element_type", "copy",
    "copy_p", "device_put", "dynamic_slice", "dynamic_update_slice", "exchange_params",
    "expand_dims", "gather", "iota", "name", "optimization_barrier", "pad", "pvary", "random_bits",
    "random_fold_in", "random_seed", "random_unwrap", "random_wrap", "reduce_precision", "reshape",
    "rev", "scatter", "select_n", "sharding_constraint", "slice", "sort", "split", "squeeze",
    "stack", "stop_gradient", "top_k", "transpose", "unstack",
}  # fmt: skip
LABEL = "layer:"  # prefix of the names of jitted functions that are counted separately
REDUCTIONS = ("reduce_", "arg", "cum")  # prefixes of the primitives that count by their input
# fnn's own convolutions: of x, w and y two are inputs and one is the output. The indices of y and w
# in (*inputs, *outputs).
CONVOLUTIONS = {
    "convolve": (2, 1),
    "convolve_input_gradient": (0, 1),
    "convolve_kernel_gradient": (1, 2),
}


def count(jaxpr: Any, label: str = "") -> Counter[str]:
    """Count the operations of a jaxpr, by the innermost function whose name begins with LABEL.

    A conditional counts as its most expensive branch, a loop of unknown length as one iteration.

    Args:
        jaxpr: A jaxpr, closed or not.
        label: The name under which operations outside of such functions count.
    """
    total: Counter[str] = Counter()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = str(equation.params.get("name", ""))
        inner_label = name if name.startswith(LABEL) else label
        inner = [count(part, inner_label) for part in _subjaxprs(equation)]
        if not inner:
            total[label] += _operations(equation)
        elif equation.primitive.name == "cond":
            total.update(max(inner, key=lambda branch: sum(branch.values())))
        else:
            is_scan = equation.primitive.name == "scan"
            iterations = equation.params["length"] if is_scan else 1
            for part in inner:
                for part_label, operations in part.items():
                    total[part_label] += iterations * operations
    return total


def _subjaxprs(equation: Any) -> Iterator[Any]:
    """Yield the jaxprs that an equation runs."""
    # Those of a scatter or reduction only combine two numbers.
    if not equation.primitive.name.startswith(("scatter", "select_and", *REDUCTIONS)):
        yield from subjaxprs(equation)


def _operations(equation: Any) -> int:
    """Return the operations of an equation without inner jaxprs."""
    name = equation.primitive.name
    inputs = [atom.aval for atom in equation.invars]
    outputs = [atom.aval for atom in equation.outvars]
    if name in CONVOLUTIONS:
        arrays = [*inputs, *outputs]
        y_index, w_index = CONVOLUTIONS[name]
        y = arrays[y_index]
        w = arrays[w_index]
        # 2 for each number of y and each weight of its output channel; members have a kernel each.
        members = w.shape[0] if equation.params["members"] else 1
        return 2 * y.size * w.size // (members * w.shape[-1])
    if name == "conv_general_dilated":
        kernel = inputs[1]
        output_axis = equation.params["dimension_numbers"].rhs_spec[0]
        return 2 * outputs[0].size * kernel.size // max(kernel.shape[output_axis], 1)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        terms = prod(inputs[0].shape[axis] for axis in contracted)
        return 2 * outputs[0].size * terms
    if name in FREE:
        return 0
    if name.startswith("scatter"):
        return inputs[2].size  # the updates
    if name.startswith("reduce_window"):
        return outputs[0].size * prod(equation.params["window_dimensions"])
    counted = inputs if name.startswith(REDUCTIONS) else outputs
    return sum(array.size for array in counted if _is_floating(array))


def _is_floating(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.inexact)
