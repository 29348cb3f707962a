"""Wrong arguments of every kind, for every public maker: each raises an error of fnn."""

import inspect

import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from makers import LOSSES
from registry import batch_for, domain

from fnn import trees
from fnn.errors import ConfigError, FnnError
from fnn.types import Layer, Number, Rate

LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
COUNTS = {
    "int",
    "int | None",
    "int | collections.abc.Sequence[int]",
    "int | collections.abc.Sequence[int] | None",
}
# What is no count for any argument, and what is no number.
NO_COUNTS = [-1, 2.5, "3", True, jnp.ones(2), (1, 2, 3, 4)]
MAY_BE_NEGATIVE = {"axis", "ignore", "label", "turns"}
NO_NUMBERS = ["0.1", (0.1, 0.2), np.ones(2), True, np.nan, 1j]


def arguments(*annotations):
    """Every (maker, argument) with one of these annotations."""
    return [
        (maker, name)
        for maker, function in makers.public().items()
        for name, parameter in inspect.signature(function).parameters.items()
        if inspect.formatannotation(parameter.annotation) in annotations
        and (maker in makers.CALLS or maker in LOSSES)
        and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]


def made(maker, **options):
    """The maker's value; used once if the maker checks its arguments on use."""
    if maker in makers.CALLS:
        return makers.public()[maker](**makers.CALLS[maker] | options)
    return makers.outcome(maker, **options)


@pytest.mark.parametrize("maker, name", arguments(*COUNTS))
def test_a_wrong_count_raises(maker, name):
    for wrong in [
        one for one in NO_COUNTS if not (name in MAY_BE_NEGATIVE and one is NO_COUNTS[0])
    ]:
        with pytest.raises(ConfigError, match=name):
            made(maker, **{name: wrong})


@pytest.mark.parametrize(
    "maker, name", arguments(*map(inspect.formatannotation, (Number, Rate, Number | None)))
)
def test_a_wrong_number_raises(maker, name):
    for wrong in NO_NUMBERS:
        with pytest.raises(ConfigError, match=name):
            made(maker, **{name: wrong})


@pytest.mark.parametrize("maker, name", arguments("str"))
def test_an_unknown_option_raises(maker, name):
    for wrong in ("nonsense", "", 3, None):
        with pytest.raises(ConfigError, match=name):
            made(maker, **{name: wrong})


@pytest.mark.parametrize("maker, name", arguments("bool"))
def test_a_flag_that_is_not_a_bool_raises(maker, name):
    for wrong in ("no", 2, None):
        with pytest.raises(ConfigError, match=name):
            made(maker, **{name: wrong})


