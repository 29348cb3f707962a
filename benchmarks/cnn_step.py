"""What a step of a convolutional network costs outside and inside of `lax.scan`, and what it costs peers.

Three 3x3 convolutions (32, 64, 128), each with relu and max-pool 2, then a dense layer; batch 128 of 32x32x3, momentum.
Inside a scan XLA's own gradients fall off a cliff (jax issue 12868). Goals: fnn inside takes no longer than outside,
and at most 0.85 of torch's time, which it takes with micro_batch_size=32, whose arrays fit the cache; torch with such
parts is shown beside it. Run `python benchmarks/cnn_step.py`.
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

FEW = 2  # steps of the slow program: they take seconds
ROUNDS = 5
LAST = CHANNELS[-1] * (SIZE // 2 ** len(CHANNELS)) ** 2  # features
PART = 32  # examples of a batch that go through the network at once, where it goes in parts
TORCH = "torch, eager, channels last"
IN_PARTS = "torch, eager, in parts of 32"


def xla_step() -> tuple[Callable, Any]:
    """The same network in plain jax.lax, with the gradients that XLA has for convolution and reduce_window."""
    draw, keys = (
        jax.nn.initializers.he_normal(),
        jax.random.split(jax.random.key(0), len(CHANNELS) + 1),
    )
    shapes = [
        *((3, 3, i, o) for i, o in zip((3, *CHANNELS), CHANNELS, strict=False)),
        (LAST, CLASSES),
    ]
    params = [
        (draw(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes, strict=True)
    ]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        for kernel, bias in params[:-1]:
            y = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.lax.reduce_window(
                jax.nn.relu(y + bias), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            )
        return x.reshape(len(x), -1) @ params[-1][0] + params[-1][1]

    def objective(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(
            jax.nn.log_softmax(apply(params, images)), labels[:, None], 1
        ).mean()

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
    pairs, layers = list(zip((3, *CHANNELS), CHANNELS, strict=False)), equinox.nn
    *keys, last = jax.random.split(key, len(pairs) + 1)
    blocks = [
        layer
        for (i, o), own in zip(pairs, keys, strict=True)
        for layer in (
            layers.Conv2d(i, o, 3, padding=1, key=own),
            layers.Lambda(jax.nn.relu),
            layers.MaxPool2d(2, 2),
        )
    ]
    return layers.Sequential(
        [*blocks, layers.Lambda(jnp.ravel), layers.Linear(LAST, CLASSES, key=last)]
    )


def keras_program() -> Program:
    from keras_models import cnn

    return with_keras(cnn(CHANNELS, SIZE))


def torch_model() -> Any:
    blocks = [
        layer
        for i, o in zip((3, *CHANNELS), CHANNELS, strict=False)
        for layer in (torch.nn.Conv2d(i, o, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    ]
    return torch.nn.Sequential(*blocks, torch.nn.Flatten(), torch.nn.Linear(LAST, CLASSES))


def fast_programs() -> dict[str, Program]:
    programs = {
        "fnn, outside": outside(*fnn_step(convolutional())),
        "fnn, inside": inside(*fnn_step(convolutional())),
        "fnn, outside, in parts of 32": outside(*fnn_step(convolutional(), micro_batch_size=PART)),
        "fnn, inside, in parts of 32": inside(*fnn_step(convolutional(), micro_batch_size=PART)),
        "XLA's gradients, outside": outside(*xla_step()),
    }
    programs |= {"flax nnx + optax": with_nnx(nnx_model())} if nnx else {}
    programs |= {"equinox + optax": with_equinox(equinox_model)} if equinox else {}
    programs |= {"keras on jax": keras_program()} if version("keras") else {}
    if torch:
        programs |= {
            TORCH: with_torch(torch_model()),
            "torch, compiled": with_torch(torch_model(), compiled=True),
        }
        programs |= {IN_PARTS: with_torch(torch_model(), parts=BATCH // PART)}
    return programs


def row(name: str, milliseconds: float, ratio: float) -> dict[str, str]:
    return {"one step": name, "ms": f"{milliseconds:.1f}", "× fnn inside": f"{ratio:.2f}"}


def main() -> None:
    timings = compare(fast_programs(), base="fnn, inside", rounds=ROUNDS)
    slow = compare({"inside": inside(*xla_step(), PICTURES.first(FEW))}, base="inside", rounds=1)[
        "inside"
    ]
    each: dict[str, Timing] = {
        name: Timing(t.seconds / STEPS, t.ratio) for name, t in timings.items()
    }
    cliff = slow.seconds / FEW
    each["XLA's gradients, inside"] = Timing(cliff, cliff / each["fnn, inside"].seconds)
    rows = [row(name, 1e3 * t.seconds, t.ratio) for name, t in each.items()]
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds; XLA's gradients inside: {FEW} steps, once."
    goals = [judge("fnn inside by fnn outside:", 1 / each["fnn, outside"].ratio, 1.0, form=".2f")]
    if torch:
        fastest = min(
            t.ratio for name, t in each.items() if name.startswith("torch") and name != IN_PARTS
        )
        for way in ("inside", "outside"):
            ratio = each[f"fnn, {way}, in parts of 32"].ratio / fastest
            goals.append(
                judge(f"fnn {way}, in parts, by the fastest of torch:", ratio, 0.85, form=".2f")
            )
    show(__doc__, method, rows, *goals, *missing("torch", "flax", "equinox", "keras"))


if __name__ == "__main__":
    main()
