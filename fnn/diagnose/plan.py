"""What a program will take, before it runs."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from fnn.nn.flops import count


class Plan(NamedTuple):
    """The floating-point operations of one call, and the bytes that the device holds for it."""

    flops: int
    arguments: int
    outputs: int
    temporaries: int
    peak: int

    def __str__(self) -> str:
        """The figures in powers of 1000 for operations, and of 1024 for bytes."""
        sizes = {
            name: _scaled(size, 1024, ("B", "KiB", "MiB", "GiB"))
            for name, size in self._asdict().items()
        }
        sizes["flops"] = _scaled(
            self.flops, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP")
        )
        return ", ".join(f"{name} {size}" for name, size in sizes.items())


def plan(function: Callable[..., Any], *args: Any, **static: Any) -> Plan:
    """The operations and the memory of function(*args, **static), compiled but not run.

    args: arrays, or jax.ShapeDtypeStructs in place of arrays, of which then none is made; a function that is jitted
    already is compiled as it is. flops: 2 for a multiplication with its addition in products and convolutions, 1 for
    other arithmetic, a loop's body as often as it turns, if that is known (XLA counts it once). Bytes as XLA allots
    them on this device: peak = arguments + outputs + temporaries, less what the outputs share with the arguments.
    """
    jitted = function if hasattr(function, "trace") else jax.jit(partial(function, **static))
    traced = jitted.trace(*args, **static) if jitted is function else jitted.trace(*args)
    memory = traced.lower().compile().memory_analysis()
    sizes = memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes
    return Plan(count(traced.jaxpr).total(), *sizes, sum(sizes) - memory.alias_size_in_bytes)


def _scaled(amount: float, base: int, units: tuple[str, ...]) -> str:
    place = 0
    while amount >= base and place < len(units) - 1:
        amount, place = amount / base, place + 1
    return f"{amount:.4g} {units[place]}"
