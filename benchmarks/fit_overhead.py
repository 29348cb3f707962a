"""Cost of the progress bar, table, log and checkpoints of lab.fit, relative to a run without them.

Goals: at most 3 % over `train.run` on the second run of the digits demo, at most 1 % on a run of
60 s, and at most 2 % with a state of 50 MB that is saved asynchronously after every epoch. Run
`python benchmarks/fit_overhead.py`.
"""

import io
import itertools
import tempfile
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import jax
import numpy as np
from measure import Program, compare, judge, show

from fnn import augment, data, lab, nn, objective, optim, train

ROUNDS, LONG_ROUNDS, SAVING_ROUNDS = 41, 6, 7
DIGITS = data.digits()


class Screen(io.StringIO):
    """A stream that reports a terminal, so that the progress bar is drawn."""

    def isatty(self) -> bool:
        return True


def with_reporting(fit: partial, folder: Path, saves: bool) -> Program:
    """fit with a bar, a table and a log, with checkpoints if it saves; each run has other files."""
    count = itertools.count()

    def run() -> None:
        path = folder / str(next(count))
        options = {"log": lab.jsonl_log(f"{path}.jsonl")}
        if saves:
            options["checkpoints"] = lab.checkpoint_policy(path, asynchronous=True)
        with redirect_stderr(Screen()):
            jax.block_until_ready(fit(**options))

    return run


def demo(epochs: int, copies: int = 1) -> tuple[Program, partial]:
    """The run of examples/01_digits.py, alone and in fit, on copies of the digits."""
    examples = tuple(np.concatenate([part] * copies) for part in DIGITS.train)
    network = nn.chain(
        nn.conv(24), nn.batch_norm(), nn.relu(),
        nn.conv(24), nn.batch_norm(), nn.relu(), nn.max_pool(),
        nn.residual(nn.chain(nn.conv(24), nn.batch_norm(), nn.relu())),
        nn.flatten(), nn.dropout(0.4), nn.dense(10),
    )  # fmt: skip
    schedule = optim.one_cycle(2e-2, steps=train.num_steps(examples, epochs=epochs, batch_size=64))
    recipe = train.recipe(
        network,
        optim.adamw(schedule, weight_decay=3e-2),
        loss=objective.cross_entropy(label_smoothing=0.1),
        augment=augment.random_crop(padding=1, mode="constant"),
    )
    arguments = (jax.random.key(0), recipe, examples)
    options = {"epochs": epochs, "batch_size": 64, "valid": DIGITS.test}
    fit = partial(lab.fit, *arguments, **options)
    return lambda: jax.block_until_ready(train.run(*arguments, **options)), fit


def wide(epochs: int) -> tuple[Program, partial]:
    """A perceptron of 4 million parameters on 60,000 examples; with Adam its state has 50 MB."""
    network = nn.chain(nn.dense(2048), nn.relu(), nn.dense(1536), nn.relu(), nn.dense(10))
    random = np.random.default_rng(0)
    inputs = random.random((60_000, 512), np.float32)
    labels = random.integers(10, size=60_000).astype(np.int32)
    recipe = train.recipe(network, optim.adam(1e-3))
    arguments = (jax.random.key(0), recipe, (inputs, labels))
    fit = partial(lab.fit, *arguments, epochs=epochs, batch_size=128, show=False)
    return lambda: jax.block_until_ready(fit()), fit


def main() -> None:
    rows, goals = [], []
    cases = {
        "the digits demo": (demo(20), False, 0.03, ROUNDS),
        "60 s of it, on ten copies of the digits": (demo(170, copies=10), False, 0.01, LONG_ROUNDS),
        "a state of 50 MB, saved after each of 4 epochs": (wide(4), True, 0.02, SAVING_ROUNDS),
    }
    for name, ((bare, fit), saves, goal, rounds) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            reported = with_reporting(partial(fit, show=True), Path(folder), saves)
            for program in (bare, reported):
                program()  # compiles
            programs = {"bare": bare, "reported": reported}
            timings = compare(programs, base="bare", rounds=rounds, settle=False)
        overhead = timings["reported"].ratio - 1
        seconds = {way: f"{timing.seconds:.2f}" for way, timing in timings.items()}
        row = {"run": name, "without, s": seconds["bare"], "with, s": seconds["reported"]}
        rows.append(row | {"overhead": f"{overhead:+.1%}"})
        goals.append(judge(f"{name}:", overhead, goal, form=".1%"))
    method = f"Median of {ROUNDS}, {LONG_ROUNDS} and {SAVING_ROUNDS} alternating rounds, warm."
    show(__doc__, method, rows, *goals)


if __name__ == "__main__":
    main()
