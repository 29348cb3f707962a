"""What transforms share, and what holds for every one of them."""

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

KEY = jax.random.key(3)
TRANSFORMS = {
    "accumulate": lambda inner: optim.accumulate(inner, 2),
    "adaptive_clip": optim.adaptive_clip,
    "centralize": optim.centralize,
    "chain": lambda inner: optim.chain(inner, foreign),
    "clip_by_global_norm": lambda inner: optim.clip_by_global_norm(inner, 0.5),
    "clip_by_value": lambda inner: optim.clip_by_value(inner, 0.1),
    "ema": partial(optim.ema, decay=0.9),
    "lookahead": lambda inner: optim.lookahead(inner, steps=2),
    "loss_scale": lambda inner: optim.loss_scale(inner, 8.0),
    "noise": partial(optim.noise, KEY),
    "partition": lambda inner: optim.partition({"*kernel": inner}, None),
    "plateau": optim.plateau,
    "project": lambda inner: optim.project(inner, objective.max_norm(1.0)),
    "scale_by_depth": lambda inner: optim.scale_by_depth(inner, 0.5, paths=("*bias", "*kernel")),
    "skip_nonfinite": optim.skip_nonfinite,
    "weight_decay": lambda inner: optim.weight_decay(inner, 0.1, decoupled=False),
}
EVERY_TREE = {
    name: make for name, make in TRANSFORMS.items() if name not in ("partition", "scale_by_depth")
}
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def negated(grads, opt_state, params):
    return jax.tree.map(lambda g: -0.1 * g, grads), opt_state


foreign = Optimizer(lambda params: (), negated)  # no keywords, no rate


# What holds for every transform.


@every_transform
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_states_keep_their_structure_and_updates_the_dtype_of_params(transform, dtype):
    """Otherwise no scan could carry them; weak types count, since they would cost another compilation."""
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
def test_a_state_holds_arrays_that_may_be_donated(transform):
    """JAX donates no buffer twice."""
    params, _ = problem(1)
    leaves = jax.tree.leaves((transform(optim.adam(0.1)).init(params), params))
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@every_transform
def test_a_step_is_the_parameters_and_the_updates(transform):
    optimizer = transform(optim.adam(0.1))
    params, grads = problem(1)
    opt_state = optimizer.init(params)
    updates, wanted = optimizer.update(at(grads, 0), opt_state, params)
    got, stepped = optim.step(optimizer, at(grads, 0), opt_state, params)
    chex.assert_trees_all_close(got, optim.apply_updates(params, updates), rtol=1e-6)
    chex.assert_trees_all_close(stepped, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["adaptive_clip", "centralize", "clip_by_global_norm", "ema", "noise", "partition"]
)
def test_what_leaves_updates_as_they_are_steps_in_place(name):
    """A link around an optimizer that has steps alone."""
    params, grads = problem(1)
    wanted, _ = optim.step(
        TRANSFORMS[name](optim.sgd(0.1)), at(grads, 0), transformed(name).init(params), params
    )
    got, _ = optim.step(transformed(name), at(grads, 0), transformed(name).init(params), params)
    chex.assert_trees_all_equal(got, wanted)


def transformed(name):
    def update(*_, **__):
        raise AssertionError("an update where a step was asked for")

    return TRANSFORMS[name](Optimizer(optim.sgd(0.1).init, update, optim.sgd(0.1).step))


@every_transform
def test_an_optimizer_without_keywords_or_a_rate_works_inside(transform):
    params, grads = problem(2)
    got, opt_state = follow(
        transform(foreign), params, grads, value=1.0, grad=params, value_fn=None
    )
    chex.assert_tree_all_finite(got)
    assert jnp.isnan(helpers.rate(opt_state))


@every_transform
def test_what_is_no_optimizer_is_told(transform):
    with pytest.raises(ConfigError, match=r"expected a pair \(init, update\)"):
        transform(optim.sgd)


@pytest.mark.parametrize("transform", EVERY_TREE.values(), ids=EVERY_TREE)
def test_an_empty_tree_has_nothing_to_update(transform):
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

    chex.assert_tree_all_finite(jax.grad(final)(0.1))


# Orders that make no difference.

