"""The laws of CONTRIBUTING.md, over every public maker; law 8 is in test_values.py."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from makers import Knobs
from registry import REGISTRY

from fnn import augment, data, lab, nn, objective, optim, train
from fnn.errors import FnnError
from fnn.types import Layer, Optimizer

pytestmark = pytest.mark.slow

KNOBS = list(makers.knobs())
LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
OPTIMIZERS = [name for name in makers.CALLS if makers.kind(name) is Optimizer]
over_knobs = pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: knobs.maker)


def same_bits(a, b):
    """Whether two trees of arrays and keys are equal to the last bit."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    arrays = [jax.tree.map(raw, tree) for tree in (a, b)]
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, *arrays)))


def bytes_of(tree):
    """The bytes of every leaf, by which NaN equals NaN."""
    return [np.asarray(raw(leaf)).tobytes() for leaf in jax.tree.leaves(tree)]


def raw(leaf):
    """The leaf, or the data of a key."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def lane_of(tree, lane):
    """One lane of a tree with a leading axis of lanes; keys as their data."""
    return jax.tree.map(lambda leaf: raw(leaf[lane]), tree)


def test_every_public_function_is_registered():
    assert makers.public().keys() == REGISTRY.keys()
    assert sum(len(knobs.usual) for knobs in KNOBS) >= 100


# 1. Traceable. 2. One compile. 3. A lane is a run.


@over_knobs
def test_traced_numbers_slopes_lanes_and_one_compilation(knobs: Knobs):
    """Traced numbers give the values of constants, with finite slopes, in one compilation.

    Every lane equals a single run. The three laws share their programs, because compilation takes
    most of the time of a test.
    """
    chex.clear_trace_counter()
    outcome = chex.assert_max_traces(knobs.outcome, n=1)
    traced = jax.jit(lambda row, tangents: jax.jvp(outcome, (row,), (tangents,)))
    # The first row has the usual numbers; each following one has another value of one number.
    zeros = dict.fromkeys(knobs.usual, 0.0)
    rows, directions = [knobs.usual], [zeros]
    for name in knobs.usual:
        for value in makers.tried(knobs.maker, name):
            rows.append(knobs.usual | {name: value})
            directions.append(zeros | {name: 1.0})
    outcomes, slopes = [], []
    for row, direction in zip(rows, directions, strict=True):
        value, slope = traced(as_arrays(row), as_arrays(direction))
        outcomes.append(value)
        slopes.append(slope)
    entry = REGISTRY[knobs.maker]
    for index, name in enumerate(knobs.usual):
        first = 1 + 2 * index  # there are two values per number
        low, high = outcomes[first : first + 2]
        slope = slopes[first]
        has_effect = name not in entry.no_effect
        assert not has_effect or not same_bits(low, high), f"{name} changes nothing"
        chex.assert_tree_all_finite(slope)
        if entry.smooth and has_effect and name not in entry.no_slope:
            is_nonzero = [jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope)]
            assert any(is_nonzero), f"{name} has no slope"
    constant = jax.jit(lambda: knobs.outcome(knobs.usual))()
    chex.assert_trees_all_close(outcomes[0], constant, rtol=2e-5, atol=1e-6)
    stacked = jax.tree.map(lambda *values: jnp.array(values, jnp.float32), *rows)
    lanes = jax.jit(jax.vmap(knobs.outcome))(stacked)
    for lane, expected in enumerate(outcomes):
        got = jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes)
        chex.assert_trees_all_close(got, expected, rtol=2e-5, atol=1e-6)


def as_arrays(values):
    return jax.tree.map(jnp.float32, values)


@pytest.mark.parametrize("knobs", list(makers.knobs(networks=True)), ids=lambda knobs: knobs.maker)
def test_numbers_of_a_network_can_be_traced_and_are_used(knobs: Knobs):
    program = jax.make_jaxpr(knobs.outcome)(as_arrays(knobs.usual)).jaxpr
    used = {id(variable) for equation in program.eqns for variable in equation.invars}
    assert all(id(variable) in used for variable in program.invars)


digits = data.digits()
few = (digits.train[0][:96], digits.train[1][:96])
some = (digits.test[0][:50], digits.test[1][:50])
policy = augment.chain(augment.random_crop(padding=1), augment.cutout(2), augment.flip_lr())
convolutional = nn.chain(
    nn.conv(4), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.residual(nn.chain(nn.conv(4), nn.batch_norm(), nn.relu())),
    nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10),
)  # fmt: skip
options = {"epochs": 2, "batch_size": 16, "valid": some}


def recipe_of(peak=1e-2, decay=1e-2):
    optimizer = optim.adamw(optim.one_cycle(peak, steps=12), weight_decay=decay)
    return train.recipe(convolutional, optimizer, augment=policy)


def run(key, peak, decay):
    return train.run(key, recipe_of(peak, decay), few, **options)


def test_lanes_of_a_run_equal_single_runs_and_compile_once(key):
    keys = jax.random.split(key, 3)
    peaks = jnp.array([1e-3, 1e-2, 1e-1])
    decays = jnp.array([0.0, 1e-2, 1e-1])
    lanes = jax.jit(jax.vmap(chex.assert_max_traces(run, n=1)))(keys, peaks, decays)
    single_run = jax.jit(run)
    for lane in range(3):
        expected = jax.tree.map(raw, single_run(keys[lane], peaks[lane], decays[lane]))
        chex.assert_trees_all_close(lane_of(lanes, lane), expected, rtol=1e-5, atol=1e-5)


def test_a_diverged_lane_does_not_change_the_others(key):
    def with_rate(rate):
        recipe = train.recipe(convolutional, optim.sgd(rate), augment=policy, on_nonfinite="ignore")
        return train.run(key, recipe, few, **options)

    run_lanes = jax.jit(jax.vmap(with_rate))
    lanes, healthy = (run_lanes(jnp.array([1e-2, rate, 3e-2])) for rate in (1e38, 1e-2))
    assert not lanes.history.finite[1].all() and jnp.isnan(lanes.history.valid_loss[1, -1])
    assert healthy.history.finite.all()
    for lane in (0, 2):
        got, expected = (lane_of(result.history, lane) for result in (lanes, healthy))
        chex.assert_trees_all_equal(got, expected)


def test_lanes_over_stacked_recipes_equal_single_runs(key):
    # The gradient of a bias before a batch norm is a rounding error, which Adam would amplify.
    body = [nn.conv(4, use_bias=False), nn.batch_norm(), nn.relu(), nn.flatten(), nn.dropout(0.1)]
    network = nn.chain(*body, nn.dense(10))
    draw = np.random.default_rng(0)
    numbers = 10 ** draw.uniform(-4, -2, (16, 2))
    recipes = [recipe_of(*pair).replace(network=network) for pair in numbers]

    def run_recipe(recipe):
        return train.run(key, recipe, few, **options)

    lanes = jax.jit(jax.vmap(run_recipe))(train.stack(recipes))
    for lane, recipe in enumerate(recipes):
        expected = jax.tree.map(raw, run_recipe(recipe))
        chex.assert_trees_all_close(lane_of(lanes, lane), expected, rtol=1e-5, atol=1e-5)


def test_gradient_of_a_recipe_matches_central_differences(x64, key):
    """By every number: drop rate, momentum, rate, breakpoints, decay, smoothing, magnitudes."""
    body = [nn.conv(4), nn.batch_norm(momentum=0.8), nn.tanh(), nn.flatten(), nn.dropout(0.1)]
    schedule = optim.cosine(0.1, steps=11, warmup_steps=2.5)
    recipe = train.recipe(
        nn.chain(*body, nn.dense(10)),
        optim.weight_decay(optim.momentum(schedule, momentum=0.8), 1e-2),
        loss=objective.cross_entropy(label_smoothing=0.1),
        augment=augment.brightness((0.5, 0.9)),  # smooth, because it clips nothing
        regularizer=0.1 * objective.l2(1e-3).on("*kernel"),
    )
    inputs = few[0].astype(np.float64) / 255

    @jax.jit
    def final_loss(recipe):
        return train.run(key, recipe, (inputs, few[1]), **options).history.valid_loss[-1]

    gradient = jax.jit(jax.grad(final_loss))(recipe)
    assert jax.tree.structure(gradient) == jax.tree.structure(recipe)
    leaves, structure = jax.tree.flatten(recipe)
    assert len(leaves) == 12
    for index, slope in enumerate(jax.tree.leaves(gradient)):
        leaf = leaves[index]
        # Augmentations draw in float32, whose rounding error needs a larger step.
        relative_step = 1e-3 if leaf in (0.5, 0.9) else 1e-5
        step = relative_step * max(abs(leaf), 0.1)
        ends = []
        for end in (leaf + step, leaf - step):
            changed = [*leaves[:index], end, *leaves[index + 1 :]]
            ends.append(final_loss(jax.tree.unflatten(structure, changed)))
        high, low = ends
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-3, atol=1e-7)


# 4. A resumed run is the run.


def scheduled(name):
    """The optimizer of a maker, with a schedule if it takes a rate."""
    options = makers.CALLS[name]
    rate = {"rate": optim.one_cycle(1e-2, steps=12)} if "rate" in options else {}
    return makers.public()[name](**options | rate)


perceptron = nn.chain(nn.flatten(), nn.dense(4), nn.relu(), nn.dense(10))


def fitting(name, key):
    """fit with the optimizer of a maker; only Adam has a large network and augmentations."""
    if name == "optim.adam":
        recipe = train.recipe(convolutional, scheduled(name), augment=policy, on_nonfinite="skip")
        return partial(lab.fit, key, recipe, few, **options, show=False)
    recipe = train.recipe(perceptron, scheduled(name), on_nonfinite="skip")
    # The plateau needs a validation loss.
    valid = some if name == "optim.plateau" else None
    return partial(lab.fit, key, recipe, few, **options | {"valid": valid}, show=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_stopped_at_any_step_and_resumed_is_the_run(name, key):
    fit = fitting(name, key)
    whole = fit()
    for stop in np.random.default_rng(0).choice(np.arange(1, 12), 2, replace=False):
        first = fit(max_steps=int(stop))
        assert int(first.train_state.step) == stop
        rest = fit(resume=first.train_state)
        assert same_bits(rest.train_state, whole.train_state)
        for measure in whole.history:
            joined = np.concatenate([first.history[measure], rest.history[measure]])
            np.testing.assert_array_equal(joined, whole.history[measure])


@pytest.mark.faults
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumed_from_disk_at_any_step_is_the_run(name, key, tmp_path):
    """20 runs, each stopped at one to three random steps."""
    fit = partial(fitting(name, key), epochs=4)
    whole = fit()
    draw = np.random.default_rng(list(name.encode()))
    for run in range(20):
        resumed_fit = partial(fit, checkpoints=tmp_path / str(run), resume=True)
        steps = np.arange(1, whole.history.loss.size)
        for stop in sorted(draw.choice(steps, draw.integers(1, 4), replace=False)):
            assert resumed_fit(max_steps=int(stop)).train_state.step == stop
        assert bytes_of(resumed_fit()) == bytes_of(whole)


# 5. Same key, same result.


@pytest.mark.parametrize("maker", LAYERS)
def test_a_layer_draws_the_same_from_the_same_key(maker):
    draw = jax.jit(lambda: makers.outcome(maker))
    assert same_bits(draw(), draw())


def test_a_run_depends_only_on_its_key(key):
    jitted = jax.jit(run)
    keys = (key, jax.random.clone(key), jax.random.key(1))
    first, again, other = (jitted(run_key, 1e-2, 1e-2) for run_key in keys)
    assert same_bits(first, again)
    assert not same_bits(first.train_state.params, other.train_state.params)


# 6. Chunking is invisible.


def test_fit_is_the_run_bit_for_bit_in_chunks_of_any_size(key):
    recipe = recipe_of()
    whole = train.run(key, recipe, few, **options)
    for chunk in (1, 7, 12, None):
        assert same_bits(lab.fit(key, recipe, few, chunk=chunk, show=False, **options), whole)


# 7. Errors name their path.


@pytest.mark.parametrize("maker", [*LAYERS, *makers.NETWORKS])
def test_an_error_inside_a_layer_names_its_path_and_input(maker):
    layer = makers.public()[maker](**REGISTRY[maker].call)
    first = Layer(nn.flatten().init, lambda params, state, x, **_: (x, state))
    network = nn.chain(stem=nn.residual(nn.chain(first, part=layer)))
    with pytest.raises((FnnError, IndexError)) as caught:
        network.apply({}, {}, jnp.int32(0))
    # JAX adds a note about its frames.
    (note,) = [note for note in caught.value.__notes__ if note.startswith("in layer")]
    assert note.startswith("in layer stem/body/part") and note.endswith(": x int32[]")
