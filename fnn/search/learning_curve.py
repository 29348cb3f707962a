"""Learning curves: the score against the number of training examples, and its power law."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import jax
import numpy as np

from fnn import checks
from fnn.data.split import nested_order
from fnn.errors import ConfigError, NonFiniteError
from fnn.optim.transforms.plateau import has_plateau
from fnn.search.lane_map import LaneMap
from fnn.search.lanes import Task, prepare_task
from fnn.search.options import FoldOptions, FoldSettings, read_options
from fnn.search.power_law import PowerLaw, fit_power_law, has_fit
from fnn.search.score import Score, expect_one_number, find_score
from fnn.search.subset_runs import (
    Subset,
    epoch_orders,
    host_lengths,
    stack_keys,
    train_on_subset,
)
from fnn.train.evaluate import validate
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import start_on_data
from fnn.types import Data, RandomKey, TrainState

# Uses of the key of a learning curve.
SUBSETS, RUNS = 0, 1


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The results of a learning curve.

    Attributes:
        sizes: Numbers of training examples, ascending, (sizes,).
        scores: (sizes, seeds).
        steps: Number of steps of the runs of each size, (sizes,).
        orders: Order of the examples, whose prefixes are the subsets, (seeds, n).
        figures: Figures of validation and loss of training at the end by name, (sizes, seeds,
            ...).
        figure: The figure of the scores: its name and whether lower is better.
    """

    sizes: np.ndarray
    scores: np.ndarray
    steps: np.ndarray
    orders: np.ndarray
    figures: dict[str, np.ndarray]
    figure: Score

    @property
    def mean_scores(self) -> np.ndarray:
        """The mean score of each size over seeds, (sizes,)."""
        return self.scores.mean(1)

    @property
    def has_fit(self) -> bool:
        """Whether there are finite scores of at least three sizes, which a fit needs."""
        return has_fit(self.sizes, self.scores)

    def fit(self, smallest: int = 1) -> PowerLaw:
        """Fit score = a + b n^-c to all finite scores.

        A power law describes many curves, but not all of them [Mohr et al. 2022, LCDB: learning
        curve database]: compare the plot.

        Args:
            smallest: Sizes below it are left out, as those of a curve that does not fall yet.

        Raises:
            ConfigError: There are finite scores of fewer than three sizes.
        """
        used = self.sizes >= smallest
        sizes, scores = self.sizes[used], self.scores[used]
        # All scores and not their means, since seeds show the error. (sizes, seeds) -> (scores,)
        return fit_power_law(np.repeat(sizes, scores.shape[1]), scores.ravel())

    def __repr__(self) -> str:
        seeds = self.scores.shape[1]
        counts = f"{len(self.sizes)} sizes of {seeds} seed{'s' if seeds > 1 else ''}"
        first, last = self.mean_scores[[0, -1]]
        ends = f"{first:.4g} at {self.sizes[0]} to {last:.4g} at {self.sizes[-1]} examples"
        diverged = int((~np.isfinite(self.scores)).sum())
        law = f"; {self.fit()}" if self.has_fit else ""
        return f"{self.figure.name} {ends}{law}; {counts}" + (
            f", {diverged} runs diverged" if diverged else ""
        )


