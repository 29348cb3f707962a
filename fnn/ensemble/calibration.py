"""Calibration of classifiers: scalings of logits, fitted to held-out data."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.data.overlap import overlap
from fnn.ensemble.logit_maps import Scaling, matrix_scaling, temperature, vector_scaling
from fnn.ensemble.logits import expect_finite, read_examples
from fnn.errors import ConfigError, LabelError, NonFiniteError
from fnn.optim import lbfgs
from fnn.train.evaluate import predict
from fnn.train.inputs import validate_examples
from fnn.train.recipe import Recipe
from fnn.types import Data, Labels, Logits, Number, Scalar, TrainState, Weights

# Ends of the interval of 1 / T, for logits of root mean square 1.
LEAST, MOST = 1e-4, 1e4
NEWTON_STEPS = 60
LBFGS_STEPS = 1000
MEMORY = 20
RIDGE = 1e-5  # of a covariance of variance 1
STALLED = 5  # steps without a lower loss after which the fit ends
SEPARATED = 1e-4  # mean loss below which the fit has no end, if all examples are right
SLOPE = 1e-7  # largest entry of a gradient that counts as 0, for logits of variance 1


def fit_temperature(logits: Logits, labels: Labels) -> Scaling:
    """Fit a temperature to held-out data: the T with the least mean cross-entropy of logits / T.

    The loss is convex in 1 / T, and its only minimum has mean z_y = mean Σ_c p_c z_c. It is found
    by Newton's method within a bracket. On these data the loss is never above that of T = 1, and
    the accuracy stays the same.

    Use data on which the network was not trained: it is too confident there, and T would be too
    small; `calibrate` can check that. There is no T for logits that are right for every example,
    since the loss falls for T → 0, and none for logits worse than a uniform guess, where it falls
    for T → ∞. Both are errors; within jax.jit, T is then some number where the loss is nearly flat.

    Args:
        logits: (n, ..., classes); or of one output, (n, 1) or (n,). Of an ensemble, those of
            `average_probabilities`.
        labels: Integers (n, ...), or probabilities, whose largest counts.

    Returns:
        The map of logits, `temperature(T)`.

    Raises:
        ConfigError: There is no finite T > 0 of least loss.
        DTypeError: The logits are not floats, or are probabilities.
        LabelError: A label is not a class.
        NonFiniteError: A logit is NaN or +inf; -inf is a probability of 0, but not of a label.
        ShapeError: The shapes do not fit.
    """
    z, truth = read_examples("fit_temperature", logits, labels)
    margins, scale = _margins(z, truth)
    # The margins of a label of probability 0 are infinite.
    if checks.is_concrete(margins) and not bool((margins < jnp.inf).all()):
        raise NonFiniteError(
            "fit_temperature logits",
            "finite numbers at the labels",
            "-inf",
            "leave out examples whose label cannot be",
        )
    solved = _solve_temperature(margins / scale)
    if checks.is_concrete(solved):
        _expect_solution("fit_temperature", margins)
    return temperature(scale / solved)


@jax.jit
def _margins(z: Array, truth: Array) -> tuple[Array, Scalar]:
    """Return z_c - z_y (n, classes), and the root mean square of the logits about their mean."""
    own = jnp.take_along_axis(z, truth[:, None], -1, mode="clip")  # (n, 1)
    margins = z - own  # (n, classes)
    # Of a label that is not a class the margin is unknown.
    margins = jnp.where(truth[:, None] < 0, jnp.nan, margins)
    possible = ~jnp.isneginf(z)
    mean = z.mean(-1, where=possible, keepdims=True)
    return margins, _root_mean_square(jnp.where(possible, z - mean, 0))


def fit_vector_scaling(logits: Logits, labels: Labels) -> Scaling:
    """Fit a scale and a bias for each class to held-out data, by the least mean cross-entropy.

    The loss is convex. L-BFGS begins at logits of mean 0 and variance 1 a class, with the scales
    and biases that leave them unchanged, so that the loss never ends above that of the logits. A
    constant that is added to all biases changes nothing; their mean is 0.

    Args:
        logits: As for `fit_temperature`.
        labels: As for `fit_temperature`. Every class must occur: without an example its bias would
            fall without end.

    Returns:
        The map of logits, `vector_scaling(scale, bias)`; for one output, arrays of one number.

    Raises:
        ConfigError: The fitted logits are right for every example, so that there is no least loss.
        FnnError: As `fit_temperature`.
    """
    where = "fit_vector_scaling"
    z, truth = read_examples(where, logits, labels)
    expect_finite(where, z)
    _expect_all_classes(where, truth, z.shape[-1])
    is_single = jnp.ndim(logits) == 1 or jnp.shape(logits)[-1] == 1
    inputs = z[:, 1:] if is_single else z
    scale, bias, scaled = _fit_vector(inputs, truth)
    _expect_errors(where, scaled, truth)
    return vector_scaling(scale, bias if is_single else bias - bias.mean())


@jax.jit
def _fit_vector(inputs: Array, truth: Array) -> tuple[Array, Array, Array]:
    """Return scale, bias and the scaled logits."""
    mean = inputs.mean(0)
    deviation = jnp.sqrt(jnp.square(inputs - mean[None]).mean(0))
    # Logits that do not vary have no scale.
    deviation = jnp.where(deviation > 0, deviation, 1)
    standard = (inputs - mean[None]) / deviation[None]

    def outputs(params: Any) -> Array:
        return _as_classes(standard * params["scale"][None] + params["bias"][None])

    start = {"scale": deviation, "bias": mean}
    fitted = _minimize(lambda params: _loss(outputs(params), truth), start)
    scale = fitted["scale"] / deviation
    return scale, fitted["bias"] - scale * mean, outputs(fitted)


def fit_matrix_scaling(
    logits: Logits,
    labels: Labels,
    *,
    off_diagonal: Number = 0.0,
    bias: Number = 0.0,
) -> Scaling:
    """Fit a matrix and a bias to held-out data, by the least mean cross-entropy.

    The loss is -mean log p_y + λ mean_{i≠j} K_ij² + μ mean b². The penalty of the entries off the
    diagonal and of the bias (ODIR) lets the classes² numbers be fitted to few examples
    [Kull et al. 2019, arXiv:1910.12656]. As for `fit_vector_scaling` the loss is convex, and the
    fit begins at the logits themselves. Without a penalty, a number that is added to a row of the
    matrix changes nothing; the sum of each row stays 1.

    Args:
        logits: (n, ..., classes), as for `fit_temperature`; for one output use
            `fit_vector_scaling`.
        labels: As for `fit_vector_scaling`.
        off_diagonal: Factor λ >= 0 of the entries off the diagonal.
        bias: Factor μ >= 0 of the biases.

    Returns:
        The map of logits, `matrix_scaling(kernel, bias)`.

    Raises:
        ConfigError: A factor is negative; or the fitted logits are right for every example, so that
            there is no least loss.
        FnnError: As `fit_vector_scaling`.
    """
    where = "fit_matrix_scaling"
    checks.number(f"{where} off_diagonal", off_diagonal, "[0, inf)")
    checks.number(f"{where} bias", bias, "[0, inf)")
    z, truth = read_examples(where, logits, labels)
    classes = z.shape[-1]
    if jnp.ndim(logits) == 1 or jnp.shape(logits)[-1] == 1:
        got = jnp.shape(logits)
        raise ConfigError(f"{where} logits", "two outputs or more", got, "use fit_vector_scaling")
    expect_finite(where, z)
    _expect_all_classes(where, truth, classes)
    factors = jnp.asarray(off_diagonal, z.dtype), jnp.asarray(bias, z.dtype)
    kernel, own_bias, scaled = _fit_matrix(z, truth, *factors)
    _expect_errors(where, scaled, truth)
    return matrix_scaling(kernel, own_bias)


@jax.jit
def _fit_matrix(
    z: Array,
    truth: Array,
    off_diagonal: Scalar,
    bias: Scalar,
) -> tuple[Array, Array, Array]:
    """Return kernel, bias and the scaled logits."""
    classes = z.shape[-1]
    identity = jnp.eye(classes, dtype=z.dtype)
    mean = z.mean(0)  # (classes,)
    centered = z - mean[None]  # (n, classes)
    size = _root_mean_square(centered)
    covariance = _product(centered.T / size, centered / size) / len(z)  # (classes, classes)
    # Logits without correlation need fewer steps. A ridge keeps the root finite, and changes the
    # coordinates of the search alone.
    root = jnp.linalg.cholesky(covariance + RIDGE * identity)
    whitening = jax.scipy.linalg.solve_triangular(root, identity, lower=True).T / size
    standard = _product(centered, whitening)  # (n, classes)

    def original(params: Any) -> tuple[Array, Array]:
        """Return kernel and bias for the logits themselves."""
        kernel = _product(whitening, params["kernel"])
        return kernel, params["bias"] - _product(mean, kernel)

    def outputs(params: Any) -> Array:
        return _product(standard, params["kernel"]) + params["bias"][None]

    def loss(params: Any) -> Scalar:
        kernel, own_bias = original(params)
        off = (jnp.square(kernel) * (1 - identity)).sum() / (classes * (classes - 1))
        penalty = off_diagonal * off + bias * jnp.square(own_bias).mean()
        return _loss(outputs(params), truth) + penalty

    # The kernel of these coordinates that leaves the logits unchanged.
    start = {"kernel": root.T * size, "bias": mean}
    fitted = _minimize(loss, start)
    return *original(fitted), outputs(fitted)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


METHODS = {
    "temperature": fit_temperature,
    "vector": fit_vector_scaling,
    "matrix": fit_matrix_scaling,
}


def calibrate(
    recipe: Recipe,
    train_state: TrainState | Weights,
    data: Data,
    *,
    training: Data | None = None,
    method: str = "temperature",
    batch_size: int = 256,
) -> Scaling:
    """Fit a scaling of the logits of one trained network to held-out data.

        scaling = ensemble.calibrate(recipe, result.train_state, held_out, training=digits.train)
        logits = scaling(train.predict(recipe, result.train_state, inputs))

    Args:
        recipe: The recipe of the run.
        train_state: Of the run; or `Weights`.
        data: (inputs, labels) on which the network was not trained. Data that chose the network, as
            of early stopping, make the scaling a little too confident.
        training: The data of the run. If given, a warning reports examples of `data` among them;
            see `data.overlap`.
        method: "temperature", "vector" or "matrix", the latter without a penalty.
        batch_size: Examples that pass through the network at once.

    Returns:
        The map of logits, as of `fit_temperature`, `fit_vector_scaling` or `fit_matrix_scaling`.

    Raises:
        ConfigError: `method` is not one of these.
        FnnError: As `train.predict` and the function that fits.
    """
    fit = METHODS[checks.choice("calibrate method", method, tuple(METHODS))]
    inputs, labels = validate_examples("data", recipe, data)
    if training is not None:
        known_inputs, _ = validate_examples("training", recipe, training)
        common = overlap(inputs, known_inputs)
        if common:
            warnings.warn(
                f"calibrate data: {common} of {len(labels)} examples are in the training data, "
                "where the network is too confident; calibrate on data that it was not trained on",
                stacklevel=2,
            )
    outputs = predict(recipe, train_state, inputs, batch_size=batch_size)
    return fit(outputs, labels)


def _as_classes(z: Array) -> Array:
    """Return logits of two classes or more."""
    return jnp.concatenate([jnp.zeros_like(z), z], -1) if z.shape[-1] == 1 else z


def _loss(z: Array, truth: Array) -> Scalar:
    """Return the mean cross-entropy."""
    log_p = jax.nn.log_softmax(z)  # (n, classes)
    own = jnp.take_along_axis(log_p, truth[:, None], -1, mode="clip")  # (n, 1)
    return -jnp.where(truth[:, None] < 0, jnp.nan, own).mean()


def _root_mean_square(z: Array) -> Scalar:
    largest = jnp.abs(z).max()
    # Divided first, since squares of large logits are infinite.
    safe = jnp.where(largest > 0, largest, 1)
    return safe * jnp.sqrt(jnp.square(z / safe).mean()) + jnp.where(largest > 0, 0, 1)


class Bracket(NamedTuple):
    """The state of the search for x = log 1/T.

    Attributes:
        low: A point where the slope of the loss is < 0, or the end of the interval.
        high: A point where it is > 0, or the other end.
        x: The next point.
        steps: Number of points so far.
        is_done: Whether the last step was within rounding.
    """

    low: Scalar
    high: Scalar
    x: Scalar
    steps: Array
    is_done: Array


@jax.jit
def _solve_temperature(margins: Array) -> Scalar:
    """Return 1/T of the least mean log Σ exp(margins / T), of margins of size 1."""
    # Classes of probability 0 count in no sum.
    finite = jnp.where(jnp.isneginf(margins), 0, margins)

    def slopes(x: Scalar) -> tuple[Scalar, Scalar]:
        """Return the slope of the loss by 1/T, and the slope of that by x."""
        inverse = jnp.exp(x)
        p = jax.nn.softmax(inverse * margins)
        mean = (p * finite).sum(-1)  # (n,)
        variance = (p * jnp.square(finite - mean[:, None])).sum(-1)
        return mean.mean(), inverse * variance.mean()

    def step(bracket: Bracket) -> Bracket:
        slope, curvature = slopes(bracket.x)
        low = jnp.where(slope <= 0, bracket.x, bracket.low)
        high = jnp.where(slope >= 0, bracket.x, bracket.high)
        newton = bracket.x - slope / jnp.where(curvature > 0, curvature, 1)
        is_inside = (newton > low) & (newton < high) & (curvature > 0)
        x = jnp.where(is_inside, newton, (low + high) / 2)
        rounding = 4 * jnp.finfo(x.dtype).eps
        is_done = jnp.abs(x - bracket.x) <= rounding * jnp.maximum(1, jnp.abs(x))
        return Bracket(low, high, x, bracket.steps + 1, is_done)

    zero = jnp.zeros((), margins.dtype)
    start = Bracket(
        low=jnp.log(jnp.full_like(zero, LEAST)),
        high=jnp.log(jnp.full_like(zero, MOST)),
        x=zero,
        steps=jnp.int32(0),
        is_done=jnp.zeros((), bool),
    )
    last = jax.lax.while_loop(
        lambda bracket: ~bracket.is_done & (bracket.steps < NEWTON_STEPS), step, start
    )
    return jnp.exp(last.x) * jnp.where(jnp.isnan(margins).any(), jnp.nan, 1)


def _expect_solution(where: str, margins: Array) -> None:
    """Raise ConfigError if the loss has no minimum at a finite T > 0."""
    n = len(margins)
    if not bool(margins.any()):
        advice = "check the network that returned them"
        raise ConfigError(f"{where} logits", "logits that differ", "equal ones", advice)
    if not bool((margins.max(-1) > 0).any()):
        raise ConfigError(
            f"{where} logits",
            "at least one example whose label has not the largest logit",
            f"{n} of {n} right, so that the loss falls for T → 0",
            "take more examples that the network was not trained on",
        )
    # The slope at 1/T = 0, where all classes that are possible have one probability.
    slope = margins.mean(-1, where=~jnp.isneginf(margins)).mean()
    if float(slope) >= 0:
        raise ConfigError(
            f"{where} logits",
            "logits better than a uniform guess",
            "worse ones, so that the loss falls for T → infinity",
            "check that labels and logits are in the same order",
        )


def _expect_all_classes(where: str, truth: Array, classes: int) -> None:
    if not checks.is_concrete(truth):
        return
    counts = jnp.zeros(classes, jnp.int32).at[truth].add(1)  # (classes,)
    if not bool((counts > 0).all()):
        raise LabelError(
            f"{where} labels",
            f"each of the {classes} classes",
            f"no example of class {int(counts.argmin())}",
            "take more examples, or use fit_temperature",
        )


def _expect_errors(where: str, z: Array, truth: Array) -> None:
    """Raise ConfigError if all examples are right and sure: larger numbers lower the loss."""
    if not checks.is_concrete(z):
        return
    own = jnp.take_along_axis(z, truth[:, None], -1)
    if bool((z <= own).all()) and float(_loss(z, truth)) < SEPARATED:
        raise ConfigError(
            f"{where} logits",
            "data that no scaling of this kind classifies without an error",
            f"{len(z)} of {len(z)} right, so that the loss has no minimum",
            "take more examples, or use fit_temperature",
        )


class Descent(NamedTuple):
    """The state of a minimization.

    Attributes:
        params: The current point.
        opt_state: Of L-BFGS.
        best: The point of the least loss.
        value: The least loss.
        stalled: Number of steps since the loss was last lowered.
        steps: Number of steps.
        is_flat: Whether the gradient is 0 to rounding.
    """

    params: Any
    opt_state: Any
    best: Any
    value: Scalar
    stalled: Array
    steps: Array
    is_flat: Array


def _minimize(loss: Callable[[Any], Scalar], start: Any) -> Any:
    """Return the minimum of a convex function by L-BFGS, from a start."""
    optimizer = lbfgs(memory=MEMORY)

    def step(descent: Descent) -> Descent:
        value, grads = jax.value_and_grad(loss)(descent.params)
        is_lower = value < descent.value
        best = trees.select(is_lower, descent.params, descent.best)
        updates, opt_state = optimizer.update(
            grads, descent.opt_state, descent.params, value=value, value_fn=loss
        )
        params = jax.tree.map(jnp.add, descent.params, updates)
        slopes = [jnp.abs(leaf).max() for leaf in jax.tree.leaves(grads)]
        return Descent(
            params=params,
            opt_state=opt_state,
            best=best,
            value=jnp.where(is_lower, value, descent.value),
            stalled=jnp.where(is_lower, 0, descent.stalled + 1),
            steps=descent.steps + 1,
            is_flat=jnp.stack(slopes).max() <= SLOPE,
        )

    def continues(descent: Descent) -> Array:
        is_open = (descent.stalled < STALLED) & (descent.steps < LBFGS_STEPS)
        return is_open & ~descent.is_flat

    value = jnp.full_like(loss(start), jnp.inf)
    zero = jnp.int32(0)
    descent = Descent(
        params=start,
        opt_state=optimizer.init(start),
        best=start,
        value=value,
        stalled=zero,
        steps=zero,
        is_flat=jnp.zeros((), bool),
    )
    return jax.lax.while_loop(continues, step, descent).best