SAME = [
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
@pytest.mark.parametrize(("one", "other"), SAME)
def test_orders_that_make_no_difference(one, other):
    params, grads = problem(5)
    one, other = TRANSFORMS[one], TRANSFORMS[other]
    inner = optim.momentum(0.1)
    chex.assert_trees_all_close(
        path(one(other(inner)), params, grads),
        path(other(one(inner)), params, grads),
        rtol=1e-12,
        atol=1e-13,
    )


# The helpers.


def test_keywords_that_an_update_does_not_know_are_not_passed_on():
    def update(grads, opt_state, params, *, value, other=0):
        return value, other

    taking = helpers.extended("it", Optimizer(lambda params: (), update))
    assert taking.update(1, 2, 3, value=4, value_fn=5) == (4, 0)
    assert helpers.extended("it", foreign).update(3.0, (), (), value=4) == (
        pytest.approx(-0.3),
        (),
    )
    anything = optim.sgd(0.1)
    assert helpers.extended("it", anything).update is anything.update


def test_before_and_after_change_gradients_and_updates():
    params, grads = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 5.0])}
    for wrap, wanted in (
        (helpers.before, [-0.1 * 4, -0.1 * 7]),
        (helpers.after, [-0.1 * 3 + 1, -0.1 * 5 + 2]),
    ):
        optimizer = wrap(
            "it", optim.sgd(0.1), lambda first, params: jax.tree.map(jnp.add, first, params)
        )
        updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_allclose(updates["w"], wanted, rtol=1e-6)
        chex.assert_trees_all_equal_structs(opt_state, optim.sgd(0.1).init(params))


@pytest.mark.parametrize("start", [0.0, -0.0, 1.0, jnp.inf, jnp.nan])
def test_still_changes_no_bit(start):
    before = jnp.full(2, start)
    after = before + helpers.still(before)
    np.testing.assert_array_equal(
        np.asarray(after).view(np.uint32), np.asarray(before).view(np.uint32)
    )
    assert (helpers.still(before) == 0).all()


@pytest.mark.parametrize(
    "number", [2, 2.0, np.float64(2), jnp.float32(2), jnp.int32(2), jnp.float32(1.5)]
)
def test_reached_counts_in_any_dtype(number):
    assert [bool(helpers.reached(jnp.int32(count), number)) for count in (1, 2, 3)] == [
        False,
        True,
        True,
    ]


def test_claimed_gives_each_leaf_to_the_first_pattern_that_names_it():
    params, _ = problem(1)
    owners = helpers.claimed("here", params, ["stem/bias", "stem"])
    assert owners == {"head/kernel": None, "stem/bias": "stem/bias", "stem/kernel": "stem"}
    with pytest.raises(
        ConfigError, match=r"here: expected a leaf that no earlier pattern names, got 'stem/b.as'"
    ):
        helpers.claimed("here", params, ["stem", "stem/b?as"])


def test_the_outermost_rate_is_told():
    params, _ = problem(1)
    assert (
        jnp.isnan(helpers.rate(foreign.init(params)))
        and helpers.told_rate(foreign.init(params)) is None
    )
    opt_state = optim.plateau(optim.chain(foreign, optim.sgd(0.5))).init(params)
    assert len(helpers.rates(opt_state)) == 1 and helpers.told_rate(opt_state) == 0
    both = opt_state._replace(rate=jnp.float32(0.25))
    assert helpers.rate(both) == 0.25 and helpers.rate((both, both.inner)) == 0.25
    assert helpers.rate(opt_state._replace(rate=None, inner=(None, both.inner))) == 0


def test_parts_are_found_and_replaced_outermost_first():
    params, _ = problem(1)
    inner = optim.plateau(optim.sgd(0.1)).init(params)
    nested = (inner, inner._replace(inner=inner))
    kind = type(inner)
    assert [len(part) for part in helpers.parts(nested, lambda part: isinstance(part, kind))] == [
        len(inner)
    ] * 2
    changed = helpers.replaced(nested, kind, lambda part: part._replace(share=jnp.float32(0.5)))
    assert (changed[0].share, changed[1].share, changed[1].inner.share) == (0.5, 0.5, 1)


@every_transform
def test_gradients_unlike_the_params_are_told_and_never_broadcast(transform):
    params, grads = problem(1)
    grads, optimizer = at(grads, 0), transform(optim.sgd(0.1))
    opt_state = optimizer.init(params)
    for wrong in (jnp.ones((4, 1)), jnp.ones((4, 3), jnp.bfloat16)):
        unlike = {**grads, "stem": {**grads["stem"], "kernel": wrong}}
        with pytest.raises(TreeMismatchError, match="grads stem/kernel: expected"):
            optimizer.update(unlike, opt_state, params)
    with pytest.raises(TreeMismatchError, match=r"grads stem/bias: expected .* got no such leaf"):
        optimizer.update({**grads, "stem": {"kernel": grads["stem"]["kernel"]}}, opt_state, params)
