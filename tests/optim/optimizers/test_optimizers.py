"""Optimizers against their papers' formulas in NumPy and against torch, and properties of each."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest
from makers import kind, knobs
from registry import REGISTRY

from fnn import optim
from fnn.errors import ConfigError, DTypeError, TreeMismatchError
from fnn.types import Optimizer

pytestmark = pytest.mark.slow

# For each optimizer with a formula in papers.py, numbers other than its defaults.
HYPERPARAMETERS = {
    name.removeprefix("optim."): entry.paper
    for name, entry in REGISTRY.items()
    if entry.paper is not None
}
# Flags and sizes of the optimizer and of its formula.
VARIANTS = [
    *[(name, {}) for name in HYPERPARAMETERS if name != "soap"],
    ("momentum", {"nesterov": True}),
    ("rmsprop", {"centered": True, "momentum": 0.7}),
    ("adafactor", {"relative_step": True}),
    ("muon", {"nesterov": False, "scale": "spectral"}),
    ("shampoo", {"every": 3}),
    ("soap", {"every": 1}),
    ("soap", {"every": 3}),
]
MAKERS = {name: getattr(optim, name) for name in HYPERPARAMETERS}
PAPERS = {name: getattr(papers, "adam" if name == "adamw" else name) for name in HYPERPARAMETERS}
CLASSIC = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
DEFAULTS = {"sgd": {}, "momentum": {"momentum": 0.9}, "rmsprop": {"decay": 0.9, "eps": 1e-8}}
DEFAULTS |= {"adam": {"b1": 0.9, "b2": 0.999, "eps": 1e-8}}
DEFAULTS |= {"nesterov": DEFAULTS["momentum"], "adamw": DEFAULTS["adam"] | {"weight_decay": 0.01}}
TYPICAL = {
    "rate": 0.1,
    "decay": 0.8,
    "momentum": 0.8,
    "b1": 0.7,
    "b2": 0.9,
    "eps": 0.1,
    "weight_decay": 0.05,
}

every_optimizer = pytest.mark.parametrize("name", MAKERS)
classic_optimizers = pytest.mark.parametrize("name", CLASSIC)
float64 = pytest.mark.usefixtures("x64")


def make(name, **knobs):
    if name == "nesterov":
        return optim.momentum(knobs.pop("rate", 0.05), nesterov=True, **knobs)
    return MAKERS[name](knobs.pop("rate", 0.05), **knobs)


def follow(optimizer, params, grads):
    """The params after every step, for gradients with a leading axis of steps."""

    def one(carry, grads):
        params, opt_state = carry
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optim.apply_updates(params, updates)
        return (params, opt_state), params

    return jax.lax.scan(one, (params, optimizer.init(params)), grads)[1]


def random_problem(steps, decades=7):
    """Params, and gradients that differ in size from column to column."""
    draw = np.random.default_rng(7)
    scale = np.logspace(-4 * decades / 7, 3 * decades / 7, 5)
    return draw.normal(size=(3, 5)), scale * draw.normal(size=(steps, 3, 5))


@float64
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_thirty_steps_follow_the_paper(name, options):
    # Errors of eigenvectors grow with the ratio of eigenvalues, which are squares of gradients.
    decades = 1 if name in ("shampoo", "soap") else 7
    params, grads = random_problem(30, decades)
    if name == "soap":  # of a square matrix, since eigenvectors of the same eigenvalue 0 may be any
        params, grads = params[:, :3], grads[..., :3]
    got = follow(
        make(name, **HYPERPARAMETERS[name], **options), jnp.array(params), jnp.array(grads)
    )
    chex.assert_type(got, jnp.float64)
    wanted = papers.follow(PAPERS[name], params, grads, 0.05, **HYPERPARAMETERS[name], **options)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@float64
@classic_optimizers
def test_defaults_are_those_of_the_paper(name):
    params, grads = random_problem(30)
    alone, same = (
        follow(make(name, **knobs), jnp.array(params), jnp.array(grads))
        for knobs in ({}, DEFAULTS[name])
    )
    chex.assert_trees_all_equal(alone, same)


def golden():
    with np.load(Path(__file__).parents[2] / "golden" / "optimizers.npz") as file:
        return dict(file)


def torch_leaves(arrays, name, dtype="float64"):
    return {
        leaf: jnp.array(arrays[f"{name}/{leaf}"], dtype) for leaf in ("kernel", "bias", "scale")
    }


@float64
@classic_optimizers
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 2e-5)])
def test_thirty_steps_follow_torch(name, dtype, tolerance):
    arrays = golden()
    start, grads = (torch_leaves(arrays, part, dtype) for part in ("start", "grads"))
    optimizer = make(name, **({"weight_decay": 0.02} if name == "adamw" else {}))
    got = jax.tree.map(lambda path: path[9::10], follow(optimizer, start, grads))
    chex.assert_trees_all_close(
        got, torch_leaves(arrays, f"{name}/{dtype}", dtype), rtol=tolerance, atol=tolerance
    )


@every_optimizer
def test_rate_zero_keeps_the_params(name):
    params, grads = map(jnp.float32, random_problem(3))
    chex.assert_trees_all_equal(
        follow(make(name, rate=0.0), params, grads), jnp.stack([params] * 3)
    )


@float64
def test_adamw_without_decay_is_adam():
    params, grads = map(jnp.array, random_problem(10))
    got, wanted = (
        follow(optimizer, params, grads)
        for optimizer in (make("adamw", weight_decay=0.0), make("adam"))
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-15)


@float64
def test_weight_decay_shrinks_the_params_for_gradients_of_zero():
    params = jnp.array([1.0, -2.0])
    got = follow(make("adamw", rate=0.1, weight_decay=0.2), params, jnp.zeros((5, 2)))
    np.testing.assert_allclose(got[-1], 0.98**5 * np.array([1.0, -2.0]), rtol=1e-14)


@float64
@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_zero_is_sgd(name):
    params, grads = map(jnp.array, random_problem(10))
    got, wanted = (
        follow(optimizer, params, grads) for optimizer in (make(name, momentum=0.0), make("sgd"))
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-15)


@float64
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_adam_does_not_depend_on_the_scale_of_gradients(scale):
    params, grads = map(jnp.array, random_problem(10))
    got, wanted = (
        follow(make("adam", eps=1e-30), params, factor * grads) for factor in (scale, 1.0)
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-12)


@float64
@pytest.mark.parametrize(
    ("name", "knob"), [(name, knob) for name in CLASSIC for knob in ("rate", *DEFAULTS[name])]
)
def test_gradient_by_a_hyperparameter_equals_finite_differences(name, knob):
    params, grads = jnp.array([1.0, -2.0]), jnp.array([[0.3, -4.0], [0.1, 2.0], [-0.2, 1.0]])
    knobs = {other: TYPICAL[other] for other in DEFAULTS[name]} | {"rate": 0.1}

    def final(value):
        return follow(make(name, **(knobs | {knob: value})), params, grads)[-1] @ jnp.array(
            [1.0, 0.3]
        )

    both_modes = jax.jit(
        lambda value: (*jax.value_and_grad(final)(value), jax.jacfwd(final)(value))
    )
    value, h = TYPICAL[knob], 1e-5
    wanted = (both_modes(value + h)[0] - both_modes(value - h)[0]) / (2 * h)
    _, reverse, forward = both_modes(value)
    np.testing.assert_allclose([reverse, forward], [wanted, wanted], rtol=1e-7)


@classic_optimizers
def test_the_rate_may_be_a_schedule(name):
    params, grads = map(jnp.float32, random_problem(4))
    rates = jnp.array([0.1, 0.0, 0.3, 0.02])
    scheduled = make(name, rate=lambda step: rates[step])
    opt_state = scheduled.init(params)
    for step in range(4):
        constant = make(name, rate=float(rates[step]))
        wanted, _ = constant.update(grads[step], opt_state, params)
        updates, opt_state = scheduled.update(grads[step], opt_state, params)
        chex.assert_trees_all_close(updates, wanted, rtol=1e-6)
        assert (opt_state.step, opt_state.rate) == (step + 1, rates[step])


@every_optimizer
def test_permuted_params_get_permuted_updates(name):
    draw = np.random.default_rng(0)
    params = [jnp.float32(draw.normal(size=shape)) for shape in ((2, 3), (3,), ())]
    grads = [jnp.stack([2 * leaf, leaf - 1]) for leaf in params]
    order = [2, 0, 1]
    there = follow(make(name), params, grads)
    permuted = follow(make(name), [params[i] for i in order], [grads[i] for i in order])
    chex.assert_trees_all_equal(permuted, [there[i] for i in order])


@every_optimizer
def test_bfloat16_params_are_updated_in_float32(name):
    p, g = (jnp.asarray(value, jnp.bfloat16) for value in ([1.0, -2.0, 3.0], [0.1, 2.0, -0.003]))
    wide_p, wide_g = p.astype(jnp.float32), g.astype(jnp.float32)
    optimizer = make(name)
    updates, opt_state = optimizer.update(g, optimizer.init(p), p)
    wanted, wanted_state = optimizer.update(wide_g, optimizer.init(wide_p), wide_p)
    chex.assert_trees_all_equal_shapes_and_dtypes(opt_state, wanted_state)
    chex.assert_trees_all_equal(opt_state, wanted_state)
    chex.assert_trees_all_equal(updates, wanted.astype(jnp.bfloat16))


@every_optimizer
def test_state_is_arrays_that_keep_their_types(name):
    params = {"a": jnp.ones(3), "b": [jnp.ones((2, 2), jnp.bfloat16)]}
    optimizer = make(name)
    opt_state = optimizer.init(params)
    _, later = optimizer.update(params, opt_state, params)
    types = [[jax.typeof(leaf) for leaf in jax.tree.leaves(tree)] for tree in (opt_state, later)]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((opt_state, later)))
    assert types[0] == types[1]
    assert jax.tree.structure(opt_state) == jax.tree.structure(later)
    assert not any(leaf.weak_type for leaf in types[0])


@float64
@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])
def test_hypergradients_are_finite_where_a_gradient_is_always_zero(name):
    """The second moment of such a coordinate stays 0, where √ has an infinite derivative."""
    params, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([1.0, 3.0, 0.0])
    knobs = {knob: TYPICAL[knob] for knob in DEFAULTS[name]} | {"rate": 0.1}

    def final(knobs, params):
        optimizer = make(name, **knobs)

        def one(carry, _):
            params, opt_state = carry
            updates, opt_state = optimizer.update(2 * scale * params, opt_state, params)
            return (params + updates, opt_state), None

        return jax.lax.scan(one, (params, optimizer.init(params)), length=5)[0][0].sum()

    differentiate = jax.jit(jax.value_and_grad(final, (0, 1)))
    _, (by_knobs, by_params) = differentiate(knobs, params)
    chex.assert_tree_all_finite((by_knobs, by_params))
    decay = 0.1 * 0.05 if name == "adamw" else 0.0
    np.testing.assert_allclose(by_params[2], (1 - decay) ** 5, rtol=1e-12)
    bump = 1e-6
    ahead, behind = (
        differentiate(knobs | {"rate": 0.1 + sign * bump}, params)[0] for sign in (1, -1)
    )
    np.testing.assert_allclose(by_knobs["rate"], (ahead - behind) / (2 * bump), rtol=1e-6)


OUT_OF_RANGE = [
    *[
        (name, "rate", value)
        for name in MAKERS
        for value in (-1.0, float("nan"), float("inf"), "fast", True, None)
    ],
    *[
        (name, "momentum", value)
        for name in ("momentum", "nesterov")
        for value in (-0.1, 1.0, [0.9])
    ],
    *[("rmsprop", "decay", value) for value in (-0.1, 1.0, [0.9])],
    *[
        (name, knob, value)
        for name in ("adam", "adamw")
        for knob in ("b1", "b2")
        for value in (-0.1, 1.0, 1.5)
    ],
    *[
        (name, "eps", value)
        for name in ("rmsprop", "adam", "adamw")
        for value in (0.0, -1e-8, float("nan"))
    ],
    ("adamw", "weight_decay", -0.01),
    ("adamw", "weight_decay", np.array([0.1, 0.2])),
]


@pytest.mark.parametrize(("name", "knob", "value"), OUT_OF_RANGE)
def test_a_number_out_of_range_raises(name, knob, value):
    with pytest.raises(ConfigError, match=f"{knob}: expected"):
        make(name, **{knob: value})


@every_optimizer
def test_integer_params_raise(name):
    with pytest.raises(
        DTypeError, match=r"params counts/0: expected floating-point numbers, got int32"
    ):
        make(name).init({"counts": [jnp.array([1, 2])], "w": jnp.ones(2)})


WRONG_GRADS = {
    "missing": ({"a": jnp.ones(2)}, "b"),
    "extra": ({"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(1)}, "c"),
    "shape": ({"a": jnp.ones(2), "b": jnp.ones(1)}, "b"),
    "dtype": ({"a": jnp.ones(2), "b": jnp.ones(3, jnp.bfloat16)}, "b"),
}


@every_optimizer
@pytest.mark.parametrize("case", WRONG_GRADS)
def test_gradients_unlike_the_params_raise(name, case):
    params, (grads, path) = {"a": jnp.ones(2), "b": jnp.ones(3)}, WRONG_GRADS[case]
    optimizer = make(name)
    with pytest.raises(TreeMismatchError, match=f"grads {path}: expected"):
        optimizer.update(grads, optimizer.init(params), params)


# For each number: values that raise, and the ends of its interval that are allowed.
SHARE = ((-0.1, 1.0, 1.5), (0.0,))
POSITIVE = ((0.0, -1e-3), (1e-30,))
NOT_NEGATIVE = ((-1e-3,), (0.0,))
EDGES = {
    **dict.fromkeys(("b1", "b2", "b3", "momentum", "decay"), SHARE),
    **dict.fromkeys(("eps", "coefficient", "clip", "exponent", "largest", "scale"), POSITIVE),
    **dict.fromkeys(("eps_root", "weight_decay", "initial", "momentum_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("eps_scale", "smallest", "power"), NOT_NEGATIVE),
    "start": POSITIVE,
    "shrink": ((0.0, 1.1), (1.0,)),
    "grow": ((0.9,), (1.0,)),
    "sufficient": ((0.0, 0.5), (0.4,)),
    "curvature": ((0.0, 1.0), (0.9,)),
}
EDGES_OF = {
    ("shampoo", "decay"): ((0.0, 1.1), (1.0,)),
    ("schedule_free_sgd", "b1"): ((0.0, 1.1), (1.0,)),
    ("schedule_free_adamw", "b1"): ((0.0, 1.1), (1.0,)),
}
# Optimizers alone, without the transforms.
ALONE = [
    one
    for one in knobs()
    if kind(one.maker) is Optimizer and "optimizer" not in REGISTRY[one.maker].call
]
NUMBERS = [
    (one.maker.removeprefix("optim."), number)
    for one in ALONE
    for number in one.usual
    if number != "rate"
]


@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_an_interval_ends_where_it_says(name, number):
    call = REGISTRY[f"optim.{name}"].call
    wrong, right = EDGES_OF.get((name, number), EDGES.get(number))
    for value in wrong:
        with pytest.raises(ConfigError, match=f"{name} {number}: expected"):
            getattr(optim, name)(**call | {number: value})
    for value in right:
        getattr(optim, name)(**call | {number: value})


# Zero gradients, zero parameters, and numbers at the lower ends of their intervals.


def hollow_loss(scale, params):
    """Its gradient is 0 for the body at first, since the head is 0, and for `idle` at all times."""
    x = jnp.arange(15.0).reshape(5, 3) / 7 - 1
    outputs = jnp.tanh(x @ params["body"]) @ params["head"]
    targets = scale * (jnp.sin(jnp.arange(10.0)).reshape(5, 2))
    live = jnp.square(params["live"] - scale).sum()
    return jnp.square(outputs - targets).mean() + live + 0 * params["idle"].sum()


def hollow_params():
    return {
        "body": jnp.cos(jnp.arange(6.0)).reshape(3, 2),
        "head": jnp.zeros((2, 2)),
        "idle": jnp.ones((2, 2)),
        "live": jnp.array([0.5, -1.0, 2.0]),
        "off": jnp.zeros(3),
    }


def hollow_end(name, numbers):
    """The loss after three steps, by a number of the loss and the rate."""
    call = dict(REGISTRY[f"optim.{name}"].call)
    optimizer = getattr(optim, name)(**call | {"rate": numbers["rate"]})

    def value_fn(params):
        return hollow_loss(numbers["scale"], params)

    def one(carry, _):
        params, opt_state = carry
        grads = jax.grad(value_fn)(params)
        return optim.step(optimizer, grads, opt_state, params, value_fn=value_fn), None

    params = hollow_params()
    (params, _), _ = jax.lax.scan(one, (params, optimizer.init(params)), length=3)
    return hollow_loss(1.0, params)


HOLLOW = [one.maker.removeprefix("optim.") for one in ALONE]
every_alone = pytest.mark.parametrize("name", HOLLOW)


@every_alone
def test_hypergradients_in_float32_are_finite_where_gradients_are_zero(name):
    slopes = jax.jit(jax.grad(partial(hollow_end, name)))({"scale": 0.7, "rate": 0.05})
    chex.assert_tree_all_finite(slopes)


@float64
@every_alone
def test_hypergradients_are_differences_where_gradients_are_zero(name):
    if name == "soap":
        pytest.skip("derivatives take its rotations as constants")
    differentiate = jax.jit(jax.value_and_grad(partial(hollow_end, name)))
    numbers = {"scale": 0.7, "rate": 0.05}
    _, slopes = differentiate(numbers)
    bump = 1e-6
    for number, value in numbers.items():
        ahead, _ = differentiate(numbers | {number: value + bump})
        behind, _ = differentiate(numbers | {number: value - bump})
        wanted = (ahead - behind) / (2 * bump)
        np.testing.assert_allclose(slopes[number], wanted, rtol=1e-4, atol=1e-8)


@every_alone
def test_gradients_of_zero_move_nothing_even_with_the_least_numbers(name):
    call = dict(REGISTRY[f"optim.{name}"].call)
    numeric = next(one.usual for one in ALONE if one.maker == f"optim.{name}")
    for number in ("eps_root", "weight_decay", "initial", "eps_scale"):
        if number in numeric:
            call[number] = 0.0
    optimizer = getattr(optim, name)(**call)
    params = {"kernel": jnp.ones((2, 3)), "zero": jnp.zeros((2, 2)), "bias": jnp.zeros(3)}
    zero = jax.tree.map(jnp.zeros_like, params)

    def value_fn(params):
        return 0 * sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))

    now, opt_state = params, optimizer.init(params)
    for _ in range(2):
        now, opt_state = optim.step(optimizer, zero, opt_state, now, value_fn=value_fn)
    chex.assert_trees_all_close(now, params, atol=1e-5)
    for leaf in jax.tree.leaves(opt_state):
        assert jnp.isfinite(leaf).all()


@float64
@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_the_trust_ratio_is_one_where_a_norm_is_zero(name):
    """Else parameters of 0 would stay there, or move by a share of nothing."""
    params = {"zero": jnp.zeros(3), "still": jnp.ones(3)}
    grads = {"zero": jnp.array([0.1, -2.0, 3.0]), "still": jnp.zeros(3)}
    optimizer = getattr(optim, name)(0.5)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    plain = {"lars": optim.momentum(0.5), "lamb": optim.adam(0.5, eps=1e-6)}[name]
    wanted, _ = plain.update(grads, plain.init(params), params)
    chex.assert_trees_all_close(updates, wanted, rtol=1e-12)
    # Where neither is 0, the step has the norm of the parameters times the rate and its share.
    share = {"lars": 1e-3, "lamb": 1.0}[name]
    updates, _ = optimizer.update(
        grads, optimizer.init(params), jax.tree.map(jnp.ones_like, params)
    )
    norm = jnp.linalg.norm(updates["zero"])
    np.testing.assert_allclose(norm, 0.5 * share * np.sqrt(3), rtol=1e-9)


@float64
def test_schedule_free_weighs_steps_by_the_largest_rate_so_far():
    rates = np.array([0.1, 0.3, 0.05, 0.2])
    params, grads = random_problem(4)
    optimizer = optim.schedule_free_sgd(optim.table(jnp.array(rates)), b1=0.8, power=2.0)
    got = follow(optimizer, jnp.array(params), jnp.array(grads))
    x = z = params
    total = largest = 0.0
    for step in range(4):
        z = z - rates[step] * grads[step]
        largest = max(largest, rates[step])
        total += largest**2
        x = x + largest**2 / total * (z - x)
        np.testing.assert_allclose(got[step], 0.8 * x + 0.2 * z, rtol=1e-12)


SCALED = ["lars", "lamb", "novograd", "adafactor", "muon", "shampoo", "soap", "sm3"]


@pytest.mark.parametrize("name", SCALED)
def test_arrays_are_scaled_one_by_one(name):
    """A norm or a root over several arrays would let one array set the step of another."""
    draw = np.random.default_rng(3)
    params = {
        "a": jnp.float32(draw.normal(size=(3, 2))),
        "b": jnp.float32(draw.normal(size=(2, 2))),
    }
    grads = jax.tree.map(lambda p: jnp.stack([2 * p, p - 1]), params)
    got = follow(make(name), params, grads)
    for leaf in params:
        alone = follow(make(name), {leaf: params[leaf]}, {leaf: grads[leaf]})
        chex.assert_trees_all_close(got[leaf], alone[leaf], rtol=1e-6)
