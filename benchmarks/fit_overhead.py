"""What the doors of lab.fit cost: bar, table and log, and checkpoints, over the same run without them.

Goals: at most 3 % over `train.run` on the second run of the digits demo, at most 1 % on a run of 60 s, and with a state
of 50 MB that is kept after every epoch, asynchronously, at most 2 %. Run `python benchmarks/fit_overhead.py`.
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

ROUNDS, LONG_ROUNDS, KEPT_ROUNDS = 41, 6, 7
DIGITS = data.digits()


class Screen(io.StringIO):
    """A terminal that nobody looks at, so that there is a bar."""

    def isatty(self) -> bool:
        return True


def with_doors(fit: partial, folder: Path, keeps: bool) -> Program:
    """fit with a bar, a table and a log, and perhaps checkpoints, each run in files of its own."""
    count = itertools.count()

    def run() -> None:
        own = folder / str(next(count))
        kept = {"checkpoints": lab.checkpoint_policy(own, asynchronous=True)} if keeps else {}
        with redirect_stderr(Screen()):
            jax.block_until_ready(fit(log=lab.jsonl_log(f"{own}.jsonl"), **kept))

    return run


def demo(epochs: int, times: int = 1) -> tuple[Program, partial]:
    """The run of examples/01_digits.py, alone and in fit, on the digits so many times over."""
    examples = tuple(np.concatenate([part] * times) for part in DIGITS.train)
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
    own = (jax.random.key(0), recipe, examples)
    options = {"epochs": epochs, "batch_size": 64, "valid": DIGITS.test}
    return lambda: jax.block_until_ready(train.run(*own, **options)), partial(
        lab.fit, *own, **options
    )


def wide(epochs: int) -> tuple[Program, partial]:
    """A perceptron of 4 million parameters, which Adam makes a state of 50 MB, on 60,000 examples."""
    network = nn.chain(nn.dense(2048), nn.relu(), nn.dense(1536), nn.relu(), nn.dense(10))
    random = np.random.default_rng(0)
    examples = (
        random.random((60_000, 512), np.float32),
        random.integers(10, size=60_000).astype(np.int32),
    )
    recipe = train.recipe(network, optim.adam(1e-3))
    fit = partial(
        lab.fit, jax.random.key(0), recipe, examples, epochs=epochs, batch_size=128, show=False
    )
    return lambda: jax.block_until_ready(fit()), fit


def main() -> None:
    rows, goals = [], []
    questions = {
        "the digits demo": (demo(20), False, 0.03, ROUNDS),
        "60 s of it, on the digits ten times over": (demo(170, times=10), False, 0.01, LONG_ROUNDS),
        "a state of 50 MB, kept after each of 4 epochs": (wide(4), True, 0.02, KEPT_ROUNDS),
    }
    for name, ((bare, fit), keeps, goal, rounds) in questions.items():
        with tempfile.TemporaryDirectory() as folder:
            doors = with_doors(partial(fit, show=True), Path(folder), keeps)
            for program in (bare, doors):
                program()  # compiles
            timings = compare(
                {"bare": bare, "doors": doors}, base="bare", rounds=rounds, settle=False
            )
        over = timings["doors"].ratio - 1
        rows.append(
            {
                "run": name,
                "without, s": f"{timings['bare'].seconds:.2f}",
                "with, s": f"{timings['doors'].seconds:.2f}",
                "over": f"{over:+.1%}",
            }
        )
        goals.append(judge(f"{name}:", over, goal, form=".1%"))
    show(
        __doc__,
        f"Median of {ROUNDS}, {LONG_ROUNDS} and {KEPT_ROUNDS} alternating rounds, warm.",
        rows,
        *goals,
    )


if __name__ == "__main__":
    main()
