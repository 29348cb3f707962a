"""Cost of a step of a convolutional network outside and inside of `lax.scan`, and in peers.

Three 3x3 convolutions (32, 64, 128), each with relu and 2x2 max pooling, then a dense layer;
batches of 128 images of 32x32x3, momentum. Inside a scan XLA's gradients of a convolution are many
times slower (jax issue 12868). Goals: fnn takes no longer inside than outside, and at most 0.85 of
torch's time with micro_batch_size=32, whose arrays fit the cache. A row shows torch with such
parts. Run `python benchmarks/cnn_step.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from measure import Program, Timing, compare, judge, missing, show, version
from stepping import (
    BATCH,
    CHANNELS,
    CLASSES,
    PICTURES,
    RATE,
    SIZE,
    STEPS,
    convolutional,
    equinox,
    fnn_step,
    inside,
    nnx,
    outside,
    torch,
    with_equinox,
    with_keras,
    with_nnx,
    with_torch,
)

FEW = 2  # steps of the slow program, each of which takes seconds
ROUNDS = 5
LAST = CHANNELS[-1] * (SIZE // 2 ** len(CHANNELS)) ** 2  # features
PART = 32  # the micro-batch size of the programs in parts
TORCH = "torch, eager, channels last"
IN_PARTS = "torch, eager, in parts of 32"


def xla_step() -> tuple[Callable, Any]:
    """The same network in jax.lax, with XLA's gradients of convolution and reduce_window."""
    draw = jax.nn.initializers.he_normal()
    keys = jax.random.split(jax.random.key(0), len(CHANNELS) + 1)
    pairs = zip((3, *CHANNELS), CHANNELS, strict=False)
    shapes = [*((3, 3, i, o) for i, o in pairs), (LAST, CLASSES)]
    kernels = [draw(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    params = [(kernel, jnp.zeros(kernel.shape[-1])) for kernel in kernels]
    layout = ("NHWC", "HWIO", "NHWC")
    window = (1, 2, 2, 1)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        *convolutions, (out_kernel, out_bias) = params
        for kernel, bias in convolutions:
            y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
            y = jax.nn.relu(y + bias)
            x = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, window, window, "VALID")
        return x.reshape(len(x), -1) @ out_kernel + out_bias

    def objective(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(apply(params, images))
        return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        params, velocity = state
        loss, grads = jax.value_and_grad(objective)(params, *batch)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        return (jax.tree.map(lambda p, v: p - RATE * v, params, velocity), velocity), loss

    return step, (params, jax.tree.map(jnp.zeros_like, params))


def nnx_model() -> Any:
    class Model(nnx.Module):
        def __init__(self, rngs):
            pairs = zip((3, *CHANNELS), CHANNELS, strict=False)
            self.convs = nnx.List([nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in pairs])
            self.out = nnx.Linear(LAST, CLASSES, rngs=rngs)

        def __call__(self, x):
            for conv in self.convs:
                x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
            return self.out(x.reshape(len(x), -1))

    return Model(nnx.Rngs(0))


def equinox_model(key: jax.Array) -> Any:
    layers = equinox.nn
    pairs = list(zip((3, *CHANNELS), CHANNELS, strict=False))
    *keys, last = jax.random.split(key, len(pairs) + 1)
    blocks = []
    for (i, o), conv_key in zip(pairs, keys, strict=True):
        blocks.append(layers.Conv2d(i, o, 3, padding=1, key=conv_key))
        blocks.append(layers.Lambda(jax.nn.relu))
        blocks.append(layers.MaxPool2d(2, 2))
    out = layers.Linear(LAST, CLASSES, key=last)
    return layers.Sequential([*blocks, layers.Lambda(jnp.ravel), out])


def keras_program() -> Program:
    from keras_models import cnn

    return with_keras(cnn(CHANNELS, SIZE))


def torch_model() -> Any:
    layers = torch.nn
    blocks = []
    for i, o in zip((3, *CHANNELS), CHANNELS, strict=False):
        blocks += [layers.Conv2d(i, o, 3, padding=1), layers.ReLU(), layers.MaxPool2d(2)]
    return layers.Sequential(*blocks, layers.Flatten(), layers.Linear(LAST, CLASSES))


def fast_programs() -> dict[str, Program]:
    programs = {
        "fnn, outside": outside(*fnn_step(convolutional())),
        "fnn, inside": inside(*fnn_step(convolutional())),
        "fnn, outside, in parts of 32": outside(*fnn_step(convolutional(), micro_batch_size=PART)),
        "fnn, inside, in parts of 32": inside(*fnn_step(convolutional(), micro_batch_size=PART)),
        "XLA's gradients, outside": outside(*xla_step()),
    }
    if nnx:
        programs["flax nnx + optax"] = with_nnx(nnx_model())
    if equinox:
        programs["equinox + optax"] = with_equinox(equinox_model)
    if version("keras"):
        programs["keras on jax"] = keras_program()
    if torch:
        programs[TORCH] = with_torch(torch_model())
        programs["torch, compiled"] = with_torch(torch_model(), compiled=True)
        programs[IN_PARTS] = with_torch(torch_model(), parts=BATCH // PART)
    return programs


def row(name: str, milliseconds: float, ratio: float) -> dict[str, str]:
    return {"one step": name, "ms": f"{milliseconds:.1f}", "× fnn inside": f"{ratio:.2f}"}


def main() -> None:
    timings = compare(fast_programs(), base="fnn, inside", rounds=ROUNDS)
    slow_program = inside(*xla_step(), PICTURES.first(FEW))
    slow = compare({"inside": slow_program}, base="inside", rounds=1)["inside"]
    steps = {name: Timing(t.seconds / STEPS, t.ratio) for name, t in timings.items()}
    slow_seconds = slow.seconds / FEW
    slow_ratio = slow_seconds / steps["fnn, inside"].seconds
    steps["XLA's gradients, inside"] = Timing(slow_seconds, slow_ratio)
    rows = [row(name, 1e3 * t.seconds, t.ratio) for name, t in steps.items()]
    method = (
        f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; "
        f"XLA's gradients inside: {FEW} steps, once."
    )
    ratio = 1 / steps["fnn, outside"].ratio
    goals = [judge("fnn inside relative to fnn outside:", ratio, 1.0, form=".2f")]
    if torch:
        whole = [name for name in steps if name.startswith("torch") and name != IN_PARTS]
        fastest = min(steps[name].ratio for name in whole)
        for side in ("inside", "outside"):
            ratio = steps[f"fnn, {side}, in parts of 32"].ratio / fastest
            label = f"fnn {side}, in parts, relative to the fastest of torch:"
            goals.append(judge(label, ratio, 0.85, form=".2f"))
    show(__doc__, method, rows, *goals, *missing("torch", "flax", "equinox", "keras"))


if __name__ == "__main__":
    main()
