"""Bytes of a device against closed forms and against XLA's account of a compiled step."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from fnn import diagnose, nn, optim, train
from fnn.errors import ConfigError

FLOAT = 4
NETWORK = nn.chain(nn.dense(64, use_bias=False), nn.tanh(), nn.dense(8, use_bias=False))
PARAMS = 16 * 64 + 64 * 8
RECIPE = train.recipe(NETWORK, optim.adam(1e-2))
DATA = jax.ShapeDtypeStruct((100, 16), jnp.float32), jax.ShapeDtypeStruct((100,), jnp.int32)


def planned(*sizes, **options):
    return train.layout(AbstractMesh(sizes, ("data", "model")[: len(sizes)]), **options)


def test_bytes_of_one_device_are_those_of_the_arrays():
    found = diagnose.footprint(RECIPE, DATA, batch_size=20)
    assert (found.params, found.grads) == (FLOAT * PARAMS, FLOAT * PARAMS)
    # Two moments, the step count and the rate.
    assert found.opt_state == 2 * FLOAT * PARAMS + 2 * FLOAT
    # The step and the key.
    assert found.state == FLOAT + 8
    assert found.gathered == 0
    assert found.total == sum(found[:6])
    # The input and the output of tanh, and values of the loss.
    assert found.activations >= FLOAT * 20 * (16 + 64)
    assert found.activations == 2 * diagnose.footprint(RECIPE, DATA, batch_size=10).activations


def test_devices_have_parts_of_the_train_state_and_of_the_batch():
    one = diagnose.footprint(RECIPE, DATA, batch_size=32)
    copied = diagnose.footprint(RECIPE, DATA, batch_size=32, mesh=planned(8))
    assert copied == one._replace(activations=one.activations // 8)
    divided = diagnose.footprint(RECIPE, DATA, batch_size=32, mesh=planned(8, fsdp=True))
    assert divided.params == divided.grads == one.params // 8
    assert divided.opt_state == 2 * FLOAT * PARAMS // 8 + 2 * FLOAT
    assert divided.gathered == 2 * FLOAT * 16 * 64
    once = planned(8, fsdp=True, regather=False)
    assert diagnose.footprint(RECIPE, DATA, batch_size=32, mesh=once).gathered == (
        FLOAT * (PARAMS + 16 * 64)
    )
    rules = {"dense_0/kernel": P("model")}
    both = diagnose.footprint(RECIPE, DATA, batch_size=32, mesh=planned(4, 2, rules=rules))
    assert both.params == FLOAT * (16 * 64 // 2 + 64 * 8)


def test_blocks_of_a_repeat_are_gathered_one_after_another_in_the_dtype_of_a_cast():
    network = nn.cast(nn.repeat(nn.residual(nn.dense(16, use_bias=False)), 6), "bfloat16")
    recipe = train.recipe(network, optim.sgd(0.1))
    data = DATA[0], DATA[0]
    recipe = train.recipe(network, optim.sgd(0.1), loss=lambda y, t: ((y - t) ** 2).mean(-1))
    found = diagnose.footprint(recipe, data, batch_size=16, mesh=planned(4, fsdp=True))
    assert found.params == FLOAT * 6 * 16 * 16 // 4
    assert found.gathered == 2 * (2 * 16 * 16)
    once = planned(4, fsdp=True, regather=False)
    found = diagnose.footprint(recipe, data, batch_size=16, mesh=once)
    assert found.gathered == (6 + 1) * (2 * 16 * 16)


@pytest.mark.parametrize("fsdp", [False, True])
def test_the_compiled_step_has_these_arguments(fsdp):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    layout = train.layout(mesh, fsdp=fsdp)
    found = diagnose.footprint(RECIPE, DATA, batch_size=16, mesh=layout, compiles=True)
    batch = 16 // 4 * (16 + 1) * FLOAT
    # The rate of the optimizer and other numbers of the recipe are constants of the program.
    arguments = found.params + found.opt_state + found.state + batch
    assert abs(found.program.arguments - arguments) <= 16
    assert "compiled: flops" in str(found)


def test_statistics_of_a_batch_need_no_more_examples_than_a_device_has():
    network = nn.chain(nn.dense(8), nn.batch_norm(), nn.dense(8))
    recipe = train.recipe(network, optim.sgd(0.1))
    found = diagnose.footprint(recipe, DATA, batch_size=8, mesh=planned(8, fsdp=True))
    assert found.gathered == 2 * FLOAT * 16 * 8
    assert 8 * found.activations == diagnose.footprint(recipe, DATA, batch_size=8).activations


def test_a_layout_is_proposed_by_the_memory_of_a_device():
    options = {"batch_size": 64, "devices": 8}
    one = diagnose.footprint(RECIPE, DATA, batch_size=64, mesh=planned(8))
    enough = diagnose.propose_layout(RECIPE, DATA, memory=one.total, **options)
    assert not enough.layout.divides_params and enough.footprint == one
    less = diagnose.propose_layout(RECIPE, DATA, memory=one.total - 1, **options)
    assert less.layout.fsdp and len(less.tried) == 2
    assert str(less).startswith("data 8: params 6 KiB, grads 6 KiB")
    with pytest.raises(ConfigError, match="bytes or more, for fsdp 8, got 100; use more devices"):
        diagnose.propose_layout(RECIPE, DATA, memory=100, **options)


def test_tensor_parallelism_is_proposed_for_a_batch_that_is_too_small_to_divide():
    network = nn.gpt(16, length=8, width=16, depth=2, heads=4)
    recipe = train.recipe(network, optim.adam(1e-2))
    tokens = jax.ShapeDtypeStruct((4, 8), jnp.int32)
    found = diagnose.propose_layout(recipe, (tokens, tokens), batch_size=4, devices=8, memory=1e6)
    assert dict(found.layout.mesh.shape) == {"data": 4, "model": 2}
    with pytest.raises(ConfigError, match="expected a layout that fits"):
        diagnose.propose_layout(RECIPE, DATA, batch_size=4, devices=8, memory=1e6)


def test_a_layout_that_does_not_fit_raises():
    with pytest.raises(ConfigError, match=r"got '\*missing'"):
        layout = planned(4, 2, rules={"*missing": P("model")})
        diagnose.footprint(RECIPE, DATA, batch_size=16, mesh=layout)
    with pytest.raises(ConfigError, match="footprint mesh: expected a mesh of devices"):
        diagnose.footprint(RECIPE, DATA, batch_size=16, mesh=planned(4), compiles=True)
