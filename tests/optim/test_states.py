"""Laws on the state of every optimizer and transform, and on frozen parameters around each."""

import warnings
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, problem
from makers import CALLS, knobs, public, tried
from registry import REGISTRY

from fnn import nn, optim, train
from fnn.types import Optimizer

pytestmark = pytest.mark.slow

OPTIMIZERS = {
    name: partial(function, **REGISTRY[name].call)
    for name, function in public().items()
    if name in CALLS and name.startswith("optim.") and REGISTRY[name].parts == ()
    if function.__annotations__.get("return") is Optimizer
}
OPTIMIZERS["optim.chain"] = partial(optim.chain, *REGISTRY["optim.chain"].parts)
TRANSFORMS = {
    name: make
    for name, make in OPTIMIZERS.items()
    if "optimizer" in REGISTRY[name].call or name == "optim.chain"
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_transform = pytest.mark.parametrize("name", TRANSFORMS)


def value_fn(params):
    return sum((jnp.sin(p).sum() for p in jax.tree.leaves(params)), jnp.zeros(()))


def advance(optimizer, params, opt_state, steps=1):
    for _ in range(steps):
        value, grads = jax.value_and_grad(value_fn)(params)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        params, opt_state = optim.step(optimizer, grads, opt_state, params, **extra)
    return params, opt_state


def buffers(tree):
    pointers = []
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = jax.random.key_data(leaf) if is_key else leaf
        pointers.append(array.unsafe_buffer_pointer())
    return pointers


# Buffers.


@every_optimizer
def test_a_fresh_state_has_distinct_buffers_and_none_of_the_params(name):
    """They may be donated, and JAX donates no buffer twice."""
    optimizer = OPTIMIZERS[name]()
    # A single vector is its own flat form.
    for params in ({"a": jnp.ones(3), "b": jnp.ones((2, 2))}, {"a": jnp.ones(3), "b": jnp.ones(3)}):
        fresh = optimizer.init(params)
        compiled = jax.jit(optimizer.init)(params)
        _, stepped = advance(optimizer, params, fresh)
        for opt_state in (fresh, compiled, stepped):
            found = buffers((params, opt_state))
            assert len(set(found)) == len(found)


NETWORK = nn.chain(body=nn.dense(2), bend=nn.tanh(), head=nn.dense(2))
BATCH = (np.ones((4, 3), np.float32), np.zeros(4, np.int32))


@every_optimizer
def test_a_train_state_can_be_donated_and_the_key_outlives_it(name):
    call = dict(REGISTRY[name].call)
    if name == "optim.partition":
        call["parts"] = {"*bias": None}
    if name == "optim.scale_by_depth":
        call["paths"] = ("body", "head")
    make = public()[name]
    optimizer = make(*REGISTRY[name].parts, **call)
    skip = "skip" if name == "optim.loss_scale" else "raise"
    recipe = train.recipe(NETWORK, optimizer, on_nonfinite=skip)
    key = jax.random.key(0)
    train_state = train.start(key, recipe, (3,))
    step = jax.jit(partial(train.step, recipe), donate_argnums=0)
    train_state, _ = step(train_state, BATCH)
    train_state, _ = step(train_state, BATCH)
    assert train_state.step == 2
    assert not key.is_deleted()
    jax.random.uniform(key)


def test_a_fresh_train_state_with_early_stopping_has_distinct_buffers():
    stopping = train.early_stopping(2)
    recipe = train.recipe(NETWORK, optim.adam(0.1), early_stopping=stopping)
    found = buffers(train.start(jax.random.key(0), recipe, (3,)))
    assert len(set(found)) == len(found)


# Frozen parameters.


def loss_of(params):
    return sum(jnp.square(leaf - 1).sum() for leaf in jax.tree.leaves(params))


def wrapped(name, inner):
    """The transform of the registry around another optimizer."""
    call = {**REGISTRY[name].call, "optimizer": inner}
    if name == "optim.scale_by_depth":
        call["paths"] = ("stem", "head")
    if name == "optim.chain":
        return optim.chain(inner, optim.momentum(0.2))
    return public()[name](**call)


def run(optimizer, params, grads, value_fn):
    opt_state = optimizer.init(params)
    path = []
    for step in range(4):
        now = at(grads, step)
        opt_state = optim.observe_loss(opt_state, 1.0)
        extra = {"value": 1.0, "grad": now, "value_fn": value_fn}
        updates, opt_state = optimizer.update(now, opt_state, params, **extra)
        params = optim.apply_updates(params, updates)
        path.append((updates, optim.averaged_params(opt_state, params)))
    return path


@pytest.mark.usefixtures("x64")
@every_transform
@pytest.mark.parametrize("pattern", ["stem", "*bias", "*"])
def test_a_transform_around_a_partition_leaves_frozen_parameters_out(name, pattern):
    """Updates of frozen ones are 0; others are those of a tree without the frozen ones."""
    params, grads = problem(4)
    frozen = [
        path for path in ("head/kernel", "stem/bias", "stem/kernel") if matches(path, pattern)
    ]
    got = run(
        wrapped(name, optim.partition({pattern: None}, optim.momentum(0.1))),
        params,
        with_nan(grads, frozen),
        loss_of,
    )
    visible = without(params, frozen)
    hidden_loss = loss_of(params) - loss_of(visible)
    inner = optim.momentum(0.1)
    if name == "optim.scale_by_depth":
        # All names must match, so the parameters are not removed but do not count.
        alone = run(wrapped(name, inner), params, grads, loss_of)
    else:
        alone = run(
            wrapped(name, inner),
            visible,
            without(grads, frozen),
            lambda visible: loss_of(visible) + hidden_loss,
        )
    for (updates, average), (wanted, wanted_average) in zip(got, alone, strict=True):
        for path in frozen:
            layer, leaf = path.split("/")
            np.testing.assert_array_equal(updates[layer][leaf], 0)
            np.testing.assert_array_equal(average[layer][leaf], params[layer][leaf])
        chex.assert_trees_all_close(
            without(updates, frozen), without(wanted, frozen), rtol=1e-12, atol=1e-14
        )
        chex.assert_trees_all_close(
            without(average, frozen), without(wanted_average, frozen), rtol=1e-12, atol=1e-14
        )


def matches(path, pattern):
    return {"stem": path.startswith("stem"), "*bias": path.endswith("bias"), "*": True}[pattern]


def without(tree, paths):
    kept = {}
    for layer, leaves in tree.items():
        for name, leaf in leaves.items():
            if f"{layer}/{name}" not in paths:
                kept.setdefault(layer, {})[name] = leaf
    return kept


def with_nan(grads, paths):
    """The gradient of a frozen parameter has no effect, not even one of NaN."""

    def one(layer, name, leaf):
        return jnp.full_like(leaf, jnp.nan) if f"{layer}/{name}" in paths else leaf

    return {
        layer: {name: one(layer, name, leaf) for name, leaf in leaves.items()}
        for layer, leaves in grads.items()
    }


@every_transform
def test_nested_transforms_leave_frozen_parameters_out(name):
    params, grads = problem(4)
    inner = optim.partition({"stem": None}, optim.momentum(0.1))
    nested = optim.ema(wrapped(name, optim.clip_by_global_norm(inner, 1.0)))
    path = run(nested, params, with_nan(grads, ["stem/bias", "stem/kernel"]), loss_of)
    for updates, average in path:
        chex.assert_trees_all_equal(average["stem"], params["stem"])
        np.testing.assert_array_equal(updates["stem"]["kernel"], 0)
        chex.assert_tree_all_finite(updates)


@pytest.mark.torch
def test_a_frozen_parameter_has_no_gradient_in_training(key):
    """As in torch with requires_grad=False; its own NaN ends no run."""
    import torch

    def bent(params):
        # √|0| has no finite slope.
        return jnp.sqrt(jnp.abs(params["body"]["bias"])).sum()

    x = np.float32([[1.0, 2.0, -1.0], [0.5, -1.0, 0.3]])
    y = np.int32([0, 1])
    frozen = optim.partition({"body": None}, optim.sgd(1.0))
    recipe = train.recipe(
        NETWORK,
        optim.clip_by_global_norm(frozen, 0.1),
        regularizer=bent,
        measures={"norm": lambda step: optim.global_norm(step.grads)},
    )
    train_state = train.start(key, recipe, (3,))
    after, figures = train.step(recipe, train_state, (x, y))
    assert figures["finite"]

    parts = [torch.tensor(np.array(leaf)) for leaf in jax.tree.leaves(train_state.params)]
    bias_0, kernel_0, bias_1, kernel_1 = parts
    bias_1.requires_grad_()
    kernel_1.requires_grad_()
    hidden = torch.tanh(torch.tensor(x) @ kernel_0 + bias_0)
    outputs = hidden @ kernel_1 + bias_1
    torch.nn.functional.cross_entropy(outputs, torch.tensor(y).long()).backward()
    norm = torch.nn.utils.clip_grad_norm_([bias_1, kernel_1], 0.1)
    np.testing.assert_allclose(figures["norm"], norm, rtol=1e-5)
    wanted = (kernel_1 - kernel_1.grad).detach().numpy()
    np.testing.assert_allclose(after.params["head"]["kernel"], wanted, rtol=1e-4)
    chex.assert_trees_all_equal(after.params["body"], train_state.params["body"])


# Numbers.

# These are the first value of an entry, or what a function that is given the state alone needs.
IN_THE_STATE = {
    "optim.adagrad": {"initial"},
    "optim.prodigy": {"start"},
    "optim.loss_scale": {"scale", "backoff"},
    "optim.plateau": {"factor", "patience", "threshold", "cooldown", "floor"},
}
# Of those, the ones that an update takes from the optimizer and not from the state.
RENEWED = {
    "optim.loss_scale": {"backoff"},
    "optim.plateau": {"factor", "patience", "threshold", "cooldown", "floor"},
}
NUMBERS = [
    (one.maker, number) for one in knobs() if one.maker in OPTIMIZERS for number in one.usual
]


def differing(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return [index for index, (a, b) in enumerate(pairs) if not np.array_equal(a, b)]


@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_a_fresh_state_holds_no_number_of_its_optimizer(name, number):
    """So that a resumed run uses the numbers of its recipe."""
    params = {"a": jnp.arange(1.0, 4.0), "b": jnp.array([[1.0, 2.0], [-1.0, 0.5]])}

    @jax.jit
    def fresh(value):
        return OPTIMIZERS[name](**{number: value}).init(params)

    first, second = tried(name, number)
    wanted = fresh(second)
    differ = differing(fresh(first), wanted)
    assert bool(differ) == (number in IN_THE_STATE.get(name, ()))
    if number in RENEWED.get(name, ()):
        # A step writes the number of the optimizer that makes it.
        renewed = OPTIMIZERS[name](**{number: second})
        _, after = advance(renewed, params, fresh(first))
        for index in differ:
            np.testing.assert_array_equal(
                jax.tree.leaves(after)[index], jax.tree.leaves(wanted)[index]
            )


def test_ema_continues_with_another_decay():
    params, grads = problem(8)
    steps = []
    opt_state = optim.ema(optim.sgd(0.1), 0.5, debias=False).init(params)
    average = params
    for step in range(8):
        decay = 0.5 if step < 4 else 0.9
        optimizer = optim.ema(optim.sgd(0.1), decay, debias=False)
        params, opt_state = optim.step(optimizer, at(grads, step), opt_state, params)
        # The params of step 4 are included by the step after it, which has the new decay.
        used = 0.5 if step < 3 else 0.9
        shown = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, params)
        average = jax.tree.map(lambda a, p, d=used: d * a + (1 - d) * p, average, params)
        steps.append((optim.averaged_params(opt_state, params), shown))
    for got, wanted in steps:
        chex.assert_trees_all_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_schedule_free_keeps_its_average_where_b1_changes():
    """x does not depend on b1, which only weighs y = b1 x + (1 - b1) z."""
    params, grads = problem(2)
    first = optim.schedule_free_sgd(0.1, b1=0.9)
    second = optim.schedule_free_sgd(0.1, b1=0.5)
    before, opt_state = optim.step(first, at(grads, 0), first.init(params), params)
    x = optim.averaged_params(opt_state, before)
    after, new_state = optim.step(second, at(grads, 1), opt_state, before)
    z = jax.tree.map(lambda z, g: z - 0.1 * g[1], opt_state.fast, grads)
    new_x = jax.tree.map(lambda x, z: x / 2 + z / 2, x, z)
    chex.assert_trees_all_close(optim.averaged_params(new_state, after), new_x, rtol=1e-12)
    chex.assert_trees_all_close(
        after, jax.tree.map(lambda x, z: 0.5 * x + 0.5 * z, new_x, z), rtol=1e-12
    )


def test_a_resumed_run_uses_the_numbers_of_its_recipe(key):
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    data = (x, (x[:, 0] > 0).astype(np.int32))
    options = {"epochs": 2, "batch_size": 16, "valid": data}
    patient = train.recipe(NETWORK, optim.plateau(optim.sgd(0.1), threshold=0.9, patience=100))
    hasty = patient.replace(
        optimizer=optim.plateau(optim.sgd(0.1), threshold=0.9, patience=0, factor=0.5)
    )
    first = train.run(key, patient, data, **options)
    assert first.train_state.opt_state.share == 1
    second = train.run(key, hasty, data, resume=first.train_state, **options)
    assert second.train_state.opt_state.share == 0.25


def test_a_skipped_first_step_of_a_resumed_run_backs_off_by_the_new_factor(key):
    recipes = []
    for backoff in (0.5, 0.125):
        optimizer = optim.loss_scale(optim.sgd(0.1), 8.0, backoff=backoff)
        recipes.append(train.recipe(NETWORK, optimizer, on_nonfinite="skip"))
    train_state = train.start(key, recipes[0], (3,))
    wrong = np.full((4, 3), np.nan, np.float32), BATCH[1]
    train_state, _ = train.step(recipes[1], train_state, wrong)
    assert train_state.opt_state.scale == 1
    train_state, _ = train.step(recipes[0], train_state, wrong)
    assert train_state.opt_state.scale == 0.5


# Unusual parameters.


@every_optimizer
@pytest.mark.parametrize("shapes", [(), ((0,),), ((0, 3), (3, 0), (2, 0, 3)), ((2, 2), (0,), ())])
def test_parameters_without_numbers_are_kept(name, shapes):
    params = {f"p{i}": jnp.ones(shape) for i, shape in enumerate(shapes)}
    call = dict(REGISTRY[name].call)
    if name in ("optim.partition", "optim.scale_by_depth") and shapes:
        call |= {"parts": {"p0": None}} if name == "optim.partition" else {"paths": ("p*",)}
    elif name == "optim.partition":
        call["parts"] = {}
    elif name == "optim.scale_by_depth":
        call["paths"] = ()
    optimizer = public()[name](*REGISTRY[name].parts, **call)
    with jax.debug_nans(True):
        new, opt_state = advance(optimizer, params, optimizer.init(params), steps=2)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, params)
    for leaf in jax.tree.leaves(opt_state):
        # The best loss of plateau is inf at first.
        assert not jnp.isnan(leaf).any()


