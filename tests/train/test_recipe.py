"""Recipes: validation, default metrics, measures, stacking, gradients, repr and pickling."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError, TreeMismatchError

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = np.arange(24, dtype=np.int32) % 4
VALID = X[:10], Y[:10]
network, optimizer = (
    nn.chain(nn.dense(8), nn.batch_norm(), nn.tanh(), nn.dense(4)),
    optim.momentum(0.1),
)
recipe = train.recipe(network, optimizer)


def run(recipe, key=None, **options):
    """Two epochs of three steps."""
    key = jax.random.key(0) if key is None else key
    return train.run(key, recipe, (X, Y), epochs=2, batch_size=8, **options)


WRONG = {
    "a string": (("dense",), {}, "recipe network: expected a Layer, got 'dense'; build one"),
    "a recipe": (
        (recipe,),
        {},
        "recipe network: expected a Layer, got a recipe; give recipe.network",
    ),
    "a rate": ((network, 0.1), {}, r"recipe optimizer: expected a pair \(init, update\), got 0.1"),
    "a maker": (
        (network, optim.sgd),
        {},
        r"recipe optimizer: expected a pair \(init, update\), got <function sgd",
    ),
    "a name of a loss": ((), {"loss": "mse"}, "recipe loss: expected a function, got 'mse'"),
    "a list of metrics": (
        (),
        {"metrics": [objective.accuracy]},
        r"recipe metrics: expected functions by name, got \[",
    ),
    "no metric": ((), {"metrics": {"hits": 3}}, "recipe metrics hits: expected a function, got 3"),
    "no measures": ((), {"measures": 3}, "recipe measures: expected functions by name, got 3"),
    "no measure": (
        (),
        {"measures": {"norm": 3}},
        "recipe measures norm: expected a function, got 3",
    ),
    "a metric named loss": (
        (),
        {"metrics": {"loss": objective.accuracy}},
        "names other than loss, penalty, rate, fin",
    ),
    "a measure named rate": (
        (),
        {"measures": {"rate": jnp.sum}},
        "expected names other than loss.* got .*'rate'",
    ),
    "a name twice": (
        (),
        {"measures": {"accuracy": jnp.sum}},
        r"each once, .*, got \['accuracy', 'accuracy'\]",
    ),
    "nothing to prepare": ((), {"prepare": None}, "recipe prepare: expected a function, got None"),
    "a number to prepare": (
        (),
        {"prepare": 1 / 255},
        "recipe prepare: expected a function, got 0.0039",
    ),
    "no augmentation": ((), {"augment": "flip"}, "recipe augment: expected a function, got 'flip'"),
    "a strength": ((), {"regularizer": 0.1}, "recipe regularizer: expected a function, got 0.1"),
    "no examples": ((), {"micro_batch_size": 0}, "recipe micro_batch_size: expected >= 1, got 0"),
    "half an example": (
        (),
        {"micro_batch_size": 0.5},
        "recipe micro_batch_size: expected a whole number, got 0.5",
    ),
    "a warning": (
        (),
        {"on_nonfinite": "warn"},
        "recipe on_nonfinite: expected one of raise, skip, ignore, got 'warn'",
    ),
    "a patience": (
        (),
        {"early_stopping": 5},
        "recipe early_stopping: expected a value from train.early_stopping, got 5",
    ),
    "no such figure": (
        (),
        {"metrics": {}, "early_stopping": train.early_stopping(2, by="valid_accuracy")},
        "early_stopping by: expected one of valid_loss, got 'valid_accuracy'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_arguments_raise(case):
    parts, options, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        train.recipe(*(parts or (network, optimizer)), **options)
    if not parts:
        with pytest.raises(ConfigError, match=message):
            recipe.replace(**options)


def test_unknown_options_raise():
    with pytest.raises(
        ConfigError, match=r"recipe rate: expected one of network, optimizer, loss, .*got 'rate'"
    ):
        recipe.replace(rate=0.1)
    with pytest.raises(TypeError, match="rate"):
        train.recipe(network, optimizer, rate=0.1)


ENTRIES = {
    "start": lambda recipe, state: train.start(jax.random.key(0), recipe, (3,)),
    "step": lambda recipe, state: train.step(recipe, state, (X, Y)),
    "epoch": lambda recipe, state: train.epoch(recipe, state, (X, Y), batch_size=8),
    "run": lambda recipe, state: run(recipe),
    "evaluate": lambda recipe, state: train.evaluate(recipe, state, VALID),
    "predict": lambda recipe, state: train.predict(recipe, state, X),
    "weights": lambda recipe, state: train.weights(recipe, state),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_other_values_than_a_recipe_raise(entry, key):
    state = train.start(key, recipe, (3,))
    with pytest.raises(
        ConfigError,
        match=r"recipe: expected a recipe from train\.recipe, got a Layer; call train\.rec",
    ):
        ENTRIES[entry](network, state)
    broken = jax.tree.map(lambda _: None, recipe)
    with pytest.raises(
        ConfigError, match=r"^optimizer\.rate: expected a number, got None; replace it by"
    ):
        ENTRIES[entry](broken, state)


@pytest.mark.parametrize("entry", ENTRIES)
def test_recipe_without_an_optimizer_evaluates_but_does_not_train(entry, key):
    state = train.start(key, recipe, (3,))
    if entry in ("evaluate", "predict", "weights"):
        chex.assert_trees_all_equal(
            ENTRIES[entry](train.recipe(network), state), ENTRIES[entry](recipe, state)
        )
    else:
        with pytest.raises(
            ConfigError, match="recipe optimizer: expected an optimizer to train with, got None"
        ):
            ENTRIES[entry](train.recipe(network), state)


def test_other_values_than_a_train_state_raise():
    with pytest.raises(
        ConfigError, match=r"train_state: expected a TrainState, or Weights, got a Result; give res"
    ):
        train.evaluate(recipe, run(recipe), VALID)
    with pytest.raises(
        ConfigError, match="train_state: expected a TrainState, or Weights, got tuple"
    ):
        train.predict(recipe, ({}, {}), X)


def plain(outputs, targets):
    return objective.cross_entropy(outputs, targets)


METRICS = {
    "cross_entropy": (objective.cross_entropy, ["accuracy"]),
    "options": (objective.cross_entropy(label_smoothing=0.1), ["accuracy"]),
    "focal": (objective.focal, ["accuracy"]),
    "hinge": (objective.hinge(margin=0.5), ["accuracy"]),
    "ignoring": (objective.ignoring(objective.cross_entropy, 3), ["accuracy"]),
    "by class": (
        objective.class_weighted(objective.cross_entropy, [1.0, 2.0, 1.0, 1.0]),
        ["accuracy"],
    ),
    "plain": (plain, []),
    "triplet": (objective.triplet, []),
    "squared": (objective.squared_error, []),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_default_to_those_of_the_loss(name):
    loss, names = METRICS[name]
    assert list(train.recipe(network, loss=loss).metrics) == names
    assert list(train.recipe(network, loss=loss, metrics={}).metrics) == []
    own = {"top": objective.top_k(2), "f1": objective.f1()}
    assert list(train.recipe(network, loss=loss, metrics=own).metrics) == ["top", "f1"]


@pytest.mark.slow
def test_accuracy_of_one_hot_targets():
    rows = np.eye(4, dtype=np.float32)[Y]
    soft = train.run(
        jax.random.key(0), recipe, (X, rows), epochs=2, batch_size=8, valid=(VALID[0], rows[:10])
    )
    hard = run(recipe, valid=VALID)
    np.testing.assert_allclose(soft.history.accuracy, hard.history.accuracy, rtol=1e-6)
    np.testing.assert_allclose(soft.history.valid_accuracy, hard.history.valid_accuracy, rtol=1e-6)


def norm(tree):
    return jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(tree)))


def distance(step):
    """Norm of the update of the parameters."""
    return norm(jax.tree.map(jnp.subtract, step.new_params, step.params))


@pytest.mark.slow
def test_history_has_the_measures_of_each_step(key):
    """Compare with the gradient of loss + penalty at each step of a Python loop."""
    bare = recipe.replace(regularizer=objective.l2(0.1))
    measures = {"gradient_norm": lambda step: norm(step.grads), "distance": distance}
    history = run(bare.replace(measures=measures), key, valid=VALID).history
    names = ["loss", "penalty", "accuracy", "gradient_norm", "distance", "rate", "finite"]
    assert list(history) == [*names, "valid_accuracy", "valid_loss"]
    state, norms, distances = train.start(jax.random.clone(key), bare, (3,)), [], []

    def value(params, state, x, y):
        outputs, _ = network.apply(params, state, x, train=True)
        squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))
        return objective.cross_entropy(outputs, y).mean() + 0.1 * squares

    def on_host(tree):
        return np.sqrt(
            sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(tree))
        )

    gradient = jax.jit(jax.grad(value))
    for epoch in range(2):
        for rows in np.asarray(
            data.batches(jax.random.fold_in(key, 1), epoch, examples=24, batch_size=8)
        ):
            norms.append(on_host(gradient(state.params, state.state, X[rows], Y[rows])))
            after, _ = train.step(bare, state, (X[rows], Y[rows]))
            distances.append(on_host(jax.tree.map(jnp.subtract, after.params, state.params)))
            state = after
    np.testing.assert_allclose(history.gradient_norm, norms, rtol=1e-5)
    np.testing.assert_allclose(history.distance, distances, rtol=1e-4)
    without = run(bare, key, valid=VALID).history
    chex.assert_trees_all_close(dict(without), {name: history[name] for name in without}, rtol=1e-6)


def test_measure_that_returns_an_array_raises(key):
    state = train.start(key, recipe, (3,))
    with pytest.raises(ShapeError, match=r"measures shares: expected one number, got \(3,\)"):
        train.step(recipe.replace(measures={"shares": lambda step: jnp.ones(3)}), state, (X, Y))


def recipe_of(rate, drop_rate, smoothing, strength, patience):
    # No bias: before a batch norm its gradient is only rounding, which Adam would scale up.
    network = nn.chain(
        nn.dense(8, use_bias=False), nn.batch_norm(), nn.tanh(), nn.dropout(drop_rate), nn.dense(4)
    )
    return train.recipe(
        network,
        optim.adamw(optim.one_cycle(rate, steps=6), weight_decay=strength),
        loss=objective.cross_entropy(label_smoothing=smoothing),
        regularizer=objective.l2(strength),
        early_stopping=train.early_stopping(patience, restore_best=False),
    )


KINDS = [
    recipe_of(*numbers)
    for numbers in ((0.1, 0.1, 0.0, 0.0, 9), (0.01, 0.3, 0.2, 1e-2, 1), (0.0, 0.0, 1, 0.1, 1))
]


@pytest.mark.slow
def test_vmap_over_a_stack_equals_the_loop(key):
    lanes = jax.jit(jax.vmap(lambda recipe: run(recipe, key, valid=VALID)))(train.stack(KINDS))
    for lane, own in enumerate(KINDS):
        alone = run(own, key, valid=VALID)
        together = jax.tree.map(
            lambda leaf, lane=lane: leaf[lane], (lanes.train_state[:4], dict(lanes.history))
        )
        epochs = alone.history.valid_loss.size
        for name, figures in alone.history.items():
            got = together[1][name][: epochs if name.startswith("valid_") else 3 * epochs]
            np.testing.assert_allclose(got, figures, rtol=1e-5, atol=1e-6, err_msg=name)
        chex.assert_trees_all_close(together[0], alone.train_state[:4], rtol=1e-5, atol=1e-6)


def test_stack_has_the_structure_of_one_recipe():
    stacked = train.stack(KINDS)
    assert jax.tree.structure(stacked) == jax.tree.structure(KINDS[0])
    for lane, own in enumerate(KINDS):
        assert jax.tree.map(lambda leaf, lane=lane: leaf[lane], stacked) == own
    two = train.stack(nn.dropout(rate) for rate in (0.1, 0.2))  # any made values, from any iterable
    np.testing.assert_allclose(jax.tree.leaves(two), [np.float32([0.1, 0.2])])


def class_weighted(classes):
    return recipe.replace(loss=objective.class_weighted(objective.cross_entropy, jnp.ones(classes)))


NONE = "stack recipes: expected at least one recipe"
STACKS = {
    "none": ([], ConfigError, f"{NONE}, got none; give a list of recipes"),
    "one": (recipe, ConfigError, f"{NONE}, got train.recipe"),
    "a number": ([recipe, 5], ConfigError, f"{NONE}, got "),
    "optimizer": (
        [recipe, recipe.replace(optimizer=optim.sgd(0.1))],
        TreeMismatchError,
        "stack recipes 1: expected the structure",
    ),
    "option": (
        [recipe, recipe, recipe.replace(on_nonfinite="skip")],
        TreeMismatchError,
        "stack recipes 2: expected the structure",
    ),
    "network": (
        [recipe, recipe.replace(network=nn.dense(4))],
        TreeMismatchError,
        "stack recipes 1: expected the structure",
    ),
    "layer": (
        [recipe, nn.dropout(0.1)],
        TreeMismatchError,
        "stack recipes 1: expected the structure",
    ),
    "shape": (
        [class_weighted(3), class_weighted(4)],
        TreeMismatchError,
        "stack recipes 1: expected the structure",
    ),
}


@pytest.mark.parametrize(("recipes", "error", "message"), STACKS.values(), ids=STACKS)
def test_invalid_stacks_raise(recipes, error, message):
    with pytest.raises(error, match=message):
        train.stack(recipes)


@pytest.mark.slow
def test_gradient_by_a_recipe_is_a_recipe(x64, key):
    """The gradient of the last validation loss by every number, against central differences."""
    own = KINDS[1].replace(early_stopping=None, prepare=lambda x: x.astype(float))

    def last(recipe):
        return run(recipe, key, valid=VALID).history.valid_loss[-1]

    last = jax.jit(last)
    slope = jax.jit(jax.grad(last))(own)
    leaves, structure = jax.tree.flatten(own)
    assert jax.tree.structure(slope) == structure
    for index, got in enumerate(jax.tree.leaves(slope)):
        shifted = [
            [*leaves[:index], leaves[index] + step, *leaves[index + 1 :]] for step in (-1e-6, 1e-6)
        ]
        low, high = (last(jax.tree.unflatten(structure, leaves)) for leaves in shifted)
        np.testing.assert_allclose(got, (high - low) / 2e-6, rtol=1e-4, atol=1e-7)


def test_recipe_prints_compares_and_pickles_as_its_call():
    own = recipe_of(0.1, 0.1, 0.2, 1e-2, 3)
    text = repr(own)
    assert (
        text.startswith("train.recipe(\n")
        and "loss=objective.cross_entropy(label_smoothing=0.2)" in text
    )
    rooms = {"nn": nn, "optim": optim, "objective": objective, "train": train}
    again = [eval(text, rooms), pickle.loads(pickle.dumps(own)), recipe_of(0.1, 0.1, 0.2, 1e-2, 3)]
    for other in again:
        assert other == own and hash(other) == hash(own)
    assert own != own.replace(on_nonfinite="skip") and own != recipe_of(0.1, 0.1, 0.2, 1e-2, 4)
    assert (
        own.network == own.arguments["network"]
        and own.replace(loss=objective.hinge).loss is objective.hinge
    )
