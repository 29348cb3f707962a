"""Law 8: made values print as the call, compare, hash, copy and pickle; leaves are numbers."""

import copy
import pickle
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import makers
import numpy
import numpy as np
import pytest
import registry
from makers import LOSSES
from registry import REGISTRY

import fnn
from fnn import augment, data, nn, objective, optim, train
from fnn.errors import ConfigError, TreeMismatchError
from fnn.types import Layer, Number, Optimizer
from fnn.values import Made, maker

NAMES = {
    "augment": augment,
    "data": data,
    "nn": nn,
    "objective": objective,
    "optim": optim,
    "train": train,
}
NAMES |= {"jax": jax, "numpy": numpy, "registry": registry, "fnn": fnn}
# The calls of these have arrays too large to print.
LARGE = {"nn.cifar_speedrun"}
CALLS = {name: call for name, call in (makers.CALLS | makers.NETWORKS).items() if name != "nn.take"}


def made(name):
    return makers.public()[name](*REGISTRY[name].parts, **CALLS[name])


def evaluated(value):
    return eval(repr(value), dict(NAMES))


over_makers = pytest.mark.parametrize("name", CALLS)


@over_makers
def test_a_made_value_is_equal_to_one_made_alike_and_hashes_alike(name):
    first, second = made(name), made(name)
    assert isinstance(first, Made)
    assert first == second and hash(first) == hash(second)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert first != made("nn.tanh" if name != "nn.tanh" else "nn.relu")


@over_makers
def test_a_made_value_prints_as_the_call_that_makes_it(name):
    value = made(name)
    if name in LARGE:
        assert re.search(r"<array \w+\[", repr(value))
    else:
        assert evaluated(value) == value
        assert repr(evaluated(value)) == repr(value)


@over_makers
def test_a_made_value_is_copied_and_pickled(name):
    value = made(name)
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert again == value and hash(again) == hash(value)
        assert jax.tree.structure(again) == jax.tree.structure(value)


@over_makers
def test_the_leaves_of_a_made_value_are_its_numbers(name):
    value = made(name)
    leaves, structure = jax.tree.flatten(value)
    assert all(isinstance(leaf, float | np.ndarray | jax.Array) for leaf in leaves)
    assert jax.tree.unflatten(structure, leaves) == value
    assert len(jax.tree_util.tree_flatten_with_path(value)[0]) == len(leaves)
    # Whatever stands in the place of the numbers is kept, and nothing is built.
    blank = jax.tree.map(lambda leaf: None, value)
    assert jax.tree.structure(jax.tree.map(lambda leaf: 0, value)) == structure
    assert type(blank) is type(value)


@over_makers
def test_building_computes_nothing(name):
    """Otherwise a value that is first used inside a loop would hold tracers of it."""
    numbers = {own.maker: own.usual for own in makers.knobs()}.get(name, {})
    value = makers.public()[name](*REGISTRY[name].parts, **CALLS[name] | numbers)
    program = jax.make_jaxpr(lambda value: (value.built, 0)[1])(value).jaxpr
    assert not program.eqns


@pytest.mark.parametrize("knobs", list(makers.knobs()), ids=lambda knobs: knobs.maker)
def test_every_number_argument_is_a_leaf(knobs):
    if knobs.maker in LOSSES:
        value = makers.public()[knobs.maker](**knobs.usual)
    else:
        value = makers.public()[knobs.maker](**CALLS[knobs.maker] | knobs.usual)
    paths = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(value)
    }
    static = {"fill", "mask_fill"}
    assert knobs.usual.keys() - static <= paths
    assert evaluated(value) == value if knobs.maker not in LARGE else True


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_without_its_arrays_is_a_value(name):
    loss = makers.public()[name]
    value = loss()
    assert value == loss() and hash(value) == hash(loss()) and evaluated(value) == value
    assert pickle.loads(pickle.dumps(value)) == value and pickle.loads(pickle.dumps(loss)) is loss


# Recipes.

network = nn.chain(
    nn.conv(4), nn.batch_norm(), nn.relu(), nn.flatten(), nn.dropout(0.1), nn.dense(10)
)


