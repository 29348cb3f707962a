"""Runs of `fit` whose batches are divided among devices."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import lab, nn, optim, train
from fnn.errors import ConfigError

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(50, 3)).astype(np.float32)
SIGNS = (POINTS[:, 0] > 0).astype(np.int32)
DATA = POINTS, SIGNS
KEY = jax.random.key(0)
RECIPE = train.recipe(nn.chain(nn.dense(8), nn.tanh(), nn.dense(2)), optim.adam(1e-2))
OPTIONS = {"epochs": 2, "batch_size": 16, "show": False}


@pytest.fixture
def mesh():
    return jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))


@pytest.mark.slow
def test_fit_on_arrays_is_the_run_on_the_same_devices(mesh, capsys):
    found = lab.fit(KEY, RECIPE, DATA, valid=DATA, mesh=mesh, **(OPTIONS | {"show": True}))
    assert "4 x cpu, batches in 4 parts" in capsys.readouterr().err
    wanted = train.run(KEY, RECIPE, DATA, valid=DATA, epochs=2, batch_size=16, mesh=mesh)
    for name, values in wanted.history.items():
        np.testing.assert_array_equal(found.history[name], values)


@pytest.mark.slow
def test_a_stream_with_an_uneven_last_batch_trains_as_on_one_device(mesh):
    """Its 50 examples are batches of 16, 16, 16 and 2."""
    batches = [(POINTS[i : i + 16], SIGNS[i : i + 16]) for i in range(0, 50, 16)]
    options = {"epochs": 2, "show": False}
    one = lab.fit(KEY, RECIPE, batches, **options)
    four = lab.fit(KEY, RECIPE, batches, mesh=mesh, **options)
    assert len(four.history.loss) == 8
    np.testing.assert_allclose(four.history.loss, one.history.loss, rtol=1e-5)


@pytest.mark.slow
def test_a_stream_of_batches_that_are_divided_already_needs_no_argument(mesh):
    sharding = NamedSharding(mesh, P("data"))
    batches = [(POINTS[i : i + 16], SIGNS[i : i + 16]) for i in range(0, 48, 16)]
    divided = [jax.device_put(batch, sharding) for batch in batches]
    one = lab.fit(KEY, RECIPE, batches, epochs=1, show=False)
    four = lab.fit(KEY, RECIPE, divided, epochs=1, show=False)
    np.testing.assert_allclose(four.history.loss, one.history.loss, rtol=1e-5)
    assert len(four.train_state.step.sharding.device_set) == 4


@pytest.mark.slow
def test_a_checkpoint_of_four_devices_is_continued_on_one_and_back(mesh, tmp_path):
    whole = lab.fit(KEY, RECIPE, DATA, **(OPTIONS | {"epochs": 3}))
    for steps, devices in ((3, mesh), (6, None), (9, mesh)):
        found = lab.fit(
            KEY,
            RECIPE,
            DATA,
            checkpoints=tmp_path,
            resume=steps > 3,
            max_steps=steps,
            mesh=devices,
            **(OPTIONS | {"epochs": 3}),
        )
    np.testing.assert_allclose(found.history.loss, whole.history.loss, rtol=1e-5)


def test_a_first_batch_that_the_devices_do_not_divide_raises(mesh):
    batches = [(POINTS[:10], SIGNS[:10])]
    message = "size of the first batch: expected a multiple of the 4 devices .* use 8 or 12"
    with pytest.raises(ConfigError, match=message):
        lab.fit(KEY, RECIPE, batches, epochs=1, mesh=mesh, show=False)
    with pytest.raises(ConfigError, match="batch_size: expected a multiple of the 4 devices"):
        lab.fit(KEY, RECIPE, DATA, epochs=1, batch_size=10, mesh=mesh, show=False)
    with pytest.raises(ConfigError, match=r"fit mesh: expected a jax\.sharding\.Mesh"):
        lab.fit(KEY, RECIPE, DATA, epochs=1, batch_size=16, mesh=8, show=False)
