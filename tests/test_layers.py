"""Laws over every layer: dtypes, memory, export, empty, constant and extreme batches."""

from functools import cache

import domains
import gradient_checks
import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from jax import export
from registry import REGISTRY

from fnn import nn, trees
from fnn.errors import FnnError, ShapeError
from fnn.types import Layer

pytestmark = pytest.mark.slow

LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
EXAMPLES = 4096
HALF = ("bfloat16", "float16")
# Their outputs are those of the params alone, or of all examples of the batch.
ACROSS_EXAMPLES = {"nn.batch_norm", "nn.parameter"}
over_layers = pytest.mark.parametrize("maker", LAYERS)


@cache
def example(maker):
    """The layer of a maker, its params and state, and a batch."""
    entry = REGISTRY[maker]
    layer = makers.public()[maker](**entry.call)
    shape, x = entry.domain.draw(entry.seed)
    params, state = jax.jit(lambda key: layer.init(key, shape)[:2])(jax.random.key(0))
    return layer, params, state, x


def is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def apply(layer, params, state, x, train=True):
    return layer.apply(params, state, x, key=jax.random.key(1), train=train)


# One program of a layer compiles faster than those of its operations.
compiled = jax.jit(apply, static_argnames=("layer", "train"))


@pytest.fixture
def standard_promotion():
    """The derivative of JAX's own attention promotes bfloat16 to float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@over_layers
@pytest.mark.usefixtures("standard_promotion")
def test_gradients_under_cast_are_near_those_of_float32(maker, monkeypatch):
    """By every param whose gradient is not a hundredth of the largest: within 2 % of its norm."""
    monkeypatch.setattr(domains, "BATCH", EXAMPLES)
    for path, error in gradient_checks.cast_errors(maker).items():
        assert error < 0.02, path


@over_layers
def test_every_array_of_a_fresh_layer_has_memory_of_its_own(maker):
    entry = REGISTRY[maker]
    layer = makers.public()[maker](**entry.call)
    shape, _ = entry.domain.draw(entry.seed)
    # Not those of `example`: they are donated below, and a program would give each its memory.
    params, state, _ = layer.init(jax.random.key(0), shape)
    leaves = jax.tree.leaves((params, state))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    jax.jit(lambda trees: trees, donate_argnums=0)((params, state))


@over_layers
def test_an_empty_batch_has_empty_outputs_or_raises(maker):
    layer, params, state, x = example(maker)
    empty = jax.tree.map(lambda leaf: leaf[:0], x)
    for train in (False, True):
        try:
            y, _ = compiled(layer, params, state, empty, train)
        except ShapeError:
            assert train and maker == "nn.batch_norm"
            continue
        whole, _ = jax.eval_shape(lambda train=train: apply(layer, params, state, x, train))
        shapes = [jax.tree.map(lambda leaf: leaf.shape[1:], tree) for tree in (y, whole)]
        assert shapes[0] == shapes[1]
        assert {leaf.shape[0] for leaf in jax.tree.leaves(y)} == {0}


@over_layers
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.usefixtures("standard_promotion")
def test_a_layer_under_cast_gives_finite_values_and_gradients(maker, dtype):
    layer, params, state, x = example(maker)
    half = nn.cast(layer, dtype)

    def total(params):
        y, new_state = apply(half, params, state, x)
        return sum(leaf.sum() for leaf in jax.tree.leaves(y)), (y, new_state)

    slopes, (y, new_state) = jax.jit(jax.grad(total, has_aux=True))(params)
    assert trees.all_finite((slopes, y, new_state))
    assert jax.tree.map(jnp.result_type, new_state) == jax.tree.map(jnp.result_type, state)


@over_layers
def test_one_example_has_the_output_that_it_has_in_a_batch(maker):
    layer, params, state, x = example(maker)
    batch, _ = compiled(layer, params, state, x, train=False)
    single, _ = apply(layer, params, state, jax.tree.map(lambda leaf: leaf[:1], x), train=False)
    for got, wanted in zip(jax.tree.leaves(single), jax.tree.leaves(batch), strict=True):
        np.testing.assert_allclose(got, wanted[:1], rtol=1e-5, atol=1e-6)


@over_layers
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e4])
def test_an_extreme_example_changes_no_other(maker, value):
    """NaN and infinity stay in their example; a large constant gives finite outputs."""
    layer, params, state, x = example(maker)

    def spoil(leaf):
        return leaf.at[0].set(value) if is_float(leaf) else leaf

    train = maker not in ACROSS_EXAMPLES
    spoiled, _ = compiled(layer, params, state, jax.tree.map(spoil, x), train)
    plain, _ = compiled(layer, params, state, x, train)
    for got, wanted in zip(jax.tree.leaves(spoiled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got[1:], wanted[1:], rtol=1e-5, atol=1e-6)
        # The deviation of `sample_normal` is an exponential of its input.
        is_bounded = value == 1e4 and maker != "nn.sample_normal"
        assert not is_bounded or np.isfinite(got).all()


def total(layer, params, state, x):
    y, _ = apply(layer, params, state, x)
    return sum(leaf.astype(float).sum() for leaf in jax.tree.leaves(y))


slopes_of = jax.jit(jax.grad(total, (1, 3), allow_int=True), static_argnames="layer")


@over_layers
@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_gradients_at_a_constant_input_are_finite(maker, value):
    layer, params, state, x = example(maker)
    if maker == "nn.sample_normal" and value > 0:
        return  # the deviation is an exponential of the input
    constant = jax.tree.map(lambda leaf: jnp.full_like(leaf, value) if is_float(leaf) else leaf, x)
    slopes = slopes_of(layer, params, state, constant)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes) if is_float(leaf))


@over_layers
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.usefixtures("standard_promotion")
def test_inputs_in_half_precision_give_the_outputs_of_their_numbers(maker, dtype):
    layer, params, state, x = example(maker)
    half = jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, x)
    numbers = jax.tree.map(lambda leaf: leaf.astype(float) if is_float(leaf) else leaf, half)
    try:
        got, _ = compiled(layer, params, state, half, train=False)
    except ShapeError:
        assert maker == "nn.repeat"  # the body must return what it gets
        return
    wanted, _ = compiled(layer, params, state, numbers, train=False)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.float32(one), other, rtol=0.05, atol=0.05)


@over_layers
@pytest.mark.usefixtures("standard_promotion")
def test_double_precision_has_outputs_of_its_own_and_near_those_of_float32(maker):
    layer, params, state, x = example(maker)
    wanted, _ = compiled(layer, params, state, x, train=False)
    with jax.enable_x64(True):

        def widen(leaf):
            return jnp.asarray(leaf, float) if is_float(leaf) else leaf

        wide = jax.tree.map(widen, (params, state, x))
        got, _ = compiled(layer, *wide, train=False)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            assert one.dtype == (jnp.float64 if is_float(other) else other.dtype)
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@over_layers
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, bool])
def test_inputs_that_are_no_floats_raise_or_are_moved(maker, dtype):
    layer, params, state, x = example(maker)
    given = jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, x)
    try:
        y, _ = apply(layer, params, state, given)
    except FnnError:
        return
    moved = {leaf.dtype for leaf in jax.tree.leaves(y)} == {jnp.dtype(dtype)}
    # `parameter` ignores its input, and tokens are no floats in the first place.
    assert moved or maker == "nn.parameter" or not any(map(is_float, jax.tree.leaves(x)))


@over_layers
def test_a_layer_is_exported_with_a_symbolic_batch(maker):
    layer, params, state, x = example(maker)
    (batch,) = export.symbolic_shape("batch")
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), x
    )

    @jax.jit
    def predict(x):
        return layer.apply(params, state, x, train=False)[0]

    exported = export.export(predict)(shapes)
    two = jax.tree.map(lambda leaf: leaf[:2], x)
    for got, wanted in zip(
        jax.tree.leaves(exported.call(two)), jax.tree.leaves(predict(two)), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
