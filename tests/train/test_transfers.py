"""No function of training copies between host and device implicitly, if the data is on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, lab, nn, optim, train
from fnn.errors import NonFiniteError

key = jax.random.key(0)
X = jax.random.uniform(key, (16, 4, 4, 1))
Y = jnp.arange(16, dtype=jnp.int32) % 3
BATCH = X[:8], Y[:8]
network = nn.chain(nn.flatten(), nn.dropout(0.1), nn.dense(3))
# Rates, weight decay and patience are numbers that every program takes as arguments.
optimizer = optim.adamw(optim.one_cycle(0.01, steps=4), weight_decay=0.01)
recipe = train.recipe(
    network,
    optimizer,
    augment=augment.random_crop(padding=1),
    early_stopping=train.early_stopping(patience=3),
)
failing = train.recipe(network, optim.sgd(1e38))
OPTIONS = {"epochs": 2, "batch_size": 8}
result = train.run(key, recipe, (X, Y), valid=(X, Y), **OPTIONS)
state = result.train_state

CALLS = {
    "run": lambda: train.run(key, recipe, (X, Y), valid=(X, Y), **OPTIONS),
    "run on bytes": lambda: train.run(key, recipe, BYTES, valid=BYTES, **OPTIONS),
    "run on numpy": lambda: train.run(key, recipe, HOST, valid=HOST, **OPTIONS),
    "run on": lambda: train.run(key, recipe, (X, Y), valid=(X, Y), resume=result, **OPTIONS),
    "step": lambda: train.step(recipe, state, BATCH),
    "epoch": lambda: train.epoch(recipe, state, (X, Y), batch_size=8),
    "evaluate": lambda: train.evaluate(recipe, state, (X, Y)),
    "predict": lambda: train.predict(recipe, state, X),
    "predict with key": lambda: train.predict(recipe, train.weights(recipe, state), X, key=key),
    "fit": lambda: lab.fit(key, recipe, (X, Y), valid=(X, Y), show=False, **OPTIONS),
    "fit on a stream": lambda: lab.fit(
        key, recipe, [BATCH, BATCH], valid=(X, Y), show=False, **OPTIONS
    ),
}
HOST = np.array(X), np.array(Y)
BYTES = (X * 255).astype(jnp.uint8), Y


@pytest.mark.parametrize("name", CALLS)
def test_a_call_on_arrays_of_a_device_makes_no_implicit_transfer(name):
    with jax.transfer_guard("disallow"):
        CALLS[name]()


def test_a_resumed_fit_makes_no_implicit_transfer(tmp_path):
    for epochs in (1, 2):
        with jax.transfer_guard("disallow"):
            lab.fit(
                key,
                recipe,
                (X, Y),
                epochs=epochs,
                batch_size=8,
                valid=(X, Y),
                checkpoints=tmp_path,
                resume=epochs > 1,
            )


@pytest.mark.slow
@pytest.mark.parametrize("train_on", [train.run, lab.fit], ids=["run", "fit"])
def test_a_step_that_is_not_finite_is_named_without_an_implicit_transfer(train_on):
    with jax.transfer_guard("disallow"), pytest.raises(NonFiniteError, match="step 1"):
        train_on(key, failing, (X, Y), **OPTIONS)


@pytest.mark.slow
def test_a_run_on_several_devices_makes_no_implicit_transfer():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    data, batch = jax.device_put(((X, Y), BATCH), rows)
    on_all = jax.device_put(key, jax.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    with jax.transfer_guard("disallow"):
        first = train.run(on_all, recipe, data, valid=data, **OPTIONS).train_state
        train.step(recipe, first, batch)
        train.evaluate(recipe, first, data)


def test_numbers_of_a_recipe_follow_the_devices_of_the_train_state():
    second = jax.devices()[1]
    moved, inputs = jax.device_put((state, X), second)
    with jax.transfer_guard("disallow"):
        outputs = train.predict(recipe, moved, inputs)
    assert outputs.devices() == {second}
    np.testing.assert_array_equal(outputs, train.predict(recipe, state, X))
