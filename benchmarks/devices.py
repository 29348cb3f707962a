"""Runs on several devices and processes next to one device: results, memory, and dead processes.

Goals: the loss of one device to 1e-6 in the first step and to 1e-4 over 200 steps; a sixth of the
memory of a step on 8 devices with FSDP; 300 steps that nothing waits for, 10 of 10 times; the end
of a run within 15 seconds of the death of a process. The devices are simulated, as parts of one
CPU, so that times of training say nothing here.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import judge, show, table

from fnn import augment, data, lab, nn, optim, train
from fnn.train import programs
from fnn.train.devices import as_layout, use_layout
from fnn.train.layout import Devices, state_shardings
from fnn.train.step import train_step_on_batch

DEVICES = 8
STEPS, BATCH = 200, 64
REPEATS, UNAWAITED = 10, 300
PATIENCE = 120  # seconds until a run of processes is given up
STEP_GOAL, RUN_GOAL, STATISTICS_GOAL = 1e-6, 1e-4, 1e-5
MEMORY_GOAL, SECONDS_GOAL = 6.0, 15.0
DEATHS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


def key() -> jax.Array:
    # Not at import, after which the number of devices is fixed.
    return jax.random.key(0)


def mesh_of(*sizes: int) -> jax.sharding.Mesh:
    count = int(np.prod(sizes))
    return jax.make_mesh(sizes, ("data", "model")[: len(sizes)], devices=jax.devices()[:count])


# The same run on one device and on several.


def trained(mesh: Devices | None) -> Any:
    """A run with everything that could differ: draws, order, statistics and means."""
    network = nn.chain(
        # A bias before batch norm has a gradient of rounding alone, which adam makes a drift.
        nn.conv(8, use_bias=False), nn.batch_norm(), nn.gelu(), nn.avg_pool(), nn.flatten(),
        up=nn.dense(32), act=nn.gelu(), drop=nn.dropout(0.2), down=nn.dense(10),
    )  # fmt: skip
    recipe = train.recipe(
        network, optim.adam(1e-3), augment=augment.random_crop(padding=1, mode="constant")
    )
    inputs, labels = data.digits().train
    part = inputs[:640], labels[:640]
    return train.run(key(), recipe, part, epochs=STEPS // 10, batch_size=BATCH, mesh=mesh)


def difference(one: Any, other: Any) -> float:
    """The largest difference of two trees of arrays, by the largest number of each array."""
    shares = jax.tree.map(
        lambda a, b: abs(np.asarray(a) - np.asarray(b)).max() / abs(np.asarray(a)).max(), one, other
    )
    return float(max(jax.tree.leaves(shares)))


def compare_runs() -> tuple[list[Mapping[str, str]], list[str]]:
    rules = {"up/kernel": jax.P(None, "model"), "down/kernel": jax.P("model", None)}
    layouts: dict[str, Devices] = {
        f"{count} devices": train.layout(mesh_of(count)) for count in (2, 4, 8)
    }
    layouts["FSDP, 2 devices"] = train.layout(mesh_of(2), fsdp=True)
    layouts["FSDP, 8 devices"] = train.layout(mesh_of(8), fsdp=True)
    layouts["FSDP, 8 devices, gathered once"] = train.layout(mesh_of(8), fsdp=True, regather=False)
    layouts["FSDP and tensor parallel, 4 x 2"] = train.layout(mesh_of(4, 2), fsdp=True, rules=rules)
    one = trained(None)
    rows, worst = [], np.zeros(3)
    for name, layout in layouts.items():
        other = trained(layout)
        losses = [np.asarray(result.history.loss) for result in (one, other)]
        shares = abs(losses[1] - losses[0]) / losses[0]
        statistics = difference(one.train_state.state, other.train_state.state)
        found = [shares[0], shares.max(), statistics]
        worst = np.maximum(worst, found)
        names = ("loss of step 1", f"loss of {STEPS} steps", "statistics of batch norm")
        rows.append(
            {"relative difference from one device": name}
            | {name: f"{value:.1e}" for name, value in zip(names, found, strict=True)}
        )
    goals = (STEP_GOAL, RUN_GOAL, STATISTICS_GOAL)
    labels = ("step 1", f"{STEPS} steps", "statistics of batch norm")
    remarks = [
        judge(f"relative difference, {label}", value, goal, form=".1e")
        for label, value, goal in zip(labels, worst, goals, strict=True)
    ]
    return rows, remarks


# Memory of a device.


def memory(mesh: Devices) -> Any:
    """XLA's account of a step of adam on 24 residual blocks of width 256, 16 examples."""
    recipe = train.recipe(
        nn.chain(nn.repeat(nn.residual(nn.chain(nn.dense(256), nn.gelu())), 24), nn.dense(10)),
        optim.adam(1e-3),
    )
    layout = as_layout("mesh", mesh)
    assert layout is not None
    inputs = jax.ShapeDtypeStruct((16, 256), jnp.float32, sharding=layout.divided)
    labels = jax.ShapeDtypeStruct((16,), jnp.int32, sharding=layout.divided)
    shapes = jax.eval_shape(lambda one: train.start(one, recipe, (256,)), key())
    with use_layout(layout):
        state = jax.tree.map(
            lambda leaf, one: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one),
            shapes,
            state_shardings(layout, shapes),
        )
        step = programs.lower(train_step_on_batch.__wrapped__, (), recipe, state, inputs, labels)
        return step.compile().memory_analysis()


