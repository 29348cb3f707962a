"""Cost of a checkpoint of 50 MB: saving, restoring, and until an asynchronous save returns.

Goals: a save takes at most 1.5 times as long as writing the same bytes with fsync; an asynchronous
save returns within a quarter of the time of a save. Run `python benchmarks/checkpoints.py`.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import judge, missing, show

from fnn import lab

ROUNDS = 15
LEAVES, SIDE = 50, 512  # 50 arrays of 1 MiB
TREE = {
    f"layer_{index:02}": jax.random.normal(jax.random.key(index), (SIDE, SIDE))
    for index in range(LEAVES)
}
FNN, FLOOR = "fnn", "raw bytes and fsync"
ASYNCHRONOUS = "fnn, asynchronous: until save returns"

Timed = Callable[[], float]  # does its work and returns the seconds to count
Pair = tuple[Callable[[], object], Callable[[], object]]  # save, restore


def timed(program: Callable[[], object]) -> Timed:
    def run() -> float:
        began = time.perf_counter()
        program()
        return time.perf_counter() - began

    return run


def fnn(folder: Path) -> Pair:
    return lambda: lab.save(folder, TREE), lambda: jax.block_until_ready(lab.restore(folder, TREE))


def floor(folder: Path) -> Pair:
    folder.mkdir()

    def save() -> None:
        with (folder / "data").open("wb", buffering=0) as file:
            for leaf in TREE.values():
                file.write(np.asarray(leaf).data)
            os.fsync(file.fileno())

    def restore() -> object:
        raw = np.fromfile(folder / "data", np.float32).reshape(LEAVES, SIDE, SIDE)
        return jax.block_until_ready([jnp.array(leaf) for leaf in raw])

    return save, restore


def numpy(folder: Path) -> Pair:
    folder.mkdir()
    path = folder / "arrays.npz"

    def restore() -> object:
        with np.load(path) as arrays:
            return jax.block_until_ready({name: jnp.asarray(arrays[name]) for name in TREE})

    return lambda: np.savez(path, **TREE), restore


def safetensors(folder: Path) -> Pair:
    from safetensors.flax import load_file, save_file

    folder.mkdir()
    path = folder / "weights.safetensors"
    return lambda: save_file(TREE, path), lambda: jax.block_until_ready(load_file(path))


def pytorch(folder: Path) -> Pair:
    import torch

    folder.mkdir()
    path = folder / "weights.pt"
    tree = {name: torch.from_numpy(np.array(leaf)) for name, leaf in TREE.items()}
    return lambda: torch.save(tree, path), lambda: torch.load(path, weights_only=True)


def orbax(folder: Path) -> Pair:
    import orbax.checkpoint

    checkpointer = orbax.checkpoint.StandardCheckpointer()

    def save() -> None:
        checkpointer.save(folder, TREE, force=True)
        checkpointer.wait_until_finished()

    return save, lambda: jax.block_until_ready(checkpointer.restore(folder, TREE))


PEERS = {
    "safetensors": ("safetensors", safetensors, "no"),
    "numpy.savez": ("numpy", numpy, "no"),
    "torch.save": ("torch", pytorch, "no"),
    "orbax": ("orbax-checkpoint", orbax, "yes"),
}


@contextmanager
def asynchronous_save(folder: Path) -> Iterator[Timed]:
    """Time until an asynchronous save returns, without the wait: training continues meanwhile."""
    with lab.checkpoint_store(folder, keep=1, asynchronous=True) as store:

        def run() -> float:
            seconds = timed(lambda: store.save(0, TREE))()
            store.wait()
            return seconds

        yield run


def in_turns(programs: Mapping[str, Timed]) -> dict[str, list[float]]:
    """Seconds of each program by round; the first round is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS + 1):
        for name, program in programs.items():
            spent[name].append(program())
    return {name: seconds[1:] for name, seconds in spent.items()}


def ratio(seconds: list[float], base: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(seconds, base, strict=True))


def rows(
    saved: Mapping[str, list[float]], restored: Mapping[str, list[float]]
) -> list[dict[str, Any]]:
    durable = {name: on_disk for name, (_, _, on_disk) in PEERS.items()}
    durable |= {FNN: "yes", FLOOR: "yes", ASYNCHRONOUS: "no"}
    table = []
    for name, seconds in saved.items():
        row = {"library": name, "save, ms": milliseconds(seconds)}
        row["relative to raw bytes"] = f"{ratio(seconds, saved[FLOOR]):.2f}"
        row["restore, ms"] = milliseconds(restored[name]) if name in restored else ""
        row["on the disk when it returns"] = durable[name]
        table.append(row)
    return table


def milliseconds(seconds: list[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f}"


def main() -> None:
    absent = missing(*(package for package, _, _ in PEERS.values()))
    makers = {FNN: fnn, FLOOR: floor}
    for name, (package, make, _) in PEERS.items():
        if not any(package in remark for remark in absent):
            makers[name] = make
    folder = Path(tempfile.mkdtemp())
    try:
        pairs = {name: make(folder / name) for name, make in makers.items()}
        saves = {name: timed(save) for name, (save, _) in pairs.items()}
        with asynchronous_save(folder / "asynchronous") as save_soon:
            saved = in_turns(saves | {ASYNCHRONOUS: save_soon})
        restored = in_turns({name: timed(restore) for name, (_, restore) in pairs.items()})
    finally:
        shutil.rmtree(folder)
    method = (
        f"{LEAVES} float32 arrays of 1 MiB; medians of {ROUNDS} alternating rounds; "
        "files are read from memory."
    )
    cost = ratio(saved[FNN], saved[FLOOR])
    delay = ratio(saved[ASYNCHRONOUS], saved[FNN])
    goals = [
        judge("fnn's save relative to raw bytes:", cost, 1.5, form=".2f"),
        judge("asynchronous save relative to fnn's save:", delay, 0.25, form=".2f"),
    ]
    remark = (
        "fnn hashes every byte when it saves and when it restores; "
        "of the other formats, only NumPy's would detect a flipped bit."
    )
    show(__doc__, method, rows(saved, restored), *goals, remark, *absent)


if __name__ == "__main__":
    main()