def a_recipe(peak=1e-2):
    return train.recipe(
        network,
        optim.ema(optim.adamw(optim.one_cycle(peak, steps=440), weight_decay=1e-2), 0.99),
        loss=objective.cross_entropy(label_smoothing=0.1),
        metrics={"top_2": objective.top_k(2), "auc": objective.calibration_error()},
        prepare=data.normalize([0.5], [0.25]),
        augment=augment.chain(augment.rotate((-10, 10)), augment.random_crop(padding=1)),
        regularizer=0.5 * (objective.l2(1e-4).on("*kernel") + objective.l1()),
        early_stopping=train.early_stopping(3),
    )


def test_a_recipe_prints_compares_hashes_and_pickles():
    recipe = a_recipe()
    assert (
        evaluated(recipe) == recipe == pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe)
    )
    assert hash(evaluated(recipe)) == hash(recipe)
    assert recipe != a_recipe(2e-2) and jax.tree.structure(recipe) == jax.tree.structure(
        a_recipe(2e-2)
    )
    paths = [
        jax.tree_util.keystr(p, simple=True, separator=".")
        for p, _ in jax.tree_util.tree_leaves_with_path(recipe)
    ]
    assert "optimizer.optimizer.rate.peak" in paths and "network.4.drop_rate" in paths
    assert (
        "loss.label_smoothing" in paths
        and "prepare.mean.0" in paths
        and "early_stopping.patience" in paths
    )


def test_a_network_prints_as_an_indented_program():
    assert repr(
        nn.chain(
            nn.chain(nn.conv(64, 7, stride=2), nn.batch_norm()),
            head=nn.chain(nn.dropout(0.25), nn.dense(1000)),
        )
    ) == (
        "nn.chain(\n"
        "    nn.chain(nn.conv(64, 7, stride=2), nn.batch_norm()),\n"
        "    head=nn.chain(nn.dropout(0.25), nn.dense(1000)),\n"
        ")"
    )


def test_counts_of_steps_are_floats_where_they_are_leaves():
    schedule = optim.piecewise([1, 2, 3], boundaries=[2, np.int32(4)])
    assert all(isinstance(leaf, float | np.floating) for leaf in jax.tree.leaves(schedule))
    assert repr(schedule) == "optim.piecewise([1, 2, 3], boundaries=[2, 4])"


def test_numbers_print_shortest_and_are_equal_across_the_dtypes_that_print_alike():
    assert optim.sgd(0.1) == optim.sgd(np.float32(0.1)) == optim.sgd(jnp.float32(0.1))
    assert hash(optim.sgd(0.1)) == hash(optim.sgd(jnp.float32(0.1)))
    assert optim.sgd(0.1) != optim.sgd(0.1000001)
    assert repr(optim.sgd(jnp.float32(0.1))) == "optim.sgd(0.1)"
    assert optim.sgd(jnp.bfloat16(0.1)) == evaluated(optim.sgd(jnp.bfloat16(0.1)))


@pytest.mark.parametrize(
    "value",
    [
        optim.table(jnp.array([1.0, 2.5])),
        optim.noise(jax.random.fold_in(jax.random.key(3), 1), optim.sgd(0.1)),
        nn.pretrained(
            nn.dense(1),
            {"kernel": jnp.array([[1.0], [jnp.nan]]), "bias": np.zeros(1, np.float32)},
            {},
        ),
    ],
)
def test_arrays_and_keys_print_as_the_calls_that_make_them(value):
    assert evaluated(value) == value and hash(evaluated(value)) == hash(value)


def test_text_and_truth_values_of_numpy_are_those_of_python():
    stopping = train.early_stopping(3, mode=np.str_("min"))
    assert stopping == train.early_stopping(3, mode="min")
    assert repr(stopping) == repr(train.early_stopping(3, mode="min"))
    assert objective.poisson_nll(full=np.bool(True)) == objective.poisson_nll(full=True)


def test_a_function_is_structure_by_identity_and_a_partial_by_its_parts():
    from functools import partial

    def square(x, power=2):
        return x**power

    assert nn.elementwise(square) == nn.elementwise(square)
    assert nn.elementwise(partial(square, power=3)) == nn.elementwise(partial(square, power=3))
    assert nn.elementwise(partial(square, power=3)) != nn.elementwise(partial(square, power=2))
    assert nn.elementwise(lambda x: x) != nn.elementwise(lambda x: x)


