"""The laws of CONTRIBUTING.md, over every public maker; law 8 is in test_values.py."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from makers import Knobs

from fnn import augment, data, lab, nn, objective, optim, train
from fnn.errors import FnnError
from fnn.types import Layer, Optimizer

KNOBS = list(makers.knobs())
LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
OPTIMIZERS = [name for name in makers.CALLS if makers.kind(name) is Optimizer]
# What depends on its knobs smoothly; the others draw by them or count by them.
SMOOTH = (
    "optim.",
    "objective.",
    "nn.elu",
    "nn.leaky_relu",
    "nn.batch_norm",
    "nn.normal",
    "nn.pad",
    "nn.truncated_normal",
    "nn.variance_scaling",
    "nn.constant",
    "nn.identity",
    "nn.orthogonal",
    "nn.layer_norm",
    "nn.lstm",
    "nn.sinusoidal_positions",
    "nn.rms_norm",
    "nn.group_norm",
    "nn.instance_norm",
    "nn.weight_standardization",
    "nn.prelu",
    "augment.affine",
    "augment.brightness",
    "augment.contrast",
    "augment.elastic",
    "augment.gamma",
    "augment.gaussian_blur",
    "augment.gaussian_noise",
    "augment.hue",
    "augment.jitter",
    "augment.pca_lighting",
    "augment.perspective",
    "augment.rgb_shift",
    "augment.rotate",
    "augment.saturation",
    "augment.scale",
    "augment.sharpness",
    "augment.shear",
    "augment.translate",
)
# What shows in no constant rate, for then all steps weigh the same.
UNSEEN = {"optim.schedule_free_adamw.power", "optim.schedule_free_sgd.power"}
# What decides when something is done, or on a sign: of that there is no slope.
COUNTED = {
    "optim.lbfgs.curvature",
    "optim.lbfgs.sufficient",
    "optim.lion.b1",
    "optim.lion.b2",
    "optim.soap.decay",
    "optim.step_decay.steps",
    "optim.accumulate.steps",
    "optim.lookahead.steps",
    "optim.loss_scale.steps",
    "optim.plateau.cooldown",
    "optim.plateau.patience",
    "optim.plateau.threshold",
}

over_knobs = pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: knobs.maker)


def same_bits(a, b):
    """Whether two trees of arrays and keys are equal to the last bit."""
    bare = [jax.tree.map(raw, tree) for tree in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        jax.tree.leaves(jax.tree.map(np.array_equal, *bare))
    )


def bytes_of(tree):
    """Every leaf's bytes, in which NaN equals NaN."""
    return [np.asarray(raw(leaf)).tobytes() for leaf in jax.tree.leaves(tree)]


def raw(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def test_every_public_maker_is_walked():
    assert makers.public().keys() == makers.CALLS.keys() | makers.NETWORKS.keys() | makers.FUNCTIONS
    assert sum(len(knobs.usual) for knobs in KNOBS) >= 100


# 1. Traceable. 2. One compile. 3. A lane is a run.


@over_knobs
def test_traced_knobs_give_what_numbers_give_with_finite_slopes_from_one_compilation_and_in_every_lane(
    knobs: Knobs,
):
    """The three laws share their programs, since most of a test's time goes into compiling."""
    chex.clear_trace_counter()
    traced = jax.jit(
        lambda row, towards: jax.jvp(chex.assert_max_traces(knobs.outcome, n=1), (row,), (towards,))
    )
    rows, towards = [knobs.usual], [dict.fromkeys(knobs.usual, 0.0)]
    for name in knobs.usual:
        for value in makers.tried(knobs.maker, name):
            rows.append(knobs.usual | {name: value})
            towards.append(towards[0] | {name: 1.0})
    each, slopes = zip(
        *(traced(*map(as_arrays, pair)) for pair in zip(rows, towards, strict=True)), strict=True
    )
    for place, name in enumerate(knobs.usual):
        (low, high), slope = each[1 + 2 * place :][:2], slopes[1 + 2 * place]
        assert f"{knobs.maker}.{name}" in UNSEEN or not same_bits(low, high), (
            f"{name} changes nothing"
        )
        chex.assert_tree_all_finite(slope)
        if knobs.maker.startswith(SMOOTH) and f"{knobs.maker}.{name}" not in COUNTED | UNSEEN:
            assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope)), (
                f"{name} has no slope"
            )
    written = jax.jit(lambda: knobs.outcome(knobs.usual))()
    chex.assert_trees_all_close(each[0], written, rtol=2e-5, atol=1e-6)
    lanes = jax.jit(jax.vmap(knobs.outcome))(
        jax.tree.map(lambda *values: jnp.array(values, jnp.float32), *rows)
    )
    for lane, alone in enumerate(each):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes), alone, rtol=2e-5, atol=1e-6
        )


