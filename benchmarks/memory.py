"""How much memory a training step takes: of ResNet-8 at batch 128, and of Adam on 58.7 M params.

First XLA's own account of a program: what a call is given, what it gives back, how much of that stands in the place of
what was given, and the temporaries between. Then what a process that trains some steps takes at its peak, compiling
included, less what it had after its imports. Adam's params, gradients and moments are 939 MB. Run
`python benchmarks/memory.py`.
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
STATUS = Path("/proc/self/status")  # where Linux tells what a process has in memory
WATCHED = (
    resnet_step.FNN,
    "flax nnx + optax",
    "torch, eager, channels last",
)  # in processes of their own


def resnets() -> dict[str, Any]:
    """The programs of a step of ResNet-8, compiled, with nothing donated, as resnet_step.py runs them."""
    step, start = fnn_step(nn.resnet_cifar(8))
    batch, loop = PICTURES.batches[0], jax.jit(partial(jax.lax.scan, step))
    lowered = {
        resnet_step.FNN: loop.lower(start, PICTURES[:2]),
        "fnn, a call a step": jax.jit(step).lower(start, batch),
    }
    if nnx:
        from nnx_resnet import ResNet

        call, optimizer = nnx_step(model := ResNet(nnx.Rngs(0)))
        lowered["flax nnx + optax"] = call.lower(model, optimizer, *batch)
    if equinox:
        from equinox_resnet import ResNet

        step, start = equinox_step(ResNet)
        lowered["equinox + optax"] = equinox.filter_jit(step).lower(
            start, channels_first(PICTURES).batches[0]
        )
    compiled = {name: each.compile() for name, each in lowered.items()}
    return {
        name: getattr(each, "compiled", each) for name, each in compiled.items()
    }  # what flax and equinox wrap


def adams() -> dict[str, Any]:
    """The programs of a step of Adam, compiled, with params and state donated."""
    pairs = {"fnn": (optim.adam(RATE), with_fnn)} | (
        {"optax": (optax.adam(RATE), with_optax)} if optax else {}
    )
    alone = {name: (adam, step(adam)) for name, (adam, step) in pairs.items()}
    in_scan = {f"{name}, in a scan": (adam, scanned(step)) for name, (adam, step) in alone.items()}
    return {name: donating(*made) for name, made in (alone | in_scan).items()}


def donating(adam: Any, step: Callable) -> Any:
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in LARGE]
    opt_state = jax.eval_shape(adam.init, params)
    return jax.jit(step, donate_argnums=(0, 1)).lower(params, opt_state, params).compile()


def account(title: str, programs: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, program in programs.items():
        told = program.memory_analysis()
        parts = {
            "given": told.argument_size_in_bytes,
            "given back": told.output_size_in_bytes,
            "in its place": told.alias_size_in_bytes,
            "temporary": told.temp_size_in_bytes,
        }
        parts["in all"] = (
            parts["given"] + parts["given back"] - parts["in its place"] + parts["temporary"]
        )
        rows.append({title: name} | {part: f"{size / 1e6:.1f}" for part, size in parts.items()})
    return rows


def makers() -> dict[str, dict[str, Callable[[], Program]]]:
    """What makes the program of each process, of which it then runs some turns."""
    found = resnet_step.makers()
    steps = {"fnn": lambda: Compiled(adam := optim.adam(RATE), with_fnn(adam), LARGE)}
    steps |= (
        {"optax": lambda: Compiled(adam := optax.adam(RATE), with_optax(adam), LARGE)}
        if optax
        else {}
    )
    steps |= {"torch, fused": lambda: with_torch(LARGE)} if torch else {}
    return {
        "ResNet-8": {name: partial(found[name], 8, PICTURES) for name in WATCHED if name in found},
        "Adam": steps,
    }


def taken(make: Callable[[], Program]) -> float:
    """Megabytes that this process takes at its peak, less what it has now."""
    before, program = resident("VmRSS"), make()
    for _ in range(TURNS):
        program()
    return resident("VmHWM") - before


def fresh(what: str, name: str) -> float:
    done = subprocess.run(
        [sys.executable, __file__, what, name], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def processes(what: str, names: Sequence[str]) -> list[dict[str, str]]:
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, figures in found.items():
            figures.append(fresh(what, name))
    return [
        {
            f"{what}, a process": name,
            "at its peak, less its imports": f"{statistics.median(figures):.0f}",
        }
        for name, figures in found.items()
    ]


def main() -> None:
    accounts = [
        account("ResNet-8, XLA's account", resnets()),
        account("Adam, XLA's account", adams()),
    ]
    watched = (
        [table(processes(what, list(programs))) for what, programs in makers().items()]
        if STATUS.exists()
        else []
    )
    method = f"MB, of 10⁶ bytes; medians of {ROUNDS} fresh processes in turns."
    show(
        __doc__,
        method,
        accounts[0],
        table(accounts[1]),
        *watched,
        *missing("torch", "flax", "optax", "equinox"),
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        print(taken(makers()[sys.argv[1]][sys.argv[2]]))
    else:
        main()