def learning_curve(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    valid: Data,
    sizes: Sequence[int],
    batch_size: int,
    epochs: int | None = None,
    steps: int | None = None,
    seeds: int = 3,
    **options: Unpack[FoldOptions],
) -> LearningCurve:
    """Measure the score for several numbers of training examples.

        curve = search.learning_curve(
            key, recipe, data, valid=valid, sizes=[100, 200, 400, 800], batch_size=50, steps=500
        )
        print(curve.fit())                  # 0.08 + 3.1 n^-0.55
        print(curve.fit().predict(3200))    # mean, low, high

    The subsets of a seed are nested: they are prefixes of one random order, so that also data that
    is sorted by class is mixed. The runs of all sizes of a seed have the same key. A run is
    `train.run` on its subset. All runs share one program.

    Two questions have different answers. At fixed `steps` all sizes get the same computation, and
    small subsets are repeated more often. At fixed `epochs` small subsets get fewer steps, so that
    a part of the curve is that of the number of steps.

    Args:
        key: From `jax.random.key`. It determines subsets and runs.
        recipe: From `train.recipe`, with an optimizer.
        data: (inputs, targets), arrays whose first axis is the example, of length n.
        valid: (inputs, targets) by which all sizes are scored.
        sizes: Numbers of examples, from `batch_size` to n.
        batch_size: Examples per step.
        epochs: Passes over each subset; or None.
        steps: Steps of each run; or None. Exactly one of the two is given.
        seeds: Number of random orders, each with another initialization.
        options: `stratified=False`, whether every subset has the shares of the classes, to within
            one example each. `score="valid_loss"`, name of the figure. `mode=None`, "min" or "max"
            for a metric of your own. `lanes="auto"`, number of runs at a time. `mesh=None`,
            devices over which runs are divided.

    Returns:
        Scores (sizes, seeds), and the fit of a power law with its interval.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all runs are NaN or infinite.
    """
    checks.key("key", key)
    settings = read_options(learning_curve, FoldSettings, options)
    expect_recipe("learning_curve", recipe)
    checks.whole("learning_curve seeds", seeds)
    if (epochs is None) == (steps is None):
        got = "neither" if epochs is None else "both"
        advice = "give steps= for equal computation, epochs= for equal passes"
        raise ConfigError(
            "learning_curve",
            "either epochs or steps",
            got,
            advice,
        )
    # With fixed steps, the task's number of epochs is not used.
    task = prepare_task(
        [recipe], data, valid, epochs=epochs or 1, batch_size=batch_size, mesh=settings.mesh
    )
    if steps is not None:
        checks.whole("learning_curve steps", steps)
        _expect_fixed_steps(recipe, task)
    score = find_score(
        recipe,
        settings.score,
        settings.mode,
        has_valid=True,
        has_training=False,
        where="learning_curve",
    )
    expect_one_number("learning_curve", score, recipe, task.data)
    chosen = _expect_sizes(sizes, task)
    # Subsets are nested, which pairs the scores of sizes.
    orders = [
        nested_order(
            "learning_curve",
            jax.random.fold_in(jax.random.fold_in(key, SUBSETS), seed),
            task.data,
            stratified=settings.stratified,
        )
        for seed in range(seeds)
    ]
    runs = _Runs(key, recipe, task, chosen, np.stack(orders).astype(np.int32), steps)
    return runs.measure(score, settings.lanes)


def _expect_fixed_steps(recipe: Recipe, task: Task) -> None:
    """Raise ConfigError if the length or the rate of a run depends on validation after epochs."""
    if recipe.early_stopping is not None:
        advice = "use recipe.replace(early_stopping=None), or give epochs="
        raise ConfigError(
            "learning_curve early_stopping",
            "None at fixed steps",
            "a condition",
            advice,
        )
    # The state of the optimizer shows a plateau within other optimizers too.
    first = jax.eval_shape(partial(start_on_data, recipe), jax.random.key(0), task.data)
    if has_plateau(first.opt_state):
        raise ConfigError(
            "learning_curve optimizer",
            "no optim.plateau at fixed steps",
            recipe.optimizer,
            "give epochs=",
        )


def _expect_sizes(sizes: Any, task: Task) -> np.ndarray:
    """Return the sizes, ascending, each once; ConfigError if one is out of range."""
    examples = len(jax.tree.leaves(task.data)[0])
    # One number is a list of one size.
    given = list(sizes) if isinstance(sizes, Sequence | np.ndarray | range) else [sizes]
    if not given:
        advice = "as in sizes=[100, 200, 400]"
        raise ConfigError(
            "learning_curve sizes",
            "numbers of examples",
            "none",
            advice,
        )
    for size in given:
        checks.whole("learning_curve sizes", size)
        if not task.batch_size <= size <= examples:
            expected = f"from batch_size = {task.batch_size} to the {examples} examples"
            advice = "use smaller batches, or other sizes"
            raise ConfigError(
                "learning_curve sizes",
                expected,
                size,
                advice,
            )
    return np.unique(np.array(given, int))


