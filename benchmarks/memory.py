"""Memory of a training step: ResNet-8 at batch 128, and Adam on 58.7 M parameters.

First XLA's account of a program: the sizes of the arguments, of the outputs, of the outputs that
reuse memory of the arguments (aliased), and of the temporaries. Then the peak memory of a process
that trains some steps, compilation included, minus its memory after the imports. The params,
gradients and moments of Adam are 939 MB. Run `python benchmarks/memory.py`.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import resnet_step
from measure import Program, missing, resident, show, table
from optimizers import LARGE, RATE, Compiled, scanned, with_fnn, with_optax, with_torch
from stepping import (
    PICTURES,
    channels_first,
    equinox,
    equinox_step,
    fnn_step,
    nnx,
    nnx_step,
    optax,
    torch,
)

from fnn import nn, optim

ROUNDS, TURNS = 3, 2
STATUS = Path("/proc/self/status")  # where Linux gives the memory of a process
# Programs of ResNet-8 that are measured in processes.
MEASURED = (resnet_step.FNN, "flax nnx + optax", "torch, eager, channels last")


def resnets() -> dict[str, Any]:
    """Compiled steps of ResNet-8, nothing donated, as in resnet_step.py."""
    step, start = fnn_step(nn.resnet_cifar(8))
    batch = PICTURES.batches[0]
    loop = jax.jit(partial(jax.lax.scan, step))
    lowered = {
        resnet_step.FNN: loop.lower(start, PICTURES[:2]),
        "fnn, one call per step": jax.jit(step).lower(start, batch),
    }
    if nnx:
        from nnx_resnet import ResNet

        model = ResNet(nnx.Rngs(0))
        call, optimizer = nnx_step(model)
        lowered["flax nnx + optax"] = call.lower(model, optimizer, *batch)
    if equinox:
        from equinox_resnet import ResNet

        step, start = equinox_step(ResNet)
        first_batch = channels_first(PICTURES).batches[0]
        lowered["equinox + optax"] = equinox.filter_jit(step).lower(start, first_batch)
    programs = {name: program.compile() for name, program in lowered.items()}
    # flax and equinox wrap the compiled program.
    return {name: getattr(program, "compiled", program) for name, program in programs.items()}


def adams() -> dict[str, Any]:
    """Compiled steps of Adam, with params and state donated."""
    pairs = {"fnn": (optim.adam(RATE), with_fnn)}
    if optax:
        pairs["optax"] = (optax.adam(RATE), with_optax)
    steps = {name: (adam, make_step(adam)) for name, (adam, make_step) in pairs.items()}
    for name, (adam, step) in list(steps.items()):
        steps[f"{name}, in a scan"] = (adam, scanned(step))
    return {name: donating(adam, step) for name, (adam, step) in steps.items()}


def donating(adam: Any, step: Callable) -> Any:
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in LARGE]
    opt_state = jax.eval_shape(adam.init, params)
    return jax.jit(step, donate_argnums=(0, 1)).lower(params, opt_state, params).compile()


def account(title: str, programs: dict[str, Any]) -> list[dict[str, str]]:
    """One row per program: megabytes of its arguments, outputs and temporaries."""
    rows = []
    for name, program in programs.items():
        analysis = program.memory_analysis()
        sizes = {
            "arguments": analysis.argument_size_in_bytes,
            "outputs": analysis.output_size_in_bytes,
            "aliased": analysis.alias_size_in_bytes,
            "temporary": analysis.temp_size_in_bytes,
        }
        sizes["total"] = sum(sizes.values()) - 2 * sizes["aliased"]
        rows.append({title: name} | {part: f"{size / 1e6:.1f}" for part, size in sizes.items()})
    return rows


def makers() -> dict[str, dict[str, Callable[[], Program]]]:
    """Functions that make the program of each process."""
    resnet_makers = resnet_step.makers()
    resnets = {}
    for name in MEASURED:
        if name in resnet_makers:
            resnets[name] = partial(resnet_makers[name], 8, PICTURES)
    adam_makers: dict[str, Callable[[], Program]] = {"fnn": fnn_adam}
    if optax:
        adam_makers["optax"] = optax_adam
    if torch:
        adam_makers["torch, fused"] = partial(with_torch, LARGE)
    return {"ResNet-8": resnets, "Adam": adam_makers}


def fnn_adam() -> Program:
    adam = optim.adam(RATE)
    return Compiled(adam, with_fnn(adam), LARGE)


def optax_adam() -> Program:
    adam = optax.adam(RATE)
    return Compiled(adam, with_optax(adam), LARGE)


def peak_of(make: Callable[[], Program]) -> float:
    """Megabytes of this process at its peak, minus those before the program is made."""
    before = resident("VmRSS")
    program = make()
    for _ in range(TURNS):
        program()
    return resident("VmHWM") - before


def peak_in_process(group: str, name: str) -> float:
    """peak_of in a new process, which has imported the same modules."""
    command = [sys.executable, __file__, group, name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def processes(group: str, names: Sequence[str]) -> list[dict[str, str]]:
    """One row per program: the median peak of its processes."""
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            peaks[name].append(peak_in_process(group, name))
    column = "peak without imports"
    return [
        {f"{group}, one process": name, column: f"{statistics.median(values):.0f}"}
        for name, values in peaks.items()
    ]


def main() -> None:
    resnet_rows = account("ResNet-8, XLA's account", resnets())
    tables = [table(account("Adam, XLA's account", adams()))]
    if STATUS.exists():
        for group, programs in makers().items():
            tables.append(table(processes(group, list(programs))))
    method = f"MB of 10⁶ bytes; medians of {ROUNDS} fresh processes in turns."
    absent = missing("torch", "flax", "optax", "equinox")
    show(__doc__, method, resnet_rows, *tables, *absent)


if __name__ == "__main__":
    if sys.argv[1:]:
        group, name = sys.argv[1:]
        print(peak_of(makers()[group][name]))
    else:
        main()
