"""Jobs of two processes with two simulated devices each, which tests start by `run_job`.

Each process writes what it found to a file of its own.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import lab, nn, optim, train
from fnn.errors import FnnError
from fnn.types import Layer

ROOT = Path(__file__).parent.parent
PROCESSES, DEVICES = 2, 2
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(50, 3)).astype(np.float32)
SIGNS = (POINTS[:, 0] > 0).astype(np.int32)
DATA = POINTS, SIGNS
VALID = POINTS[:13], SIGNS[:13]
OPTIONS = {"epochs": 2, "batch_size": 16}
STEPS = 100  # that are not awaited


def recipe(scale=1.0, **options):
    """A network whose numbers show a wrong key, order, statistic or mean."""

    def scaled(params, state, x, *, key=None, train=False):
        return x * jnp.float32(scale), state

    network = nn.chain(
        nn.dense(8),
        Layer(lambda key, shape: ({}, {}, shape), scaled),
        nn.batch_norm(),
        nn.tanh(),
        nn.dropout(0.2),
        nn.dense(2),
    )
    return train.recipe(network, optim.momentum(0.1), **options)


RECIPE = recipe()


def key():
    return jax.random.key(0)


def all_devices():
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Explicit,))


def figures(result):
    """The history of a result on the host."""
    return {name: np.asarray(values) for name, values in result.history.items()}


def own_shapes(params):
    """The shapes of the parts of each parameter that this process has, by path."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        parts = [part.data.shape for part in leaf.addressable_shards]
        found[jax.tree_util.keystr(path, simple=True, separator="/")] = parts
    return found


