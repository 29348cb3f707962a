"""The score of a trial: a figure of its last epoch, and whether higher ones are better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.train.early_stopping import MODES
from fnn.train.evaluate import validate
from fnn.train.figures import LOSS, VALID, VALID_LOSS, is_validation, validation_name
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data
from fnn.types import Data, Metric, RandomKey


@dataclass(frozen=True)
class Score:
    """The figure by which trials are compared.

    Attributes:
        name: Name of a figure of the history, such as valid_loss.
        sign: 1 if a lower figure is better, -1 if a higher one is.
    """

    name: str = VALID_LOSS
    sign: int = 1

    def of(
        self,
        figures: Mapping[str, np.ndarray],
        epochs: np.ndarray | int,
    ) -> np.ndarray:
        """Return the scores (n,): the figures of the epoch whose weights a trial returns.

        The score is NaN where the loss of that epoch is not finite, which is the loss of validation
        if it is among the figures.

        Args:
            figures: By name, (n, epochs).
            epochs: Number of epochs of those weights, of each trial (n,) or of all.
        """
        # Epochs count from 1, columns from 0.
        indices = np.broadcast_to(np.asarray(epochs) - 1, len(figures[self.name]))
        places = np.arange(len(indices)), indices
        # In float64, since scores are compared and averaged on the host.
        scores = np.asarray(figures[self.name], np.float64)[places]
        losses = figures.get(VALID_LOSS, figures.get(LOSS))
        if losses is None:
            return scores
        # The accuracy of a diverged network is a finite number.
        return np.where(np.isfinite(np.asarray(losses)[places]), scores, np.nan)

    def order(self, scores: np.ndarray) -> np.ndarray:
        """Return the indices of trials from the best to the worst; scores that are not finite last.

        Args:
            scores: (trials,).
        """
        return np.argsort(self.cost(scores), kind="stable")

    def cost(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores as numbers of which lower ones are better; inf if not finite."""
        cost = self.sign * np.asarray(scores, np.float64)
        # Infinity sorts last, while comparisons with NaN are all False.
        return np.where(np.isfinite(cost), cost, np.inf)


def find_score(
    recipe: Recipe,
    name: str,
    mode: str | None,
    *,
    has_valid: bool,
    has_training: bool = True,
    where: str = "search",
) -> Score:
    """Return the score of this name.

    Args:
        recipe: One of the recipes.
        name: Name of a figure of the history.
        mode: "min" or "max"; None for the direction of the figure.
        has_valid: Whether there is validation data.
        has_training: Whether there are figures of training, such as loss.
        where: Name of the function in errors.

    Raises:
        ConfigError: There is no such figure, or its direction is not known.
    """
    figures = [LOSS, *recipe.metrics]
    names = figures if has_training else []
    if has_valid:
        names = [*names, *map(validation_name, figures)]
    if name not in names:
        advice = "choose one of them"
        if isinstance(name, str) and is_validation(name) and not has_valid:
            advice = "give valid=, by which trials are compared"
        raise ConfigError(
            f"{where} score",
            f"one of {', '.join(names)}",
            repr(name),
            advice,
        )
    known = recipe.known_mode(name)
    if mode is None and known is None:
        advice = 'give mode="max" if a higher one is better'
        expected = f"min or max for {name}, a metric of your own"
        raise ConfigError(
            f"{where} mode",
            expected,
            None,
            advice,
        )
    if mode is not None:
        checks.choice(f"{where} mode", mode, MODES)
    return Score(name, -1 if (mode or known) == "max" else 1)


def expect_one_number(
    where: str,
    score: Score,
    recipe: Recipe,
    data: Data,
) -> None:
    """Raise ConfigError if the figure of a score is an array, as of a confusion matrix.

    Args:
        where: Name of the function in errors.
        score: The score.
        recipe: One of the recipes.
        data: Validated (inputs, targets).
    """
    metric = score.name.removeprefix(VALID)
    # Of other functions than a Metric the mean is taken.
    if not isinstance(recipe.metrics.get(metric), Metric):
        return

    def figures(key: RandomKey) -> Any:
        # The shape of a figure does not depend on the size of batches.
        return validate(
            recipe,
            start_on_data(recipe, key, data),
            data,
            1,
        )

    # Nothing is computed.
    shape = jax.eval_shape(figures, jax.random.key(0))[validation_name(metric)].shape
    if shape != ():
        advice = "choose another figure, or a metric that reduces it to one number"
        got = f"{score.name} of shape {shape}"
        raise ConfigError(
            f"{where} score",
            f"one number, as {VALID_LOSS}",
            got,
            advice,
        )
