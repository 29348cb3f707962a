"""Operations are held to closed forms."""

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


def test_a_matrix_product_takes_2mnk():
    assert total(jnp.dot, a, b) == 2 * 4 * 5 * 6
    assert total(jax.vmap(jnp.dot, (None, 0)), a, jnp.ones((3, 5, 6))) == 3 * 2 * 4 * 5 * 6
    assert total(jax.jit(jnp.dot), a, b) == 2 * 4 * 5 * 6


@pytest.mark.parametrize("padding, places", [("SAME", 8 * 8), ("VALID", 6 * 6)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_takes_2_for_each_tap_whether_padded_or_not(padding, places, groups, key):
    layer = nn.conv(6, padding=padding, groups=groups, use_bias=False)
    params, _, _ = layer.init(key, (8, 8, 4))
    x, taps = jnp.ones((2, 8, 8, 4)), 9 * 4 // groups

    def apply(params, x):
        return layer.apply(params, {}, x)[0]

    wanted = 2 * 2 * places * taps * 6
    assert total(apply, params, x) == wanted
    assert total(jax.vmap(apply, (None, 0)), params, jnp.stack([x] * 3)) == 3 * wanted
    assert (
        total(
            jax.vmap(apply), jax.tree.map(lambda p: jnp.stack([p] * 3), params), jnp.stack([x] * 3)
        )
        == 3 * wanted
    )
    forward, pull = jax.vjp(apply, params, x)
    assert total(pull, jnp.ones_like(forward)) == 2 * wanted


def test_a_convolution_of_jax_takes_the_same():
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 2, 6))

    def apply(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=2
        )

    assert total(apply, x, w) == 2 * 2 * 64 * 9 * 2 * 6


def test_a_loop_takes_its_body_as_often_as_it_turns():
    def loop(a):
        return lax.scan(lambda carry, _: (carry @ jnp.ones((5, 5)), None), a, length=7)[0]

    assert total(loop, a) == 7 * 2 * 4 * 5 * 5
    assert (
        total(lambda a: lax.fori_loop(0, 3, lambda _, carry: loop(carry), a), a)
        == 3 * 7 * 2 * 4 * 5 * 5
    )


def test_a_branch_takes_its_dearest():
    assert (
        total(lambda way: lax.switch(way, [lambda: a @ b, lambda: a[:, :1] @ b[:1]]), jnp.int32(0))
        == 2 * 4 * 5 * 6
    )


def test_arithmetic_takes_1_a_number_and_moving_takes_none():
    assert total(jnp.exp, a) == 20
    assert total(lambda a: a.sum(0), a) == 20
    assert total(lambda a: jnp.concatenate([a.T.reshape(2, 10), jnp.zeros((2, 10))])[:, 1:], a) == 0
    assert total(lambda n: n * n + 1, jnp.arange(5)) == 0
    assert total(lambda a: a.at[0].add(1.0), a) == 5
    assert (
        total(lambda a: lax.reduce_window(a, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID"), a)
        == 2 * 2 * 4
    )


def test_operations_stand_under_the_label_of_their_function():
    def inner(a):
        return jnp.exp(a)

    inner.__name__ = "layer:body/exp"

    def outer(a):
        return lax.scan(lambda carry, _: (jax.jit(inner)(carry) + 1, None), a, length=3)[0]

    assert operations(outer, a) == {"layer:body/exp": 60, "": 60}
