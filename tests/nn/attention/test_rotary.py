"""Turning is multiplication by complex numbers of modulus 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.attention import rotary

rotate = jax.jit(rotary.rotate)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("width", "base"), [(2, 10_000.0), (6, 10_000.0), (8, 5.0)])
def test_neighbors_turn_as_one_complex_number(width, base):
    draw = np.random.default_rng(0)
    x, positions = draw.normal(size=(2, 5, 3, width)), np.array([0, 1, 2, 7, 100])
    turned = rotate(jnp.array(x), jnp.array(positions), base=base)
    angle = positions[:, None] * base ** (-2 * np.arange(width // 2) / width)
    wanted = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[None, :, None]
    np.testing.assert_allclose(turned[..., ::2], wanted.real, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(turned[..., 1::2], wanted.imag, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_products_tell_only_how_far_apart_two_stand():
    query, key = jnp.asarray(np.random.default_rng(1).normal(size=(2, 1, 4, 2, 6)))
    near, far = (
        jnp.einsum("bqhd,bkhd->bhqk", *(rotate(part, jnp.arange(4) + start) for part in (query, key)))
        for start in (0, 1000)
    )
    np.testing.assert_allclose(near, far, rtol=1e-10, atol=1e-11)


def test_half_precision_is_rounded_once():
    x = jnp.ones((1, 300, 1, 2))
    turned = rotate(x.astype(jnp.bfloat16), jnp.arange(300))
    assert turned.dtype == jnp.bfloat16
    np.testing.assert_allclose(turned.astype(float), rotate(x, jnp.arange(300)), atol=2**-7)
