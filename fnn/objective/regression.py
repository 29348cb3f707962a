"""Losses of numbers that should be near others: the mean over an example's numbers, of d = output - target.

outputs and targets (batch, ...), equal in shape, in float32 at least inside; ShapeError or DTypeError otherwise.
"""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import alarm, paired, per_example
from fnn.types import Features, Number, PerExample


@loss()
def squared_error(outputs: Features, targets: Features) -> PerExample:
    """The mean over an example's numbers of d²: where it is least, outputs are means."""
    return per_example(jnp.square(_difference(outputs, targets)))


@loss()
def absolute_error(outputs: Features, targets: Features) -> PerExample:
    """The mean over an example's numbers of |d|, with slope 0 at 0: where it is least, outputs are medians."""
    d = _difference(outputs, targets)
    return per_example(d * jnp.sign(d))  # jnp.abs has the slope 1 at 0


@loss()
def huber(outputs: Features, targets: Features, *, delta: Number = 1.0) -> PerExample:
    """The mean over an example's numbers of d²/2 where |d| <= δ, and of δ (|d| - δ/2) beyond.

    ConfigError unless δ > 0 [Huber 1964, doi:10.1214/aoms/1177703732].
    """
    checks.number("huber delta", delta, "(0, inf)")
    size = jnp.abs(_difference(outputs, targets))
    bound = trees.knob(delta, size)
    near = jnp.minimum(size, bound)
    return per_example(near * near / 2 + bound * (size - near))


@loss()
def log_cosh(outputs: Features, targets: Features) -> PerExample:
    """The mean over an example's numbers of log cosh d: d²/2 near 0, |d| - log 2 far away, and smooth."""
    d = _difference(outputs, targets)
    return per_example(jnp.logaddexp(d, -d) - jnp.log(2).astype(d.dtype))


@loss()
def quantile(outputs: Features, targets: Features, *, level: Number = 0.5) -> PerExample:
    """The mean over an example's numbers of level max(0, -d) + (1 - level) max(0, d), the pinball loss.

    Where it is least, that share of the targets lies below the outputs; its slope at d = 0 is taken as 0. ConfigError
    unless 0 <= level <= 1 [Koenker & Bassett 1978, doi:10.2307/1913643].
    """
    checks.number("quantile level", level, "[0, 1]")
    d = _difference(outputs, targets)
    share = trees.knob(level, d)
    return per_example(share * jax.nn.relu(-d) + (1 - share) * jax.nn.relu(d))


@loss()
def gaussian_nll(
    outputs: tuple[Features, Features], targets: Features, *, min_variance: Number = 1e-6
) -> PerExample:
    """The mean over an example's numbers of (log v + d²/v) / 2, the surprise under a normal law, less log(2π)/2.

    outputs are a pair (mean, variance), each of the targets' shape; v is the variance, or min_variance if that is more.
    A negative variance makes the loss and its gradient NaN: end in softplus. ConfigError unless min_variance > 0;
    ShapeError or DTypeError for what does not fit [Nix & Weigend 1994, doi:10.1109/ICNN.1994.374138].
    """
    checks.number("gaussian_nll min_variance", min_variance, "(0, inf)")
    if not isinstance(outputs, tuple | list) or len(outputs) != 2:
        raise ShapeError(
            "outputs", "a pair (mean, variance)", _told(outputs), "give the network two heads"
        )
    d, (variance, _) = _difference(outputs[0], targets), paired(outputs[1], targets)
    warning = alarm(variance >= 0, d.dtype)
    v = jnp.maximum(variance.astype(d.dtype) * warning, trees.knob(min_variance, d))
    return per_example((jnp.log(v) + d * d / v) / 2 * warning)


@loss()
def poisson_nll(outputs: Features, targets: jax.Array) -> PerExample:
    """The mean over an example's numbers of exp(z) - target z, the surprise at counts, less log(target!).

    outputs z are logs of the expected counts; targets are counts of any dtype, a negative one makes the loss and its
    gradient NaN. ShapeError or DTypeError for what does not fit.
    """
    z, counts = paired(outputs, targets, whole=True)
    warning = alarm(counts >= 0, z.dtype)
    z = z * warning
    return per_example((jnp.exp(z) - counts * z) * warning)


def _difference(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    outputs, targets = paired(outputs, targets)
    return outputs - targets


def _told(outputs: object) -> str:
    return checks.describe(outputs) if hasattr(outputs, "dtype") else type(outputs).__name__
