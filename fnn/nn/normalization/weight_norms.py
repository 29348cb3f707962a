"""Weights brought to zero mean and unit variance, or to unit norm, before they act."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.composite import expect_names, filled
from fnn.nn.core.reparametrization import change_kernels, kernels, with_kernels
from fnn.nn.normalization.moments import moments, normalize
from fnn.types import Layer, Number, Params, Shape, State
from fnn.values import maker

WARM_UP = 15  # power iterations at the beginning, as many as in torch


@maker
def weight_standardization(layer: Layer, *, eps: Number = 1e-5) -> Layer:
    """A layer acts with each output's weights at mean 0 and variance 1, (W - mean) / √(var + eps) in place of W.

    W is every `kernel` (..., outputs) of the layer, or of the layers it is made of; mean and var, biased, are over all
    axes but the last (float32 at least). Params and state are the layer's own. ConfigError for an eps out of range,
    and in init for a layer without kernel; ShapeError for a single weight an output, which would be 0
    [Qiao et al. 2019, arXiv:1903.10520].
    """
    checks.number("weight_standardization eps", eps, "(0, inf)")

    def standard(kernel: jax.Array) -> jax.Array:
        if kernel.size <= kernel.shape[-1]:
            advice = "leave this layer as it is"
            raise ShapeError(
                "weight_standardization kernel",
                "more than 1 weight an output",
                kernel.shape,
                advice,
            )
        wide = kernel.astype(trees.wide(kernel))
        return normalize(wide, *moments(wide, tuple(range(kernel.ndim - 1))), eps, {}).astype(
            kernel.dtype
        )

    def standardized(leaf: Layer) -> Layer:
        def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
            params, state, out_shape = leaf.init(key, shape)
            jax.tree.map(standard, kernels(params))  # raises where it cannot be
            return params, state, out_shape

        def apply(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            own = jax.tree.map(standard, kernels(params))
            return leaf.apply(with_kernels(params, own), state, x, key=key, train=train)

        return Layer(init, apply, leaf.name)

    return change_kernels("weight_standardization", layer, standardized)


@maker
def spectral_norm(layer: Layer, *, iterations: int = 1, eps: Number = 1e-12) -> Layer:
    """A layer acts with weights of largest singular value 1, W / σ in place of W, where σ = vᵀ W u.

    W is every `kernel` of the layer, or of the layers it is made of, as a matrix (weights, outputs). u and v, in the
    state, come near the singular vectors by power iteration, u <- Wᵀ v / (|Wᵀ v| + eps), v <- W u / (|W u| +
    eps): fifteen times in init, `iterations` times in each application with train=True; gradients hold them
    constant. Params are the layer's own, and its state is {body: its own, u, v}. ConfigError for an option out of
    range, and in init for a layer without kernel [Miyato et al. 2018, arXiv:1802.05957].
    """
    checks.whole("spectral_norm iterations", iterations)
    checks.number("spectral_norm eps", eps, "(0, inf)")

    def bounded(leaf: Layer) -> Layer:
        def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
            params, state, out_shape = leaf.init(
                jax.random.fold_in(checks.key("spectral_norm key", key), 0), shape
            )
            vectors = {}
            for place, (path, matrix) in enumerate(_matrices(params).items(), 1):
                v = jax.random.normal(
                    jax.random.fold_in(key, place), matrix.shape[:1], matrix.dtype
                )
                vectors[path] = _iterated(matrix, _Pair(matrix[0], v), WARM_UP, eps)
            return params, _entered(state, vectors), out_shape

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
            vectors, own = {}, {}
            for path, kernel in kernels(params).items():
                matrix, old = matrices[path], _Pair(state["u"][path], state["v"][path])
                pair = _Pair(*(vector.astype(matrix.dtype) for vector in old))
                pair = _iterated(matrix, pair, iterations if train else 0, eps)
                own[path] = (
                    (matrix / (pair.v @ matrix @ pair.u)).reshape(kernel.shape).astype(kernel.dtype)
                )
                vectors[path] = jax.tree.map(lambda new, old: new.astype(old.dtype), pair, old)
            y, body = leaf.apply(
                with_kernels(params, own), state.get("body", {}), x, key=key, train=train
            )
            return y, _entered(body, vectors)

        return Layer(init, apply, leaf.name)

    return change_kernels("spectral_norm", layer, bounded)


class _Pair(NamedTuple):
    u: jax.Array  # (outputs,)
    v: jax.Array  # (weights,)


def _matrices(params: Params) -> dict[str, jax.Array]:
    """Each kernel with the weights of an output as a column, (weights, outputs)."""
    return {
        path: kernel.astype(trees.wide(kernel)).reshape(-1, kernel.shape[-1])
        for path, kernel in kernels(params).items()
    }


def _iterated(matrix: jax.Array, pair: _Pair, count: int, eps: Number) -> _Pair:
    """The vectors so many power iterations on."""
    fixed = jax.lax.stop_gradient(matrix)

    def one(_: jax.Array, pair: _Pair) -> _Pair:
        u = _unit(pair.v @ fixed, eps)
        return _Pair(u, _unit(fixed @ u, eps))

    return jax.lax.fori_loop(0, count, one, pair)


def _unit(vector: jax.Array, eps: Number) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + trees.knob(eps, vector))


def _entered(body: State, vectors: dict[str, _Pair]) -> State:
    """The state of a layer with these vectors, by the paths of its kernels; just its own where there are none."""
    u, v = ({path: pair[i] for path, pair in vectors.items()} for i in range(2))
    return filled({"body": body, "u": u, "v": v}) if vectors else body


def _expect_vectors(state: State, matrices: dict[str, jax.Array]) -> None:
    expect_names("spectral_norm state", ("body", "u", "v"), state)
    for name, axis in (("v", 0), ("u", 1)):
        shapes = {path: matrix.shape[axis : axis + 1] for path, matrix in matrices.items()}
        trees.expect_arrays(f"spectral_norm {name}", state.get(name, {}), shapes)
