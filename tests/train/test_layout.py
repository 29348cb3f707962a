"""Runs whose parameters are divided among devices are those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import lab, nn, optim, train, trees
from fnn.errors import ConfigError
from fnn.train.layout import state_shardings

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(50, 3)).astype(np.float32)
SIGNS = (POINTS[:, 0] > 0).astype(np.int32)
DATA = POINTS, SIGNS
KEY = jax.random.key(0)
# A bias before batch norm has no gradient, and adam would make a step of any direction of it.
NETWORK = nn.chain(
    nn.dense(8, use_bias=False), nn.batch_norm(), nn.tanh(), nn.dropout(0.1), nn.dense(4)
)
RECIPE = train.recipe(NETWORK, optim.adam(1e-2))
OPTIONS = {"epochs": 1, "batch_size": 16, "valid": (POINTS[:13], SIGNS[:13])}
TOKENS = RNG.integers(0, 16, (16, 4))


def mesh_of(*sizes):
    """A mesh with the axes of type Explicit that JAX makes by default."""
    return jax.make_mesh(
        sizes,
        ("data", "model")[: len(sizes)],
        devices=jax.devices()[: int(np.prod(sizes))],
        axis_types=(AxisType.Explicit,) * len(sizes),
    )


def fsdp(devices=4, **options):
    return train.layout(mesh_of(devices), fsdp=True, **options)


def assert_near(found, wanted, rtol=1e-5):
    """The distance of two trees, relative to the norm of each leaf or to 0.1."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        gap = np.linalg.norm((np.asarray(a, float) - np.asarray(b, float)).ravel())
        assert gap <= rtol * max(np.linalg.norm(np.asarray(b, float).ravel()), 0.1)


@pytest.fixture(scope="module")
def one():
    return train.run(KEY, RECIPE, DATA, **OPTIONS)


@pytest.fixture(scope="module")
def four():
    return train.run(KEY, RECIPE, DATA, mesh=fsdp(), **OPTIONS)


def test_params_on_four_devices_give_the_run_of_one(one, four):
    assert abs(four.history.loss[0] - one.history.loss[0]) <= 1e-6
    assert_near(four.history, one.history)
    assert_near(four.train_state, one.train_state)


def test_each_device_has_its_part_of_params_and_optimizer_state(four):
    state = four.train_state
    kernel = state.params["dense_0"]["kernel"]
    assert kernel.sharding.spec == P(None, "data")
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(3, 2)}
    slots = trees.named_leaves(state.opt_state)
    moments = [leaf for path, leaf in slots.items() if path.endswith("dense_0/kernel")]
    assert len(moments) == 2
    assert all(leaf.sharding.spec == P(None, "data") for leaf in moments)
    assert state.step.sharding.is_fully_replicated


@pytest.mark.slow
def test_evaluation_step_and_epoch_keep_the_layout_of_the_train_state(one, four):
    state, single = four.train_state, one.train_state
    assert_near(train.evaluate(RECIPE, state, DATA), train.evaluate(RECIPE, single, DATA))
    outputs = train.predict(RECIPE, state, POINTS, mesh=fsdp())
    np.testing.assert_allclose(outputs, train.predict(RECIPE, single, POINTS), atol=1e-5)
    batch = POINTS[:16], SIGNS[:16]
    after, figures = train.step(RECIPE, state, batch)
    other, others = train.step(RECIPE, single, batch)
    assert abs(figures["loss"] - others["loss"]) < 1e-6
    assert_near(after.params, other.params)
    assert after.params["dense_0"]["kernel"].sharding.spec == P(None, "data")
    # Of a batch whose parts are unequal, and of one that is on the devices.
    _, figures = train.step(RECIPE, state, (POINTS[:13], SIGNS[:13]))
    _, others = train.step(RECIPE, single, (POINTS[:13], SIGNS[:13]))
    assert abs(figures["loss"] - others["loss"]) < 1e-6


@pytest.mark.slow
def test_an_epoch_keeps_the_layout_of_the_train_state(one, four):
    divided = jax.device_put((POINTS[:48], SIGNS[:48]), NamedSharding(mesh_of(4), P("data")))
    after, _ = train.epoch(RECIPE, four.train_state, divided, batch_size=16)
    other, _ = train.epoch(RECIPE, one.train_state, (POINTS[:48], SIGNS[:48]), batch_size=16)
    assert_near(after.params, other.params)
    assert after.params["dense_0"]["kernel"].sharding.spec == P(None, "data")


