"""Programs by the structure of a recipe: compiled once, and deleted with the recipe's objects."""

import gc
import logging
import weakref
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, lab, nn, objective, optim, train
from fnn.train.programs import MAX_RECENT, programs_of
from fnn.types import Layer, Optimizer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_collection")]

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40, dtype=np.int32) % 3
VALID = X[:10], Y[:10]


def recipe_of(rate=0.1, drop_rate=0.1, smoothing=0.1, strength=1e-3, middle=0.0, units=4):
    network = nn.chain(nn.dense(units), nn.tanh(), nn.dropout(drop_rate), nn.dense(3))
    return train.recipe(
        network,
        optim.adam(optim.one_cycle(rate, steps=10)),
        loss=objective.cross_entropy(label_smoothing=smoothing),
        regularizer=objective.l2(strength),
        prepare=data.normalize([middle] * 3, [1.0] * 3),
    )


def run(recipe, **options):
    options = {"epochs": 2, "batch_size": 8, "valid": VALID} | options
    return train.run(jax.random.key(0), recipe, (X, Y), **options)


def steps(recipe):
    state = train.start(jax.random.key(0), recipe, (3,))
    for rows in (slice(0, 8), slice(8, 16)):
        state, _ = train.step(recipe, state, (X[rows], Y[rows]))
    return state


def epoch(recipe):
    return train.epoch(recipe, train.start(jax.random.key(0), recipe, (3,)), (X, Y), batch_size=8)


def inference(recipe):
    state = train.start(jax.random.key(0), recipe, (3,))
    return (
        train.evaluate(recipe, state, VALID),
        train.predict(recipe, state, X),
        train.weights(recipe, state),
    )


def fit(recipe):
    options = {"epochs": 1, "batch_size": 8, "valid": VALID, "chunk": 2, "show": False}
    return lab.fit(jax.random.key(0), recipe, (X, Y), **options)


USES = {
    "run": run,
    "steps": steps,
    "epoch": epoch,
    "inference": inference,
    "fit": fit,
}
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


