"""Building blocks of transforms, and properties of every transform."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, path, problem

from fnn import objective, optim
from fnn.errors import ConfigError, TreeMismatchError
from fnn.optim import transform as helpers
from fnn.types import Optimizer

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
TRANSFORMS = {
    "accumulate": lambda inner: optim.accumulate(inner, 2),
    "adaptive_clip": optim.adaptive_clip,
    "centralize": optim.centralize,
    "chain": lambda inner: optim.chain(inner, foreign),
    "clip_by_global_norm": lambda inner: optim.clip_by_global_norm(inner, 0.5),
    "clip_by_value": lambda inner: optim.clip_by_value(inner, 0.1),
    "ema": partial(optim.ema, decay=0.9),
    "lawa": partial(optim.lawa, every=2, window=2),
    "lookahead": lambda inner: optim.lookahead(inner, steps=2),
    "loss_scale": lambda inner: optim.loss_scale(inner, 8.0),
    "noise": partial(optim.noise, KEY),
    "partition": lambda inner: optim.partition({"*kernel": inner}, None),
    "plateau": optim.plateau,
    "project": lambda inner: optim.project(inner, objective.max_norm(1.0)),
    "scale_by_depth": lambda inner: optim.scale_by_depth(inner, 0.5, paths=("*bias", "*kernel")),
    "skip_nonfinite": optim.skip_nonfinite,
    "swa": partial(optim.swa, every=2),
    "swag": partial(optim.swag, rank=2),
    "weight_decay": lambda inner: optim.weight_decay(inner, 0.1, decoupled=False),
}
ANY_TREE = {
    name: make for name, make in TRANSFORMS.items() if name not in ("partition", "scale_by_depth")
}
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def negated(grads, opt_state, params):
    return jax.tree.map(lambda g: -0.1 * g, grads), opt_state


foreign = Optimizer(lambda params: (), negated)  # no keywords, no rate


# Properties of every transform.


@every_transform
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_states_keep_their_structure_and_updates_the_dtype_of_params(transform, dtype):
    """Else no scan could carry them. Weak types count: they would cost another compilation."""
    optimizer = transform(optim.momentum(0.1))
    params, grads = problem(1, dtype)
    opt_state = optimizer.init(params)
    updates, after = jax.eval_shape(optimizer.update, at(grads, 0), opt_state, params)
    kinds = [
        jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type),
            jax.eval_shape(lambda tree: tree, tree),
        )
        for tree in (opt_state, after, jax.eval_shape(optim.observe_loss, after, 1.0))
    ]
    assert kinds[0] == kinds[1] == kinds[2]
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


@every_transform
def test_a_state_has_distinct_buffers(transform):
    """They may be donated, and JAX donates no buffer twice."""
    params, _ = problem(1)
    leaves = jax.tree.leaves((transform(optim.adam(0.1)).init(params), params))
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@every_transform
def test_a_step_adds_the_updates_to_the_parameters(transform):
    optimizer = transform(optim.adam(0.1))
    params, grads = problem(1)
    opt_state = optimizer.init(params)
    updates, wanted = optimizer.update(at(grads, 0), opt_state, params)
    got, stepped = optim.step(optimizer, at(grads, 0), opt_state, params)
    chex.assert_trees_all_close(got, optim.apply_updates(params, updates), rtol=1e-6)
    chex.assert_trees_all_close(stepped, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["adaptive_clip", "centralize", "clip_by_global_norm", "ema", "noise", "partition", "swag"],
)
def test_transforms_that_keep_updates_step_in_place(name):
    """The step of the transform calls the step, not the update, of the inner optimizer."""
    params, grads = problem(1)
    wanted, _ = optim.step(
        TRANSFORMS[name](optim.sgd(0.1)), at(grads, 0), with_step_only(name).init(params), params
    )
    got, _ = optim.step(
        with_step_only(name), at(grads, 0), with_step_only(name).init(params), params
    )
    chex.assert_trees_all_equal(got, wanted)


def with_step_only(name):
    def update(*_, **__):
        raise AssertionError("update called instead of step")

    return TRANSFORMS[name](Optimizer(optim.sgd(0.1).init, update, optim.sgd(0.1).step))


@every_transform
def test_an_inner_optimizer_needs_neither_keywords_nor_a_rate(transform):
    params, grads = problem(2)
    got, opt_state = follow(
        transform(foreign), params, grads, value=1.0, grad=params, value_fn=None
    )
    chex.assert_tree_all_finite(got)
    assert helpers.last_rate(opt_state) is None


@every_transform
def test_an_argument_that_is_not_an_optimizer_raises(transform):
    with pytest.raises(ConfigError, match=r"expected a pair \(init, update\)"):
        transform(optim.sgd)


@pytest.mark.parametrize("transform", ANY_TREE.values(), ids=ANY_TREE)
def test_an_empty_tree_has_empty_updates(transform):
    optimizer = transform(optim.momentum(0.1))
    updates, _ = optimizer.update({}, optimizer.init({}), {})
    assert updates == {}


@every_transform
def test_gradients_through_training_are_finite_where_gradients_are_zero(transform):
    params, grads = problem(3)
    zero = jax.tree.map(jnp.zeros_like, grads)

    def final(rate):
        return sum(
            leaf[-1].sum()
            for leaf in jax.tree.leaves(path(transform(optim.momentum(rate)), params, zero))
        )

    chex.assert_tree_all_finite(jax.jit(jax.grad(final))(0.1))


# Pairs of transforms whose order makes no difference.

COMMUTING = [
    ("ema", "skip_nonfinite"),
    ("ema", "clip_by_global_norm"),
    ("plateau", "ema"),
    ("scale_by_depth", "plateau"),
    ("scale_by_depth", "clip_by_global_norm"),
    ("centralize", "accumulate"),
    ("skip_nonfinite", "clip_by_value"),
    ("partition", "accumulate"),
    ("lookahead", "clip_by_global_norm"),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("one", "other"), COMMUTING)
def test_transforms_commute(one, other):
    params, grads = problem(5)
    one, other = TRANSFORMS[one], TRANSFORMS[other]
    inner = optim.momentum(0.1)
    chex.assert_trees_all_close(
        path(one(other(inner)), params, grads),
        path(other(one(inner)), params, grads),
        rtol=1e-12,
        atol=1e-13,
    )


# The building blocks.


def test_keywords_that_an_update_does_not_know_are_dropped():
    def update(grads, opt_state, params, *, value, other=0):
        return value, other

    with_value = helpers.with_extra_args("it", Optimizer(lambda params: (), update))
    assert with_value.update(1, 2, 3, value=4, value_fn=5) == (4, 0)
    assert helpers.with_extra_args("it", foreign).update(3.0, (), (), value=4) == (
        pytest.approx(-0.3),
        (),
    )
    anything = optim.sgd(0.1)
    assert helpers.with_extra_args("it", anything).update is anything.update


def test_transform_grads_and_transform_updates_apply_their_function():
    params, grads = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 5.0])}
    for wrap, wanted in (
        (helpers.transform_grads, [-0.1 * 4, -0.1 * 7]),
        (helpers.transform_updates, [-0.1 * 3 + 1, -0.1 * 5 + 2]),
    ):
        optimizer = wrap(
            "it", optim.sgd(0.1), lambda first, params: jax.tree.map(jnp.add, first, params)
        )
        updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_allclose(updates["w"], wanted, rtol=1e-6)
        chex.assert_trees_all_equal_structs(opt_state, optim.sgd(0.1).init(params))


@pytest.mark.parametrize("start", [0.0, -0.0, 1.0, jnp.inf, jnp.nan])
def test_zero_updates_change_no_bit(start):
    before = jnp.full(2, start)
    after = before + helpers.zero_updates(before)
    np.testing.assert_array_equal(
        np.asarray(after).view(np.uint32), np.asarray(before).view(np.uint32)
    )
    assert (helpers.zero_updates(before) == 0).all()


@pytest.mark.parametrize(
    "number", [2, 2.0, np.float64(2), jnp.float32(2), jnp.int32(2), jnp.float32(1.5)]
)
def test_at_least_compares_with_any_dtype(number):
    results = [bool(helpers.at_least(jnp.int32(count), number)) for count in (1, 2, 3)]
    assert results == [False, True, True]


def test_match_first_gives_each_leaf_the_first_pattern_that_matches():
    params, _ = problem(1)
    owners = helpers.match_first("here", params, ["stem/bias", "stem"])
    assert owners == {"head/kernel": None, "stem/bias": "stem/bias", "stem/kernel": "stem"}
    with pytest.raises(
        ConfigError, match=r"here: expected a leaf that no earlier pattern names, got 'stem/b.as'"
    ):
        helpers.match_first("here", params, ["stem", "stem/b?as"])


def test_the_last_rate_is_that_of_the_outermost_state_with_a_rate():
    params, _ = problem(1)
    without_rate = foreign.init(params)
    assert helpers.last_rate(without_rate) is None
    assert jnp.isnan(helpers.last_rate(without_rate, jnp.nan))
    opt_state = optim.plateau(optim.chain(foreign, optim.sgd(0.5))).init(params)
    assert len(helpers.find_rates(opt_state)) == 1 and helpers.last_rate(opt_state) == 0
    both = opt_state._replace(rate=jnp.float32(0.25))
    assert helpers.last_rate(both) == 0.25 and helpers.last_rate((both, both.inner)) == 0.25
    # A state whose rate is None is searched for another one.
    outer = opt_state._replace(rate=None, inner=(None, both.inner))
    assert helpers.last_rate(outer) == 0


def test_states_are_found_and_replaced_at_the_outermost_level():
    params, _ = problem(1)
    inner = optim.plateau(optim.sgd(0.1)).init(params)
    nested = (inner, inner._replace(inner=inner))
    kind = type(inner)
    found = helpers.find_states(nested, kind)
    assert [len(state) for state in found] == [len(inner)] * 2
    changed = helpers.replace_states(nested, kind, lambda s: s._replace(share=jnp.float32(0.5)))
    assert (changed[0].share, changed[1].share, changed[1].inner.share) == (0.5, 0.5, 1)


@every_transform
def test_gradients_unlike_the_params_raise_and_are_not_broadcast(transform):
    params, grads = problem(1)
    grads, optimizer = at(grads, 0), transform(optim.sgd(0.1))
    opt_state = optimizer.init(params)
    for wrong in (jnp.ones((4, 1)), jnp.ones((4, 3), jnp.bfloat16)):
        unlike = {**grads, "stem": {**grads["stem"], "kernel": wrong}}
        with pytest.raises(TreeMismatchError, match="grads stem/kernel: expected"):
            optimizer.update(unlike, opt_state, params)
    with pytest.raises(TreeMismatchError, match=r"grads stem/bias: expected .* got no such leaf"):
        optimizer.update({**grads, "stem": {"kernel": grads["stem"]["kernel"]}}, opt_state, params)