def test_a_train_state_begins_divided():
    divided = train.start(KEY, RECIPE, (3,), mesh=fsdp())
    assert divided.params["dense_0"]["kernel"].sharding.spec == P(None, "data")
    assert_near(divided, train.start(KEY, RECIPE, (3,)), rtol=1e-7)
    copied = train.start(KEY, RECIPE, (3,), mesh=mesh_of(4))
    assert copied.params["dense_0"]["kernel"].sharding.is_fully_replicated


PLAIN = nn.chain(nn.dense(8), nn.tanh(), nn.dense(4))
OPTIMIZERS = {
    "momentum": optim.momentum(0.1),
    "clip": optim.clip_by_global_norm(optim.adamw(1e-2), 0.1),
    "muon": optim.muon(1e-2),
    "adafactor": optim.adafactor(1e-2),
    "ema": optim.ema(optim.adam(1e-2), 0.5),
    "schedule_free": optim.schedule_free_adamw(1e-2),
    "loss_scale": optim.loss_scale(optim.sgd(0.1), 2.0**10),
    "sam": optim.sam(optim.sgd(0.1)),
    "lbfgs": optim.lbfgs(memory=2),
    "sophia": optim.sophia(jax.random.key(1), 1e-2, every=1),
    "shampoo": optim.shampoo(1e-2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_give_the_run_of_one_device(name):
    recipe = train.recipe(PLAIN, OPTIMIZERS[name], on_nonfinite="ignore")
    options = {"epochs": 1, "batch_size": 16}
    wanted = train.run(KEY, recipe, DATA, **options)
    found = train.run(KEY, recipe, DATA, mesh=fsdp(), **options)
    assert_near(found.history.loss, wanted.history.loss, rtol=1e-5)
    assert_near(found.train_state.params, wanted.train_state.params, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("regather", [True, False])
def test_200_steps_stay_near_those_of_one_device(regather):
    recipe = train.recipe(PLAIN, optim.adam(1e-2))
    options = {"epochs": 67, "batch_size": 16}
    one = train.run(KEY, recipe, DATA, **options)
    four = train.run(KEY, recipe, DATA, mesh=fsdp(regather=regather), **options)
    np.testing.assert_allclose(four.history.loss, one.history.loss, rtol=1e-4)
    np.testing.assert_allclose(four.history.loss[:1], one.history.loss[:1], rtol=1e-6)


RULES = train.transformer_rules("model", tables=("shared",))
LAYOUTS = {
    "tensor parallel": lambda: train.layout(mesh_of(2, 2), rules=RULES),
    "both": lambda: train.layout(mesh_of(2, 2), fsdp=True, rules=RULES),
    "fsdp": lambda: train.layout(mesh_of(4), fsdp=True),
}


@pytest.fixture(scope="module")
def language():
    network = nn.gpt(16, length=4, width=8, depth=2, heads=2, drop_rate=0.1)
    # The gradient of a key's bias is zero, which adam would make a step of any direction.
    recipe = train.recipe(network, optim.momentum(0.1))
    return recipe, train.run(KEY, recipe, (TOKENS, TOKENS), epochs=2, batch_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_transformers_give_the_run_of_one_device(name, language):
    recipe, wanted = language
    layout = LAYOUTS[name]()
    found = train.run(KEY, recipe, (TOKENS, TOKENS), epochs=2, batch_size=8, mesh=layout)
    assert_near(found.history.loss, wanted.history.loss, rtol=1e-6)
    assert_near(found.train_state.params, wanted.train_state.params)
    figures = train.evaluate(recipe, found.train_state, (TOKENS, TOKENS))
    assert_near(figures, train.evaluate(recipe, wanted.train_state, (TOKENS, TOKENS)), rtol=1e-5)


@pytest.mark.slow
def test_masters_of_a_cast_network_stay_float32_and_one_scale_is_for_all_devices():
    optimizer = optim.loss_scale(optim.sgd(0.1), 2.0**40, steps=2)
    recipe = train.recipe(nn.cast(PLAIN, "float16"), optimizer, on_nonfinite="skip")
    options = {"epochs": 3, "batch_size": 16}
    one = train.run(KEY, recipe, DATA, **options)
    four = train.run(KEY, recipe, DATA, mesh=fsdp(), **options)
    # Overflows of a single device lower the scale of all, at the steps of the single run.
    np.testing.assert_array_equal(four.history.finite, one.history.finite)
    assert not np.asarray(one.history.finite).all()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(four.train_state.params))
    assert_near(four.train_state.opt_state, one.train_state.opt_state, rtol=1e-2)


@pytest.mark.slow
def test_early_stopping_and_resume_keep_the_layout():
    stopping = train.early_stopping(2)
    recipe = train.recipe(PLAIN, optim.adam(1e-2), early_stopping=stopping)
    options = {"batch_size": 16, "valid": (POINTS[:13], SIGNS[:13])}
    whole = train.run(KEY, recipe, DATA, epochs=4, **options)
    first = train.run(KEY, recipe, DATA, epochs=2, mesh=fsdp(), **options)
    watch = trees.named_leaves(first.train_state.watch)
    best = [leaf for path, leaf in watch.items() if path.endswith("dense_0/kernel")]
    assert best and all(leaf.sharding.spec == P(None, "data") for leaf in best)
    second = train.run(KEY, recipe, DATA, epochs=2, resume=first, **options)
    assert_near(second.history, whole.history)
    assert second.train_state.params["dense_0"]["kernel"].sharding.spec == P(None, "data")


@pytest.mark.slow
def test_checkpoints_hold_whole_arrays(tmp_path):
    """Saved with params on four devices, continued on one, and the other way round."""
    options = {"batch_size": 16, "show": False, "checkpoints": tmp_path / "run"}
    recipe = train.recipe(PLAIN, optim.adam(1e-2))
    whole = train.run(KEY, recipe, DATA, epochs=3, batch_size=16)
    lab.fit(KEY, recipe, DATA, epochs=1, mesh=fsdp(), **options)
    empty = train.start(KEY, recipe, (3,), mesh=fsdp())
    restored = lab.restore(tmp_path / "run", empty, prefix="train_state")
    assert restored.params["dense_0"]["kernel"].sharding.spec == P(None, "data")
    assert int(restored.step) == 3
    lab.fit(KEY, recipe, DATA, epochs=2, resume=True, **options)
    last = lab.fit(KEY, recipe, DATA, epochs=3, resume=True, mesh=fsdp(2), **options)
    assert_near(last.history.loss, whole.history.loss)
    assert last.train_state.params["dense_0"]["kernel"].sharding.spec == P(None, "data")


@pytest.mark.slow
def test_streams_train_divided_params(capsys):
    recipe = train.recipe(PLAIN, optim.adam(1e-2))
    batches = [(POINTS[i : i + 16], SIGNS[i : i + 16]) for i in (0, 16, 32)] + [
        (POINTS[48:], SIGNS[48:])
    ]
    one = lab.fit(KEY, recipe, batches, epochs=1, show=False)
    four = lab.fit(KEY, recipe, batches, epochs=1, mesh=fsdp())
    assert "4 x cpu, batches in 4 parts, params divided" in capsys.readouterr().err
    assert_near(four.history.loss, one.history.loss)
    assert_near(four.train_state.params, one.train_state.params)


@pytest.mark.slow
def test_lanes_of_vmap_are_divided_too():
    keys = jax.random.split(KEY, 2)
    recipe = train.recipe(PLAIN, optim.sgd(0.1))

    def run(key, mesh=None):
        options = {"epochs": 1, "batch_size": 16, "mesh": mesh}
        return train.run(key, recipe, DATA, **options).train_state.params

    assert_near(jax.vmap(lambda key: run(key, fsdp()))(keys), jax.vmap(run)(keys))


@pytest.mark.slow
def test_gradients_pass_through_a_run_with_divided_params():
    recipe = train.recipe(PLAIN, optim.sgd(0.1))

    def loss(recipe, mesh=None):
        options = {"epochs": 1, "batch_size": 16, "mesh": mesh}
        return train.run(KEY, recipe, DATA, **options).history.loss[-1]

    wanted = jax.jit(jax.grad(loss))(recipe)["optimizer.rate"]
    found = jax.jit(jax.grad(lambda recipe: loss(recipe, fsdp())))(recipe)["optimizer.rate"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_layout_is_a_value():
    assert fsdp() == fsdp() and hash(fsdp()) == hash(fsdp())
    assert fsdp() != fsdp(regather=False)
    layout = train.layout(mesh_of(2, 2), axis="model", fsdp=True)
    assert (layout.axis, layout.parts) == ("model", 2)
    shapes = jax.eval_shape(lambda: train.start(KEY, RECIPE, (3,)))
    planned = train.layout(AbstractMesh((512,), ("data",)), rules={"*kernel": P()})
    assert jax.tree.leaves(state_shardings(planned, shapes))[0].spec == P()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.layout(4), "layout mesh: expected a jax.sharding.Mesh, got 4"),
        (lambda: train.layout(mesh_of(4), axis="rows"), "layout axis: expected an axis among data"),
        (lambda: train.layout(mesh_of(4), fsdp=1), "layout fsdp: expected True or False, got 1"),
        (
            lambda: train.layout(Mesh(np.reshape(jax.devices(), (2, 2)), ("a", "b"))),
            "layout axis: expected an axis among a, b, got data",
        ),
        (
            lambda: train.layout(mesh_of(4), rules={"*kernel": P("model")}),
            r"layout rules '\*kernel': expected axes among data, got model",
        ),
    ],
)
def test_a_wrong_layout_raises(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


UNFIT = {
    "a layer that is not divided": (
        {"dense_1/kernel": P("model")},
        r"layout rules dense_1/kernel \(8, 3\): .* got 3; use a layer of 2 or 4",
    ),
    "a pattern that matches nothing": ({"*kernl": P("model")}, r"got '\*kernl'"),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("entrance", ["run", "fit", "stream", "start", "evaluate", "predict"])
def test_every_entrance_refuses_rules_that_do_not_fit(name, entrance):
    rules, message = UNFIT[name]
    layout = train.layout(mesh_of(2, 2), rules=rules)
    recipe = train.recipe(nn.chain(nn.dense(8), nn.dense(3)), optim.sgd(0.1))
    options = {"epochs": 1, "batch_size": 16, "mesh": layout}
    with pytest.raises(ConfigError, match=message):
        if entrance == "run":
            train.run(KEY, recipe, DATA, **options)
        elif entrance == "fit":
            lab.fit(KEY, recipe, DATA, show=False, **options)
        elif entrance == "stream":
            lab.fit(KEY, recipe, [DATA], show=False, epochs=1, mesh=layout)
        elif entrance == "start":
            train.start(KEY, recipe, (3,), mesh=layout)
        elif entrance == "evaluate":
            train.evaluate(recipe, train.start(KEY, recipe, (3,)), DATA, mesh=layout)
        else:
            train.predict(recipe, train.start(KEY, recipe, (3,)), POINTS, mesh=layout)


@pytest.mark.parametrize("entrance", ["run", "fit", "evaluate", "predict"])
@pytest.mark.parametrize("other", ["copied", "fewer devices", "another axis"])
def test_params_that_are_divided_in_another_way_raise(entrance, other):
    state = train.start(KEY, RECIPE, (3,), mesh=fsdp())
    mesh = {
        "copied": mesh_of(4),
        "fewer devices": fsdp(2),
        "another axis": train.layout(mesh_of(4), rules={"dense_4/kernel": P("data", None)}),
    }[other]
    message = f"{entrance} mesh: expected the layout of the train state, .* bring the train state"
    options = {"epochs": 1, "batch_size": 16, "mesh": mesh, "resume": state}
    with pytest.raises(ConfigError, match=message):
        if entrance == "run":
            train.run(KEY, RECIPE, DATA, **options)
        elif entrance == "fit":
            lab.fit(KEY, RECIPE, DATA, show=False, **options)
        elif entrance == "evaluate":
            train.evaluate(RECIPE, state, DATA, mesh=mesh)
        else:
            train.predict(RECIPE, state, POINTS, mesh=mesh)


@pytest.mark.parametrize("entrance", ["step", "epoch", "evaluate"])
def test_data_on_other_devices_than_divided_params_raises(entrance):
    state = train.start(KEY, RECIPE, (3,), mesh=fsdp())
    data = jax.device_put((POINTS[:16], SIGNS[:16]), NamedSharding(mesh_of(2), P("data")))
    with pytest.raises(
        ConfigError, match=r"expected data on the devices of the params, Mesh\(data 4"
    ):
        if entrance == "step":
            train.step(RECIPE, state, data)
        elif entrance == "epoch":
            train.epoch(RECIPE, state, data, batch_size=16)
        else:
            train.evaluate(RECIPE, state, data)


def test_a_plan_without_devices_is_no_mesh_of_a_run():
    planned = train.layout(AbstractMesh((4,), ("data",)), fsdp=True)
    with pytest.raises(ConfigError, match="run mesh: expected a mesh of devices"):
        train.run(KEY, RECIPE, DATA, epochs=1, batch_size=16, mesh=planned)
