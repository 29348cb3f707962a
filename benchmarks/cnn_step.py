"""What a step of a convolutional network costs outside and inside of `lax.scan`, and what it costs peers.

Three 3x3 convolutions (32, 64, 128), each with relu and max-pool 2, then a dense layer; batch 128 of 32x32x3, momentum.
Inside a scan XLA's own gradients fall off a cliff (jax issue 12868). Goal: fnn inside takes no longer than outside.
Run `python benchmarks/cnn_step.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, Timing, compare, judge, missing, show

from fnn import nn, optim, train
from fnn.types import TrainState

try:
    import torch
except ImportError:
    torch = None
try:
    import optax
    from flax import nnx
except ImportError:
    nnx = optax = None

CHANNELS, CLASSES, BATCH, SIZE, RATE = (32, 64, 128), 10, 128, 32, 1e-3
STEPS = 10
FEW = 2  # steps of the slow program: they take seconds
ROUNDS = 7

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(STEPS, BATCH, SIZE, SIZE, 3)).astype(np.float32)
LABELS = RANDOM.integers(CLASSES, size=(STEPS, BATCH)).astype(np.int32)


def outside(step: Callable, start: Any) -> Program:
    """One compiled call a step, each on its own batch, the state handed from one to the next."""
    call = jax.jit(step)
    batches = [jax.device_put(batch) for batch in zip(IMAGES, LABELS, strict=True)]

    def run() -> None:
        state = start
        for batch in batches:
            state, _ = call(state, batch)
        jax.block_until_ready(state)

    return run


def inside(step: Callable, start: Any, steps: int = STEPS) -> Program:
    """The same steps as one program of one loop."""
    call = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches)[0])
    batches = jax.device_put((IMAGES[:steps], LABELS[:steps]))
    return lambda: jax.block_until_ready(call(start, batches))


def fnn_step() -> tuple[Callable, TrainState]:
    blocks = [layer for channels in CHANNELS for layer in (nn.conv(channels), nn.relu(), nn.max_pool())]
    network, optimizer = nn.chain(*blocks, nn.flatten(), nn.dense(CLASSES)), optim.momentum(RATE)
    start = train.start(jax.random.key(0), network, optimizer, IMAGES.shape[2:])
    return lambda train_state, batch: train.step(train_state, network, optimizer, batch), start


def xla_step() -> tuple[Callable, Any]:
    """The same network in plain jax.lax, with the gradients that XLA has for convolution and reduce_window."""
    draw, keys = jax.nn.initializers.he_normal(), jax.random.split(jax.random.key(0), len(CHANNELS) + 1)
    shapes = [(3, 3, i, o) for i, o in zip((3, *CHANNELS), CHANNELS, strict=False)]
    last = (CHANNELS[-1] * (SIZE // 2 ** len(CHANNELS)) ** 2, CLASSES)
    params = [(draw(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, [*shapes, last], strict=True)]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        for kernel, bias in params[:-1]:
            y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.lax.reduce_window(jax.nn.relu(y + bias), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(len(x), -1) @ params[-1][0] + params[-1][1]

    def objective(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(apply(params, images)), labels[:, None], 1).mean()

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        params, velocity = state
        loss, grads = jax.value_and_grad(objective)(params, *batch)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        return (jax.tree.map(lambda p, v: p - RATE * v, params, velocity), velocity), loss

    return step, (params, jax.tree.map(jnp.zeros_like, params))


def with_nnx() -> Program:
    """A compiled step on a mutable model, as in flax's own tutorial."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            pairs = zip((3, *CHANNELS), CHANNELS, strict=False)
            self.convs = nnx.List([nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in pairs])
            self.out = nnx.Linear(CHANNELS[-1] * (SIZE // 2 ** len(CHANNELS)) ** 2, CLASSES, rngs=rngs)

        def __call__(self, x):
            for conv in self.convs:
                x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
            return self.out(x.reshape(len(x), -1))

    def objective(model, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    @nnx.jit
    def step(model, optimizer, images, labels):
        loss, grads = nnx.value_and_grad(objective)(model, images, labels)
        optimizer.update(model, grads)
        return loss

    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(RATE, momentum=0.9), wrt=nnx.Param)
    batches = [jax.device_put(batch) for batch in zip(IMAGES, LABELS, strict=True)]

    def run() -> None:
        for batch in batches:
            step(model, optimizer, *batch)
        jax.block_until_ready(nnx.state(model))

    return run


def with_torch() -> Program:
    """torch's fastest layout on CPU."""
    blocks = [
        layer
        for i, o in zip((3, *CHANNELS), CHANNELS, strict=False)
        for layer in (torch.nn.Conv2d(i, o, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    ]
    features = CHANNELS[-1] * (SIZE // 2 ** len(CHANNELS)) ** 2
    model = torch.nn.Sequential(*blocks, torch.nn.Flatten(), torch.nn.Linear(features, CLASSES))
    model = model.to(memory_format=torch.channels_last)
    optimizer, loss_of = torch.optim.SGD(model.parameters(), RATE, momentum=0.9), torch.nn.CrossEntropyLoss()
    images = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in IMAGES]  # NHWC in memory is channels_last
    labels = [torch.from_numpy(y).long() for y in LABELS]

    def run() -> None:
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(x), y).backward()
            optimizer.step()

    return run


def fast_programs() -> dict[str, Program]:
    programs = {
        "fnn, outside": outside(*fnn_step()),
        "fnn, inside": inside(*fnn_step()),
        "XLA's gradients, outside": outside(*xla_step()),
    }
    programs |= {"flax nnx + optax": with_nnx()} if nnx else {}
    return programs | ({"torch, eager, channels last": with_torch()} if torch else {})


def row(name: str, milliseconds: float, ratio: float) -> dict[str, str]:
    return {"one step": name, "ms": f"{milliseconds:.1f}", "× fnn outside": f"{ratio:.2f}"}


def main() -> None:
    timings = compare(fast_programs(), base="fnn, outside", rounds=ROUNDS)
    slow = compare({"inside": partial(inside(*xla_step(), FEW))}, base="inside", rounds=1)["inside"]
    each: dict[str, Timing] = {name: Timing(t.seconds / STEPS, t.ratio) for name, t in timings.items()}
    cliff = slow.seconds / FEW
    each["XLA's gradients, inside"] = Timing(cliff, cliff / each["fnn, outside"].seconds)
    rows = [row(name, 1e3 * t.seconds, t.ratio) for name, t in each.items()]
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; XLA's gradients inside: {FEW} steps, once."
    goal = judge("fnn inside by fnn outside:", each["fnn, inside"].ratio, 1.0, form=".2f")
    show(__doc__, method, rows, goal, *missing("torch", "flax"))


if __name__ == "__main__":
    main()