def test_an_optimizer_of_another_library_is_structure_by_identity():
    foreign = Optimizer(lambda params: (), lambda grads, opt_state, params: (grads, opt_state))
    assert optim.ema(foreign, 0.9) == optim.ema(foreign, 0.9)
    assert jax.tree.leaves(optim.ema(foreign, 0.9)) == [0.9]


def test_an_argument_is_replaced():
    assert optim.adamw(0.1, b1=0.8).replace(b1=0.7) == optim.adamw(0.1, b1=0.7)
    assert a_recipe().replace(optimizer=optim.sgd(0.1)).optimizer == optim.sgd(0.1)
    with pytest.raises(ConfigError, match="adamw beta: expected one of rate, b1"):
        optim.adamw(0.1).replace(beta=1)


# Makers of a user's own.


@maker
def my_block(width: int, drop_rate: Number = 0.5) -> Layer:
    return nn.chain(nn.dense(width), nn.dropout(drop_rate))


def test_a_part_is_replaced_at_its_path():
    one = train.recipe(
        nn.chain(nn.dense(3), nn.dropout(0.1)), optim.sgd(optim.cosine(0.1, steps=9))
    )
    path = "optimizer.rate.peak"
    assert one.replace_at(path, 0.3)[path] == 0.3
    assert one.replace_at(path, 0.1) == one
    constant = one.replace_at("optimizer.rate", 0.2)
    assert constant == one.replace(optimizer=optim.sgd(0.2))
    (name,) = (key for key, _ in one["network"].by_key() if key.endswith("1"))
    network = one.replace_at(f"network.{name}", nn.relu())["network"]
    assert network == nn.chain(nn.dense(3), nn.relu())
    # An argument that was left at its default.
    assert one.replace_at("optimizer.rate.floor", 0.01)["optimizer.rate.floor"] == 0.01
    with pytest.raises(ConfigError, match="cosine path: expected the path of a leaf"):
        one.replace_at("optimizer.rate.top", 1.0)
    with pytest.raises(ConfigError, match=r"cosine peak: expected a number in \[0, inf\)"):
        one.replace_at(path, -1.0)


def test_a_users_maker_names_its_block_and_is_a_value(key):
    body = nn.chain(my_block(3, 0.25), my_block(2), stem=nn.dense(1))
    params, _, _ = body.init(key, (4,))
    assert list(params) == ["my_block_0", "my_block_1", "stem"]
    assert jax.tree.leaves(body) == [0.25]
    assert pickle.loads(pickle.dumps(body)) == body
    assert repr(my_block(3, 0.25)).endswith("my_block(3, 0.25)")


@maker
def unannotated(width, drop_rate: "Number" = 0.5):
    return nn.chain(nn.dense(width), nn.dropout(drop_rate))


@maker
def wrapped(rate: "Number") -> "Optimizer":
    def update(grads, opt_state, params):
        return jax.tree.map(lambda g: -rate * g, grads), opt_state

    return SimpleNamespace(init=lambda params: (), update=update)  # as of another library


def test_a_maker_needs_no_return_annotation_and_may_write_them_as_strings(key):
    body = nn.chain(unannotated(3, 0.25))
    assert isinstance(unannotated(3), Layer) and list(body.init(key, (4,))[0]) == ["unannotated_0"]
    assert jax.tree.leaves(body) == [0.25] and pickle.loads(pickle.dumps(body)) == body
    assert isinstance(pickle.loads(pickle.dumps(unannotated(3))), Layer)


def test_a_maker_may_return_the_optimizer_of_another_library(key):
    recipe = train.recipe(nn.dense(3), wrapped(0.1))
    assert isinstance(recipe.optimizer, Optimizer) and jax.tree.leaves(recipe) == [0.1]
    batch = (np.ones((2, 4), np.float32), np.zeros(2, np.int32))
    states = [
        train.step(own, train.start(key, own, (4,)), batch)[0].params
        for own in (recipe, recipe.replace(optimizer=optim.sgd(0.1)))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *states)


def test_a_maker_with_a_wrong_return_annotation_raises():
    @maker
    def wrong(width: int) -> Layer:
        return width

    with pytest.raises(
        ConfigError, match=r"wrong: expected a maker that returns a Layer, .*, got int"
    ):
        wrong(3)

    def unknown(width):
        return nn.dense(width)

    unknown.__annotations__ = {"width": "Nowhere"}
    with pytest.raises(
        ConfigError, match="unknown: expected annotations that can be evaluated, got name 'Nowhere'"
    ):
        maker(unknown)(3)


