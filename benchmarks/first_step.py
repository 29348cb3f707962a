"""Time until the first step of ResNet-8: import, parameters, compiling, the step.

Fresh processes without a cache of compiled programs. Goal: fnn takes no longer than flax nnx. Run
`python benchmarks/first_step.py`.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from measure import judge, missing, show, version

ROUNDS = 5
HEAD = """
import json, sys, time
sys.path.insert(0, {folder!r})
began = time.perf_counter()
"""
TAIL = """
done = time.perf_counter()
print(json.dumps([imported - began, ready - imported, done - ready, done - began]))
"""
FNN = """
import jax
from fnn import nn, optim, train
imported = time.perf_counter()
recipe = train.recipe(nn.resnet_cifar(8), optim.momentum(1e-3))
start = jax.jit(lambda key: train.start(key, recipe, (32, 32, 3)))
start = jax.block_until_ready(start(jax.random.key(0)))
ready = time.perf_counter()
batch = jax.numpy.zeros((128, 32, 32, 3)), jax.numpy.zeros(128, int)
jax.block_until_ready(jax.jit(lambda state, batch: train.step(recipe, state, batch))(start, batch))
"""
NNX = """
import jax, optax
from flax import nnx
imported = time.perf_counter()
from nnx_resnet import ResNet
model = ResNet(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.sgd(1e-3, momentum=0.9), wrt=nnx.Param)
ready = time.perf_counter()

@nnx.jit
def step(model, optimizer, images, labels):
    def objective(model, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()
    loss, grads = nnx.value_and_grad(objective)(model, images, labels)
    optimizer.update(model, grads)
    return loss

batch = jax.numpy.zeros((128, 32, 32, 3)), jax.numpy.zeros(128, int)
jax.block_until_ready(step(model, optimizer, *batch))
"""
PARTS = ("import", "parameters", "first step", "total")


def seconds_of(program: str) -> list[float]:
    """Seconds of each part of a program, in a fresh process."""
    script = HEAD.format(folder=str(Path(__file__).resolve().parent)) + program + TAIL
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    programs = {"fnn": FNN}
    if version("flax"):
        programs["flax nnx + optax"] = NNX
    seconds: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            seconds[name].append(seconds_of(program))
    rows = []
    for name, rounds in seconds.items():
        medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
        pairs = zip(PARTS, medians, strict=True)
        rows.append({"seconds": name} | {part: f"{median:.2f}" for part, median in pairs})
    goals = []
    if len(programs) > 1:
        ratios = [a[-1] / b[-1] for a, b in zip(*seconds.values(), strict=True)]
        ratio = statistics.median(ratios)
        goals.append(judge("fnn relative to flax nnx:", ratio, 1.0, form=".2f"))
    method = f"Median of {ROUNDS} alternating fresh processes."
    show(__doc__, method, rows, *goals, *missing("flax"))


if __name__ == "__main__":
    main()
