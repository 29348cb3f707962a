"""Training of several tasks: combined gradients, labels that are missing, and early stopping."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn import lab, nn, objective, optim, search, train
from fnn.errors import ConfigError
from fnn.train.measure import measure_examples, reduce_examples
from fnn.types import Aggregator, Loss

pytestmark = pytest.mark.slow

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(24, 5))
LABELS = DRAW.integers(3, size=24)
POINTS = DRAW.normal(size=(24, 1))
TARGETS = {"kind": LABELS, "point": POINTS}
# No example of the first micro-batch of two has a label for `kind`.
PARTIAL = {
    "kind": np.where(np.arange(24) % 3 == 0, LABELS, -1),
    "point": (POINTS, np.arange(24) % 2),
}
LOSSES = {"kind": objective.cross_entropy, "point": objective.squared_error}
MASKED = {
    "kind": objective.ignoring(objective.cross_entropy, -1),
    "point": objective.masked(objective.squared_error),
}
body = nn.chain(nn.dense(6), nn.tanh())
heads = nn.parallel(kind=nn.dense(3), point=nn.dense(1), join="dict")
network = nn.chain(body=body, heads=heads)
ones = Aggregator(
    init=lambda tasks: (),
    coefficients=lambda memory, gramian, key: jnp.ones(len(gramian)),
    update=lambda memory, gramian, losses: memory,
)
AGGREGATORS = {
    "pcgrad": objective.pcgrad(("body",)),
    "gradnorm": objective.gradnorm("body/dense_0"),
    "dwa": objective.dwa(2),
}


def recipe_of(aggregator=None, losses=LOSSES, weights=None, optimizer=None, **options):
    loss = objective.multi_task(losses, weights=weights, aggregator=aggregator)
    return train.recipe(network, optimizer or optim.momentum(0.1), loss=loss, **options)


def numbers(result):
    """Return all results of a step or a run but the key."""
    train_state, measured = result
    return train_state[:4], measured


def test_coefficients_of_one_give_the_step_of_the_sum(x64, key):
    options = {"regularizer": objective.l2(1e-2), "weights": {"point": 3.0}}
    before = train.start(key, recipe_of(**options), (5,))
    wanted = train.step(recipe_of(**options), before, (X, TARGETS))
    own = recipe_of(ones, **options)
    got = train.step(own, train.start(jax.random.clone(key), own, (5,)), (X, TARGETS))
    chex.assert_trees_all_close(got[0].params, wanted[0].params, rtol=1e-12)
    chex.assert_trees_all_close(got[1], wanted[1], rtol=1e-12)


def test_a_step_uses_the_combined_gradient_and_adds_that_of_the_penalties(x64, key):
    """A penalty of a layer and one of the parameters are no tasks."""
    layer = nn.activity_regularizer(nn.dense(6), objective.l2(0.1))
    model = nn.chain(body=nn.chain(layer, nn.tanh()), heads=heads)
    penalty, aggregator = objective.l2(1e-2), objective.mgda()
    loss = objective.multi_task(LOSSES, weights={"point": 2.0}, aggregator=aggregator)
    recipe = train.recipe(model, optim.sgd(1.0), loss=loss, regularizer=penalty)
    before = train.start(key, recipe, (5,))
    after, measured = train.step(recipe, before, (X, TARGETS))
    gradient = jax.tree.map(jnp.subtract, before.params, after.params)

    def terms(params):
        outputs, state = model.apply(params, before.state, X, key=None, train=True)
        kind = objective.cross_entropy(outputs["kind"], LABELS).mean()
        point = 2 * objective.squared_error(outputs["point"], POINTS).mean()
        (penalty_of_layer,) = jax.tree.leaves(state)
        return kind, point, penalty_of_layer + penalty(params)

    rows = jax.jit(jax.jacrev(terms))(before.params)
    tasks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows[:2])
    combined, _ = objective.aggregate(aggregator, tasks)
    wanted = jax.tree.map(jnp.add, combined, rows[2])
    chex.assert_trees_all_close(gradient, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(measured["loss"], sum(terms(before.params)[:2]), rtol=1e-12)


@pytest.mark.parametrize("name", [*AGGREGATORS, None])
def test_micro_batches_give_the_step_of_the_batch(name, x64, key):
    """Also where a head has no label in a micro-batch."""
    recipe = recipe_of(AGGREGATORS.get(name), MASKED, regularizer=objective.l2(1e-2))
    before = train.start(key, recipe, (5,))
    batch = X, PARTIAL
    wanted = numbers(train.step(recipe, before, batch))
    got = numbers(train.step(recipe.replace(micro_batch_size=2), before, batch))
    chex.assert_trees_all_close(got, wanted, rtol=1e-11, atol=1e-14)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, wanted)


@pytest.mark.parametrize("name", ["pcgrad", None])
def test_examples_without_any_label_change_nothing(name, x64, key):
    recipe = recipe_of(AGGREGATORS.get(name), MASKED)
    before = train.start(key, recipe, (5,))
    batch = X, PARTIAL
    wanted = numbers(train.step(recipe, before, batch))
    none = {"kind": np.full(24, -1), "point": (POINTS, np.zeros(24, int))}
    more = jax.tree.map(lambda *arrays: np.concatenate(arrays), batch, (9 * X, none))
    got = numbers(train.step(recipe, before, more))
    chex.assert_trees_all_close(got, wanted, rtol=1e-12, atol=1e-15)
    weights = train.weights(recipe, before)
    chex.assert_trees_all_close(
        train.evaluate(recipe, weights, more, batch_size=10),
        train.evaluate(recipe, weights, batch),
        rtol=1e-12,
    )


def test_the_loss_is_the_weighted_sum_of_the_losses_of_the_heads(x64, key):
    """Each is the mean over the examples with a label, in training and in evaluation."""
    recipe = recipe_of(None, MASKED, weights={"point": 3.0})
    before = train.start(key, recipe, (5,))
    _, measured = train.step(recipe, before, (X, PARTIAL))
    for figures in (measured, train.evaluate(recipe, before, (X, PARTIAL), batch_size=7)):
        wanted = figures["loss_kind"] + 3 * figures["loss_point"]
        np.testing.assert_allclose(figures["loss"], wanted, rtol=1e-12)
    outputs = train.predict(recipe, before, X)
    labeled = np.arange(24) % 3 == 0
    losses = objective.cross_entropy(outputs["kind"][labeled], LABELS[labeled])
    np.testing.assert_allclose(measured["loss_kind"], losses.mean(), rtol=1e-12)


def test_examples_of_weight_zero_do_not_count_in_any_figure(x64, key):
    """As in the figures of a fold, which are those of its examples alone."""
    recipe = recipe_of(None, MASKED)
    before = train.start(key, recipe, (5,))
    values = measure_examples(recipe, train.predict(recipe, before, X), PARTIAL)
    counts = np.arange(24) < 10
    got = reduce_examples(recipe, values, jnp.asarray(counts, float))
    part = jax.tree.map(lambda leaf: leaf[counts], (X, PARTIAL))
    chex.assert_trees_all_close(got, train.evaluate(recipe, before, part), rtol=1e-12)


data = np.float32(X), {"kind": LABELS, "point": np.float32(POINTS)}
options = {"batch_size": 8, "valid": data}


@pytest.mark.parametrize("name", ["gradnorm", "dwa"])
def test_a_resumed_run_and_fit_equal_the_run(name, key, tmp_path):
    """The memory of the aggregator is part of the train state, and of a checkpoint."""
    recipe = recipe_of(AGGREGATORS[name])
    keys = partial(jax.random.clone, key)
    wanted = train.run(keys(), recipe, data, epochs=4, **options)
    half = train.run(keys(), recipe, data, epochs=2, **options)
    resumed = train.run(keys(), recipe, data, epochs=2, resume=half, **options)
    chex.assert_trees_all_equal(numbers(resumed), numbers(wanted))
    fit = partial(lab.fit, show=False, checkpoints=tmp_path, **options)
    fit(keys(), recipe, data, epochs=4, max_steps=5)
    continued = fit(keys(), recipe, data, epochs=4, resume=True)
    chex.assert_trees_all_equal(numbers(continued), numbers(wanted))


def test_lanes_of_numbers_and_keys_equal_single_runs():
    def last(key, alpha, weight):
        aggregator = objective.gradnorm("body/dense_0", alpha=alpha)
        recipe = recipe_of(aggregator, weights={"point": weight}, on_nonfinite="ignore")
        result = train.run(key, recipe, data, epochs=2, **options)
        return result.train_state.params, result.history

    keys = jax.random.split(jax.random.key(0), 2)
    alphas, weights = jnp.array([0.5, 1.5]), jnp.array([1.0, 4.0])
    lanes = jax.jit(jax.vmap(chex.assert_max_traces(last, n=1)))(keys, alphas, weights)
    for lane in range(2):
        wanted = jax.jit(last)(keys[lane], alphas[lane], weights[lane])
        got = jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes)
        chex.assert_trees_all_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("maker", [objective.pcgrad, objective.mgda])
def test_the_derivative_of_a_run_is_that_of_finite_differences(maker, x64, key):
    recipe_by = partial(recipe_of, maker(("body",)), on_nonfinite="ignore")

    def last(weight):
        recipe = recipe_by(weights={"point": weight})
        data = X, TARGETS
        return train.run(jax.random.clone(key), recipe, data, epochs=2, batch_size=12)[1].loss_kind[
            -1
        ]

    slope = jax.jit(jax.grad(last))(2.0)
    wanted = (last(2 + 1e-5) - last(2 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)


def test_half_precision_with_a_loss_scale(key):
    loss = objective.multi_task(LOSSES, aggregator=AGGREGATORS["pcgrad"])
    optimizer = optim.loss_scale(optim.momentum(0.05))
    half = nn.cast(network, "float16")
    recipe = train.recipe(half, optimizer, loss=loss, on_nonfinite="skip")
    history = train.run(key, recipe, data, epochs=10, batch_size=8).history
    assert history.finite[5:].all() and history.loss[-3:].mean() < history.loss[:3].mean()


def test_a_loss_scale_changes_no_step(x64, key):
    outcomes = []
    for optimizer in (optim.momentum(0.1), optim.loss_scale(optim.momentum(0.1))):
        recipe = recipe_of(AGGREGATORS["gradnorm"], optimizer=optimizer, on_nonfinite="skip")
        before = train.start(jax.random.clone(key), recipe, (5,))
        after, _ = train.step(recipe, before, (X, TARGETS))
        outcomes.append((after.params, after.opt_state.memory))
    chex.assert_trees_all_close(*outcomes, rtol=1e-10, atol=1e-14)


def test_a_skipped_step_leaves_the_memory_as_it_is(key):
    recipe = recipe_of(AGGREGATORS["gradnorm"], on_nonfinite="skip")
    before = train.start(key, recipe, (5,))
    broken = np.where(np.arange(24)[:, None] == 3, np.nan, data[0])
    after, measured = train.step(recipe, before, (broken, data[1]))
    assert not measured["finite"]
    chex.assert_trees_all_equal(after[:3], before[:3])


def test_parameters_that_are_frozen_stay_and_others_are_averaged(key):
    clipped = optim.clip_by_global_norm(optim.sgd(0.1), 1.0)
    optimizer = optim.ema(optim.partition({"body": None}, clipped))
    recipe = recipe_of(objective.mgda(("heads",)), optimizer=optimizer)
    before = train.start(key, recipe, (5,))
    after, _ = train.step(recipe, before, data)
    after, _ = train.step(recipe, after, data)
    chex.assert_trees_all_equal(after.params["body"], before.params["body"])
    average = train.weights(recipe, after).params
    assert (average["heads"]["kind"]["kernel"] != after.params["heads"]["kind"]["kernel"]).any()


def test_a_sharded_batch_gives_the_step_of_one_device(x64, key):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    recipe = recipe_of(AGGREGATORS["pcgrad"])
    before = train.start(key, recipe, (5,))
    wanted = numbers(train.step(recipe, before, (X, TARGETS)))
    batch = jax.device_put((X, TARGETS), NamedSharding(mesh, PartitionSpec("batch")))
    got = numbers(train.step(recipe, before, batch))
    chex.assert_trees_all_close(got, wanted, rtol=1e-11, atol=1e-14)


def test_members_on_several_devices_are_lanes_of_vmap():
    """Within a shard_map, constants such as the first weights vary over devices."""
    recipe = recipe_of(AGGREGATORS["gradnorm"], regularizer=objective.l2(1e-2))

    def member(key):
        result = train.run(key, recipe, data, epochs=2, batch_size=12)
        return result.train_state.params, result.train_state.opt_state.memory

    keys = jax.random.split(jax.random.key(0), 4)
    mesh, spec = (
        jax.make_mesh((2,), ("member",), axis_types=(AxisType.Auto,)),
        PartitionSpec("member"),
    )
    spread = jax.jit(jax.shard_map(jax.vmap(member), mesh=mesh, in_specs=spec, out_specs=spec))
    chex.assert_trees_all_close(spread(keys), jax.jit(jax.vmap(member))(keys), atol=1e-5)


def test_weights_and_numbers_of_an_aggregator_are_searched():
    space = recipe_of(
        objective.gradnorm("body/dense_0", alpha=search.uniform(0, 2)),
        weights={"point": search.log_uniform(0.1, 10)},
    )
    key = jax.random.key(0)
    trials = search.random(
        key, space, data, epochs=2, trials=3, score="valid_accuracy_kind", **options
    )
    leaves, _ = jax.tree.flatten(trials.best.recipe.loss)
    weight, alpha = map(float, leaves)
    assert 0.1 <= weight <= 10 and 0 <= alpha <= 2


# Early stopping.


def test_early_stopping_monitors_the_losses_of_heads_where_the_loss_is_negative(key):
    """With learned weights the loss falls below 0 where a task is easy."""
    total = nn.chain(
        body=body,
        heads=nn.parallel(
            kind=nn.dense(3),
            point=nn.dense(1),
            log_variance=nn.parameter(2, init=nn.constant(-2.0)),
            join="dict",
        ),
    )
    loss = objective.multi_task(LOSSES, weights={"point": 0.5}, learned=True)
    easy = data[0], {"kind": data[1]["kind"], "point": np.zeros((24, 1), np.float32)}
    stopping = train.early_stopping(2, by="valid_loss_kind")
    recipe = train.recipe(total, optim.adam(3e-2), loss=loss, early_stopping=stopping)
    result = train.run(key, recipe, easy, epochs=30, batch_size=8, valid=easy)
    history = result.history
    best = int(history.valid_loss_kind.argmin())
    assert int(result.train_state.step) == 3 * (best + 1)
    assert history.valid_loss[-1] < 0 <= history.valid_loss_point.min()


def test_early_stopping_restores_the_memory_of_the_best_epoch(key):
    recipe = recipe_of(AGGREGATORS["gradnorm"], optimizer=optim.momentum(1.0))
    stopping = train.early_stopping(2)
    stopped = train.run(key, recipe.replace(early_stopping=stopping), data, epochs=20, **options)
    best = int(stopped.train_state.step) // 3
    assert best < len(stopped.history.valid_loss) < 20
    wanted = train.run(jax.random.clone(key), recipe, data, epochs=best, **options)
    chex.assert_trees_all_close(stopped.train_state[:4], wanted.train_state[:4], rtol=1e-6)


# Wrong recipes.


def test_a_pattern_that_matches_no_parameter_raises_before_a_run(key):
    recipe = recipe_of(objective.gradnorm("bodi"))
    message = "aggregator shared: expected a path among .*got 'bodi'"
    calls = [
        lambda: train.start(key, recipe, (5,)),
        lambda: train.run(key, recipe, data, epochs=1, batch_size=8),
        lambda: lab.fit(key, recipe, data, epochs=1, batch_size=8, show=False),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=message):
            call()


WRONG = {
    "an aggregator": (lambda: objective.pcgrad(), "recipe loss: expected a function"),
    "no heads": (
        lambda: Loss(objective.squared_error, aggregator=objective.pcgrad()),
        "recipe loss: expected a loss with several heads",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_loss_without_heads_raises(case):
    make, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        train.recipe(network, optim.sgd(0.1), loss=make())


@pytest.mark.parametrize("optimizer", [optim.sam(optim.sgd(0.1)), optim.lbfgs()])
def test_an_optimizer_that_evaluates_the_loss_raises(optimizer, key):
    recipe = recipe_of(objective.pcgrad(), optimizer=optimizer)
    before = train.start(key, recipe, (5,))
    with pytest.raises(ConfigError, match="recipe loss: expected a loss without an aggregator"):
        train.step(recipe, before, data)
