"""Values as plain data: every value of a maker is read as it was; no other names are found."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from registry import REGISTRY

import fnn
from fnn import augment, data, nn, objective, optim, train
from fnn.errors import CheckpointCorruptError, CheckpointVersionError, ConfigError
from fnn.lab.checkpoints.recorded import decode, encode
from fnn.types import Layer, Number, Weights

# The examples of other makers have positional arguments.
CALLS = [name for name in [*makers.CALLS, *makers.NETWORKS] if REGISTRY[name].call]
CALLS.remove("augment.some_of")


def read_again(value, given=()):
    plain, arrays = encode("value", value)
    return decode("value", json.loads(json.dumps(plain, allow_nan=False)), arrays, given)


def halved(x):
    return x / 2


@fnn.maker
def widened(width: int, factor: Number = 2.0) -> Layer:
    """A layer of a user."""
    return nn.chain(nn.dense(width), nn.elementwise(functools.partial(jnp.multiply, factor)))


@pytest.mark.parametrize("name", CALLS)
def test_the_value_of_a_maker_is_read_as_it_was(name):
    value = makers.public()[name](**REGISTRY[name].call)
    found = [given for given in REGISTRY[name].call.values() if callable(given)]
    again = read_again(value, [one for one in found if hasattr(one, "__name__")])
    assert again == value and hash(again) == hash(value)
    assert type(again) is type(value)


def test_a_recipe_is_read_as_it_was():
    body = nn.chain(nn.conv(4), nn.batch_norm(), nn.relu(), nn.flatten())
    recipe = train.recipe(
        nn.chain(body, nn.residual(nn.dense(64)), nn.dense(10)),
        optim.adamw(optim.one_cycle(1e-2, steps=440), weight_decay=jnp.float32(0.1)),
        loss=objective.cross_entropy(label_smoothing=0.1),
        metrics={"top": objective.top_k(3), "hits": objective.accuracy},
        prepare=data.normalize(np.array([0.5]), np.array([0.25])),
        augment=augment.chain(augment.flip_lr(), augment.rotate(10)),
        regularizer=objective.l2(1e-4),
        early_stopping=train.early_stopping(patience=3),
    )
    again = read_again(recipe)
    assert again == recipe and repr(again) == repr(recipe)
    stacked = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), recipe)
    jax.tree.map(np.testing.assert_array_equal, read_again(stacked), stacked)


def test_containers_and_numbers_are_read_as_they_were():
    value = {
        "numbers": (1, 2.5, math.inf, True, None, "text"),
        3: [np.arange(3), jnp.ones(2, jnp.bfloat16), np.float64(0.1)],
        "weights": Weights({"w": np.ones(2)}, {}),
        "types": (float, jnp.bfloat16, np.dtype("int8")),
        "functions": (jax.nn.gelu, jnp.tanh, data.to_float, objective.cross_entropy),
        "key": jax.random.key(3),
    }
    again = read_again(value)
    assert again["numbers"] == value["numbers"] and again["types"] == value["types"]
    assert again["functions"] == value["functions"]
    assert [type(one) for one in again[3]] == [np.ndarray, type(jnp.ones(2)), np.float64]
    assert again[3][1].dtype == jnp.bfloat16 and again[3][2] == 0.1
    np.testing.assert_array_equal(again["weights"].params["w"], np.ones(2))
    assert jax.random.key_data(again["key"]).tolist() == jax.random.key_data(value["key"]).tolist()
    assert math.isnan(read_again([math.nan])[0])


def test_one_object_in_two_places_is_read_as_one():
    layer = nn.dense(3)
    first, second = read_again([layer, {"again": layer}])
    assert second["again"] is first


def test_functions_of_the_user_are_found_by_name():
    value = [widened(3, factor=0.5), halved, functools.partial(halved)]
    layer, function, part = read_again(value, [widened, halved])
    assert layer == value[0] and function is halved and part.func is halved
    with pytest.raises(ConfigError, match=r"value: expected the function .*widened among makers"):
        read_again(value)


def scaled(factor):
    return lambda x: factor * x


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"prepare": lambda x: x}, "value.prepare"),
        (nn.chain(nn.dense(2), Layer(nn.dense(2).init, scaled(2), "own")), "value.layers.1.init"),
        ([1, object()], "value.1"),
        (train.recipe(nn.dense(2), prepare=scaled(3)), "value.prepare"),
        ({"set": {1, 2}}, "value.set"),
    ],
)
def test_parts_without_a_name_raise(value, where):
    with pytest.raises(ConfigError, match=f"{where}: expected a value of a maker") as caught:
        encode("value", value)
    assert "@fnn.maker" in str(caught.value)


def of_function(name):
    return {"nodes": [{"kind": "function", "name": name}], "root": {"node": 0}}


def of_call(name, **arguments):
    node = {"kind": "call", "name": name, "contract": None, "arguments": arguments}
    return {"nodes": [node], "root": {"node": 0}}


@pytest.mark.parametrize(
    ("plain", "error"),
    [
        (None, CheckpointCorruptError),
        ({"nodes": 3, "root": 0}, CheckpointCorruptError),
        ({"nodes": [], "root": {"node": 0}}, CheckpointCorruptError),
        ({"nodes": [{"kind": "tuple", "items": [{"node": 0}]}], "root": 0}, CheckpointCorruptError),
        ({"nodes": [{"kind": "tuple"}], "root": 0}, CheckpointCorruptError),
        ({"nodes": [{"kind": "tuple", "items": 3}], "root": 0}, CheckpointCorruptError),
        ({"nodes": [{"kind": "float", "text": "one"}], "root": 0}, CheckpointCorruptError),
        ({"nodes": [{"kind": "dtype", "name": "f"}], "root": True}, None),
        ({"nodes": [{"kind": "module"}], "root": 0}, CheckpointCorruptError),
        ({"nodes": [[]], "root": 0}, CheckpointCorruptError),
        (
            {"nodes": [{"kind": "array", "name": "9", "is_numpy": True}], "root": 0},
            CheckpointCorruptError,
        ),
        (of_function("os.system"), ConfigError),
        (of_function("system"), ConfigError),
        (of_function("fnn.lab.save_model"), CheckpointCorruptError),
        (of_function("fnn.lab.disk.os"), CheckpointCorruptError),
        (of_function("fnn.search.lanes.os"), CheckpointVersionError),
        (of_function("fnn.data.sets.mnist.mnist"), CheckpointCorruptError),
        (of_function("data.mnist"), CheckpointCorruptError),
        (of_function("data.csv"), CheckpointCorruptError),
        (of_function("jax.numpy.save"), ConfigError),
        (of_function("nn.dense.__globals__"), ConfigError),
        (of_function("nn.no_such_layer"), CheckpointVersionError),
        (of_function("types.Weights"), CheckpointCorruptError),
        (of_function("a b"), CheckpointCorruptError),
        (of_call("data.to_float"), CheckpointCorruptError),
        (of_call("nn.dense", width=3), CheckpointVersionError),
    ],
)
def test_plain_data_that_was_not_written_raises(plain, error):
    if error is None:
        assert decode("value", plain, {}) is True
        return
    with pytest.raises(error, match="value"):
        decode("value", plain, {})
