"""Cost of an optimizer step: large parameters, many small arrays, and inside of `lax.scan`.

Adam on 58.7 million float32 params in 61 arrays, with params and state donated; goals: 1.0 times
the time of torch's fused step, 0.65 times that of optax, and no temporary array of the size of the
params. Then 1,000 arrays of 64 numbers; goal: compilation and step no slower than optax. Last,
other optimizers of fnn and optax. Run `python benchmarks/optimizers.py`.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
from measure import Program, Timing, compare, judge, missing, show, table

from fnn import optim

try:
    import torch
except ImportError:
    torch = None
try:
    import optax
except ImportError:
    optax = None

RATE, SCANNED, ROUNDS = 1e-3, 3, 15
LARGE = [(7518, 128)] * 61
SMALL = [(64,)] * 1000
# Optimizers of fnn, with the name and the options in optax where they differ.
OTHERS = {
    "sgd": (),
    "momentum": ("sgd", {"momentum": 0.9}),
    "rmsprop": (),
    "adagrad": (),
    "adadelta": (),
    "adamw": (),
    "nadam": (),
    "lion": (),
    "lamb": (),
    "adafactor": (),
}

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def with_fnn(optimizer: Any) -> Step:
    return lambda params, opt_state, grads: optim.step(optimizer, grads, opt_state, params)


def with_optax(optimizer: Any) -> Step:
    def step(params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


def scanned(step: Step) -> Step:
    """Several steps as one program, as in a run."""

    def steps(params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        def one(carry: Any, _: None) -> tuple[Any, None]:
            return step(*carry, grads), None

        return jax.lax.scan(one, (params, opt_state), length=SCANNED)[0]

    return steps


def arrays(shapes: list[tuple[int, ...]], seed: int) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


class Compiled:
    """A compiled step on arrays of these shapes; each call continues from the previous one."""

    def __init__(self, optimizer: Any, step: Step, shapes: list[tuple[int, ...]]):
        params, self.grads = arrays(shapes, 0), arrays(shapes, 1)
        self.carried = params, optimizer.init(params)
        began = time.perf_counter()
        donating = jax.jit(step, donate_argnums=(0, 1))
        self.program = donating.lower(*self.carried, self.grads).compile()
        self.seconds_to_compile = time.perf_counter() - began
        self.temporary = self.program.memory_analysis().temp_size_in_bytes

    def __call__(self) -> None:
        self.carried = jax.block_until_ready(self.program(*self.carried, self.grads))


def with_torch(shapes: list[tuple[int, ...]]) -> Program:
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape)
    return torch.optim.Adam(params, lr=RATE, fused=True).step


def adams(shapes: list[tuple[int, ...]]) -> dict[str, Compiled]:
    ours = optim.adam(RATE)
    programs = {"fnn": Compiled(ours, with_fnn(ours), shapes)}
    if optax:
        theirs = optax.adam(RATE)
        programs["optax"] = Compiled(theirs, with_optax(theirs), shapes)
    return programs


def large() -> tuple[list[dict[str, str]], list[str]]:
    """Adam on large arrays, one step and several in a scan."""
    programs: dict[str, Any] = adams(LARGE)
    ours = optim.adam(RATE)
    programs["fnn, in scan"] = Compiled(ours, scanned(with_fnn(ours)), LARGE)
    if optax:
        theirs = optax.adam(RATE)
        programs["optax, in scan"] = Compiled(theirs, scanned(with_optax(theirs)), LARGE)
    temporary_mb = {name: program.temporary / 1e6 for name, program in programs.items()}
    if torch:
        programs["torch, fused"] = with_torch(LARGE)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    rows = []
    for name, timing in timings.items():
        steps = SCANNED if name.endswith("in scan") else 1
        row = {"Adam, 58.7 M params": name}
        row["ms per step"] = f"{1e3 * timing.seconds / steps:.1f}"
        row["× fnn"] = f"{timing.ratio / steps:.2f}"
        row["temporary, MB"] = f"{temporary_mb[name]:.2f}" if name in temporary_mb else "–"
        rows.append(row)
    return rows, [*step_goals(timings), judge("MB of temporaries:", temporary_mb["fnn"], 1.0)]


def step_goals(timings: dict[str, Timing]) -> list[str]:
    goals = {"torch, fused": 1.0, "optax": 0.65}
    remarks = []
    for name, goal in goals.items():
        if name in timings:
            label = f"Adam's step relative to {name}:"
            remarks.append(judge(label, 1 / timings[name].ratio, goal))
    return remarks


def small() -> list[str]:
    """Adam on many small arrays: compilation and steps."""
    programs = adams(SMALL)
    timings = compare(programs, base="fnn", rounds=5 * ROUNDS)
    rows = []
    for name, program in programs.items():
        row = {"Adam, 1,000 arrays of 64": name}
        row["s to compile"] = f"{program.seconds_to_compile:.2f}"
        row["ms per step"] = f"{1e3 * timings[name].seconds:.2f}"
        rows.append(row)
    if not optax:
        return [table(rows)]
    compiling = programs["fnn"].seconds_to_compile / programs["optax"].seconds_to_compile
    stepping = 1 / timings["optax"].ratio
    return [
        table(rows),
        judge("compilation with 1,000 arrays, relative to optax:", compiling, 1.0),
        judge("step with 1,000 arrays, relative to optax:", stepping, 1.0),
    ]


def others() -> list[str]:
    """Other optimizers of fnn and optax."""
    rows = []
    for name, peer in OTHERS.items():
        peer_name, options = peer or (name, {})
        ours = getattr(optim, name)(RATE)
        programs = {"fnn": Compiled(ours, with_fnn(ours), LARGE)}
        if optax:
            theirs = getattr(optax, peer_name)(RATE, **options)
            programs["optax"] = Compiled(theirs, with_optax(theirs), LARGE)
        timings = compare(programs, base="fnn", rounds=ROUNDS // 3)
        row = {"ms per step, 58.7 M params": name}
        row |= {side: f"{1e3 * timing.seconds:.1f}" for side, timing in timings.items()}
        row["optax / fnn"] = f"{timings['optax'].ratio:.2f}" if optax else "–"
        rows.append(row)
    return [table(rows)]


def main() -> None:
    rows, goals = large()
    method = (
        f"Warm, params and state donated, median of {ROUNDS} alternating rounds; "
        f"in scan {SCANNED} steps per call."
    )
    show(__doc__, method, rows, *goals, *small(), *others(), *missing("torch", "optax"))


if __name__ == "__main__":
    main()