def compare_memory() -> tuple[str, float]:
    layouts: dict[str, Devices] = {
        "replicated": train.layout(mesh_of(8)),
        "FSDP, gathered once": train.layout(mesh_of(8), fsdp=True, regather=False),
        "FSDP": train.layout(mesh_of(8), fsdp=True),
    }
    rows, totals = [], []
    for name, layout in layouts.items():
        found = memory(layout)
        parts = {
            "arguments": found.argument_size_in_bytes,
            "results": found.output_size_in_bytes,
            "temporaries": found.temp_size_in_bytes,
        }
        totals.append(sum(parts.values()))
        columns = parts | {"in all": totals[-1]}
        rows.append(
            {"MB of one of 8 devices": name}
            | {column: f"{count / 1e6:.1f}" for column, count in columns.items()}
        )
    return table(rows), totals[0] / totals[-1]


def unawaited() -> int:
    """How many times a loop of steps, none of which is awaited, came to its end."""
    recipe = train.recipe(nn.chain(nn.dense(16), nn.batch_norm(), nn.dense(10)), optim.sgd(0.1))
    inputs, labels = data.digits().train
    batch = np.reshape(inputs[:64], (64, -1)).astype(np.float32) / 255, labels[:64]
    count = 0
    for _ in range(REPEATS):
        mesh = mesh_of(8)
        state = train.run(key(), recipe, batch, epochs=0, batch_size=64, mesh=mesh).train_state
        for _ in range(UNAWAITED):
            state, figures = train.step(recipe, state, batch)
        count += bool(np.isfinite(figures["loss"]))
    return count


# Several processes.


def train_for_long() -> None:
    """The script of a process: it reports its first step, and trains until it is ended."""
    lab.connect()

    pids = [os.getpid()]

    def report(step: int, figures: Any) -> None:
        # After the first epoch.
        if pids:
            print(f"training in {pids.pop()} ", flush=True)

    inputs, labels = data.digits().train
    recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.sgd(0.01))
    lab.fit(
        key(),
        recipe,
        (inputs, labels),
        epochs=1_000_000,
        batch_size=64,
        mesh=jax.make_mesh((jax.device_count(),), ("data",)),
        callback=report,
        show=False,
    )


def seconds_after(death: int) -> float:
    """Seconds from the death of a process to the end of the run, whose error names the process.

    The seconds are infinite if it is not named or the run succeeds.

    Args:
        death: The signal.
    """
    command = [sys.executable, "-m", "fnn.lab.launch", "-n", "2", "--cpu-devices", "4", __file__]
    run = subprocess.Popen(
        [*command, "--worker"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Nothing waits for ever.
    timer = threading.Timer(PATIENCE, run.kill)
    timer.start()
    assert run.stdout is not None
    pids: dict[str, int] = {}
    for line in run.stdout:
        found = re.search(r"training in (\d+) ", line)
        if found:
            pids["1" if line.startswith("[1]") else "0"] = int(found[1])
        if len(pids) == 2:
            break
    os.kill(pids["1"], death)
    began = time.perf_counter()
    _, errors = run.communicate()
    seconds = time.perf_counter() - began
    timer.cancel()
    is_named = f"process 1 (pid {pids['1']})" in errors
    return seconds if is_named and run.returncode != 0 else float("inf")


def main() -> None:
    rows, remarks = compare_runs()
    account, share = compare_memory()
    remarks.append(f"A step of adam on 24 residual blocks of width 256, 16 examples:\n\n{account}")
    remarks.append(judge("memory by FSDP's", share, MEMORY_GOAL, at_least=True, form=".1f"))
    count = unawaited()
    remarks.append(
        judge(f"loops of {UNAWAITED} unawaited steps", count, REPEATS, at_least=True, form="d")
    )
    for name, death in DEATHS.items():
        label = f"seconds until a run of two processes, one of them {name}, ends with an error"
        remarks.append(judge(label, seconds_after(death), SECONDS_GOAL, form=".1f"))
    method = (
        f"{STEPS} steps of adam on 640 digits: a convolution, batch norm, dropout, two dense "
        "layers and random crops. All devices are parts of one CPU."
    )
    show(__doc__, method, rows, "\n\n".join(remarks))


if __name__ == "__main__":
    if "--worker" in sys.argv:
        train_for_long()
    else:
        jax.config.update("jax_num_cpu_devices", DEVICES)
        main()
