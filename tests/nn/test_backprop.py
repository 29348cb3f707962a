"""Backward passes are compared with closed forms and, chained through a network, with jax.grad."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective
from fnn.errors import ShapeError, TreeMismatchError

pytestmark = pytest.mark.usefixtures("x64")


def draw(*shape, seed=0):
    return jnp.array(np.random.default_rng(seed).normal(size=shape))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def outer_by_example(rows):
    """The Jacobian (batch, i, batch, j) of a function of examples, from rows (batch, i, j)."""
    return np.einsum("bij,bc->bicj", rows, np.eye(len(rows)))


def test_a_dense_layer_follows_its_formulas(key):
    layer, x, dL_dy = nn.dense(3), draw(5, 4), draw(5, 3, seed=1)
    params, state, _ = layer.init(key, (4,))
    kernel = np.asarray(params["kernel"])
    module = nn.forward_pass(layer, params, state, x)
    np.testing.assert_allclose(module.y, x @ kernel, rtol=1e-14)
    np.testing.assert_allclose(module.backward_pass(dL_dy), dL_dy @ kernel.T, rtol=1e-12)
    grads = module.parameter_gradients(dL_dy)
    np.testing.assert_allclose(grads["kernel"], x.T @ dL_dy, rtol=1e-12)
    np.testing.assert_allclose(grads["bias"], dL_dy.sum(0), rtol=1e-12)
    wanted = outer_by_example(np.broadcast_to(kernel.T, (5, 3, 4)))
    np.testing.assert_allclose(module.jacobian(), wanted, rtol=1e-14)


# Each activation and its derivative by x and y.
ACTIVATIONS = {
    "relu": (nn.relu, lambda x, y: x > 0),
    "leaky_relu": (partial(nn.leaky_relu, 0.2), lambda x, y: np.where(x > 0, 1, 0.2)),
    "tanh": (nn.tanh, lambda x, y: 1 - y**2),
    "sigmoid": (nn.sigmoid, lambda x, y: y * (1 - y)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_a_diagonal_jacobian(name):
    make, derivative = ACTIVATIONS[name]
    x, dL_dy = draw(3, 4), draw(3, 4, seed=1)
    module = nn.forward_pass(make(), {}, {}, x)
    slope = np.asarray(derivative(x, module.y), np.float64)
    np.testing.assert_allclose(module.backward_pass(dL_dy), slope * dL_dy, rtol=1e-13)
    np.testing.assert_allclose(
        module.jacobian().reshape(12, 12), np.diag(slope.ravel()), rtol=1e-13
    )
    assert module.parameter_gradients(dL_dy) == {}


def test_the_jacobian_of_softmax_follows_its_formula():
    x, dL_dy = draw(3, 4), draw(3, 4, seed=1)
    module = nn.forward_pass(jax.nn.softmax, {}, {}, x)
    y = softmax(x)
    rows = y[:, :, None] * (np.eye(4) - y[:, None, :])  # J_ij = y_i (δ_ij - y_j)
    np.testing.assert_allclose(module.jacobian(), outer_by_example(rows), rtol=1e-12, atol=1e-15)
    wanted = y * (dL_dy - (dL_dy * y).sum(-1, keepdims=True))
    np.testing.assert_allclose(module.backward_pass(dL_dy), wanted, rtol=1e-11)


def test_the_gradient_of_cross_entropy_of_probabilities_follows_its_formula():
    x, p, dL_dy = softmax(draw(3, 4)), softmax(draw(3, 4, seed=1)), draw(3, seed=2)
    module = nn.forward_pass(lambda x: -(p * jnp.log(x)).sum(-1), {}, {}, jnp.array(x))
    np.testing.assert_allclose(module.backward_pass(dL_dy), -p / x * dL_dy[:, None], rtol=1e-13)


def test_the_gradient_of_cross_entropy_of_logits_follows_its_formula():
    logits, labels = draw(3, 4), jnp.array([2, 0, 3])
    module = nn.forward_pass(lambda logits: objective.cross_entropy(logits, labels), {}, {}, logits)
    wanted = softmax(logits) - np.eye(4)[labels]
    np.testing.assert_allclose(module.backward_pass(jnp.ones(3)), wanted, rtol=1e-12)


def test_the_gradient_of_squared_error_follows_its_formula():
    y, t = draw(3, 4), draw(3, 4, seed=1)
    module = nn.forward_pass(lambda y: objective.squared_error(y, t), {}, {}, y)
    np.testing.assert_allclose(module.backward_pass(jnp.ones(3)), 2 * (y - t) / 4, rtol=1e-13)


def test_a_pair_of_inputs_has_a_pair_of_gradients():
    a, b, dL_dy = (draw(3, 4, seed=seed) for seed in range(3))
    by_a, by_b = nn.forward_pass(lambda pair: pair[0] + pair[1], {}, {}, (a, b)).backward_pass(
        dL_dy
    )
    chex.assert_trees_all_equal(by_a, by_b, dL_dy)
    by_a, by_b = nn.forward_pass(lambda pair: pair[0] * pair[1], {}, {}, (a, b)).backward_pass(
        dL_dy
    )
    chex.assert_trees_all_close(by_a, b * dL_dy, rtol=1e-15)
    chex.assert_trees_all_close(by_b, a * dL_dy, rtol=1e-15)


def test_a_sum_copies_the_gradient_and_a_maximum_routes_it():
    x, dL_dy = draw(3, 4), draw(3, seed=1)
    spread = nn.forward_pass(lambda x: x.sum(-1), {}, {}, x).backward_pass(dL_dy)
    np.testing.assert_array_equal(spread, np.repeat(dL_dy[:, None], 4, 1))
    routed = nn.forward_pass(lambda x: x.max(-1), {}, {}, x).backward_pass(dL_dy)
    np.testing.assert_array_equal(routed, dL_dy[:, None] * np.eye(4)[np.argmax(x, -1)])


def test_a_mask_masks_the_gradient():
    x, s, dL_dy = (
        draw(3, 4),
        jnp.array([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]),
        draw(3, 4, seed=1),
    )
    module = nn.forward_pass(lambda x: s * x, {}, {}, x)
    np.testing.assert_array_equal(module.backward_pass(dL_dy), s * dL_dy)
    np.testing.assert_array_equal(module.jacobian().reshape(12, 12), np.diag(s.ravel()))


@pytest.mark.slow
def test_passes_chained_by_hand_give_the_gradient_of_the_network(key):
    layers = {
        "conv": nn.conv(3), "norm": nn.batch_norm(), "relu": nn.relu(), "pool": nn.max_pool(),
        "flat": nn.flatten(), "drop": nn.dropout(0.3), "head": nn.dense(5),
    }  # fmt: skip
    network, x, labels = nn.chain(**layers), draw(4, 6, 6, 2), jnp.arange(4)
    params, state, _ = network.init(key, x.shape[1:])

    def mean_loss(params, x):
        y, new_state = network.apply(params, state, x, key=jax.random.key(1), train=True)
        return objective.cross_entropy(y, labels).mean(), new_state

    differentiate = jax.jit(jax.value_and_grad(mean_loss, (0, 1), has_aux=True))
    (loss, new_state), (grads, dL_dx) = differentiate(params, x)

    passes, y = {}, x
    for index, (name, layer) in enumerate(layers.items()):
        own_key = jax.random.fold_in(jax.random.key(1), index)
        passes[name] = nn.forward_pass(
            layer, params.get(name, {}), state.get(name, {}), y, key=own_key, train=True
        )
        y = passes[name].y
    top = nn.forward_pass(lambda y: objective.cross_entropy(y, labels).mean(), {}, {}, y)
    dL_dy = top.backward_pass(jnp.ones(()))
    found = {}
    for name in reversed(layers):
        found[name] = passes[name].parameter_gradients(dL_dy)
        dL_dy = passes[name].backward_pass(dL_dy)

    np.testing.assert_allclose(top.y, loss, rtol=1e-14)
    chex.assert_trees_all_close(
        {name: found[name] for name in grads}, grads, rtol=1e-12, atol=1e-14
    )
    chex.assert_trees_all_close(dL_dy, dL_dx, rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close({"norm": passes["norm"].state}, new_state, rtol=1e-14)


def test_the_jacobian_equals_jax(key):
    network, x = nn.chain(nn.conv(2), nn.tanh(), nn.flatten()), draw(2, 3, 3, 1)
    params, state, _ = network.init(key, x.shape[1:])
    module = nn.forward_pass(network, params, state, x)
    wanted = jax.jit(jax.jacfwd(lambda x: network.apply(params, state, x)[0]))(x)
    assert module.jacobian().shape == (2, 18, 2, 3, 3, 1)
    chex.assert_trees_all_close(module.jacobian(), wanted, rtol=1e-12, atol=1e-14)


def test_forward_pass_runs_under_jit_and_vmap():
    @jax.jit
    @jax.vmap
    def slope(x):
        return nn.forward_pass(nn.tanh(), {}, {}, x).backward_pass(jnp.ones_like(x))

    x = draw(2, 3, 4)
    np.testing.assert_allclose(slope(x), 1 - np.tanh(x) ** 2, rtol=1e-12)


@pytest.mark.parametrize(
    "dL_dy", [jnp.ones(4), jnp.ones((3, 4), jnp.float32), jnp.ones((3, 1)), 1.0]
)
def test_a_gradient_that_does_not_match_y_raises(dL_dy):
    module = nn.forward_pass(nn.relu(), {}, {}, draw(3, 4))
    with pytest.raises(TreeMismatchError, match="dL_dy"):
        module.backward_pass(dL_dy)
    with pytest.raises(TreeMismatchError, match="dL_dy"):
        module.parameter_gradients(dL_dy)


def test_the_jacobian_of_several_outputs_raises():
    module = nn.forward_pass(lambda x: (x, 2 * x), {}, {}, draw(3))
    with pytest.raises(ShapeError, match="jacobian y: expected one array"):
        module.jacobian()


@pytest.mark.slow
def test_gradients_by_inner_outputs_equal_those_of_the_network_cut_there(key):
    front = nn.chain(nn.conv(3), nn.relu())
    back = nn.chain(nn.batch_norm(), nn.conv(2), nn.global_avg_pool())
    network = nn.chain(front=front, back=back)
    params, state, _ = network.init(key, (4, 4, 2))
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 2))
    dL_dy = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    step = nn.forward_pass(network, params, state, x, train=True, paths=["front", "front/relu_1"])
    features, _ = front.apply(params["front"], {}, x)

    def loss(features):
        y, _ = back.apply(params["back"], state["back"], features, train=True)
        return (y * dL_dy).sum()

    expected = jax.jit(jax.grad(loss))(features)
    np.testing.assert_array_equal(step.outputs["front"], features)
    for path in ("front", "front/relu_1"):
        slope = step.output_gradients(dL_dy)[path]
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)
    plain = nn.forward_pass(network, params, state, x, train=True)
    np.testing.assert_array_equal(plain.y, step.y)
    assert (plain.outputs, plain.output_gradients(dL_dy)) == ({}, {})
    chex.assert_trees_all_close(plain.state, step.state, rtol=0)
    gradients = step.parameter_gradients(dL_dy)
    chex.assert_trees_all_close(gradients, plain.parameter_gradients(dL_dy), rtol=1e-6)


def test_gradients_by_the_outputs_of_each_copy_and_each_position(key):
    tied = nn.shared(nn.chain(nn.dense(4), nn.tanh()), lambda layer: nn.chain(layer, layer))
    network = nn.chain(nn.repeat(nn.chain(nn.dense(4), nn.tanh()), 2), tied)
    params, _, _ = network.init(key, (4,))
    x = jax.random.normal(jax.random.key(1), (3, 4))
    paths = ["repeat_0/body/dense_0", "shared_1/shared/dense_0"]
    step = nn.forward_pass(network, params, {}, x, paths=paths)
    copies = params["repeat_0"]["body"]["dense_0"]
    shared = params["shared_1"]["shared"]["dense_0"]

    def by_hand(offsets):
        y = x
        for index, name in enumerate("ab"):
            y = jnp.tanh(y @ copies["kernel"][index] + copies["bias"][index][None] + offsets[name])
        for name in "cd":
            y = jnp.tanh(y @ shared["kernel"] + shared["bias"][None] + offsets[name])
        return y.sum()

    expected = jax.jit(jax.grad(by_hand))(dict.fromkeys("abcd", jnp.zeros_like(x)))
    slopes = step.output_gradients(jnp.ones_like(step.y))
    repeated = slopes["repeat_0/body/dense_0"]
    np.testing.assert_allclose(repeated[:, 0], expected["a"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(repeated[:, 1], expected["b"], rtol=1e-5, atol=1e-7)
    for position, name in enumerate("cd"):
        slope = slopes[f"shared_1/body/chain_{position}/dense_0"]
        np.testing.assert_allclose(slope, expected[name], rtol=1e-5, atol=1e-7)
