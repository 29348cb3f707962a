"""How long a user waits for the first step of ResNet-8: import, parameters, compiling, the step.

Each in a fresh process, without any cache of compiled programs. Goal: no longer than flax nnx. Run
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
start = jax.block_until_ready(jax.jit(lambda key: train.start(key, recipe, (32, 32, 3)))(jax.random.key(0)))
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
PARTS = ("import", "parameters", "first step", "in all")


def waited(program: str) -> list[float]:
    script = HEAD.format(folder=str(Path(__file__).resolve().parent)) + program + TAIL
    return json.loads(
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
    )


def main() -> None:
    programs = {"fnn": FNN} | ({"flax nnx + optax": NNX} if version("flax") else {})
    seconds: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            seconds[name].append(waited(program))
    medians = {
        name: [statistics.median(part) for part in zip(*each, strict=True)]
        for name, each in seconds.items()
    }
    rows = [
        {"seconds": name} | {part: f"{second:.2f}" for part, second in zip(PARTS, own, strict=True)}
        for name, own in medians.items()
    ]
    goals = []
    if len(programs) > 1:
        ratios = [a[-1] / b[-1] for a, b in zip(*seconds.values(), strict=True)]
        goals.append(judge("fnn by flax nnx:", statistics.median(ratios), 1.0, form=".2f"))
    show(
        __doc__, f"Median of {ROUNDS} alternating fresh processes.", rows, *goals, *missing("flax")
    )


if __name__ == "__main__":
    main()
