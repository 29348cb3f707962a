"""Losses of regression: means over an example's numbers of functions of d = output - target.

Outputs and targets are arrays (batch, ...) of equal shape; the loss is computed in float32 at
least. ShapeError or DTypeError if they do not fit.
"""

import math

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import expect_pair, mean_per_example, nan_unless
from fnn.types import Features, Number, PerExample


@loss()
def squared_error(outputs: Features, targets: Features) -> PerExample:
    """Squared error, the mean of d². The best constant output is the mean of the targets.

    Args:
        outputs: (batch, ...).
        targets: (batch, ...), of the shape of the outputs.

    Raises:
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ; nothing is broadcast.
    """
    return mean_per_example(jnp.square(_difference(outputs, targets)))


@loss()
def absolute_error(outputs: Features, targets: Features) -> PerExample:
    """Absolute error, the mean of |d|. The best constant output is the median of the targets.

    Args:
        outputs: (batch, ...).
        targets: (batch, ...), of the shape of the outputs.

    Raises:
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ; nothing is broadcast.
    """
    d = _difference(outputs, targets)
    # The slope is 0 at d = 0; that of jnp.abs is 1.
    return mean_per_example(d * jnp.sign(d))


@loss()
def huber(outputs: Features, targets: Features, *, delta: Number = 1.0) -> PerExample:
    """Huber loss, the mean of d²/2 where |d| <= δ and of δ (|d| - δ/2) beyond.

    See [Huber 1964, doi:10.1214/aoms/1177703732].

    Args:
        outputs: (batch, ...).
        targets: (batch, ...), of the shape of the outputs.
        delta: δ > 0, in the unit of the targets: errors beyond it count linearly.

    Raises:
        ConfigError: `delta` is not positive.
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ; nothing is broadcast.
    """
    checks.number("huber delta", delta, "(0, inf)")
    size = jnp.abs(_difference(outputs, targets))
    bound = trees.knob(delta, size)
    # With m = min(|d|, δ), both branches are m²/2 + δ (|d| - m).
    near = jnp.minimum(size, bound)
    return mean_per_example(near * near / 2 + bound * (size - near))


@loss()
def log_cosh(outputs: Features, targets: Features) -> PerExample:
    """Log-cosh loss, the mean of log cosh d: d²/2 near 0, |d| - log 2 far away, and smooth.

    Args:
        outputs: (batch, ...).
        targets: (batch, ...), of the shape of the outputs.

    Raises:
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ; nothing is broadcast.
    """
    d = _difference(outputs, targets)
    # log((e^d + e^-d) / 2) without overflow.
    return mean_per_example(jnp.logaddexp(d, -d) - jnp.log(2).astype(d.dtype))


@loss()
def quantile(outputs: Features, targets: Features, *, level: Number = 0.5) -> PerExample:
    """Pinball loss, the mean of level max(0, -d) + (1 - level) max(0, d).

    The best constant output is the quantile of the targets at the level. The slope at d = 0 is 0
    [Koenker & Bassett 1978, doi:10.2307/1913643].

    Args:
        outputs: (batch, ...).
        targets: (batch, ...), of the shape of the outputs.
        level: Share of the targets that should be below the outputs, in [0, 1]; 0.5 is the median.

    Raises:
        ConfigError: `level` is outside of [0, 1].
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ; nothing is broadcast.
    """
    checks.number("quantile level", level, "[0, 1]")
    d = _difference(outputs, targets)
    share = trees.knob(level, d)
    # relu has the slope 0 at 0, so the sum has it too.
    return mean_per_example(share * jax.nn.relu(-d) + (1 - share) * jax.nn.relu(d))


@loss()
def gaussian_nll(
    outputs: tuple[Features, Features],
    targets: Features,
    *,
    min_variance: Number = 1e-6,
    full: bool = False,
) -> PerExample:
    """Negative log-likelihood of a normal distribution, the mean of (log v + d²/v) / 2.

    The constant log(2π)/2 is left out unless `full`; v = max(variance, min_variance). A negative
    variance makes the loss and its gradient NaN: end that head in softplus [Nix & Weigend 1994,
    doi:10.1109/ICNN.1994.374138].

    Args:
        outputs: A pair (mean, variance), each of the shape of the targets.
        targets: (batch, ...).
        min_variance: Lower bound > 0 of the variance, so that the loss is bounded below.
        full: Whether to add the constant log(2π)/2, so that likelihoods of models can be compared.

    Raises:
        ConfigError: `min_variance` is not positive, or `full` is not True or False.
        DTypeError: An array does not hold floats.
        ShapeError: `outputs` is not a pair, or the shapes differ; nothing is broadcast.
    """
    checks.number("gaussian_nll min_variance", min_variance, "(0, inf)")
    checks.flag("gaussian_nll full", full)
    if not isinstance(outputs, tuple | list) or len(outputs) != 2:
        got = checks.describe(outputs) if hasattr(outputs, "dtype") else type(outputs).__name__
        advice = "give the network two heads"
        raise ShapeError(
            "outputs",
            "a pair (mean, variance)",
            got,
            advice,
        )
    d = _difference(outputs[0], targets)
    # The variance has the shape of the targets, (batch, ...): nothing is broadcast.
    variance, _ = expect_pair(outputs[1], targets)
    guard = nan_unless(variance >= 0, d.dtype)  # (batch, ...)
    # The guard multiplies the variance, so that its gradient becomes NaN too.
    v = jnp.maximum(variance.astype(d.dtype) * guard, trees.knob(min_variance, d))
    constant = math.log(2 * math.pi) / 2 if full else 0.0
    return mean_per_example(((jnp.log(v) + d * d / v) / 2 + constant) * guard)


@loss()
def poisson_nll(outputs: Features, targets: jax.Array, *, full: bool = False) -> PerExample:
    """Negative log-likelihood of a Poisson distribution, the mean of exp(z) - target z.

    The constant log(target!) is left out unless `full`. A negative target makes the loss and its
    gradient NaN.

    Args:
        outputs: z (batch, ...), logs of the expected counts.
        targets: Counts in any dtype, of the shape of the outputs.
        full: Whether to add log(target!), exactly and not by Stirling's approximation, so that
            likelihoods of models can be compared.

    Raises:
        ConfigError: `full` is not True or False.
        DTypeError: The outputs are not floats.
        ShapeError: The shapes differ; nothing is broadcast.
    """
    checks.flag("poisson_nll full", full)
    z, counts = expect_pair(outputs, targets, allow_integers=True)
    # exp(z) is finite for any count, so only the guard marks a negative one.
    guard = nan_unless(counts >= 0, z.dtype)
    z = z * guard
    # A count of 0 where 0 is expected, z = -inf, has the probability 1.
    linear = counts * jnp.where((counts == 0) & jnp.isneginf(z), 0, z)
    values = jnp.exp(z) - linear
    if full:
        # lgamma has a rounding error where it is 0.
        is_0 = (counts == 0) | (counts == 1)
        values = values + jnp.where(is_0, 0, jax.lax.lgamma(counts + 1))
    return mean_per_example(values * guard)


def _difference(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    outputs, targets = expect_pair(outputs, targets)
    return outputs - targets
