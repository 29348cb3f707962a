"""Latent variables: a draw that gradients pass through."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker

NAMES = ("mean", "log_variance")


@maker
def sample_normal(*, always: bool = False) -> Layer:
    """Draw from a normal distribution given by mean and log variance, as in an autoencoder.

    y = mean + exp(log_variance / 2) ε in training, with ε ~ N(0, 1) for every number; y = mean
    otherwise. The gradient passes to both [Kingma & Welling 2014, arXiv:1312.6114]. x is the dict
    {"mean": (batch, ...), "log_variance": (batch, ...)} or a pair of the two; y (batch, ...).

    Args:
        always: Whether it draws in evaluation too. The validation loss of a variational
            autoencoder is its evidence lower bound only then; `train.predict` needs a key.

    Raises:
        ConfigError: `always` is not a bool.
        DTypeError: No key is given where it draws, or an array is not of floating point.
        ShapeError: x is not such a dict or pair, or its shapes differ.
    """

    checks.flag("sample_normal always", always)

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Shape]:
        mean, log_variance = _pair(shape)
        _expect_same(mean, log_variance)
        return {}, {}, mean

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        trees.expect_arrays("sample_normal", params, {})
        mean, log_variance = _pair(x)
        checks.floating("sample_normal mean", mean)
        checks.floating("sample_normal log_variance", log_variance)
        _expect_same(mean.shape, log_variance.shape)
        if not (train or always):
            return mean, state
        noise = jax.random.normal(checks.key("sample_normal key", key), mean.shape, mean.dtype)
        deviation = jnp.exp(log_variance / 2).astype(mean.dtype)
        return mean + deviation * noise, state

    return Layer(init, apply)


def _pair(x: Any) -> tuple[Any, Any]:
    """Return mean and log variance, or their shapes."""
    if isinstance(x, Mapping) and x.keys() == set(NAMES):
        return x[NAMES[0]], x[NAMES[1]]
    if isinstance(x, tuple | list) and not trees.is_shape(x) and len(x) == 2:
        return x[0], x[1]
    expected = "a dict of mean and log_variance, or a pair of them"
    advice = 'such as parallel(mean=dense(2), log_variance=dense(2), join="dict") gives'
    raise ShapeError("sample_normal", expected, checks.describe_tree(x), advice)


def _expect_same(mean: Shape, log_variance: Shape) -> None:
    if mean != log_variance:
        got = f"{mean} and {log_variance}"
        raise ShapeError(
            "sample_normal", "a log variance of the mean's shape", got, "make both equal"
        )