def as_arrays(values):
    return jax.tree.map(jnp.float32, values)


@pytest.mark.parametrize("knobs", list(makers.knobs(networks=True)), ids=lambda knobs: knobs.maker)
def test_a_knob_of_a_network_may_be_traced_and_is_used(knobs: Knobs):
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


def a_recipe(peak=1e-2, decay=1e-2):
    optimizer = optim.adamw(optim.one_cycle(peak, steps=12), weight_decay=decay)
    return train.recipe(convolutional, optimizer, augment=policy)


def run(key, peak, decay):
    return train.run(key, a_recipe(peak, decay), few, **options)


def test_lanes_of_a_run_are_the_runs_and_compile_once(key):
    keys, peaks, decays = (
        jax.random.split(key, 3),
        jnp.array([1e-3, 1e-2, 1e-1]),
        jnp.array([0.0, 1e-2, 1e-1]),
    )
    lanes = jax.jit(jax.vmap(chex.assert_max_traces(run, n=1)))(keys, peaks, decays)
    alone = jax.jit(run)
    for lane in range(3):
        one = alone(keys[lane], peaks[lane], decays[lane])
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, lane=lane: raw(leaf[lane]), lanes),
            jax.tree.map(raw, one),
            rtol=1e-5,
            atol=1e-5,
        )


def test_a_diverged_lane_never_touches_another(key):
    def with_rate(rate):
        recipe = train.recipe(convolutional, optim.sgd(rate), augment=policy, on_nonfinite="ignore")
        return train.run(key, recipe, few, **options)

    together = jax.jit(jax.vmap(with_rate))
    lanes, healthy = (together(jnp.array([1e-2, rate, 3e-2])) for rate in (1e38, 1e-2))
    assert not lanes.history.finite[1].all() and jnp.isnan(lanes.history.valid_loss[1, -1])
    assert healthy.history.finite.all()
    for lane in (0, 2):
        chex.assert_trees_all_equal(
            *(jax.tree.map(lambda x, lane=lane: x[lane], own.history) for own in (lanes, healthy))
        )


def test_lanes_over_stacked_recipes_are_the_runs(key):
    # Without what a batch norm cancels: the gradient by a bias before one is rounding, which Adam makes large.
    network = nn.chain(
        nn.conv(4, use_bias=False),
        nn.batch_norm(),
        nn.relu(),
        nn.flatten(),
        nn.dropout(0.1),
        nn.dense(10),
    )
    draw = np.random.default_rng(0)
    numbers = 10 ** draw.uniform(-4, -2, (16, 2))
    recipes = [a_recipe(*pair).replace(network=network) for pair in numbers]
    lanes = jax.jit(jax.vmap(lambda recipe: train.run(key, recipe, few, **options)))(
        train.stack(recipes)
    )
    for lane, recipe in enumerate(recipes):
        one = train.run(key, recipe, few, **options)
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, lane=lane: raw(leaf[lane]), lanes),
            jax.tree.map(raw, one),
            rtol=1e-5,
            atol=1e-5,
        )


