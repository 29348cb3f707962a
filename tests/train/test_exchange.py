"""Exchange of parameters: what passes between devices is read from compiled programs."""

import re
import subprocess
import sys
from collections import Counter
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import nn, optim, train, trees
from fnn.train import programs
from fnn.train.devices import use_layout
from fnn.train.exchange import exchange_primitive
from fnn.train.layout import state_shardings
from fnn.train.step import train_step_on_batch

KEY = jax.random.key(0)
COLLECTIVE = re.compile(r"= (.*?) (all-\w+(?:-\w+)?|reduce-scatter|collective-permute)(-start)?\(")


def compiled_step(recipe, layout, inputs, targets):
    """Compile a step of a train state of this layout, from shapes alone."""
    shapes = jax.eval_shape(lambda key: train.start(key, recipe, inputs.shape[1:]), KEY)
    with use_layout(layout):
        shardings = jax.tree.map(lambda _, one: one, shapes, state_shardings(layout, shapes))

        def placed(shape, sharding):
            return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

        state = jax.tree.map(placed, shapes, shardings)
        batch = [placed(one, layout.divided) for one in (inputs, targets)]
        lowered = programs.lower(train_step_on_batch.__wrapped__, (), recipe, state, *batch)
        return lowered.compile()


def collectives(program):
    """The shapes of floats that each kind of collective returns."""
    found = {}
    for line in program.as_text().splitlines():
        match = COLLECTIVE.search(line)
        if match:
            shapes = re.findall(r"(?:bf16|f16|f32)\[([\d,]*)\]", match[1])
            sizes = [tuple(int(n) for n in shape.split(",") if n) for shape in shapes]
            found.setdefault(match[2], []).extend(sizes)
    return found


def squeezed(shapes):
    """Shapes without axes of 1, in any order of axes, with their numbers of occurrences."""
    return Counter(tuple(sorted(n for n in shape if n > 1)) for shape in shapes)


BATCH, WIDTH, HIDDEN = 40, 8, 24
NETWORK = nn.chain(
    nn.dense(WIDTH, use_bias=False),
    nn.repeat(
        nn.residual(nn.chain(nn.dense(HIDDEN, use_bias=False), nn.gelu(), nn.dense(WIDTH))), 2
    ),
    nn.dense(4, use_bias=False),
)
RECIPE = train.recipe(NETWORK, optim.adam(1e-2))
INPUTS = jax.ShapeDtypeStruct((BATCH, 12), jnp.float32)
TARGETS = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
# Of one block, and of the others.
PARAMS = [(8, 12), (8, 24), (8, 24), (8,), (4, 8)]


def mesh_of(*sizes):
    devices = np.reshape(jax.devices()[: prod(sizes)], sizes)
    return Mesh(devices, ("data", "model")[: len(sizes)])


def four():
    return mesh_of(4)


@pytest.mark.slow
def test_a_parameter_is_gathered_once_and_its_gradient_summed_once():
    layout = train.layout(four(), fsdp=True, regather=False)
    found = collectives(compiled_step(RECIPE, layout, INPUTS, TARGETS))
    assert set(found) <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert squeezed(found["all-gather"]) == squeezed(PARAMS)
    # XLA on CPU has an all-reduce, of which each device keeps its part, for a reduce-scatter.
    sums = found.get("reduce-scatter", []) + found["all-reduce"]
    assert squeezed([shape for shape in sums if shape]) == squeezed(PARAMS)


def test_the_backward_pass_gathers_kernels_again():
    layout = train.layout(four(), fsdp=True)
    found = collectives(compiled_step(RECIPE, layout, INPUTS, TARGETS))
    # The gradient of the first layer by its input, and that by a bias, need no parameter.
    again = [(8, 24), (8, 24), (4, 8)]
    assert squeezed(found["all-gather"]) == squeezed(PARAMS + again)
    assert squeezed([shape for shape in found["all-reduce"] if shape]) == squeezed(PARAMS)


