"""BatchEnsemble: an ensemble whose members share their kernels up to factors of rank one."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.composite import expect_layer, map_leaves, name_of
from fnn.nn.core.mixtures import average_in_logits
from fnn.nn.core.reparametrization import kernels
from fnn.nn.core.wide_sums import take_rows
from fnn.types import KERNEL, Layer, Number, Params, Shape, State
from fnn.values import maker

BIAS, INPUT_SCALE, OUTPUT_SCALE = "bias", "input_scale", "output_scale"
SCALES = (INPUT_SCALE, OUTPUT_SCALE)
MEMBERS = "members"
JOINS = ("probabilities", "mean", MEMBERS)


@maker
def batch_ensemble(
    network: Layer,
    n: int,
    *,
    join: str,
    std: Number | None = 0.5,
) -> Layer:
    """BatchEnsemble: n members whose layers share W, y = ((x ∘ r_i) W) ∘ s_i + b_i.

    Member i has the kernels W ∘ (r_i s_iᵀ). Every layer with a kernel is changed, dense or
    convolution; its params are `kernel` W, `input_scale` r (n, inputs), `output_scale` s (n,
    outputs) and `bias` b (n, outputs), if the layer has one. All other parts, such as batch norm,
    are shared. A member costs inputs + 2 outputs parameters a layer.

    In training each example passes through one member, example j of a batch through member j mod n:
    a step costs that of the network, and batches should have a multiple of n examples. In
    evaluation each example passes through all members, and `join` combines their outputs. For the
    functions of `fnn.ensemble`, evaluate the same params with join="members":

        several = recipe.replace(network=nn.batch_ensemble(network, 4, join="members"))
        outputs = jnp.moveaxis(train.predict(several, train_state, inputs), 1, 0)  # (4, n, ...)

    [Wen et al. 2020, arXiv:2002.06715]

    Args:
        network: The network, or a layer.
        n: Number of members.
        join: "probabilities" returns the logits of the mean of the probabilities of classes, "mean"
            the mean of the outputs. "members" returns all outputs (batch, n, ...), also in
            training, where each example then passes through all members.
        std: Standard deviation >= 0 of r and s, which are normal with mean 1; None for random
            signs, +1 or -1.

    Raises:
        ConfigError: An option is out of range, or, in init, no layer has a kernel, or one has other
            params than kernel and bias, such as a recurrent one.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.whole("batch_ensemble n", n)
    checks.choice("batch_ensemble join", join, JOINS)
    if std is not None:
        checks.number("batch_ensemble std", std, "[0, inf)")
    expect_layer("batch_ensemble network", network)
    return _joined(map_leaves(lambda path, leaf: _scaled(leaf, n, std), network), n, join)


def _joined(members: Layer, n: int, join: str) -> Layer:
    """Pass examples through the members of a network of scaled layers, and join the outputs."""

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
        params, state, out_shape = members.init(key, shape)
        if not kernels(params):
            got = list(trees.named_leaves(params))
            expected = "one with a kernel among its params"
            raise ConfigError("batch_ensemble network", expected, got, "use nn.ensemble")
        if join == MEMBERS:
            out_shape = jax.tree.map(lambda own: (n, *own), out_shape, is_leaf=trees.is_shape)
        return params, state, out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        if train and join != MEMBERS:
            return members.apply(params, state, x, key=key, train=True)
        # Row j belongs to member j mod n: each example is n rows in sequence.
        rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, n, 0), x)
        y, new_state = members.apply(params, state, rows, key=key, train=train)
        return jax.tree.map(partial(_join, join, n), y), new_state

    def with_parts(parts: Mapping[str, Any]) -> Layer:
        assert members.with_parts is not None  # a layer with parts always has it
        return _joined(members.with_parts(parts), n, join)

    return Layer(init, apply, name_of(members), members.parts, with_parts)


def _join(join: str, n: int, rows: jax.Array) -> jax.Array:
    # (batch * n, ...) -> (batch, n, ...)
    y = rows.reshape(-1, n, *rows.shape[1:])
    if join == MEMBERS:
        return y
    wide = y.astype(trees.wide(y))
    joined = wide.mean(1) if join == "mean" else average_in_logits(wide, 1)
    return joined.astype(y.dtype)


def _scaled(leaf: Layer, n: int, std: Number | None) -> Layer:
    """Return a layer with factors of its inputs and outputs, if it has a kernel."""

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
        checks.key("batch_ensemble key", key)
        params, state, out_shape = leaf.init(jax.random.fold_in(key, 0), shape)
        if not kernels(params):
            return params, state, out_shape
        if not isinstance(params, Mapping) or not params.keys() <= {KERNEL, BIAS}:
            expected = f"layers whose params are {KERNEL} and {BIAS}"
            got = f"{name_of(leaf)} with {', '.join(trees.named_leaves(params))}"
            raise ConfigError("batch_ensemble network", expected, got, "use nn.ensemble")
        like = params[KERNEL]
        r = _draw(jax.random.fold_in(key, 1), (n, shape[-1]), std, like)
        s = _draw(jax.random.fold_in(key, 2), (n, out_shape[-1]), std, like)
        own = {KERNEL: like, INPUT_SCALE: r, OUTPUT_SCALE: s}
        if BIAS in params:
            own[BIAS] = jnp.repeat(params[BIAS][None], n, 0)
        return own, state, out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        if not isinstance(params, Mapping) or KERNEL not in params:
            return leaf.apply(params, state, x, key=key, train=train)
        _expect_params(params, n, checks.floating("batch_ensemble x", x))
        member = jnp.arange(x.shape[0], dtype=jnp.int32) % n

        def rows(name: str, like: jax.Array) -> jax.Array:
            # (n, features) -> (batch, 1, ..., 1, features)
            own = take_rows(params[name], member).astype(like.dtype)
            return own.reshape(-1, *(1,) * (like.ndim - 2), own.shape[-1])

        # With all other params, so that the layer can report wrong ones.
        inner = {name: own for name, own in params.items() if name not in SCALES}
        if BIAS in params:
            # That of the members is added after the factors of the outputs.
            inner[BIAS] = jnp.zeros_like(params[BIAS][0])
        y, new_state = leaf.apply(inner, state, x * rows(INPUT_SCALE, x), key=key, train=train)
        y = y * rows(OUTPUT_SCALE, y)
        if BIAS in params:
            y = y + rows(BIAS, y)
        return y, new_state

    return Layer(init, apply, name_of(leaf))


def _draw(key: jax.Array, shape: Shape, std: Number | None, like: jax.Array) -> jax.Array:
    """Return random factors of the dtype of a kernel."""
    if std is None:
        return jax.random.rademacher(key, shape, like.dtype)
    return 1 + trees.knob(std, like) * jax.random.normal(key, shape, like.dtype)


def _expect_params(params: Params, n: int, x: jax.Array) -> None:
    """Raise an error unless the factors are those of n members, and those of the inputs fit x."""
    width = np.shape(params.get(INPUT_SCALE))[1:]
    if width and x.shape[1:][-1:] != width:
        advice = "call init again for another width"
        raise ShapeError("batch_ensemble x", f"(batch, ..., {width[0]})", x.shape, advice)
    outputs = np.shape(params.get(KERNEL))[-1:]
    shapes = {INPUT_SCALE: (n, *x.shape[1:][-1:]), OUTPUT_SCALE: (n, *outputs)}
    if BIAS in params:
        shapes[BIAS] = (n, *outputs)
    own = {name: leaf for name, leaf in params.items() if name in (*SCALES, BIAS)}
    trees.expect_arrays("batch_ensemble", own, shapes)
