"""Normalization of weights: weight standardization, weight and spectral normalization."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.composite import drop_empty, expect_names
from fnn.nn.core.reparametrization import change_kernels, kernels, with_kernels
from fnn.nn.core.wide_sums import along_last
from fnn.nn.normalization.moments import moments, normalize
from fnn.types import KERNEL, Layer, Number, Params, Shape, State
from fnn.values import maker

KERNEL_SCALE = "kernel_scale"
WARM_UP = 15  # power iterations in init, as in torch


@maker
def weight_standardization(layer: Layer, *, eps: Number = 1e-5) -> Layer:
    """Weight standardization: a layer acts with (W - mean) / √(var + eps) in place of W.

    W is every `kernel` (..., outputs) of the layer, or of the layers it is made of; mean and the
    biased var are over all axes but the last (float32 at least). Params and state are those of the
    layer [Qiao et al. 2019, arXiv:1903.10520].

    Args:
        layer: The layer whose kernels are standardized, or a network of such layers.
        eps: Number added to the variance, > 0.

    Raises:
        ConfigError: `eps` is not a number > 0, or, in init, the layer has no kernel.
        ShapeError: A kernel has a single weight for each output, which would always be 0.
    """
    checks.number("weight_standardization eps", eps, "(0, inf)")

    def standardize(kernel: jax.Array) -> jax.Array:
        if kernel.size <= kernel.shape[-1]:
            raise ShapeError(
                "weight_standardization kernel",
                "more than 1 weight an output",
                kernel.shape,
                "leave this layer as it is",
            )
        wide = kernel.astype(trees.wide(kernel))
        # Over the window and the inputs, for each output.
        mean, var = moments(wide, tuple(range(kernel.ndim - 1)))
        return normalize(wide, mean, var, eps, {}).astype(kernel.dtype)

    def standardized(leaf: Layer) -> Layer:
        def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
            params, state, out_shape = leaf.init(key, shape)
            jax.tree.map(standardize, kernels(params))  # raises for a kernel that does not fit
            return params, state, out_shape

        def apply(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            # In every application: the params stay W, and gradients pass through.
            new_kernels = jax.tree.map(standardize, kernels(params))
            new_params = with_kernels(params, new_kernels)
            return leaf.apply(new_params, state, x, key=key, train=train)

        return Layer(init, apply, leaf.name)

    return change_kernels("weight_standardization", layer, standardized)


@maker
def weight_norm(layer: Layer) -> Layer:
    """Weight normalization: a layer acts with W = scale V / |V| in place of its kernel V.

    V is every `kernel` (..., outputs) of the layer, or of the layers it is made of; |V| is the norm
    of the weights of each output, over all axes but the last (float32 at least). Length and
    direction are trained on their own. Next to each `kernel` the params have a `kernel_scale`
    (outputs,), which is |V| at first, so that the layer begins as it is. |V| of zeros counts as 1.
    The state is that of the layer [Salimans & Kingma 2016, arXiv:1602.07868].

    Args:
        layer: The layer whose kernels are normalized, or a network of such layers.

    Raises:
        ConfigError: In init, the layer has no kernel.
        TreeMismatchError: The params are not those of this layer.
    """

    def normalized(leaf: Layer) -> Layer:
        def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
            params, state, out_shape = leaf.init(key, shape)
            return _add_scales(params), state, out_shape

        def apply(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            return leaf.apply(_apply_scales(params), state, x, key=key, train=train)

        return Layer(init, apply, leaf.name)

    return change_kernels("weight_norm", layer, normalized)


def _add_scales(params: Params) -> Params:
    """Return the params with the norms of each kernel next to it."""
    if not isinstance(params, Mapping):
        return params
    added = {name: _add_scales(part) for name, part in params.items()}
    if KERNEL in added:
        kernel = added[KERNEL]
        added[KERNEL_SCALE] = _norms(kernel).reshape(-1).astype(kernel.dtype)
    return added


def _apply_scales(params: Params) -> Params:
    """Return the params of the layer: each kernel with the norms of its scale."""
    if not isinstance(params, Mapping):
        return params
    if KERNEL in params:
        kernel = checks.floating("weight_norm kernel", params[KERNEL])
        own = {KERNEL_SCALE: params[KERNEL_SCALE]} if KERNEL_SCALE in params else {}
        trees.expect_arrays("weight_norm", own, {KERNEL_SCALE: kernel.shape[-1:]})
    applied = {name: _apply_scales(part) for name, part in params.items() if name != KERNEL_SCALE}
    if KERNEL in applied:
        kernel = applied[KERNEL]
        wide = kernel.astype(trees.wide(kernel))
        scale = params[KERNEL_SCALE].astype(wide.dtype)
        factors = along_last(scale, wide) / _norms(wide)
        applied[KERNEL] = (wide * factors).astype(kernel.dtype)
    return applied


def _norms(kernel: jax.Array) -> jax.Array:
    """Return the norms of the weights of each output, of the rank of the kernel; 1 for zeros."""
    wide = kernel.astype(trees.wide(kernel))
    squares = jnp.square(wide).sum(tuple(range(wide.ndim - 1)), keepdims=True)
    # The root of 0 has no derivative.
    is_zero = squares == 0
    return jnp.where(is_zero, 1, jnp.sqrt(jnp.where(is_zero, 1, squares)))


@maker
def spectral_norm(
    layer: Layer,
    *,
    iterations: int = 1,
    eps: Number = 1e-12,
) -> Layer:
    """Spectral normalization: a layer acts with W / σ in place of W, where σ = vᵀ W u.

    W is every `kernel` of the layer, or of the layers it is made of, as a matrix (weights,
    outputs). Its largest singular value becomes 1; a kernel of zeros stays 0. u and v, in the
    state, approach the singular vectors by power iteration, u <- Wᵀ v / (|Wᵀ v| + eps),
    v <- W u / (|W u| + eps): 15 times in init and `iterations` times in each application with
    train=True. Gradients hold them constant. Params are those of the layer; the state is
    {body: the state of the layer, u, v}
    [Miyato et al. 2018, arXiv:1802.05957].

    Args:
        layer: The layer whose kernels are normalized, or a network of such layers.
        iterations: Power iterations in each training step; 1 as in the paper, since W moves little.
        eps: Number added to the norms of the vectors, > 0.

    Raises:
        ConfigError: An option is out of range, or, in init, the layer has no kernel.
        TreeMismatchError: The state is not that of this layer.
    """
    checks.whole("spectral_norm iterations", iterations)
    checks.number("spectral_norm eps", eps, "(0, inf)")

    def normalized(leaf: Layer) -> Layer:
        def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
            checks.key("spectral_norm key", key)
            # Kernel i draws by fold_in(key, i), counted from 1.
            layer_key = jax.random.fold_in(key, 0)
            params, state, out_shape = leaf.init(layer_key, shape)
            vectors = {}
            for index, (path, matrix) in enumerate(_matrices(params).items(), 1):
                own_key = jax.random.fold_in(key, index)
                v = jax.random.normal(own_key, matrix.shape[:1], matrix.dtype)
                # The iteration begins with a new u by v, so that any u of this shape is right.
                start = _SingularVectors(matrix[0], _unit(v, eps))
                vectors[path] = _iterate(matrix, start, WARM_UP, eps)
            return params, _with_vectors(state, vectors), out_shape

        def apply(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            matrices = _matrices(params)
            if not matrices:
                return leaf.apply(params, state, x, key=key, train=train)
            _expect_vectors(state, matrices)
            count = iterations if train else 0
            new_vectors = {}
            new_kernels = {}
            for path, kernel in kernels(params).items():
                matrix = matrices[path]
                old = _SingularVectors(state["u"][path], state["v"][path])
                start = _SingularVectors(old.u.astype(matrix.dtype), old.v.astype(matrix.dtype))
                new = _iterate(matrix, start, count, eps)
                sigma = _norm_of(matrix, new)
                # (weights, outputs) -> the shape of the kernel
                new_kernels[path] = (matrix / sigma).reshape(kernel.shape).astype(kernel.dtype)
                # The state keeps its dtype, also where the params are in half precision.
                new_vectors[path] = jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)
            new_params = with_kernels(params, new_kernels)
            y, body = leaf.apply(new_params, state.get("body", {}), x, key=key, train=train)
            return y, _with_vectors(body, new_vectors)

        return Layer(init, apply, leaf.name)

    return change_kernels("spectral_norm", layer, normalized)


class _SingularVectors(NamedTuple):
    u: jax.Array  # (outputs,)
    v: jax.Array  # (weights,)


def _matrices(params: Params) -> dict[str, jax.Array]:
    """Return each kernel as a matrix whose columns are the weights of one output."""
    matrices = {}
    for path, kernel in kernels(params).items():
        wide = kernel.astype(trees.wide(kernel))
        matrices[path] = wide.reshape(-1, kernel.shape[-1])  # (weights, outputs)
    return matrices


def _iterate(
    matrix: jax.Array,
    vectors: _SingularVectors,
    count: int,
    eps: Number,
) -> _SingularVectors:
    """Return the vectors after `count` power iterations."""
    constant = jax.lax.stop_gradient(matrix)

    def iteration(_: jax.Array, vectors: _SingularVectors) -> _SingularVectors:
        u = _unit(vectors.v @ constant, eps)
        v = _unit(constant @ u, eps)
        # Of a kernel of zeros v is 0 too, and would stay 0 when the kernel is trained.
        return _SingularVectors(u, jnp.where((v == 0).all(), vectors.v, v))

    return jax.lax.fori_loop(0, count, iteration, vectors)


def _norm_of(matrix: jax.Array, vectors: _SingularVectors) -> jax.Array:
    """Return σ = vᵀ W u, and 1 for a kernel of zeros, which is divided by it."""
    sigma = vectors.v @ matrix @ vectors.u
    # Below this number squares underflow to 0, and with them the norms of the vectors.
    smallest = jnp.finfo(matrix.dtype).tiny ** 0.5
    return jnp.where(jnp.abs(sigma) < smallest, 1, sigma)


def _unit(vector: jax.Array, eps: Number) -> jax.Array:
    # eps keeps a vector of zeros from becoming NaN.
    return vector / (jnp.linalg.norm(vector) + trees.knob(eps, vector))


def _with_vectors(body: State, vectors: dict[str, _SingularVectors]) -> State:
    """Return the state of a layer with the vectors of its kernels by path, if it has kernels."""
    if not vectors:
        return body
    u = {path: pair.u for path, pair in vectors.items()}
    v = {path: pair.v for path, pair in vectors.items()}
    return drop_empty({"body": body, "u": u, "v": v})


def _expect_vectors(state: State, matrices: dict[str, jax.Array]) -> None:
    expect_names("spectral_norm state", ("body", "u", "v"), state)
    for name, axis in (("v", 0), ("u", 1)):
        shapes = {path: (matrix.shape[axis],) for path, matrix in matrices.items()}
        trees.expect_arrays(f"spectral_norm {name}", state.get(name, {}), shapes)