@contextmanager
def compilations():
    """Collect the names of the programs that are compiled within."""
    names = []

    class Handler(logging.Handler):
        def emit(self, record):
            if record.msg.startswith("Compiling"):
                names.append(str(record.args[0]).removeprefix("jit(").removesuffix(")"))

    handler, logger = Handler(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield names
    finally:
        logger.removeHandler(handler)


def test_runs_that_differ_in_numbers_compile_once():
    with compilations() as first:
        run(recipe_of())
    assert first.count("run_epochs") == first.count("_start_on_data") == 1
    with compilations() as others:
        histories = [
            run(recipe_of(*numbers)).history
            for numbers in ((0.01, 0.3, 0.0, 0.0, 0.5), (1, 0, 1, 0.1, -0.5))
        ]
    assert others == []
    assert np.abs(histories[0].valid_loss - histories[1].valid_loss).min() > 1e-3


@each_use
def test_equal_recipe_compiles_nothing(use):
    use(recipe_of())
    gc.collect()  # of the first recipe only its programs are left
    with compilations() as names:
        use(recipe_of())
    assert names == []


def test_network_is_traced_once_for_all_numbers():
    # Traced by the validation of the data, in steps and in validation.
    traced = nn.elementwise(chex.assert_max_traces(lambda x: x + 0, n=3))
    for rate in (0.1, 0.2, 0.3):
        recipe = train.recipe(nn.chain(traced, nn.dense(3)), optim.sgd(rate))
        for _ in range(2):
            run(recipe)


def test_each_structure_has_its_programs():
    recipes = [
        recipe_of(),
        recipe_of(units=5),
        recipe_of().replace(on_nonfinite="skip"),
        recipe_of().replace(metrics={}),
        recipe_of(0.2),
        recipe_of().replace(optimizer=optim.adam(0.1)),
    ]
    programs = [programs_of(recipe) for recipe in recipes]
    assert programs[0] is programs[4]
    assert len({id(one) for one in programs}) == 5


def test_shared_program_uses_the_numbers_of_each_recipe():
    run(recipe_of(rate=0.1))
    rates = [run(recipe_of(rate=peak)).history.rate for peak in (0.2, 0.4)]
    np.testing.assert_allclose(2 * rates[0], rates[1], rtol=1e-6)
    alone = jax.jit(lambda recipe: run(recipe).history.loss)(recipe_of(rate=0.4))
    np.testing.assert_allclose(run(recipe_of(rate=0.4)).history.loss, alone, rtol=1e-5)


class Foreign(NamedTuple):
    """An optimizer of another JAX library."""

    init: Any
    update: Any


def with_layer(array):
    def apply(params, state, x, *, key=None, train=False):
        return x * array + params["shift"], state

    layer = Layer(lambda key, shape: ({"shift": jnp.zeros(())}, {}, shape), apply)
    return train.recipe(layer, optim.sgd(0.1)), apply


def with_part(array):
    recipe, apply = with_layer(array)
    return train.recipe(nn.chain(recipe.network, nn.dense(3)), optim.sgd(0.1)), apply


def with_loss(array):
    def loss(outputs, targets):
        return objective.cross_entropy(outputs * array, targets)

    return train.recipe(nn.dense(3), optim.sgd(0.1), loss=loss), loss


def with_ignoring(array):
    _, loss = with_loss(array)
    return train.recipe(nn.dense(3), optim.sgd(0.1), loss=objective.ignoring(loss, -1)), loss


def with_measures(array):
    def measure(step):
        return (step.grads["bias"] * array).sum()

    return train.recipe(nn.dense(3), optim.sgd(0.1), measures={"slope": measure}), measure


def with_prepare(array):
    def scale(array, x):
        return x * array

    return train.recipe(nn.dense(3), optim.sgd(0.1), prepare=partial(scale, array)), scale


def with_optimizer(array):
    def update(grads, opt_state, params):
        return jax.tree.map(lambda g: -0.1 * g * array, grads), opt_state

    return train.recipe(nn.dense(3), Optimizer(lambda params: (), update)), update


def with_foreign(array):
    def update(grads, opt_state, params):
        return jax.tree.map(lambda g: -0.1 * g * array, grads), opt_state

    return train.recipe(nn.dense(3), Foreign(lambda params: (), update)), update


HOLDERS = [
    with_layer,
    with_part,
    with_loss,
    with_ignoring,
    with_measures,
    with_prepare,
    with_optimizer,
    with_foreign,
]


def mapped(recipe):
    return jax.vmap(lambda key: train.run(key, recipe, (X, Y), epochs=1, batch_size=8).history)(
        jax.random.split(jax.random.key(0), 2)
    )


@pytest.mark.parametrize("holder", HOLDERS)
def test_deleted_recipe_is_freed(holder):
    array = jnp.asarray(2.0)
    recipe, function = holder(array)
    run(recipe)
    references = weakref.ref(function), weakref.ref(array)
    del recipe, function, array
    gc.collect()
    assert [reference() for reference in references] == [None, None]


LIVES = USES | {
    "lanes": mapped,
    "jit": lambda recipe: jax.jit(lambda: run(recipe).history)(),
    "gradient": lambda recipe: jax.grad(lambda recipe: run(recipe).history.loss[-1])(recipe),
}


@pytest.mark.parametrize("use", LIVES.values(), ids=LIVES)
def test_deleted_layer_is_freed_after_any_use(use):
    array = jnp.asarray(2.0)
    recipe, function = with_part(array)
    use(recipe)
    references = weakref.ref(function), weakref.ref(array)
    del recipe, function, array
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def executables():
    return len(jax.devices()[0].client.live_executables())


def test_only_the_most_recent_programs_are_kept():
    """The garbage collector is off: objects without references are freed at once."""
    # JAX frees programs of other tests when its caches are full, which would be counted below.
    jax.clear_caches()
    # Each function makes another structure, whose programs compile fast.
    functions = [(lambda x: x) for _ in range(3 * MAX_RECENT)]

    def of(function):
        return train.recipe(nn.chain(nn.elementwise(function), nn.dense(3)), optim.sgd(0.1))

    for function in functions[:MAX_RECENT]:
        run(of(function), epochs=1, valid=None)
    gc.collect()
    gc.disable()
    try:
        before = executables()
        for function in functions[MAX_RECENT:]:
            run(of(function), epochs=1, valid=None)
            assert executables() <= before
        in_use = [of(function) for function in functions[: 2 * MAX_RECENT]]
        idle = executables()
        for recipe in in_use:
            run(recipe, epochs=1, valid=None)
        assert executables() > idle
        del in_use, recipe
        assert executables() <= before
    finally:
        gc.enable()


def test_recipes_in_use_keep_their_programs():
    recipes = [
        recipe_of().replace(loss=lambda outputs, targets: outputs[:, 0])
        for _ in range(MAX_RECENT + 2)
    ]
    for recipe in recipes:
        run(recipe)
    with compilations() as names:
        for recipe in recipes:
            run(recipe)
    assert names == []
