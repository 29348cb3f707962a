"""Reliability of probabilities: a table by bins, and decompositions of proper scores."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.ensemble.logits import read_examples
from fnn.objective.metrics.bins import BINNINGS, bin_indices, bin_sums
from fnn.objective.metrics.labels import UNKNOWN, Classes, predict_class
from fnn.types import Labels, Logits, PerExample, Scalar


class Reliability(NamedTuple):
    """A reliability table: confidence and accuracy of the examples of each bin.

    Attributes:
        low: Lower end of each bin, which it does not hold, (bins,); for bins of equal mass, the
            least confidence in it.
        high: Upper end of each bin, which it holds, (bins,); for bins of equal mass, the largest
            confidence in it.
        examples: Number of examples, (bins,).
        confidence: Mean confidence, (bins,); NaN for an empty bin.
        accuracy: Share of right predictions, (bins,); NaN for an empty bin.
    """

    low: Array
    high: Array
    examples: Array
    confidence: Array
    accuracy: Array

    @property
    def gap(self) -> Array:
        """Accuracy minus confidence of each bin, (bins,): < 0 where it is too confident."""
        return self.accuracy - self.confidence

    @property
    def expected_error(self) -> Scalar:
        """The expected calibration error, that of `objective.calibration_error`."""
        # The gap of an empty bin is NaN, and its weight 0.
        weighted = jnp.where(self.examples > 0, self.examples * jnp.abs(self.gap), 0)
        return weighted.sum() / self.examples.sum()

    @property
    def max_error(self) -> Scalar:
        """The maximum calibration error."""
        return jnp.where(self.examples > 0, jnp.abs(self.gap), 0).max()

    def __repr__(self) -> str:
        is_known = all(isinstance(part, Array | np.ndarray) for part in self)
        # Of several tables, as under jax.vmap, or within jax.jit there is no text.
        if not is_known or not checks.is_concrete(self.low) or self.low.ndim != 1:
            return f"Reliability({checks.show(self.low)})"
        lines = ["       confidence    n  mean conf.  accuracy     gap"]
        for low, high, count, confidence, accuracy in zip(*map(np.asarray, self), strict=True):
            # Empty bins are left out of the text.
            if count > 0:
                gap = accuracy - confidence
                ends = f"{low:6.3f} to {high:6.3f}"
                lines.append(f"{ends} {count:4g}  {confidence:10.4f}  {accuracy:8.4f} {gap:+7.4f}")
        errors = f"expected error {self.expected_error:.4f}, maximum {self.max_error:.4f}"
        return "\n".join([*lines, errors])


def reliability(
    logits: Logits,
    labels: Labels,
    *,
    bins: int = 15,
    binning: str = "width",
) -> Reliability:
    """Compute the reliability table of a classifier: accuracy against confidence, by bins.

    The confidence is the largest probability. `lab.plot_reliability` draws it.

    Args:
        logits: (n, ..., classes); or of one output, (n, 1) or (n,). Of an ensemble, those of
            `average_probabilities`.
        labels: Integers (n, ...), or probabilities, whose largest counts.
        bins: Number of bins, at least 1.
        binning: "width" for the bins (b / bins, (b + 1) / bins]; "mass" for bins of equally many
            examples, where equal confidences are in one bin.

    Raises:
        ConfigError: `bins` is not a whole number >= 1, or `binning` is neither of both.
        DTypeError: The logits are not floats, or are probabilities.
        LabelError: A label is not a class.
        NonFiniteError: A logit is NaN or +inf.
        ShapeError: The shapes do not fit.
    """
    z, truth = _read(
        "reliability",
        logits,
        labels,
        bins,
        binning,
    )
    return _tabulate(z, truth, bins, binning)


@partial(jax.jit, static_argnums=(2, 3))
def _tabulate(
    z: Array,
    truth: Array,
    bins: int,
    binning: str,
) -> Reliability:
    confident = _confidences(z, truth)
    confidence = jnp.exp(confident.log_p)
    right = confident.right
    # (n,), with weights of 1: every example counts alike.
    index = bin_indices(confidence, jnp.ones_like(confidence), bins, binning)
    means = _bin_means(index, bins, confidence, right)
    if binning == "width":
        edges = jnp.linspace(0, 1, bins + 1, dtype=confidence.dtype)  # (bins + 1,)
        low, high = edges[:-1], edges[1:]
    else:
        # An empty bin keeps low > high.
        low = jnp.full(bins, jnp.inf, confidence.dtype).at[index].min(confidence)
        high = jnp.full(bins, -jnp.inf, confidence.dtype).at[index].max(confidence)
    return Reliability(low, high, means.sizes, *means.values)


class BrierDecomposition(NamedTuple):
    """score = reliability - resolution + uncertainty + within, each a scalar.

    Attributes:
        score: The mean Brier score.
        reliability: Squared difference of probability and frequency of the bins; 0 if calibrated.
        resolution: Squared difference of the frequency of the bins and of all examples.
        uncertainty: Score of the frequencies of the classes, without a model.
        within: Variance of the probabilities within the bins, less twice their covariance with the
            labels; 0 where all probabilities of a bin are equal.
    """

    score: Scalar
    reliability: Scalar
    resolution: Scalar
    uncertainty: Scalar
    within: Scalar


def brier_decomposition(
    logits: Logits,
    labels: Labels,
    *,
    bins: int = 15,
    binning: str = "width",
) -> BrierDecomposition:
    """Decompose the mean Brier score: reliability - resolution + uncertainty + within.

    The sum over the classes of the decomposition of each class against the rest, by bins of its
    probability. Without the term `within`, bins would leave a difference to the score. It is
    exact to rounding [Murphy 1973; Stephenson et al. 2008, Weather and Forecasting 23:752].

    Args:
        logits: As for `reliability`.
        labels: As for `reliability`.
        bins: As for `reliability`.
        binning: As for `reliability`.

    Raises:
        FnnError: As `reliability`.
    """
    z, truth = _read(
        "brier_decomposition",
        logits,
        labels,
        bins,
        binning,
    )
    return _decompose_brier(z, truth, bins, binning)


@partial(jax.jit, static_argnums=(2, 3))
def _decompose_brier(
    z: Array,
    truth: Array,
    bins: int,
    binning: str,
) -> BrierDecomposition:
    p = jax.nn.softmax(z)
    targets = jax.nn.one_hot(truth, z.shape[-1], dtype=p.dtype)  # (n, classes)
    # A traced label that is not a class makes all figures NaN.
    targets = jnp.where(truth[:, None] == UNKNOWN, jnp.nan, targets)

    def of_class(forecast: Array, event: Array) -> BrierDecomposition:
        index = bin_indices(forecast, jnp.ones_like(forecast), bins, binning)
        means = _bin_means(index, bins, forecast, event)
        # (n,): the means of the bin of each example
        own_forecast, own_event = (value[index] for value in means.values)
        # The forecast without a model: the frequency of the class.
        base = event.mean()
        # Deviations from the means of the bin, which Murphy's three terms leave out.
        forecast_part = forecast - own_forecast
        event_part = event - own_event
        return BrierDecomposition(
            score=jnp.square(forecast - event).mean(),
            reliability=jnp.square(own_forecast - own_event).mean(),
            resolution=jnp.square(own_event - base).mean(),
            uncertainty=base * (1 - base),
            within=(jnp.square(forecast_part) - 2 * forecast_part * event_part).mean(),
        )

    # (n, classes), (n, classes) -> (classes,) of each term
    parts = jax.vmap(of_class, (1, 1))(p, targets)
    # The Brier score of classes is the sum of those of each class against the rest.
    return jax.tree.map(jnp.sum, parts)


class NllDecomposition(NamedTuple):
    """score = calibration + refinement + within, each a scalar in nats.

    Attributes:
        score: Mean negative log-likelihood of the event that the prediction is right.
        calibration: Divergence KL(accuracy ‖ confidence) of the bins; 0 if calibrated.
        refinement: Entropy of the accuracy of the bins: the score of calibrated confidences.
        within: The rest, from different confidences within a bin.
    """

    score: Scalar
    calibration: Scalar
    refinement: Scalar
    within: Scalar


def nll_decomposition(
    logits: Logits,
    labels: Labels,
    *,
    bins: int = 15,
    binning: str = "width",
) -> NllDecomposition:
    """Decompose the log-likelihood of the event that the prediction is right, by bins.

    score = -mean [r log c + (1 - r) log(1 - c)], with the confidence c and r = 1 for a right
    prediction. It is not the cross-entropy of the classes, whose calibration has no bins; of that,
    `fit_temperature` shows the part that a temperature removes [DeGroot & Fienberg 1983;
    Bröcker 2009, QJRMS 135:1512].

    Args:
        logits: As for `reliability`.
        labels: As for `reliability`.
        bins: As for `reliability`.
        binning: As for `reliability`.

    Raises:
        FnnError: As `reliability`.
    """
    z, truth = _read(
        "nll_decomposition",
        logits,
        labels,
        bins,
        binning,
    )
    return _decompose_nll(z, truth, bins, binning)


@partial(jax.jit, static_argnums=(2, 3))
def _decompose_nll(
    z: Array,
    truth: Array,
    bins: int,
    binning: str,
) -> NllDecomposition:
    confident = _confidences(z, truth)
    right = confident.right
    confidence = jnp.exp(confident.log_p)
    index = bin_indices(confidence, jnp.ones_like(confidence), bins, binning)
    # The mean of 1 - confidence is taken apart: 1 less a mean near 1 would lose digits.
    means = _bin_means(
        index,
        bins,
        confidence,
        right,
        jnp.exp(confident.log_rest),
    )
    share = means.sizes / means.sizes.sum()  # (bins,)
    mean_confidence, accuracy, mean_rest = means.values
    # The means of an empty bin are NaN.
    used = means.sizes > 0

    def expected_log(p: Array, rest: Array) -> Array:
        """Return accuracy log p + (1 - accuracy) log rest of each bin, 0 log 0 being 0."""
        hit = jnp.where(used & (accuracy > 0), accuracy * jnp.log(p), 0)
        missed = jnp.where(used & (accuracy < 1), (1 - accuracy) * jnp.log(rest), 0)
        return hit + missed

    # The entropy of the accuracy of each bin, by its share of the examples.
    refinement = -(share * expected_log(accuracy, 1 - accuracy)).sum()
    # The cross-entropy of accuracy and confidence: the entropy plus the divergence.
    cross = -(share * expected_log(mean_confidence, mean_rest)).sum()
    score = -jnp.where(right > 0, confident.log_p, confident.log_rest)
    # A label that is not a class has neither value.
    score = jnp.where(jnp.isnan(right), jnp.nan, score).mean()
    return NllDecomposition(score, cross - refinement, refinement, score - cross)


class Confident(NamedTuple):
    """The predictions of examples, all (n,).

    Attributes:
        log_p: Logarithm of the confidence.
        log_rest: Logarithm of 1 - confidence.
        right: 1 for a right prediction, 0 for a wrong one, NaN for a label that is not a class.
    """

    log_p: PerExample
    log_rest: PerExample
    right: PerExample


def _read(
    where: str,
    logits: Any,
    labels: Any,
    bins: int,
    binning: str,
) -> Classes:
    checks.whole(f"{where} bins", bins)
    checks.choice(f"{where} binning", binning, BINNINGS)
    return read_examples(where, logits, labels)


def _confidences(z: Array, truth: Array) -> Confident:
    predicted = predict_class(z)
    log_p = jax.nn.log_softmax(z)
    is_predicted = jax.nn.one_hot(predicted, z.shape[-1], dtype=bool)  # (n, classes)
    # 1 - p would be 0 for a confidence near 1.
    # (n, classes) -> (n,), over the classes that are not predicted
    log_rest = jax.nn.logsumexp(jnp.where(is_predicted, -jnp.inf, log_p), axis=-1)
    right = (predicted == truth).astype(z.dtype)
    return Confident(log_p.max(-1), log_rest, jnp.where(truth == UNKNOWN, jnp.nan, right))


class BinMeans(NamedTuple):
    """Means of the examples of each bin.

    Attributes:
        sizes: Number of examples, (bins,).
        values: The mean of each quantity, (bins,) each; NaN for an empty bin.
    """

    sizes: Array
    values: tuple[Array, ...]


def _bin_means(
    index: Array,
    bins: int,
    *values: Array,
) -> BinMeans:
    count = bin_sums(index, jnp.ones_like(values[0]), bins)
    # NaN and not 0, so that an empty bin has no mean.
    divisor = jnp.where(count > 0, count, jnp.nan)
    return BinMeans(count, tuple(bin_sums(index, value, bins) / divisor for value in values))