def test_the_gradient_by_a_recipe_is_the_central_difference(x64, key):
    """By every number of it: drop rate, momentum, rate, breakpoints, decay, smoothing, augmentation magnitude."""
    recipe = train.recipe(
        nn.chain(
            nn.conv(4),
            nn.batch_norm(momentum=0.8),
            nn.tanh(),
            nn.flatten(),
            nn.dropout(0.1),
            nn.dense(10),
        ),
        optim.weight_decay(
            optim.momentum(optim.cosine(0.1, steps=11, warmup_steps=2.5), momentum=0.8), 1e-2
        ),
        loss=objective.cross_entropy(label_smoothing=0.1),
        augment=augment.brightness((0.5, 0.9)),  # which clips nothing, so that it is smooth
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
    for place, slope in enumerate(jax.tree.leaves(gradient)):
        # Augmentations draw in float32, whose rounding a small step would show.
        step = (1e-3 if leaves[place] in (0.5, 0.9) else 1e-5) * max(abs(leaves[place]), 0.1)
        ends = [
            [*leaves[:place], leaves[place] + sign * step, *leaves[place + 1 :]] for sign in (1, -1)
        ]
        high, low = (final_loss(jax.tree.unflatten(structure, end)) for end in ends)
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-3, atol=1e-7)


# 4. Resume is the run.


def scheduled(name):
    """The optimizer of a maker, its rate a schedule if it takes one."""
    options = makers.CALLS[name]
    rate = {"rate": optim.one_cycle(1e-2, steps=12)} if "rate" in options else {}
    return makers.public()[name](**options | rate)


perceptron = nn.chain(nn.flatten(), nn.dense(4), nn.relu(), nn.dense(10))


def fitting(name, key):
    """fit with the optimizer of a maker; all else than that need not be tried with each of them."""
    alone = options | {"valid": some if name == "optim.plateau" else None}
    whole = name == "optim.adam"
    network, own_options = (convolutional, options) if whole else (perceptron, alone)
    recipe = train.recipe(
        network, scheduled(name), augment=policy if whole else None, on_nonfinite="skip"
    )
    return partial(lab.fit, key, recipe, few, **own_options, show=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_stopped_anywhere_and_resumed_is_the_run(name, key):
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
def test_a_run_goes_on_from_the_disk_wherever_it_stopped(name, key, tmp_path):
    """Twenty runs, each stopped at one to three places of its own."""
    fit = partial(fitting(name, key), epochs=4)
    whole = fit()
    draw = np.random.default_rng(list(name.encode()))
    for run in range(20):
        kept = tmp_path / str(run)
        for stop in sorted(
            draw.choice(np.arange(1, whole.history.loss.size), draw.integers(1, 4), replace=False)
        ):
            assert fit(checkpoints=kept, resume=True, max_steps=int(stop)).train_state.step == stop
        assert bytes_of(fit(checkpoints=kept, resume=True)) == bytes_of(whole)


# 5. Same key, same result.


@pytest.mark.parametrize("maker", LAYERS)
def test_a_layer_draws_the_same_from_the_same_key(maker):
    draw = jax.jit(lambda: makers.outcome(maker))
    assert same_bits(draw(), draw())


def test_a_run_is_its_key(key):
    jitted = jax.jit(run)
    first, again, other = (
        jitted(k, 1e-2, 1e-2) for k in (key, jax.random.clone(key), jax.random.key(1))
    )
    assert same_bits(first, again)
    assert not same_bits(first.train_state.params, other.train_state.params)


# 6. Chunking is invisible.


def test_fit_is_the_run_bit_for_bit_in_chunks_of_any_size(key):
    recipe = a_recipe()
    whole = train.run(key, recipe, few, **options)
    for chunk in (1, 7, 12, None):
        assert same_bits(lab.fit(key, recipe, few, chunk=chunk, show=False, **options), whole)


# 7. Errors know where.


@pytest.mark.parametrize("maker", [*LAYERS, *makers.NETWORKS])
def test_an_error_inside_a_layer_names_its_path_and_what_it_saw(maker):
    layer = makers.public()[maker](**(makers.CALLS | makers.NETWORKS)[maker])
    first = Layer(nn.flatten().init, lambda params, state, x, **_: (x, state))
    network = nn.chain(stem=nn.residual(nn.chain(first, part=layer)))
    with pytest.raises((FnnError, IndexError)) as caught:
        network.apply({}, {}, jnp.int32(0))
    (note,) = [
        note for note in caught.value.__notes__ if note.startswith("in layer")
    ]  # JAX adds one of its frames
    assert note.startswith("in layer stem/body/part") and note.endswith(": x int32[]")
