"""Operations and memory of a program, known before it runs."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from fnn.nn.flops import count

BYTE_UNITS = ("B", "KiB", "MiB", "GiB")
FLOP_UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP")


class Plan(NamedTuple):
    """The floating-point operations of one call, and the bytes of device memory for it.

    Attributes:
        flops: Floating-point operations.
        arguments: Bytes of the arguments.
        outputs: Bytes of the outputs.
        temporaries: Bytes of intermediate values.
        peak: Bytes in all: arguments + outputs + temporaries, less the memory that outputs share
            with donated arguments.
    """

    flops: int
    arguments: int
    outputs: int
    temporaries: int
    peak: int

    def __str__(self) -> str:
        """Format operations in powers of 1000, bytes in powers of 1024."""
        texts = []
        for name, amount in self._asdict().items():
            if name == "flops":
                text = format_amount(amount, 1000, FLOP_UNITS)
            else:
                text = format_amount(amount, 1024, BYTE_UNITS)
            texts.append(f"{name} {text}")
        return ", ".join(texts)


def plan(function: Callable[..., Any], *args: Any, **static: Any) -> Plan:
    """Count the operations and the memory of function(*args, **static), compiled but not run.

    A multiplication with its addition counts 2 in products and convolutions, other arithmetic 1.
    The body of a loop counts as often as it is repeated, if that number is known; XLA counts it
    once. Bytes are those that XLA allocates on this device.

    Args:
        function: The function to compile. A jitted function keeps its static and donated
            arguments.
        *args: Its arguments: pytrees of arrays, or of jax.ShapeDtypeStruct, for which no memory is
            allocated.
        **static: Static keyword arguments.
    """
    # A jitted function knows which of its keywords are static.
    if hasattr(function, "trace"):
        traced = function.trace(*args, **static)
    else:
        traced = jax.jit(partial(function, **static)).trace(*args)
    memory = traced.lower().compile().memory_analysis()
    arguments = memory.argument_size_in_bytes
    outputs = memory.output_size_in_bytes
    temporaries = memory.temp_size_in_bytes
    # Donated arguments and the outputs in their memory are counted twice in these.
    peak = arguments + outputs + temporaries - memory.alias_size_in_bytes
    flops = count(traced.jaxpr).total()
    return Plan(flops, arguments, outputs, temporaries, peak)


def format_amount(amount: float, base: int, units: tuple[str, ...]) -> str:
    """Format an amount with the largest unit that keeps it >= 1."""
    index = 0
    while amount >= base and index < len(units) - 1:
        amount /= base
        index += 1
    return f"{amount:.4g} {units[index]}"
