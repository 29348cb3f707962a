"""Rules on request, which cost many gradients: sharpness and noise of the gradient."""

from typing import Any

import jax
import numpy as np

from fnn import checks, optim
from fnn.diagnose.curvature import noise_scale, sharpness
from fnn.diagnose.findings import INFO, Finding, Findings, Rule
from fnn.diagnose.thresholds import DEFAULT, Thresholds
from fnn.optim.transform import last_rate
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import expect_train_state
from fnn.types import Data, RandomKey, TrainState

MAX_BATCHES = 16  # whose gradients are compared

SHARPNESS = Rule(
    "T17",
    "sharpness",
    "Cohen et al. 2021, arXiv:2103.00065",
    ("the rate is at the edge of stability, as usual on large batches",),
    ("lower the rate if the loss oscillates",),
    "train at half of the rate: an oscillating loss must fall",
)
GRADIENT_NOISE = Rule(
    "T18",
    "gradient_noise",
    "McCandlish et al. 2018, arXiv:1812.06162",
    ("the batch is far from the scale of the gradient noise",),
    ("use larger batches, or a lower rate",),
    "train with batches four times as large: the loss must fall faster per step",
)


def examine_curvature(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    *,
    batch_size: int,
    thresholds: Thresholds = DEFAULT,
) -> Findings:
    """Compare the rate with the sharpness, and the batch with the noise of the gradient.

    These are the rules T17, for `optim.sgd` and `optim.momentum` as the optimizer, and T18. They
    cost about as much as some hundred steps, so `examine` leaves them out. Their findings are
    information: training on large batches hovers at the edge of stability.

    Args:
        key: Draws the batches, and the vector that the power iteration begins with.
        recipe: From `train.recipe`, with an optimizer.
        train_state: Of a run of this recipe, in the middle of training or at its end.
        data: (inputs, targets), the training data.
        batch_size: Examples per step of the run.
        thresholds: Numbers at which the rules report.

    Raises:
        FnnError: An argument is not valid, or the data does not fit the recipe.
    """
    checks.key("examine_curvature key", key)
    expect_recipe("examine_curvature", recipe)
    expect_train_state("examine_curvature", train_state)
    checks.whole("examine_curvature batch_size", batch_size)
    sharpness_key, noise_key = jax.random.split(key)
    found: list[Finding] = []
    rate = float(last_rate(train_state.opt_state, np.nan))
    limit = _largest_stable_sharpness(recipe.optimizer, rate)
    if np.isfinite(limit):
        largest = float(
            sharpness(
                sharpness_key,
                recipe,
                train_state,
                data,
            ).eigenvalue
        )
        found += sharpness_findings(largest, limit, rate)
    batches = min(MAX_BATCHES, len(jax.tree.leaves(data)[0]) // batch_size)
    # The noise is the difference between batches.
    if batches >= 2:
        noise = noise_scale(
            noise_key,
            recipe,
            train_state,
            data,
            batch_size=batch_size,
            batches=batches,
        )
        found += noise_findings(float(noise.scale), batch_size, thresholds)
    return Findings(found)


def _largest_stable_sharpness(
    optimizer: Any,
    rate: float,
) -> float:
    """Return the sharpness up to which an optimizer is stable; NaN if it is not known."""
    maker = getattr(optimizer, "maker", None)
    if not rate > 0:
        return np.nan
    if maker is optim.sgd:
        return 2 / rate
    if maker is optim.momentum:
        momentum = float(optimizer.arguments.get("momentum", 0.9))
        return (2 + 2 * momentum) / rate
    return np.nan


def sharpness_findings(
    largest: float,
    limit: float,
    rate: float,
) -> list[Finding]:
    """T17: the largest eigenvalue of the Hessian is above the limit of stability.

    Args:
        largest: Eigenvalue.
        limit: Largest one at which the optimizer is stable.
        rate: Learning rate.
    """
    if not largest > limit:
        return []
    measured = {
        "sharpness": largest,
        "limit": limit,
        "rate": rate,
    }
    stable = rate * limit / largest
    title = f"the sharpness is {largest:.3g}; a rate of at most {stable:.3g} is stable"
    return [
        SHARPNESS.finding(
            INFO,
            title,
            measured,
            f"sharpness > {limit:.3g}",
        )
    ]


def noise_findings(
    scale: float,
    batch_size: int,
    thresholds: Thresholds,
) -> list[Finding]:
    """T18: the scale of the gradient noise is far from the batch size.

    Args:
        scale: Of the noise, in examples.
        batch_size: Examples per step.
        thresholds: Numbers at which the rule reports.
    """
    ratio = scale / batch_size
    measured = {
        "noise scale": scale,
        "batch size": batch_size,
        "ratio": ratio,
    }
    if ratio > thresholds.noisy_batch:
        title = f"gradients of {batch_size} examples are noise: the noise scale is {scale:.3g}"
        threshold = f"noise scale > {thresholds.noisy_batch} batches"
        return [
            GRADIENT_NOISE.finding(
                INFO,
                title,
                measured,
                threshold,
            )
        ]
    if ratio < 1 / thresholds.noisy_batch:
        title = f"batches could be smaller: the noise scale is {scale:.3g} examples"
        threshold = f"noise scale < {1 / thresholds.noisy_batch} batches"
        advice = ("use smaller batches, and more steps",)
        return [
            GRADIENT_NOISE.finding(
                INFO,
                title,
                measured,
                threshold,
                advice=advice,
            )
        ]
    return []