def test_a_bare_layer_is_named_by_its_author(key):
    twice = Layer(
        lambda key, shape: ({"w": jnp.ones(())}, {}, shape),
        lambda p, s, x, **_: (p["w"] * x, s),
        "twice",
    )
    assert list(nn.chain(twice).init(key, (4,))[0]) == ["twice_0"]


# Errors.


def test_a_leaf_that_is_not_a_number_raises_with_its_path_on_use(key):
    recipe = jax.tree.map(lambda leaf: leaf, a_recipe())
    paths = iter(jax.tree_util.tree_leaves_with_path(recipe))
    wrong = jax.tree.map(lambda leaf: "fast" if "peak" in str(next(paths)[0]) else leaf, recipe)
    images = (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32))
    with pytest.raises(
        ConfigError, match=r"optimizer\.optimizer\.rate\.peak: expected a number, got 'fast'"
    ):
        train.run(key, wrong, images, valid=images, epochs=1, batch_size=2)
    with pytest.raises(ConfigError, match=r"sgd rate: expected a number, got None"):
        jax.tree.map(lambda leaf: None, optim.sgd(0.1)).init({})


def test_numbers_and_structure_in_each_others_place_raise():
    with pytest.raises(ConfigError, match="dense units: expected a whole number, got 1"):
        nn.dense(1.5)
    with pytest.raises(ConfigError, match="got 'much'"):
        nn.dropout("much")
    with pytest.raises(ConfigError, match=r"for many, map with jax\.vmap"):
        optim.momentum(jnp.ones(3))
    with pytest.raises(ConfigError, match="recipe network: expected a Layer, got a recipe"):
        train.recipe(train.recipe(nn.dense(3)), optim.sgd(0.1))
    with pytest.raises(ConfigError, match="chain dense: expected a Layer"):
        nn.chain(dense=train.recipe(nn.dense(3)))


def test_a_part_is_found_by_its_path():
    recipe = a_recipe()
    assert recipe["optimizer.optimizer.rate.peak"] == 1e-2
    assert recipe["network.4"] == nn.dropout(0.1) and recipe["network.4.drop_rate"] == 0.1
    gradients = jax.tree.map(lambda leaf: -3.0, recipe)  # no recipe that could be used
    assert gradients["optimizer.optimizer.weight_decay"] == -3.0
    with pytest.raises(
        ConfigError,
        match="one_cycle path: expected the path of a leaf or a made value, among peak, steps",
    ):
        recipe["optimizer.optimizer.rate.rate"]
    with pytest.raises(TypeError, match="not iterable"):
        iter(recipe)


def test_a_part_of_gradients_is_found_without_building_the_rest():
    gradients = jax.tree.map(lambda leaf: -3.0, a_recipe())
    assert (
        repr(gradients.optimizer)
        == "optim.ema(optim.adamw(optim.one_cycle(-3, steps=-3), weight_decay=-3), -3)"
    )


@pytest.mark.parametrize(
    ("argument", "uncalled"),
    [("augment", augment.flip_lr), ("regularizer", objective.l2), ("loss", objective.masked)],
)
def test_a_maker_that_was_not_called_raises(argument, uncalled):
    with pytest.raises(
        ConfigError,
        match=rf"recipe {argument}: expected the value that .* returns, got the maker itself",
    ):
        train.recipe(network, optim.sgd(0.1), **{argument: uncalled})


def test_a_train_state_of_another_optimizer_or_network_raises(key):
    recipe = train.recipe(nn.dense(3), optim.adam(0.1))
    train_state = train.start(key, recipe, (4,))
    batch = (np.ones((2, 4), np.float32), np.zeros(2, np.int32))
    with pytest.raises(
        TreeMismatchError, match=r"train_state opt_state: expected the state of optim\.sgd"
    ):
        train.step(recipe.replace(optimizer=optim.sgd(0.1)), train_state, batch)
    with pytest.raises(
        TreeMismatchError, match=r"dense kernel: expected shape \(4, 2\), got shape \(4, 3\)"
    ):
        train.evaluate(recipe.replace(network=nn.dense(2)), train_state, batch)