def error_of(call):
    """The error of fnn that a call raises, as text."""
    try:
        call()
    except FnnError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def parts(size, examples=50):
    """The part of this process of batches of some size: its rows of each of them."""
    index, count = jax.process_index(), jax.process_count()
    batches = []
    for begin in range(0, examples, size):
        batch = [array[begin : begin + size] for array in DATA]
        each = -(-len(batch[0]) // count)
        batches.append(tuple(array[index * each : (index + 1) * each] for array in batch))
    return batches


class Loader:
    """An endless loader of parts, with a position that differs between processes."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        own = parts(16, 48)
        self.taken += 1
        return own[(self.taken - 1) % len(own)]

    def get_state(self):
        return {"taken": self.taken, "process": jax.process_index()}

    def set_state(self, state):
        assert state["process"] == jax.process_index()
        self.taken = state["taken"]


def train_job(folder, is_first):
    """Everything that a process computes without files."""
    mesh = all_devices()
    found = {}
    result = train.run(key(), RECIPE, DATA, valid=VALID, mesh=mesh, **OPTIONS)
    found["run"] = figures(result)
    found["mean"] = float(result.history.loss.mean())
    found["evaluate"] = {
        name: float(value)
        for name, value in train.evaluate(RECIPE, result.train_state, VALID, batch_size=5).items()
    }
    outputs = train.predict(RECIPE, result.train_state, POINTS[:13], batch_size=5)
    found["predict"] = np.asarray(outputs)
    sharding = NamedSharding(mesh, P("data"))
    size = 48 // jax.process_count()
    rows = slice(jax.process_index() * size, (jax.process_index() + 1) * size)
    own = [jax.make_array_from_process_local_data(sharding, array[rows]) for array in DATA]
    found["global"] = figures(train.run(key(), RECIPE, tuple(own), **OPTIONS))
    # Each process gives its part of the batch; no step is awaited.
    state = train.run(key(), RECIPE, DATA, epochs=0, batch_size=16, mesh=mesh).train_state
    part = parts(16)[0]
    for _ in range(STEPS):
        state, measured = train.step(RECIPE, state, part)
    found["steps"] = float(measured["loss"])
    found["errors"] = train_errors(mesh, result.train_state, is_first)
    return found


def train_errors(mesh, state, is_first):
    """The errors of calls that are wrong on one process or on all of them."""

    def run(recipe=RECIPE, data=DATA, key=key, mesh=mesh, **options):
        return train.run(key(), recipe, data, mesh=mesh, **(OPTIONS | options))

    reverse = DATA if is_first else (POINTS, SIGNS[::-1].copy())
    wrong = DATA if is_first else (POINTS, SIGNS + 1)
    whole = recipe(1.0 if is_first else 2.0)
    uneven = [device for device in jax.devices() if device.id != jax.devices()[-1].id]
    return {
        "data": error_of(lambda: run(data=reverse)),
        "labels": error_of(lambda: run(data=wrong)),
        "key": error_of(lambda: run(key=key if is_first else lambda: jax.random.key(1))),
        "batch size": error_of(lambda: run(batch_size=16 if is_first else 12)),
        "code": error_of(lambda: run(whole)),
        "call": error_of(
            lambda: (
                train.evaluate(RECIPE, state, VALID)
                if is_first
                else train.predict(RECIPE, state, POINTS)
            )
        ),
        "some devices": error_of(lambda: run(mesh=jax.sharding.Mesh(uneven, ("data",)))),
        "not divided": error_of(lambda: run(batch_size=10)),
        "part": error_of(lambda: train.step(RECIPE, state, (POINTS[:3], SIGNS[:3]))),
    }


def fit_job(folder, is_first):
    """Runs of `lab.fit` with files."""
    mesh = all_devices()
    options = OPTIONS | {"mesh": mesh, "valid": VALID, "show": False}
    found = {}
    # One log, and one checkpoint, of two processes.
    logged = folder / "run.jsonl"
    calls = []
    whole = lab.fit(
        key(),
        RECIPE,
        DATA,
        log=lab.jsonl_log(logged),
        checkpoints=folder / "whole",
        callback=lambda step, row: calls.append(step),
        **options,
    )
    found["fit"], found["calls"] = figures(whole), calls
    # Stopped within an epoch, and resumed.
    for steps in (2, 5, 6):
        resumed = lab.fit(
            key(), RECIPE, DATA, checkpoints=folder / "cut", resume=steps > 2, max_steps=steps,
            **options,
        )  # fmt: skip
    found["resumed"] = figures(resumed)
    # Begun by another process on four devices, which will continue it.
    shared = lab.fit(
        key(), RECIPE, DATA, checkpoints=folder / "shared", resume=True, max_steps=4, **options
    )
    found["shared"] = figures(shared)
    # Each process holds a part of the parameters alone, and saves them whole with the other.
    divided = options | {"mesh": train.layout(mesh, fsdp=True)}
    begun = lab.fit(key(), RECIPE, DATA, checkpoints=folder / "divided", max_steps=4, **divided)
    found["divided"] = figures(begun)
    found["shards"] = own_shapes(begun.train_state.params)
    resumed = lab.fit(key(), RECIPE, DATA, checkpoints=folder / "divided", resume=True, **divided)
    found["divided resumed"] = figures(resumed)
    stream = {"mesh": mesh, "epochs": 2, "show": False}
    found["stream"] = figures(lab.fit(key(), RECIPE, parts(16), **stream))
    # A stream that is stopped within an epoch, and resumed by the positions of its loaders.
    stream |= {"steps_per_epoch": 3}
    found["loaders"] = figures(lab.fit(key(), RECIPE, Loader(), **stream))
    for steps in (2, 6):
        resumed = lab.fit(
            key(),
            RECIPE,
            Loader(),
            checkpoints=folder / "loaders",
            resume=steps > 2,
            max_steps=steps,
            **stream,
        )
    found["loaders resumed"] = figures(resumed)
    found["errors"] = fit_errors(folder, options, stream, is_first)
    return found


def fit_errors(folder, options, stream, is_first):
    """The errors of runs that fail on one process, or that differ."""

    def fail(*_):
        if not is_first:
            raise ValueError("a broken callback")

    def log(*_):
        raise OSError("a full disk")

    def broken():
        for index, part in enumerate(parts(16, 48)):
            if index == 2 and not is_first:
                raise OSError("a lost file")
            yield part

    def attempt(data=DATA, **changes):
        def call():
            how = options if data is DATA else stream
            try:
                lab.fit(key(), RECIPE, data, **(how | changes))
            except (ValueError, OSError) as error:
                # The process that failed raises the error itself.
                raise FnnError("own", "success", error, "none") from None

        return error_of(call)

    short = parts(16, 48) if is_first else parts(16, 48)[:2]
    same = [(POINTS[:8], SIGNS[:8])] * 3
    return {
        "callback": attempt(callback=fail),
        "log": attempt(log=log),
        "loader": attempt(broken(), epochs=1),
        "short": attempt(iter(short), epochs=1),
        "same": attempt(same),
        "directory": attempt(checkpoints=folder / "shared" if is_first else folder / "none"),
        "used": attempt(checkpoints=folder / "shared"),
    }


JOBS = {"train": train_job, "fit": fit_job}


def run_job(name, folder):
    """Run a job in two processes, and return what each of them found."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(ROOT)
    # Programs run for a moment: without optimization they compile sooner.
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    command = [
        sys.executable, "-m", "fnn.lab.launch", "-n", str(PROCESSES), "--cpu-devices", str(DEVICES),
        __file__, name, str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    # The files are of the processes that were just started.
    found = []
    for index in range(PROCESSES):
        found.append(pickle.loads((folder / f"{name}_{index}.pickle").read_bytes()))
    return found


def main(name, folder):
    lab.connect()
    jax.config.update("jax_numpy_rank_promotion", "raise")
    folder = Path(folder)
    found = JOBS[name](folder, jax.process_index() == 0)
    (folder / f"{name}_{jax.process_index()}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
