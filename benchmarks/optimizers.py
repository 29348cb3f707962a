"""What a step of an optimizer costs on large params, in many small arrays, and inside of `lax.scan`.

Adam on 58.7 million float32 params in 61 arrays, the params and the state donated; goal: 1.0 times torch's fused step
and 0.65 times optax's, and no temporary of the params' size. Then 1,000 arrays of 64 numbers; goal: to compile and to
step no slower than optax. Last, each optimizer of fnn beside the same in optax. Run `python benchmarks/optimizers.py`.
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
        return jax.lax.scan(
            lambda carry, _: (step(*carry, grads), None), (params, opt_state), length=SCANNED
        )[0]

    return steps


def arrays(shapes: list[tuple[int, ...]], seed: int) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


class Compiled:
    """A step on arrays of these shapes, compiled, that goes on from where it was."""

    def __init__(self, optimizer: Any, step: Step, shapes: list[tuple[int, ...]]):
        params, self.grads = arrays(shapes, 0), arrays(shapes, 1)
        self.carried = params, optimizer.init(params)
        began = time.perf_counter()
        self.program = (
            jax.jit(step, donate_argnums=(0, 1)).lower(*self.carried, self.grads).compile()
        )
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
    programs = {"fnn": Compiled(adam := optim.adam(RATE), with_fnn(adam), shapes)}
    if optax:
        programs["optax"] = Compiled(adam := optax.adam(RATE), with_optax(adam), shapes)
    return programs


def large() -> tuple[list[dict[str, str]], list[str]]:
    """Adam on large arrays, one step and several in a scan."""
    programs: dict[str, Any] = adams(LARGE)
    fnn, mega = optim.adam(RATE), 1e6
    programs["fnn, in scan"] = Compiled(fnn, scanned(with_fnn(fnn)), LARGE)
    if optax:
        programs["optax, in scan"] = Compiled(
            adam := optax.adam(RATE), scanned(with_optax(adam)), LARGE
        )
    temporaries = {name: program.temporary for name, program in programs.items()}
    if torch:
        programs["torch, fused"] = with_torch(LARGE)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    rows = [
        {
            "Adam, 58.7 M params": name,
            "ms a step": f"{1e3 * timing.seconds / steps_of(name):.1f}",
            "× fnn": f"{timing.ratio / steps_of(name):.2f}",
            "temporary, MB": f"{temporaries[name] / mega:.2f}" if name in temporaries else "–",
        }
        for name, timing in timings.items()
    ]
    return rows, [*against(timings), judge("MB of temporaries:", temporaries["fnn"] / mega, 1.0)]


def steps_of(name: str) -> int:
    return SCANNED if name.endswith("in scan") else 1


def against(timings: dict[str, Timing]) -> list[str]:
    goals = {"torch, fused": 1.0, "optax": 0.65}
    return [
        judge(f"Adam's step by that of {name}:", 1 / timings[name].ratio, goal)
        for name, goal in goals.items()
        if name in timings
    ]


def small() -> list[str]:
    """Adam on many small arrays: compiling and stepping."""
    programs = adams(SMALL)
    timings = compare(programs, base="fnn", rounds=5 * ROUNDS)
    rows = [
        {
            "Adam, 1,000 arrays of 64": name,
            "s to compile": f"{program.seconds_to_compile:.2f}",
            "ms a step": f"{1e3 * timings[name].seconds:.2f}",
        }
        for name, program in programs.items()
    ]
    if not optax:
        return [table(rows)]
    compiling = programs["fnn"].seconds_to_compile / programs["optax"].seconds_to_compile
    return [
        table(rows),
        judge("to compile 1,000 arrays, by optax:", compiling, 1.0),
        judge("to step on 1,000 arrays, by optax:", 1 / timings["optax"].ratio, 1.0),
    ]


def others() -> list[str]:
    """Other optimizers beside those of optax."""
    rows = []
    for name, peer in OTHERS.items():
        theirs, knobs = peer or (name, {})
        programs = {"fnn": Compiled(own := getattr(optim, name)(RATE), with_fnn(own), LARGE)}
        if optax:
            own = getattr(optax, theirs)(RATE, **knobs)
            programs["optax"] = Compiled(own, with_optax(own), LARGE)
        timings = compare(programs, base="fnn", rounds=ROUNDS // 3)
        milliseconds = {side: f"{1e3 * timing.seconds:.1f}" for side, timing in timings.items()}
        rows.append(
            {"ms a step, 58.7 M params": name} | milliseconds | {"optax by fnn": ratio(timings)}
        )
    return [table(rows)]


def ratio(timings: dict[str, Timing]) -> str:
    return f"{timings['optax'].ratio:.2f}" if "optax" in timings else "–"


def main() -> None:
    rows, goals = large()
    method = f"Warm, params and state donated, median of {ROUNDS} alternating rounds; in scan {SCANNED} steps a call."
    show(__doc__, method, rows, *goals, *small(), *others(), *missing("torch", "optax"))


if __name__ == "__main__":
    main()
