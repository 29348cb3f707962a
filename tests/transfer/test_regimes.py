import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, objective, optim, train, transfer, trees
from fnn.errors import ConfigError, LabelError, TreeMismatchError
from fnn.types import FROZEN, Weights

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(24, 5, 5, 1)).astype(np.float32)
Y = (np.arange(24) % 3).astype(np.int32)
network = nn.chain(
    nn.conv(2, use_bias=False), nn.batch_norm(), nn.relu(),
    nn.conv(3, use_bias=False), nn.batch_norm(), nn.relu(),
    nn.flatten(), nn.dropout(0.5), head=nn.dense(4),
)  # fmt: skip
recipe = train.recipe(network, optim.momentum(0.1), prepare=data.standardize(X))


@pytest.fixture(scope="module")
def weights():
    params, state, _ = network.init(jax.random.key(0), (5, 5, 1))
    return Weights(params, jax.tree.map(lambda leaf: leaf + 0.5, state))


def trained(one, steps=1):
    """The train state before and after some steps on all examples."""
    first = train.start(jax.random.key(1), one, (5, 5, 1))
    last = first
    for _ in range(steps):
        last, _ = train.step(one, last, (X, Y))
    return first, last


def plain(state):
    return trees.named_leaves(Weights(*nn.unfreeze(state.params, state.state)))


def moved(one):
    """The paths of the leaves that a step changes, of params and of statistics."""
    first, last = map(plain, trained(one))
    return {path for path in first if (first[path] != last[path]).any()}


ALL = {f"params/{layer}/{leaf}" for layer in ("conv_0", "conv_3", "head") for leaf in ("kernel",)}
NORMS = {f"params/batch_norm_{i}/{leaf}" for i in (1, 4) for leaf in ("scale", "bias")}
STATISTICS = {f"state/batch_norm_{i}/{leaf}" for i in (1, 4) for leaf in ("mean", "var")}
HEAD = {"params/head/kernel", "params/head/bias"}


def test_only_the_head_changes_and_its_body_is_bitwise_the_same(weights):
    one = transfer.head_only(recipe, weights)
    assert moved(one) == HEAD
    first, _ = trained(one, 0)
    # The optimizer has memory for the head alone.
    memory = trees.named_leaves(first.opt_state.slots)
    assert {path.partition("/")[2] for path in memory} == {"head/kernel", "head/bias"}
    assert all(
        (plain(first)[path] == leaf).all() for path, leaf in trees.named_leaves(weights).items()
    )


def test_a_new_head_is_drawn_and_has_the_number_of_classes(weights):
    one = transfer.head_only(recipe, weights, classes=3)
    params = [
        train.start(key, one, (5, 5, 1)).params for key in jax.random.split(jax.random.key(0))
    ]
    assert params[0]["head"]["kernel"].shape == (75, 3)
    assert (params[0]["head"]["kernel"] != params[1]["head"]["kernel"]).any()
    with pytest.raises(LabelError, match="expected 0 <= label < 2, got 2"):
        train.run(
            jax.random.key(0),
            transfer.head_only(recipe, weights, classes=2),
            (X, Y),
            epochs=1,
            batch_size=8,
        )


def test_the_last_blocks_change_and_those_before_are_in_evaluation_mode(weights):
    one = transfer.last_blocks(recipe, weights, 2)
    upper = {path for path in NORMS | STATISTICS if "batch_norm_4" in path}
    assert moved(one) == HEAD | upper | {"params/conv_3/kernel"}
    assert moved(transfer.last_blocks(recipe, weights, "conv_3")) == moved(one)
    state = train.start(jax.random.key(0), one, (5, 5, 1)).state
    assert set(state[FROZEN]) == {"conv_0", "batch_norm_1"}


@pytest.mark.parametrize(
    ("fixed", "same"),
    [
        ("none", set()),
        ("params", NORMS),
        ("statistics", STATISTICS),
        ("both", NORMS | STATISTICS),
    ],
)
def test_parts_of_batch_norm_are_fixed_by_name(weights, fixed, same):
    one = transfer.fine_tune(recipe, weights, decay=0.5, fixed_norms=fixed)
    everything = ALL | HEAD | NORMS | STATISTICS
    assert moved(one) == everything - same
    # Fixed statistics are used as in evaluation: an example does not depend on the others.
    first, _ = trained(one, 0)
    key = jax.random.key(2)
    apply = jax.jit(
        lambda x: one.network.apply(first.params, first.state, x, key=key, train=True)[0]
    )
    shifted = jnp.concatenate([X[:2], X[2:4] + 3])
    is_fixed = fixed in ("statistics", "both")
    same_outputs = np.allclose(apply(X[:4])[:2], apply(shifted)[:2], atol=1e-5)
    assert same_outputs == is_fixed


