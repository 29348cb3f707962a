"""How a training step of each library is run over the same batches: from Python, and as one program of one loop."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from measure import Program

from fnn import nn, optim, train
from fnn.types import Layer, TrainState

try:
    import torch
except ImportError:
    torch = None
try:
    import optax
    from flax import nnx
except ImportError:
    nnx = optax = None

CLASSES, BATCH, SIZE, RATE, MOMENTUM = 10, 128, 32, 1e-3, 0.9
CHANNELS = (32, 64, 128)  # of the network of three convolutions that several benchmarks train
STEPS = 10

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(STEPS, BATCH, SIZE, SIZE, 3)).astype(np.float32)
LABELS = RANDOM.integers(CLASSES, size=(STEPS, BATCH)).astype(np.int32)


def fnn_step(network: Layer) -> tuple[Callable, TrainState]:
    """A step by momentum, and the state before the first."""
    optimizer = optim.momentum(RATE, decay=MOMENTUM)
    start = train.start(jax.random.key(0), network, optimizer, IMAGES.shape[2:])
    return lambda train_state, batch: train.step(train_state, network, optimizer, batch), start


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


def with_nnx(model: Any) -> Program:
    """A compiled step on a mutable model, as in flax's own tutorial."""

    def objective(model, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    @nnx.jit
    def step(model, optimizer, images, labels):
        loss, grads = nnx.value_and_grad(objective)(model, images, labels)
        optimizer.update(model, grads)
        return loss

    optimizer = nnx.Optimizer(model, optax.sgd(RATE, momentum=MOMENTUM), wrt=nnx.Param)
    batches = [jax.device_put(batch) for batch in zip(IMAGES, LABELS, strict=True)]

    def run() -> None:
        for batch in batches:
            step(model, optimizer, *batch)
        jax.block_until_ready(nnx.state(model))

    return run


def with_torch(model: Any, *, compiled: bool = False) -> Program:
    """torch's fastest layout on CPU, as it stands or compiled by its own compiler."""
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    loss_of, forward = torch.nn.CrossEntropyLoss(), torch.compile(model) if compiled else model
    images = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in IMAGES]  # NHWC in memory is channels_last
    labels = [torch.from_numpy(y).long() for y in LABELS]

    def run() -> None:
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss_of(forward(x), y).backward()
            optimizer.step()

    return run


def convolutional() -> Layer:
    blocks = [layer for channels in CHANNELS for layer in (nn.conv(channels), nn.relu(), nn.max_pool())]
    return nn.chain(*blocks, nn.flatten(), nn.dense(CLASSES))