def test_no_array_of_a_batch_is_gathered():
    for options in ({"regather": True}, {"regather": False}):
        layout = train.layout(four(), fsdp=True, **options)
        program = compiled_step(RECIPE, layout, INPUTS, TARGETS)
        gathered = collectives(program)["all-gather"]
        assert not [shape for shape in gathered if BATCH in shape or BATCH // 4 in shape]
        assert re.search(rf"f32\[{BATCH // 4},{HIDDEN}\]", program.as_text())


def test_the_exchange_is_linear_and_can_be_mapped():
    mesh = train.layout(four()).mesh
    exchange = exchange_primitive()

    def square(x):
        whole = exchange.bind(x, mesh=mesh, specs=((None, None), (None, "data")))
        return (whole**2).sum()

    x = jax.device_put(jax.random.normal(KEY, (3, 2, 4)), NamedSharding(mesh, P()))
    gradient = jax.jit(jax.vmap(jax.grad(square)))(x)
    value, slope = jax.jit(lambda x: jax.jvp(jax.vmap(square), (x,), (x,)))(x)
    np.testing.assert_allclose(gradient, 2 * x, rtol=1e-6)
    np.testing.assert_allclose(value, (x**2).sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(slope, 2 * (x**2).sum((1, 2)), rtol=1e-5)
    one = jax.jit(jax.grad(square))(x[0])
    assert one.sharding == NamedSharding(mesh, P(None, "data"))


@pytest.mark.parametrize(
    "network",
    [
        nn.spectral_norm(nn.dense(8)),
        nn.weight_norm(nn.chain(nn.dense(8), nn.tanh(), nn.dense(4))),
        nn.dense(4),
        nn.freeze(nn.chain(nn.dense(8), nn.dense(4)), "dense_0"),
        nn.shared(nn.dense(12), lambda tied: nn.chain(tied, nn.tanh(), tied, nn.dense(4))),
        nn.chain(nn.cast(nn.dense(8), "float32"), nn.remat(nn.dense(4))),
    ],
    ids=["spectral_norm", "weight_norm", "a layer", "freeze", "shared", "cast, remat"],
)
@pytest.mark.slow
def test_transforms_of_layers_give_the_step_of_one_device(network):
    recipe = train.recipe(network, optim.sgd(0.1))
    batch = np.random.default_rng(0).normal(size=(16, 12)).astype(np.float32), np.arange(16) % 4
    state = train.start(KEY, recipe, (12,))
    divided = train.start(KEY, recipe, (12,), mesh=train.layout(four(), fsdp=True))
    wanted, figures = train.step(recipe, state, batch)
    found, others = train.step(recipe, divided, batch)
    np.testing.assert_allclose(others["loss"], figures["loss"], rtol=1e-6)
    leaves = trees.named_leaves(found.params)
    for path, leaf in trees.named_leaves(wanted.params).items():
        np.testing.assert_allclose(leaves[path], leaf, atol=1e-6)
    assert not all(leaf.sharding.is_fully_replicated for leaf in leaves.values())


ELSEWHERE = """
import sys
sys.path[:0] = sys.argv[1:]
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 64)
import test_exchange
test_exchange.{check}()
print("passed")
"""


def check_64_devices():
    """Of a transformer on a mesh of 16 x 4 devices: sums of activations, exchanges of params."""
    time, width, tokens, batch = 6, 32, 64, 48
    network = nn.gpt(tokens, length=time, width=width, depth=3, heads=4)
    recipe = train.recipe(network, optim.momentum(0.1))
    inputs = jax.ShapeDtypeStruct((batch, time), jnp.int32)
    mesh = mesh_of(16, 4)
    rules = train.transformer_rules("model", tables=("shared",))
    shapes = jax.eval_shape(lambda key: train.start(key, recipe, (time,)), KEY).params
    # Arrays of examples have an axis of the batch, or of the part of a device.
    of_batch = {batch, batch // 16}

    tensor = train.layout(mesh, rules=rules)
    found = collectives(compiled_step(recipe, tensor, inputs, inputs))
    assert not found.get("all-gather")
    sums = [shape for shape in found["all-reduce"] if of_batch & set(shape)]
    # Of a block: two in the forward pass; two in the backward pass, one of them of query, key and
    # value. And the embedding of tokens whose rows are on another device.
    assert [prod(shape) for shape in sums] == [batch // 16 * time * width] * (2 + 1 + 3 + 1)

    both = train.layout(mesh, fsdp=True, rules=rules, regather=False)
    found = collectives(compiled_step(recipe, both, inputs, inputs))
    assert not [shape for shape in found["all-gather"] if of_batch & set(shape)]
    # The table of tokens is gathered at both of its uses.
    wanted = [*gathered_shapes(both, shapes), (tokens // 4, width)]
    assert squeezed(found["all-gather"]) == squeezed(wanted)

    whole = train.layout(mesh_of(64), fsdp=True, regather=False)
    # Seven of a device, another number than any size of the network.
    inputs = jax.ShapeDtypeStruct((64 * 7, time), jnp.int32)
    found = collectives(compiled_step(recipe, whole, inputs, inputs))
    wanted = gathered_shapes(whole, shapes)
    table = [shape for shape in wanted if shape == (tokens, width)]
    assert squeezed(found["all-gather"]) == squeezed(wanted + table)


def gathered_shapes(layout, params):
    """The shapes of parameters that are divided over examples: of one block, on one device."""
    leaves = trees.named_leaves(params)
    shapes = []
    for path, entries in layout.specs(params).items():
        if any("data" in names for names in entries):
            sizes = leaves[path].shape
            model = layout.mesh.shape.get("model", 1)
            parts = [model if "model" in names else 1 for names in entries]
            shape = tuple(n // k for n, k in zip(sizes, parts, strict=True))
            shapes.append(shape[1:] if "blocks/body" in path else shape)
    return shapes


def check_memory_of_8_devices():
    """Bytes of a device in all: arguments, results and intermediate values of a step."""
    mesh = mesh_of(8)
    block = nn.residual(nn.chain(nn.dense(128), nn.tanh()))
    network = nn.chain(nn.dense(128), nn.repeat(block, 24), nn.dense(8))
    recipe = train.recipe(network, optim.adam(1e-2))
    inputs = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    targets = jax.ShapeDtypeStruct((16,), jnp.int32)
    used = []
    for fsdp in (False, True):
        layout = train.layout(mesh, fsdp=fsdp)
        account = compiled_step(recipe, layout, inputs, targets).memory_analysis()
        sizes = account.argument_size_in_bytes, account.output_size_in_bytes
        used.append(sum(sizes) + account.temp_size_in_bytes)
    assert used[1] <= used[0] / 6, used


@pytest.mark.slow
@pytest.mark.parametrize("check", ["check_64_devices", "check_memory_of_8_devices"])
def test_programs_of_more_devices(check):
    """In a process of their own, since devices are simulated from its beginning."""
    here = __file__.rsplit("/", 1)[0]
    program = ELSEWHERE.format(check=check)
    command = [sys.executable, "-c", program, here, f"{here}/../.."]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "passed", done.stderr
