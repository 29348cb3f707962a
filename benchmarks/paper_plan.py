"""From 1 to 1,024 devices on paper: memory, bytes moved and efficiency of ViT-B and a 1 B GPT.

Nothing is compiled or run. Bytes of a device are those of `diagnose.footprint`, operations those of
the traced step, bytes moved follow from the sizes of the parameters by the formulas below. Run
`python benchmarks/paper_plan.py`; docs/paper_plan.md has these tables.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from measure import table

from fnn import diagnose, nn, optim, train, trees
from fnn.nn.flops import count
from fnn.train.layout import Layout
from fnn.train.step import train_step_on_batch

# NVIDIA H100 SXM5, data sheet: 1,979 TFLOP/s in bfloat16 with sparsity, half of that without;
# NVLink 900 GB/s, half of that in one direction; 80 GB.
PEAK = 989e12
NVLINK = 450e9
MEMORY = 80e9
# NVIDIA DGX H100, data sheet: one port of 400 Gb/s for each device.
NETWORK = 50e9
NODE = 8  # devices that NVLink joins
# Share of the peak that a device reaches alone [Narayanan et al. 2021, arXiv:2104.04473, 52 %].
SHARE = 0.5
HALF = 2  # bytes of a number in bfloat16, in which parameters, gradients and activations pass

MODEL = 4  # devices of the model axis

DEVICES = (1, 8, 64, 1024)


class Work(NamedTuple):
    """A network to train.

    Attributes:
        recipe: Its recipe.
        inputs: Shape and dtype of an example.
        targets: Shape and dtype of a target.
        examples: Examples of a step for each device.
        tokens: Positions of a sequence within the blocks.
        width: Numbers of a position.
        depth: Number of blocks.
        heads: Number of attention heads.
    """

    recipe: Any
    inputs: Any
    targets: Any
    examples: int
    tokens: int
    width: int
    depth: int
    heads: int


class Line(NamedTuple):
    """What a layout needs, for one device and one step.

    Attributes:
        layout: Its description.
        devices: Number of devices.
        state: Bytes of parameters, gradients and optimizer state.
        total: Bytes in all.
        over_data: Bytes that a device sends for parameters and gradients.
        over_model: Bytes that it sends for activations.
        seconds: Of computation.
        sending: Seconds of communication over the data axis.
        waiting: Seconds of communication over the model axis, for which computation waits.
    """

    layout: str
    devices: int
    state: int
    total: float
    over_data: float
    over_model: float
    seconds: float
    sending: float
    waiting: float

    @property
    def low(self) -> float:
        """Efficiency if no communication overlaps with computation."""
        return self.seconds / (self.seconds + self.sending + self.waiting)

    @property
    def high(self) -> float:
        """Efficiency if that over the data axis overlaps as far as there is computation."""
        return self.seconds / (max(self.seconds, self.sending) + self.waiting)


@cache
def works() -> Mapping[str, Work]:
    """Return the two networks, with AdamW, float32 parameters and computation in bfloat16."""
    vit = nn.cast(nn.vit())
    gpt = nn.cast(nn.gpt(50304, length=2048, width=2048, depth=18, heads=16))
    images = jax.ShapeDtypeStruct((224, 224, 3), jnp.uint8)
    label = jax.ShapeDtypeStruct((), jnp.int32)
    text = jax.ShapeDtypeStruct((2048,), jnp.int32)
    return {
        "ViT-B/16": Work(_recipe(vit), images, label, 256, 197, 768, 12, 12),
        "GPT, 1 B": Work(_recipe(gpt), text, text, 4, 2048, 2048, 18, 16),
    }


def _recipe(network: Any) -> Any:
    return train.recipe(network, optim.adamw(1e-3))


def layouts(name: str) -> Sequence[tuple[str, Layout]]:
    """Return layouts by description: for each number of devices, those that are of use.

    Args:
        name: A key of `works`.
    """
    found = []
    for devices in DEVICES:
        mesh = AbstractMesh((devices,), ("data",))
        found.append(("data", train.layout(mesh)))
        if devices == 1:
            continue
        found.append(("fsdp", train.layout(mesh, fsdp=True)))
        if name.startswith("GPT") and devices >= NODE:
            mesh = AbstractMesh((devices // MODEL, MODEL), ("data", "model"))
            rules = train.transformer_rules("model", tables=("shared",))
            found.append((f"fsdp x model {MODEL}", train.layout(mesh, fsdp=True, rules=rules)))
    return found


def examples_of(work: Work, count: int) -> tuple[Any, Any]:
    """Return the shapes of some examples and their targets."""
    arrays = []
    for one in (work.inputs, work.targets):
        arrays.append(jax.ShapeDtypeStruct((count, *one.shape), one.dtype))
    return arrays[0], arrays[1]


@cache
def flops(name: str) -> int:
    """Return the floating-point operations of a step for one example."""
    work = works()[name]
    inputs, targets = examples_of(work, 1)
    shape = work.inputs.shape
    train_state = jax.eval_shape(lambda: train.start(jax.random.key(0), work.recipe, shape))

    def step(train_state: Any, inputs: Any, targets: Any) -> Any:
        return train_step_on_batch(work.recipe, train_state, inputs, targets)

    # Without those of the optimizer, which do not grow with the batch.
    two = examples_of(work, 2)
    larger = count(jax.make_jaxpr(step)(train_state, *two)).total()
    return larger - count(jax.make_jaxpr(step)(train_state, inputs, targets)).total()


def ring(parts: int, size: float) -> float:
    """Return the bytes that a device sends in an all-gather or a reduce-scatter around a ring.

    An all-reduce is one of each.

    Args:
        parts: Number of devices.
        size: Bytes of the whole array.
    """
    return (parts - 1) / parts * size


def sent_over_data(layout: Layout, params: Any) -> float:
    """Return the bytes that a device sends for parameters and gradients in a step.

    A parameter that is divided over the examples is gathered in the forward pass and, if it
    `regather`s, in the backward pass, and its gradient is reduced and scattered. The gradient of
    another one is all-reduced.

    Args:
        layout: The layout.
        params: Shapes of the parameters.
    """
    sizes = layout.mesh.shape
    specs = layout.specs(params)
    sent = 0.0
    for path, leaf in trees.named_leaves(params).items():
        names = {name for entry in specs.get(path, ()) for name in entry}
        others = prod(sizes[name] for name in names - {layout.axis})
        size = HALF * leaf.size / others
        times = 2 + layout.regather if layout.axis in names else 2
        sent += times * ring(layout.parts, size)
    return sent


def sent_over_model(layout: Layout, work: Work) -> float:
    """Return the bytes that a device sends for activations in a step.

    A block has two all-reduces in the forward pass and two in the backward pass, of the activations
    (examples, tokens, width) [Shoeybi et al. 2019, arXiv:1909.08053]; the embedding one more.

    Args:
        layout: The layout.
        work: The network.
    """
    parts = layout.mesh.shape.get("model", 1)
    # A group of devices that divide the layers has the examples of all of them.
    activations = HALF * parts * work.examples * work.tokens * work.width
    sums = 4 * work.depth + 1
    return sums * 2 * ring(parts, activations)


def share_of_activations(layout: Layout, work: Work) -> float:
    """Return the share of the activations of a block that a device has with tensor parallelism.

    That of 10 + 24 / t + 5 a s / (h t) for t devices, a heads, s tokens and width h
    [Korthikanti et al. 2022, arXiv:2205.05198, equation 2].

    Args:
        layout: The layout.
        work: The network.
    """
    parts = layout.mesh.shape.get("model", 1)
    scores = 5 * work.heads * work.tokens / work.width
    return (10 + (24 + scores) / parts) / (10 + 24 + scores)


def line(name: str, text: str, layout: Layout) -> Line:
    """Compute what a layout needs.

    Args:
        name: A key of `works`.
        text: Description of the layout.
        layout: The layout.
    """
    work = works()[name]
    devices = prod(layout.mesh.shape.values())
    batch = work.examples * devices
    data = examples_of(work, batch)
    found = diagnose.footprint(work.recipe, data, batch_size=batch, mesh=layout)
    shape = work.inputs.shape
    params = jax.eval_shape(lambda: train.start(jax.random.key(0), work.recipe, shape)).params
    over_data = sent_over_data(layout, params)
    over_model = sent_over_model(layout, work)
    # A ring over several nodes is as fast as its slowest link; the model axis is within a node.
    link = NVLINK if devices <= NODE else NETWORK
    activations = found.activations * share_of_activations(layout, work)
    return Line(
        text,
        devices,
        found.params + found.grads + found.opt_state,
        found.total - found.activations + activations,
        over_data,
        over_model,
        seconds=work.examples * flops(name) / (SHARE * PEAK),
        sending=over_data / link,
        waiting=over_model / NVLINK,
    )


def lines(name: str) -> list[Line]:
    """Return the lines of a network."""
    return [line(name, text, layout) for text, layout in layouts(name)]


def show(name: str) -> str:
    """Return the table of a network in Markdown."""
    rows = []
    for one in lines(name):
        rows.append(
            {
                "devices": f"{one.devices:,}",
                "layout": one.layout,
                "train state, GB": f"{one.state / 1e9:.2f}",
                "in all, GB": f"{one.total / 1e9:.1f}",
                "params and gradients sent, GB": f"{one.over_data / 1e9:.2f}",
                "activations sent, GB": f"{one.over_model / 1e9:.2f}",
                "computation, ms": f"{one.seconds * 1e3:.0f}",
                "communication, ms": f"{(one.sending + one.waiting) * 1e3:.0f}",
                "efficiency": f"{one.low:.2f} to {one.high:.2f}",
            }
        )
    return table(rows)


def main() -> None:
    """Print both tables."""
    for name, work in works().items():
        print(f"{name}, {work.examples} examples a device, {flops(name) / 1e9:,.0f} GFLOP each\n")
        print(show(name), "\n")


if __name__ == "__main__":
    main()