def test_updates_have_the_ratio_of_the_rates(weights):
    def updates(one):
        first, last = map(plain, trained(one.replace(optimizer=one.optimizer)))
        return {path: last[path] - first[path] for path in first if path.startswith("params")}

    sgd = recipe.replace(optimizer=optim.sgd(0.1))
    same = updates(transfer.fine_tune(sgd, weights))
    decayed = updates(transfer.fine_tune(sgd, weights, decay=0.3, min_scale=0.2))
    for path, update in same.items():
        # 0.3 ** 2 < 0.2
        block = (
            0 if "head" in path else 1 if path.split("/")[1] in ("conv_3", "batch_norm_4") else 2
        )
        np.testing.assert_allclose(
            decayed[path], update * (1, 0.3, 0.2)[block], rtol=2e-3, atol=1e-6
        )


def test_a_norm_between_stacks_counts_as_a_layer_also_where_it_is_fixed():
    own = nn.chain(nn.repeat(nn.dense(4), 2), nn.batch_norm(), nn.repeat(nn.dense(4), 2))
    # The rates at depth 0 and 1, 2 of the norm, and 3 and 4.
    expected = np.float32([0.0625, 0.125])
    for fixed in ("none", "both"):
        params, state, _ = own.init(jax.random.key(0), (4,))
        one = train.recipe(own, optim.sgd(1.0), loss=objective.squared_error)
        tuned = transfer.fine_tune(one, Weights(params, state), decay=0.5, fixed_norms=fixed)
        first = train.start(jax.random.key(0), tuned, (4,))
        ones = jax.tree.map(jnp.ones_like, first.params)
        updates, _ = tuned.optimizer.update(ones, first.opt_state, first.params)
        lowest = jax.tree.leaves(updates["repeat_0"])[-1]  # (2, 4, 4)
        np.testing.assert_allclose(-lowest[:, 0, 0], expected)


def test_blocks_below_a_scale_are_not_trained(weights):
    one = transfer.fine_tune(recipe, weights, decay=0.5, no_opt_scale=0.3)
    assert moved(one) == moved(transfer.last_blocks(recipe, weights, 2))


def test_the_rates_of_a_transformer_decay_within_its_stack(key):
    vit = nn.vit(4, 3, width=4, depth=3, heads=2, size=8)
    given = Weights(*vit.init(key, (8, 8, 3))[:2])
    one = transfer.fine_tune(train.recipe(vit, optim.sgd(1.0)), given, decay=0.5)
    grads = jax.tree.map(jnp.ones_like, given.params)
    updates, _ = one.optimizer.update(grads, one.optimizer.init(given.params), given.params)
    kernel = updates["blocks"]["body"]["mlp"]["up"]["kernel"]
    np.testing.assert_allclose(kernel[:, 0, 0], [-1 / 8, -1 / 4, -1 / 2])
    np.testing.assert_allclose(updates["positions"]["table"], -1 / 16)
    np.testing.assert_allclose(updates["norm"]["scale"], -1)


def test_a_trained_head_on_a_frozen_body_is_the_probe_on_features(x64, key):
    params, state, _ = network.init(key, (5, 5, 1))
    given = Weights(params, state)
    examples = X.astype(np.float64), Y
    l2 = 0.05

    def penalty(params):
        # The head alone is trained.
        return l2 / 2 * (params["head"]["kernel"] ** 2).sum()

    lbfgs = train.recipe(network, optim.lbfgs(), prepare=data.standardize(X), regularizer=penalty)
    one = transfer.head_only(lbfgs, given, classes=3)
    state = train.run(jax.random.key(1), one, examples, epochs=200, batch_size=24).train_state
    probe = transfer.linear_probe(transfer.features(lbfgs, given, examples[0]), Y, l2=l2)
    np.testing.assert_allclose(state.params["head"]["kernel"], probe.params["kernel"], atol=1e-5)
    logits = train.predict(one, state, examples[0])
    np.testing.assert_allclose(
        jax.nn.softmax(logits),
        jax.nn.softmax(probe.predict(transfer.features(lbfgs, given, examples[0]))),
        atol=1e-5,
    )