def started(maker):
    """The layer, zeros for its params and its state, and an x."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), holdings(maker))
    return made(maker), *zeros, domain(maker).draw(7)[1]


def through(layer, params, state, x):
    """Trace without running: errors are raised when only shapes and dtypes are known."""
    return jax.eval_shape(lambda: layer.apply(params, state, x, key=jax.random.key(2), train=True))


def holdings(maker):
    """The shapes of params and state, without computing them."""
    shape, _ = domain(maker).draw(7)
    return jax.eval_shape(lambda key: made(maker).init(key, shape)[:2], jax.random.key(1))


INDIFFERENT = {"nn.parameter"}  # to what x is
HOLDING = [name for name in LAYERS if name not in INDIFFERENT and jax.tree.leaves(holdings(name))]
DRAWING = [name for name in LAYERS if jax.tree.leaves(holdings(name)[0])]


@pytest.mark.parametrize("maker", HOLDING)
def test_an_x_of_another_width_raises(maker):
    layer, params, state, x = started(maker)
    first, *others = x if isinstance(x, tuple) else (x,)
    if not jnp.issubdtype(first.dtype, jnp.floating):
        pytest.skip("takes integers: they have no width")
    wide = jnp.concatenate([first, first[..., :1]], -1)
    with pytest.raises(FnnError):
        through(layer, params, state, (wide, *others) if others else wide)


@pytest.mark.parametrize("maker", HOLDING)
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, bool])
def test_inputs_that_are_not_floats_raise(maker, dtype):
    layer, params, state, x = started(maker)
    first, *others = x if isinstance(x, tuple) else (x,)
    if not jnp.issubdtype(first.dtype, jnp.floating):
        pytest.skip("takes integers")
    wrong = jnp.ones_like(first, dtype)
    with pytest.raises(FnnError):
        through(layer, params, state, (wrong, *others) if others else wrong)


def edits(tree):
    """Copies of a nested dict with one error: a leaf missing, longer, of integers, or added."""
    paths = list(trees.named_leaves(tree))
    for path in {*paths[:2], *paths[-2:]}:
        *way, name = path.split("/")
        for change in ("gone", "longer", "integers", "extra"):
            copy = jax.tree.map(lambda leaf: leaf, tree)
            branch = copy
            for part in way:
                branch = branch[part]
            leaf = branch.pop(name)
            if change == "longer":
                branch[name] = jnp.concatenate([jnp.atleast_1d(leaf)] * 2)
            elif change == "integers":
                branch[name] = jnp.ones(leaf.shape, jnp.int32)
            elif change == "extra":
                branch |= {name: leaf, "another": leaf}
            yield f"{change} {path}", copy


@pytest.mark.parametrize("maker", HOLDING)
def test_params_of_another_structure_raise(maker):
    layer, params, state, x = started(maker)
    for what, wrong in edits(params):
        with pytest.raises(FnnError):
            print(through(layer, wrong, state, x), what)


@pytest.mark.parametrize("maker", HOLDING)
def test_a_state_of_another_structure_raises(maker):
    layer, params, state, x = started(maker)
    for what, wrong in edits(state):
        if not what.startswith("integers"):
            with pytest.raises(FnnError):
                print(through(layer, params, wrong, x), what)


@pytest.mark.parametrize("maker", DRAWING)
def test_a_wrong_key_raises_in_every_random_layer(maker):
    layer, (shape, _) = made(maker), domain(maker).draw(7)
    draw = jax.jit(lambda key: layer.init(key, shape)[0])
    first, second = (draw(jax.random.key(seed)) for seed in (1, 2))
    wrong_keys = (0, None, np.array([0, 1], np.uint32), jax.random.split(jax.random.key(0), 2))
    for wrong in wrong_keys if drawn(first, second) else ():
        with pytest.raises(FnnError, match="key"):
            layer.init(wrong, shape)


def drawn(first, second):
    """Whether any leaf depends on the key."""
    return not all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))


@pytest.mark.parametrize("maker", HOLDING)
def test_a_shape_without_features_raises(maker):
    shape, _ = domain(maker).draw(7)
    if not trees.is_shape(shape) or maker == "nn.embed":
        pytest.skip("takes several arrays, or tokens of any shape")
    for wrong in ((), (*shape[:-1], 0)):
        with pytest.raises(FnnError):
            made(maker).init(jax.random.key(0), wrong)


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_and_targets_of_different_shapes_raise(loss):
    if loss == "objective.adversarial":
        pytest.skip("its targets are ignored")
    outputs, targets = batch_for(loss, 7)
    function = makers.public()[loss]
    for wrong in (
        (jax.tree.map(lambda leaf: leaf[:-1], outputs), targets),
        (outputs, jax.tree.map(lambda leaf: leaf[:1], targets)),
        (jax.tree.map(lambda leaf: leaf.astype(jnp.int32), outputs), targets),
        (outputs, jax.tree.map(lambda leaf: leaf[..., None], targets)),
        (outputs, jax.tree.map(lambda leaf: leaf[0, ...], targets)),
        (
            jax.tree.map(lambda leaf: leaf[:0], outputs),
            jax.tree.map(lambda leaf: leaf[:0], targets),
        ),
    ):
        with pytest.raises(FnnError):
            print(jax.eval_shape(function, *wrong))