@every_optimizer
def test_python_numbers_are_parameters_as_arrays_are(name):
    """So that an optimizer takes a recipe, whose leaves are such numbers."""
    optimizer = OPTIMIZERS[name]()
    numbers = {"a": 1.0, "b": 2.0}
    arrays = jax.tree.map(jnp.float32, numbers)
    paths = []
    for params in (numbers, arrays):
        after, opt_state = advance(optimizer, params, optimizer.init(params))
        paths.append((after, optim.averaged_params(opt_state, params)))
    chex.assert_trees_all_close(*paths, rtol=1e-6)


# Transforms of steps that are not made.


@pytest.mark.parametrize("transform", [optim.skip_nonfinite, partial(optim.loss_scale, scale=4.0)])
def test_nothing_decays_in_a_skipped_step(transform):
    optimizer = optim.weight_decay(transform(optim.sgd(0.1)), 0.5)
    params = {"w": jnp.ones(2)}
    wrong = {"w": jnp.array([jnp.nan, 1.0])}
    opt_state = optimizer.init(params)
    updates, opt_state = optimizer.update(wrong, opt_state, params)
    np.testing.assert_array_equal(updates["w"], 0)
    updates, opt_state = optimizer.update({"w": jnp.zeros(2)}, opt_state, params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)


# Parameters in half precision.


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_training_warns_of_parameters_that_round_updates_away(key, dtype):
    recipe = train.recipe(NETWORK, optim.sgd(0.1), prepare=lambda x: x.astype(dtype))
    train_state = train.start(key, recipe, (3,))
    params = jax.tree.map(lambda p: p.astype(dtype), train_state.params)

    def step(optimizer):
        one = recipe.replace(optimizer=optimizer)
        begin = train_state._replace(params=params, opt_state=optimizer.init(params))
        return train.step(one, begin, BATCH)

    with pytest.warns(UserWarning, match="params body/bias: expected float32, got b?float16"):
        step(optim.sgd(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(optim.stochastic_rounding(key, optim.sgd(0.1)))
        step(optim.partition({"*": None}, None))