def test_fine_tuning_changes_features_within_the_span_of_the_inputs_alone(x64, key):
    # Theorem of Kumar et al. 2022 for y = v'Bx: probing leaves B, fine-tuning changes it in the
    # span of the training inputs only.
    linear = nn.chain(body=nn.dense(4, use_bias=False), head=nn.dense(1, use_bias=False))
    basis = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    inside, outside = basis[:, :3], basis[:, 3:]
    x = draw.normal(size=(12, 3)) @ inside.T
    y = draw.normal(size=(12, 1))
    given = Weights(*linear.init(key, (6,))[:2])
    one = train.recipe(linear, optim.sgd(0.05), loss=objective.squared_error)
    before = given.params["body"]["kernel"]
    kernels = {}
    for name, tune in {"probe": transfer.head_only, "tuned": transfer.fine_tune}.items():
        made = tune(one, given)
        state = train.run(jax.random.key(1), made, (x, y), epochs=20, batch_size=12).train_state
        kernels[name] = nn.unfreeze(state.params, state.state)[0]["body"]["kernel"]
    assert (kernels["probe"] == before).all()
    change = kernels["tuned"] - before
    assert np.abs(inside.T @ change).max() > 1e-2
    np.testing.assert_allclose(outside.T @ change, 0, atol=1e-14)


def test_a_recipe_from_scratch_has_random_weights_and_the_new_head(weights):
    assert transfer.scratch(recipe, weights) == recipe
    one = transfer.scratch(recipe, weights, classes=3)
    first, _ = trained(one, 0)
    assert first.params["head"]["kernel"].shape == (75, 3)
    assert (first.params["conv_0"]["kernel"] != weights.params["conv_0"]["kernel"]).any()


def test_wrong_arguments_raise_errors(weights):
    body = train.recipe(nn.chain(nn.flatten(), nn.relu()), optim.sgd(0.1))
    with pytest.raises(
        ConfigError, match="head_only network: expected one that ends in a dense layer"
    ):
        transfer.head_only(body, Weights({}, {}))
    with pytest.raises(ConfigError, match=r"head_only head: .*such as head.*got 'heads'"):
        transfer.head_only(recipe, weights, head="heads")
    with pytest.raises(
        ConfigError, match=r"head_only weights: .*got a TrainState; give train.weights"
    ):
        transfer.head_only(recipe, train.start(jax.random.key(0), recipe, (5, 5, 1)))
    with pytest.raises(
        ConfigError, match="last_blocks blocks: expected at most the 3 blocks, got 4"
    ):
        transfer.last_blocks(recipe, weights, 4)
    with pytest.raises(ConfigError, match="fine_tune fixed_norms: expected one of none, params"):
        transfer.fine_tune(recipe, weights, fixed_norms="all")
    with pytest.raises(ConfigError, match=r"fine_tune decay: expected a number in \[0, 1\], got 2"):
        transfer.fine_tune(recipe, weights, decay=2)
    with pytest.raises(
        ConfigError, match="fine_tune decay: expected a known number for no_opt_scale"
    ):
        transfer.fine_tune(recipe, weights, no_opt_scale=0.1)
    with pytest.raises(ConfigError, match="head_only classes: expected >= 1, got 0"):
        transfer.head_only(recipe, weights, classes=0)
    with pytest.raises(ConfigError, match="expected an optimizer"):
        transfer.head_only(train.recipe(network), weights)
    frozen = transfer.head_only(recipe, weights)
    with pytest.raises(
        ConfigError, match="fine_tune recipe: expected one whose network is not frozen"
    ):
        transfer.fine_tune(frozen, weights)
    flat = nn.chain(nn.flatten(), nn.dense(3))
    given = Weights(*flat.init(jax.random.key(0), (5, 5, 1))[:2])
    with pytest.raises(
        ConfigError, match="fine_tune fixed_norms: expected none for a network without"
    ):
        transfer.fine_tune(recipe.replace(network=flat), given, fixed_norms="both")
    other = network.parts | {"conv_0": nn.conv(3)}
    with pytest.raises(TreeMismatchError, match="pretrained params batch_norm_1"):
        made = transfer.fine_tune(recipe.replace(network=nn.chain(**other)), weights)
        train.run(jax.random.key(0), made, (X, Y), epochs=1, batch_size=8)


def test_a_result_and_donated_weights_raise():
    one = train.recipe(nn.chain(nn.dense(2), nn.dense(3)), optim.sgd(0.1))
    result = train.run(jax.random.key(0), one, (X.reshape(24, -1), Y), epochs=1, batch_size=24)
    message = (
        r"fine_tune weights: .* got a Result; give train.weights\(recipe, result.train_state\)"
    )
    with pytest.raises(ConfigError, match=message):
        transfer.fine_tune(one, result)
    given = train.weights(one, result.train_state)
    jax.tree.map(lambda leaf: leaf.delete(), given)
    with pytest.raises(ConfigError, match="fine_tune weights: expected arrays that exist"):
        transfer.fine_tune(one, given)