class _Runs:
    """The runs of all sizes and seeds.

    Attributes:
        sizes: (sizes,).
        orders: (seeds, n).
        segments: Number of segments with a validation: epochs, or 1.
        steps: Number of steps of a segment of each size, (sizes,).
    """

    def __init__(
        self,
        key: RandomKey,
        recipe: Recipe,
        task: Task,
        sizes: np.ndarray,
        orders: np.ndarray,
        steps: int | None,
    ):
        self.recipe = recipe
        self.task = task
        self.sizes = sizes
        # Indices beyond the largest subset are not used.
        self.orders = orders
        # All sizes of a seed begin at the same parameters.
        self.keys = [
            jax.random.fold_in(jax.random.fold_in(key, RUNS), seed) for seed in range(len(orders))
        ]
        # The remainder that fills no batch is left out of an epoch.
        self.epoch_lengths = sizes // task.batch_size
        self.segments = task.epochs if steps is None else 1
        self.steps = self.epoch_lengths if steps is None else np.full(len(sizes), steps)

    def measure(self, score: Score, lanes: int | str) -> LearningCurve:
        """Train all runs, and return their scores."""
        # Sizes share the program, so that its buffers fit the longest run.
        capacity = (self.segments, int(self.steps.max()))
        batch_size = self.task.batch_size

        def run(recipe: Recipe, own: Any, common: Any) -> Any:
            key, subset = own
            data, valid, length = common

            def measure(train_state: TrainState) -> dict[str, jax.Array]:
                return validate(recipe, train_state, valid, batch_size)

            trained = train_on_subset(recipe, key, data, subset, length, capacity, measure)
            # Steps beyond the length have a loss of 0.
            losses = trained.losses.sum(1) / length.steps.astype(trained.losses.dtype)
            figures = {LOSS: losses, **trained.figures}
            return figures, trained.train_state.step

        name = ("learning curve", capacity, batch_size)
        program = LaneMap(name, run, self.recipe, lanes, self.task.mesh)
        seeds = len(self.orders)
        figures: dict[str, np.ndarray] = {}
        scores = np.empty((len(self.sizes), seeds))
        for group in self._groups():
            # Runs of equal length are lanes of one call.
            pairs = [(size, seed) for size in group for seed in range(seeds)]
            # The same for all sizes of a group.
            steps = int(self.steps[group[0]])
            common = (self.task.data, self.task.valid)
            results, last = program(
                [self.recipe] * len(pairs),
                partial(self._own, pairs, capacity),
                (*common, host_lengths(self.segments, steps)),
                probe=(*common, host_lengths(1, min(steps, 8))),
            )
            # Number of segments of the weights that each run returned.
            ended = last // steps
            # (runs,) -> (sizes of the group, seeds)
            scores[group] = score.of(results, ended).reshape(len(group), seeds)
            for figure, rows in results.items():
                # After the segment whose weights the run returned, (runs, ...).
                values = Score(figure).of({figure: rows}, ended)
                empty = np.full((*scores.shape, *values.shape[1:]), np.nan)
                column = figures.setdefault(figure, empty)
                column[group] = values.reshape(len(group), seeds, *values.shape[1:])
        if not np.isfinite(scores).any():
            got = f"{scores.size} runs, all of them NaN or infinite"
            advice = "lower the learning rate, and train one run first"
            raise NonFiniteError(
                f"learning_curve {score.name}",
                "a finite score",
                got,
                advice,
            )
        total = self.steps * self.segments
        return LearningCurve(self.sizes, scores, total, self.orders, figures, score)

    def _groups(self) -> list[list[int]]:
        """Return the indices of the sizes of each number of steps."""
        return [np.flatnonzero(self.steps == steps).tolist() for steps in np.unique(self.steps)]

    def _own(
        self, pairs: list[tuple[int, int]], capacity: tuple[int, int], indices: np.ndarray
    ) -> Any:
        """Return the arguments of the runs of some pairs of a size and a seed."""
        rows = capacity[0] * capacity[1]
        keys, orders, subsets, lengths = [], [], [], []
        for size, seed in (pairs[index] for index in indices):
            length = int(self.epoch_lengths[size])
            # Steps of the run, which may end within an epoch of the subset.
            needed = self.segments * int(self.steps[size])
            # Drawn for whole epochs, and cut to the steps of the run.
            order = epoch_orders(
                self.keys[seed], -(-needed // length), int(self.sizes[size]), self.task.batch_size
            )[:needed]
            keys.append(self.keys[seed])
            # All runs of a program have arrays of one shape.
            # (needed, batch) -> (rows, batch)
            orders.append(np.pad(order, ((0, rows - needed), (0, 0))))
            # Subsets are prefixes: a run reads the first positions of its order.
            subsets.append(self.orders[seed, : self.sizes[-1]])
            lengths.append(length)
        subset = Subset(np.stack(subsets), np.stack(orders), np.array(lengths, np.int32))
        return stack_keys(keys), subset
