"""Training steps of each library on the same batches: called from Python, and in one scan.

Every program returns the losses of its steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from measure import Program, compare

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
try:
    import equinox
    import optax
except ImportError:
    equinox = None

CLASSES, BATCH, SIZE, RATE, MOMENTUM = 10, 128, 32, 1e-3, 0.9
CHANNELS = (32, 64, 128)  # of the network of three convolutions of several benchmarks
STEPS = 10

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(STEPS, BATCH, SIZE, SIZE, 3)).astype(np.float32)
LABELS = RANDOM.integers(CLASSES, size=(STEPS, BATCH)).astype(np.int32)


class Work(NamedTuple):
    """The data of all libraries, one batch per step, and the name of the optimizer."""

    inputs: np.ndarray = IMAGES
    labels: np.ndarray = LABELS
    optimizer: str = "momentum"

    @property
    def batches(self) -> list[tuple[jax.Array, jax.Array]]:
        return [jax.device_put(batch) for batch in zip(*self[:2], strict=True)]

    def first(self, steps: int) -> "Work":
        return self._replace(inputs=self.inputs[:steps], labels=self.labels[:steps])


PICTURES = Work()


def fnn_step(
    network: Layer, work: Work = PICTURES, *, micro_batch_size: int | None = None
) -> tuple[Callable, TrainState]:
    """A step, and the state before the first step."""
    makers = {"momentum": partial(optim.momentum, momentum=MOMENTUM), "adam": optim.adam}
    optimizer = makers[work.optimizer](RATE)
    recipe = train.recipe(network, optimizer, micro_batch_size=micro_batch_size)
    start = train.start(jax.random.key(0), recipe, work.inputs.shape[2:])

    def step(train_state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        train_state, measured = train.step(recipe, train_state, batch)
        return train_state, measured["loss"]

    return step, start


def outside(
    step: Callable, start: Any, work: Work = PICTURES, *, jit: Callable = jax.jit
) -> Program:
    """One compiled call per step."""
    call, batches = jit(step), work.batches

    def run() -> list[jax.Array]:
        state, losses = start, []
        for batch in batches:
            state, loss = call(state, batch)
            losses.append(loss)
        jax.block_until_ready(state)
        return losses

    return run


def inside(step: Callable, start: Any, work: Work = PICTURES) -> Program:
    """The same steps in one scan."""
    call, batches = jax.jit(partial(jax.lax.scan, step)), jax.device_put(work[:2])
    return lambda: jax.block_until_ready(call(start, batches))[1]


def nnx_step(model: Any, work: Work = PICTURES) -> tuple[Callable, Any]:
    """A compiled step on a mutable model, as in flax's tutorial, and its optimizer."""

    def objective(model, inputs, labels):
        return optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels).mean()

    @nnx.jit
    def step(model, optimizer, inputs, labels):
        loss, grads = nnx.value_and_grad(objective)(model, inputs, labels)
        optimizer.update(model, grads)
        return loss

    return step, nnx.Optimizer(model, by_optax(work), wrt=nnx.Param)


def with_nnx(model: Any, work: Work = PICTURES) -> Program:
    step, optimizer = nnx_step(model, work)
    batches = work.batches

    def run() -> list[jax.Array]:
        losses = [step(model, optimizer, *batch) for batch in batches]
        jax.block_until_ready(nnx.state(model))
        return losses

    return run


def equinox_step(build: Callable, work: Work = PICTURES) -> tuple[Callable, Any]:
    """A step on a model that is a pytree, as in the tutorials of Equinox, and its carry.

    The model is a function (example, state) -> (output, state).
    """
    model, state = equinox.nn.make_with_state(build)(jax.random.key(0))
    optimizer = by_optax(work)

    def objective(model, state, inputs, labels):
        batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        outputs, state = batched(inputs, state)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean(), state

    differentiated = equinox.filter_value_and_grad(objective, has_aux=True)

    def step(carried, batch):
        model, state, opt_state = carried
        (loss, state), grads = differentiated(model, state, *batch)
        params = equinox.filter(model, equinox.is_inexact_array)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (equinox.apply_updates(model, updates), state, opt_state), loss

    params = equinox.filter(model, equinox.is_inexact_array)
    return step, (model, state, optimizer.init(params))


def with_equinox(build: Callable, work: Work = PICTURES) -> Program:
    return outside(*equinox_step(build, work), channels_first(work), jit=equinox.filter_jit)


def by_optax(work: Work) -> Any:
    makers = {"momentum": partial(optax.sgd, momentum=MOMENTUM), "adam": optax.adam}
    return makers[work.optimizer](RATE)


def channels_first(work: Work) -> Work:
    """Images with channels first, as Equinox takes them; sequences are not changed."""
    if work.inputs.ndim < 5:
        return work
    return work._replace(inputs=np.ascontiguousarray(np.moveaxis(work.inputs, -1, 2)))


def with_keras(model: Any, work: Work = PICTURES) -> Program:
    """fit, as in the tutorials of Keras; it returns the mean of the losses."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss=loss)
    inputs, labels = (array.reshape(-1, *array.shape[2:]) for array in work[:2])
    batch_size = work.labels.shape[1]
    fit = partial(model.fit, inputs, labels, batch_size=batch_size, shuffle=False, verbose=0)
    return lambda: fit().history["loss"]


def with_torch(
    model: Any, work: Work = PICTURES, *, compiled: bool = False, parts: int = 1
) -> Program:
    """Steps of torch with its fastest layout on CPU.

    Args:
        model: The network.
        work: The batches.
        compiled: Whether the network is compiled by torch.
        parts: Number of equal parts of a batch, whose gradients are accumulated.
    """
    model = model.to(memory_format=torch.channels_last)
    makers = {
        "momentum": partial(torch.optim.SGD, momentum=MOMENTUM),
        "adam": partial(torch.optim.Adam, fused=True),
    }
    optimizer = makers[work.optimizer](model.parameters(), lr=RATE)
    loss_of = torch.nn.CrossEntropyLoss()
    forward = torch.compile(model) if compiled else model
    inputs = [torch.from_numpy(x) for x in work.inputs]
    # NHWC in memory is channels_last.
    inputs = [x.permute(0, 3, 1, 2) if x.ndim == 4 else x for x in inputs]
    labels = [torch.from_numpy(y).long().flatten() for y in work.labels]

    def run() -> list[Any]:
        losses = []
        for x, y in zip(inputs, labels, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.zeros(())
            for x_part, y_part in zip(x.chunk(parts), y.chunk(parts), strict=True):
                part_loss = loss_of(forward(x_part).flatten(0, -2), y_part) / parts
                part_loss.backward()
                loss += part_loss.detach()
            optimizer.step()
            losses.append(loss)
        return losses

    return run


def convolutional() -> Layer:
    """The network of three convolutions."""
    blocks = []
    for channels in CHANNELS:
        blocks += [nn.conv(channels), nn.relu(), nn.max_pool()]
    return nn.chain(*blocks, nn.flatten(), nn.dense(CLASSES))


def rows(programs: dict[str, Program], *, base: str, rounds: int) -> list[dict[str, str]]:
    """One row per program: the time of a step, and the first loss, a check that all train alike."""
    losses = {name: float(np.asarray(program()[0])) for name, program in programs.items()}
    timings = compare(programs, base=base, rounds=rounds)
    table = []
    for name, timing in timings.items():
        row = {"one step": name, "ms": f"{1e3 * timing.seconds / STEPS:.1f}"}
        row[f"× {base}"] = f"{timing.ratio:.2f}"
        row["first loss"] = f"{losses[name]:.2f}"
        table.append(row)
    return table
