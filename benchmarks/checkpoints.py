"""What does a checkpoint of 50 MB cost to save and to restore, and how soon does an asynchronous save return?

Goals: to save costs at most 1.5 times what it costs to write the same bytes and wait for the disk; an asynchronous save
returns within a quarter of that. Run `python benchmarks/checkpoints.py`.
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
FNN, FLOOR = "fnn", "the bytes alone, and fsync"
SOON = "fnn, asynchronous: until save returns"

Timed = Callable[[], float]  # does its work, and gives the seconds of it that count
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
    path, tree = (
        folder / "weights.pt",
        {name: torch.from_numpy(np.array(leaf)) for name, leaf in TREE.items()},
    )
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
def returning(folder: Path) -> Iterator[Timed]:
    """Until an asynchronous save returns; the wait for it is not counted, as training goes on meanwhile."""
    with lab.checkpoint_store(folder, keep=1, asynchronous=True) as store:

        def run() -> float:
            seconds = timed(lambda: store.save(0, TREE))()
            store.wait()
            return seconds

        yield run


def in_turns(programs: Mapping[str, Timed]) -> dict[str, list[float]]:
    """The seconds of each, a number a round, after a round that is not counted."""
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
    durable = {name: on_disk for name, (_, _, on_disk) in PEERS.items()} | {
        FNN: "yes",
        FLOOR: "yes",
        SOON: "no",
    }
    return [
        {
            "library": name,
            "save, ms": f"{1e3 * statistics.median(seconds):.1f}",
            "by the bytes alone": f"{ratio(seconds, saved[FLOOR]):.2f}",
            "restore, ms": f"{1e3 * statistics.median(restored[name]):.1f}"
            if name in restored
            else "",
            "on the disk when it returns": durable[name],
        }
        for name, seconds in saved.items()
    ]


def main() -> None:
    absent = missing(*(package for package, _, _ in PEERS.values()))
    present = {
        name: make
        for name, (package, make, _) in PEERS.items()
        if not any(package in one for one in absent)
    }
    folder = Path(tempfile.mkdtemp())
    try:
        pairs = {
            name: make(folder / name) for name, make in {FNN: fnn, FLOOR: floor, **present}.items()
        }
        with returning(folder / "asynchronous") as soon:
            saved = in_turns(
                {name: timed(save) for name, (save, _) in pairs.items()} | {SOON: soon}
            )
        restored = in_turns({name: timed(restore) for name, (_, restore) in pairs.items()})
    finally:
        shutil.rmtree(folder)
    method = f"{LEAVES} float32 arrays of 1 MiB; medians of {ROUNDS} rounds in turns; files are read from memory."
    costs = judge(
        "fnn's save by the bytes alone:", ratio(saved[FNN], saved[FLOOR]), 1.5, form=".2f"
    )
    returns = judge("asynchronous save by fnn's:", ratio(saved[SOON], saved[FNN]), 0.25, form=".2f")
    remark = "fnn hashes every byte, both ways; of the others, only numpy would notice that a bit has turned."
    show(__doc__, method, rows(saved, restored), costs, returns, remark, *absent)


if __name__ == "__main__":
    main()
