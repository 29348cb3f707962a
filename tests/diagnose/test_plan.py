"""Plans against closed forms: operations of products, bytes of arrays."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, optim, train
from fnn.diagnose import Plan

FLOAT = 4


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_plan_of_a_matrix_product_is_exact():
    plan = diagnose.plan(jnp.dot, shaped(300, 500), shaped(500, 700))
    assert plan.flops == 2 * 300 * 500 * 700
    assert plan.arguments == FLOAT * (300 * 500 + 500 * 700)
    assert plan.outputs == FLOAT * 300 * 700
    assert plan.peak == plan.arguments + plan.outputs + plan.temporaries


def test_intermediate_arrays_are_temporaries():
    """The inner product is stored whole. It is neither an argument nor an output."""
    middle = FLOAT * 1000 * 1000
    plan = diagnose.plan(lambda a, b: (a @ b) @ b, shaped(1000, 1000), shaped(1000, 1000))
    assert middle <= plan.temporaries < 1.1 * middle + 2**16


def test_donated_memory_is_counted_once():
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    plan = diagnose.plan(add, shaped(1000))
    assert (plan.arguments, plan.outputs) == (4000, 4000)
    assert plan.peak == 4000 + plan.temporaries


def test_shapes_allocate_nothing_and_keywords_are_static():
    huge = shaped(2**20, 2**20)
    plan = diagnose.plan(jnp.sum, huge, axis=1)
    assert plan.arguments == FLOAT * 2**40 and plan.outputs == FLOAT * 2**20
    assert plan.flops == 2**40


def test_static_arguments_of_a_jitted_function_stay_static():
    @partial(jax.jit, static_argnames="times")
    def repeated(x, times):
        return jnp.concatenate([x] * times)

    assert diagnose.plan(repeated, shaped(5), times=3).outputs == FLOAT * 15


network = nn.chain(nn.flatten(), nn.dense(8, use_bias=False), nn.dense(3, use_bias=False))


def run(key, rate, epochs=2):
    examples = jnp.ones((32, 6)), jnp.zeros(32, int)
    return train.run(
        key, train.recipe(network, optim.sgd(rate)), examples, epochs=epochs, batch_size=8
    )


@pytest.mark.slow
def test_plan_of_a_run_scales_with_epochs_and_lanes():
    keys, rates = jax.random.split(jax.random.key(0), 5), shaped(5)
    one = diagnose.plan(jax.jit(run), jax.random.key(0), shaped())
    lanes = diagnose.plan(jax.vmap(run), keys, rates)
    longer = diagnose.plan(run, jax.random.key(0), shaped(), epochs=4)
    products = 2 * 8 * (6 * 8 + 8 * 3) + 2 * 8 * (6 * 8 + 2 * 8 * 3)  # forward; dW twice, dx once
    assert one.flops > 8 * products
    assert 8 * products < longer.flops - one.flops <= one.flops
    np.testing.assert_allclose(lanes.flops, 5 * one.flops, rtol=0.01)
    assert lanes.outputs > 4 * one.outputs


@pytest.mark.parametrize(
    "plan, text",
    [
        (
            Plan(0, 0, 1, 1023, 1024),
            "flops 0 FLOP, arguments 0 B, outputs 1 B, temporaries 1023 B, peak 1 KiB",
        ),
        (
            Plan(2_500_000_000, 2**20, 3 * 2**29, 0, 2**44),
            "flops 2.5 GFLOP, arguments 1 MiB, outputs 1.5 GiB, temporaries 0 B, "
            "peak 1.638e+04 GiB",
        ),
    ],
)
def test_plan_prints_with_units(plan, text):
    assert str(plan) == text
