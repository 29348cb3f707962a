"""Counts of operations equal closed forms."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fnn import nn
from fnn.nn.flops import count


def operations(function, *arguments):
    return dict(+count(jax.make_jaxpr(function)(*arguments)))


def total(function, *arguments):
    return sum(operations(function, *arguments).values())


a, b = jnp.ones((4, 5)), jnp.ones((5, 6))


def test_a_matrix_product_counts_2mnk():
    assert total(jnp.dot, a, b) == 2 * 4 * 5 * 6
    assert total(jax.vmap(jnp.dot, (None, 0)), a, jnp.ones((3, 5, 6))) == 3 * 2 * 4 * 5 * 6
    assert total(jax.jit(jnp.dot), a, b) == 2 * 4 * 5 * 6


@pytest.mark.parametrize("padding, pixels", [("SAME", 8 * 8), ("VALID", 6 * 6)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_2_for_each_tap_also_on_padding(padding, pixels, groups, key):
    layer = nn.conv(6, padding=padding, groups=groups, use_bias=False)
    params, _, _ = layer.init(key, (8, 8, 4))
    x, taps = jnp.ones((2, 8, 8, 4)), 9 * 4 // groups

    def apply(params, x):
        return layer.apply(params, {}, x)[0]

    wanted = 2 * 2 * pixels * taps * 6
    assert total(apply, params, x) == wanted
    assert total(jax.vmap(apply, (None, 0)), params, jnp.stack([x] * 3)) == 3 * wanted
    stacked = jax.tree.map(lambda p: jnp.stack([p] * 3), params)
    assert total(jax.vmap(apply), stacked, jnp.stack([x] * 3)) == 3 * wanted
    forward, pull_back = jax.vjp(apply, params, x)
    assert total(pull_back, jnp.ones_like(forward)) == 2 * wanted


def test_a_convolution_of_jax_counts_the_same():
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 2, 6))

    def apply(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=2
        )

    assert total(apply, x, w) == 2 * 2 * 64 * 9 * 2 * 6


def test_a_loop_counts_its_body_for_each_iteration():
    def loop(a):
        return lax.scan(lambda carry, _: (carry @ jnp.ones((5, 5)), None), a, length=7)[0]

    assert total(loop, a) == 7 * 2 * 4 * 5 * 5

    def nested(a):
        return lax.fori_loop(0, 3, lambda _, carry: loop(carry), a)

    assert total(nested, a) == 3 * 7 * 2 * 4 * 5 * 5


def test_a_conditional_counts_its_most_expensive_branch():
    branches = [lambda: a @ b, lambda: a[:, :1] @ b[:1]]
    assert total(lambda index: lax.switch(index, branches), jnp.int32(0)) == 2 * 4 * 5 * 6


def test_arithmetic_counts_1_for_each_number_and_moving_counts_0():
    assert total(jnp.exp, a) == 20
    assert total(lambda a: a.sum(0), a) == 20
    assert total(lambda a: jnp.concatenate([a.T.reshape(2, 10), jnp.zeros((2, 10))])[:, 1:], a) == 0
    assert total(lambda n: n * n + 1, jnp.arange(5)) == 0
    assert total(lambda a: a.at[0].add(1.0), a) == 5

    def pool(a):
        return lax.reduce_window(a, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")

    assert total(pool, a) == 2 * 2 * 4


def test_operations_count_under_the_label_of_their_function():
    def inner(a):
        return jnp.exp(a)

    inner.__name__ = "layer:body/exp"

    def outer(a):
        return lax.scan(lambda carry, _: (jax.jit(inner)(carry) + 1, None), a, length=3)[0]

    assert operations(outer, a) == {"layer:body/exp": 60, "": 60}
