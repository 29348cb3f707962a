"""Generator and critic as one network: each gets the gradient of its own loss."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab, nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError, TreeMismatchError

GENERATOR = nn.chain(nn.dense(8), nn.tanh(), nn.dense(4))
CRITIC = nn.chain(nn.dense(8), nn.tanh(), nn.dense(1))
NETWORK = nn.adversarial(GENERATOR, CRITIC, noise=3, slopes=True)
X = jnp.float32(np.random.default_rng(0).normal(size=(6, 4)))


def parts(key):
    params, state, out_shape = NETWORK.init(key, (4,))
    assert state == {}
    assert out_shape == {"real": (1,), "fake": (1,), "fool": (1,), "slope": ()}
    return params, nn.take(NETWORK, "generator"), nn.take(NETWORK, "critic")


@pytest.mark.parametrize("kind", ["logistic", "hinge", "wasserstein"])
def test_each_part_gets_the_gradient_of_its_loss_alone(kind, key):
    params, generator, critic = parts(key)
    outputs, _ = NETWORK.apply(params, {}, X, key=jax.random.key(1), train=True)
    z_key = jax.random.split(jax.random.key(1), 6)[4]
    z = jax.random.normal(z_key, (6, 3))

    def critic_loss(c_params):
        real, _ = critic.apply(c_params, {}, X)
        fake, _ = critic.apply(c_params, {}, generator.apply(params["generator"], {}, z)[0])
        if kind == "logistic":
            return (jnp.log1p(jnp.exp(-real)) + jnp.log1p(jnp.exp(fake))).mean()
        if kind == "hinge":
            return (jnp.maximum(0, 1 - real) + jnp.maximum(0, 1 + fake)).mean()
        return (fake - real).mean()

    def generator_loss(g_params):
        fake, _ = critic.apply(params["critic"], {}, generator.apply(g_params, {}, z)[0])
        return (jnp.log1p(jnp.exp(-fake)) if kind == "logistic" else -fake).mean()

    def loss(params):
        outputs, _ = NETWORK.apply(params, {}, X, key=jax.random.key(1), train=True)
        return objective.adversarial(outputs, None, kind=kind, penalty=0.0).mean()

    expected = {
        "critic": jax.jit(jax.grad(critic_loss))(params["critic"]),
        "generator": jax.jit(jax.grad(generator_loss))(params["generator"]),
    }
    grads = jax.jit(jax.grad(loss))(params)
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(outputs["fake"], outputs["fool"])


def test_the_slope_is_the_norm_of_the_gradient_by_the_input(key):
    linear = nn.adversarial(GENERATOR, nn.chain(nn.flatten(), nn.dense(1)), noise=3, slopes=True)
    params, state, _ = linear.init(key, (4,))
    outputs, _ = linear.apply(params, state, X, key=jax.random.key(1), train=True)
    kernel = params["critic"]["dense_1"]["kernel"]
    np.testing.assert_allclose(outputs["slope"], np.full(6, jnp.linalg.norm(kernel)), rtol=1e-5)

    def penalty(params):
        outputs, _ = linear.apply(params, state, X, key=jax.random.key(1), train=True)
        return jnp.square(outputs["slope"] - 1).mean()

    norm = jnp.linalg.norm(kernel)
    slope = jax.jit(jax.grad(penalty))(params)["critic"]["dense_1"]["kernel"]
    np.testing.assert_allclose(slope, 2 * (norm - 1) * kernel / norm, rtol=1e-5)
    zero = jax.tree.map(jnp.zeros_like, params)
    chex.assert_tree_all_finite(jax.jit(jax.grad(penalty))(zero))


def test_the_state_of_the_critic_counts_each_example_once(key):
    network = nn.adversarial(GENERATOR, nn.chain(nn.batch_norm(momentum=0.0), nn.dense(1)), noise=3)
    params, state, _ = network.init(key, (4,))
    _, after = network.apply(params, state, X, key=jax.random.key(1), train=True)
    z = jax.random.normal(jax.random.split(jax.random.key(1), 6)[4], (6, 3))
    made, _ = GENERATOR.apply(params["generator"], {}, z)
    mean = after["critic"]["batch_norm_0"]["mean"]
    np.testing.assert_allclose(mean, made.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_learns_a_distribution_and_is_resumed(key, tmp_path):
    """The generator moves from mean 0 to the mean of the data."""
    x = 3 + 0.5 * jax.random.normal(jax.random.key(2), (512, 2))
    network = nn.adversarial(
        nn.chain(nn.dense(16), nn.relu(), nn.dense(2)),
        nn.chain(nn.dense(16), nn.relu(), nn.dense(1)),
        noise=4,
    )
    optimizer = optim.partition({"critic": optim.adam(1e-2, b1=0.5)}, optim.adam(1e-2, b1=0.5))
    recipe = train.recipe(network, optimizer, loss=objective.adversarial)
    options = {"epochs": 40, "batch_size": 64, "checkpoints": tmp_path, "show": False}
    data = (x, jnp.zeros(512, jnp.int32))
    lab.fit(key, recipe, data, max_steps=100, **options)
    result = lab.fit(key, recipe, data, resume=True, **options)
    assert {"loss", "gap"} <= set(result.history)
    params = result.train_state.params["generator"]
    z = jax.random.normal(jax.random.key(3), (1000, 4))
    made, _ = nn.take(network, "generator").apply(params, {}, z)
    np.testing.assert_allclose(made.mean(0), [3, 3], atol=0.5)


def test_wrong_arguments_raise(key):
    with pytest.raises(ConfigError, match="adversarial noise: expected >= 1"):
        nn.adversarial(GENERATOR, CRITIC, noise=0)
    with pytest.raises(ConfigError, match="adversarial critic: expected a Layer"):
        nn.adversarial(GENERATOR, nn.relu, noise=3)
    with pytest.raises(ShapeError, match=r"expected examples of shape \(5,\), .*, got \(4,\)"):
        NETWORK.init(key, (5,))
    with pytest.raises(TreeMismatchError, match="expected a dict with real, fake and fool"):
        objective.adversarial(X, None)
    with pytest.raises(ConfigError, match="adversarial kind: expected one of logistic"):
        objective.adversarial({}, None, kind="least squares")
