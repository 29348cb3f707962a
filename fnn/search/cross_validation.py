"""Cross-validation: the runs of all folds as lanes of one program."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.split import whole_folds
from fnn.errors import ConfigError, NonFiniteError, TreeMismatchError
from fnn.search.fold_statistics import CrossValidation
from fnn.search.lane_map import LaneMap
from fnn.search.lanes import Task, prepare_task
from fnn.search.options import FoldOptions, FoldSettings, read_options
from fnn.search.score import Score, expect_one_number, find_score
from fnn.search.subset_runs import (
    Subset,
    Trained,
    epoch_orders,
    host_lengths,
    stack_keys,
    train_on_subset,
)
from fnn.train.evaluate import forward_pass, map_batches, weights
from fnn.train.figures import LOSS, validation_name
from fnn.train.inputs import EVALUATION, derive_key, take_examples
from fnn.train.measure import measure_examples, reduce_examples
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Data, RandomKey, Step, TrainState

# Uses of the key of a cross-validation.
FOLDS, RUNS = 0, 1

# A recipe, or the recipe of a fold as a function of its training part.
FoldRecipe = Recipe | Callable[[Data], Recipe]


def cross_validate(
    key: RandomKey,
    recipe: FoldRecipe,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    folds: int = 5,
    repeats: int = 1,
    groups: Sequence[Any] | jax.Array | np.ndarray | None = None,
    **options: Unpack[FoldOptions],
) -> CrossValidation:
    """K-fold cross-validation: train on all folds but one, and validate on that one, for each fold.

        result = search.cross_validate(key, recipe, data, epochs=20, batch_size=64, folds=5)
        print(result)  # valid_loss 0.1432 (0.1201 to 0.1663); 5 folds

    The run of a fold is `train.run` on its training part, validated on its validation part. All
    runs are lanes of one program, which share the data. Every example is in the validation part of
    exactly one fold of a repeat, and figures are exact means over the parts. Training parts must
    have one size, since a padded example would enter the statistics of batch norm. If `folds` does
    not divide n, a fold with a smaller validation part therefore leaves one random example out.

    Statistics that are fitted to training inputs must be fitted in each fold. Give a function:

        def make(train_part):
            inputs, labels = train_part
            return train.recipe(network, optimizer, prepare=data.standardize(inputs))

    Early stopping chooses the epoch by the validation part of the fold, so that scores are then too
    good; choose the number of epochs from the histories of another key instead.

    [Stone 1974; Bengio and Grandvalet 2004, JMLR 5: no unbiased estimate of the variance exists;
    corrected as by Nadeau and Bengio 2003, Machine Learning 52:239]

    Args:
        key: From `jax.random.key`. It determines folds and runs. Each run has a key of its own.
        recipe: A recipe; or a function (training part of a fold) -> recipe, whose recipes differ in
            numbers alone. The part is (inputs, targets), as the data is stored.
        data: (inputs, targets), arrays whose first axis is the example, of length n.
        epochs: Passes over the training part.
        batch_size: Examples per step.
        folds: Number of folds k, from 2 to n; n for leave-one-out.
        repeats: Number of random divisions into folds.
        groups: Group of each example, such as the patient of an image. No group is in the training
            and the validation part of a fold, as in scikit-learn's GroupKFold. If folds then differ
            in size, training parts are short of random examples of their largest groups.
        options: `stratified=False`, whether the numbers of examples of each class differ by at most
            1 between folds. `score="valid_loss"`, name of the figure. `mode=None`, "min" or "max"
            for a metric of your own. `lanes="auto"`, number of runs at a time. `mesh=None`,
            devices over which runs are divided.

    Returns:
        Scores with a corrected interval, histories, and out-of-fold predictions.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all folds are NaN or infinite.
    """
    checks.key("key", key)
    settings = read_options(cross_validate, FoldSettings, options)
    checks.whole("cross_validate repeats", repeats)
    # The recipes may depend on the folds, so that the data alone is checked here.
    task = prepare_task([], data, None, epochs=epochs, batch_size=batch_size, mesh=settings.mesh)
    draws = []
    for repeat in range(repeats):
        # A key for each repeat, so that more repeats leave the first ones as they are.
        fold_key = jax.random.fold_in(jax.random.fold_in(key, FOLDS), repeat)
        draws.append(
            whole_folds(
                "cross_validate",
                fold_key,
                task.data,
                folds=folds,
                stratified=settings.stratified,
                groups=groups,
            )
        )
    # (repeats, n)
    fold_of = np.stack([one for one, _ in draws])
    # (repeats, folds, m)
    train = np.stack([one for _, one in draws])
    parts = _Parts(fold_of, train)
    recipes = _recipes_of_folds(recipe, task, parts)
    _expect_runs(recipes, task, parts)
    score = find_score(
        recipes[0],
        settings.score,
        settings.mode,
        has_valid=True,
        has_training=False,
        where="cross_validate",
    )
    expect_one_number("cross_validate", score, recipes[0], task.data)
    results = _train_folds(key, recipes, task, parts, settings.lanes)
    return _collect(results, parts, score)


class _Parts:
    """Indices of the training and validation examples of each run; runs are (repeat, fold).

    Attributes:
        fold_of: (repeats, n).
        train: (runs, m).
        valid: (runs, largest part), padded by the last example of the part.
        counts: Number of examples of each validation part, (runs,).
    """

    def __init__(
        self,
        fold_of: np.ndarray,
        train: np.ndarray,
    ):
        self.fold_of = fold_of
        self.shape = train.shape[:2]
        # (repeats, folds, m) -> (runs, m)
        self.train = train.reshape(-1, train.shape[2])
        parts = [np.flatnonzero(row == fold) for row in fold_of for fold in range(train.shape[1])]
        self.counts = np.array([len(part) for part in parts], np.int32)
        size = self.counts.max()
        # All lanes have one shape. Repetitions of the last example get a weight of 0.
        padded = [np.pad(part, (0, size - len(part)), mode="edge") for part in parts]
        self.valid = np.stack(padded).astype(np.int32)


def _recipes_of_folds(
    recipe: FoldRecipe,
    task: Task,
    parts: _Parts,
) -> list[Recipe]:
    """Return the recipe of each run; an FnnError unless they differ in numbers alone."""
    # A recipe without a function is that of every fold.
    runs = len(parts.train)
    if isinstance(recipe, Recipe) or not callable(recipe):
        return [expect_recipe("cross_validate", recipe)] * runs
    recipes = []
    for indices in parts.train:
        # Only the training part, so that nothing is fitted to validation examples.
        taken = jax.tree.map(lambda leaf, indices=indices: np.asarray(leaf)[indices], task.data)
        recipes.append(expect_recipe("cross_validate", recipe(taken)))
    # One program trains all folds, so that recipes may differ in their leaves alone.
    for other in recipes:
        if _structure(other) != _structure(recipes[0]):
            expected = f"the structure of the first fold, {recipes[0]}"
            advice = "choose structure before the folds, and fit numbers in each of them"
            raise TreeMismatchError(
                "cross_validate recipe",
                expected,
                other,
                advice,
            )
    return recipes


def _structure(recipe: Recipe) -> Any:
    # An array of another shape would compile another program.
    leaves, structure = jax.tree.flatten(recipe)
    return structure, [np.shape(leaf) for leaf in leaves]


def _expect_runs(
    recipes: list[Recipe],
    task: Task,
    parts: _Parts,
) -> None:
    """Raise an FnnError if a recipe cannot be trained and validated on the parts."""
    size = parts.train.shape[1]
    if task.batch_size > size:
        expected = f"at most the {size} training examples of a fold"
        raise ConfigError(
            "cross_validate batch_size",
            expected,
            task.batch_size,
            "use a smaller one",
        )
    # Figures are means over examples, also of batches that are padded.
    if recipes[0].couples_examples:
        expected = "a loss and metrics of separate examples"
        advice = "split the data by data.k_fold, and call train.run"
        raise ConfigError(
            "cross_validate recipe",
            expected,
            "one that couples them",
            advice,
        )
    # The recipes differ in numbers alone. Each example is one of training and of validation.
    prepare_task(recipes[:1], task.data, task.data, epochs=task.epochs, batch_size=task.batch_size)


def _train_folds(
    key: RandomKey, recipes: list[Recipe], task: Task, parts: _Parts, lanes: int | str
) -> Any:
    """Train all runs, and return their losses, figures, outputs and epochs, (runs, ...)."""
    examples = parts.train.shape[1]
    epochs, batch_size = task.epochs, task.batch_size
    # The remainder that fills no batch is left out, as in train.run.
    epoch_length = examples // batch_size

    def run(
        recipe: Recipe,
        own: Any,
        common: Any,
    ) -> Any:
        key, subset, valid, count = own
        data, length = common

        def validate(train_state: TrainState) -> dict[str, jax.Array]:
            # (padded, ...) for each figure.
            values = _measure(recipe, train_state, data, valid, batch_size)
            # Padding has a weight of 0.
            counted = (jnp.arange(len(valid), dtype=jnp.int32) < count).astype(
                jnp.result_type(float)
            )
            figures = reduce_examples(recipe, values, counted)
            return {validation_name(name): value for name, value in figures.items()}

        # A segment is an epoch, and is followed by a validation.
        capacity = (epochs, epoch_length)
        trained = train_on_subset(recipe, key, data, subset, length, capacity, validate)
        # Out-of-fold predictions, of the weights that the run returns.
        outputs = _predict(recipe, trained.train_state, data, valid, batch_size)
        # The epoch of the weights, which early stopping may have restored.
        return _without_state(trained), outputs, trained.train_state.step // epoch_length

    # Folds of a repeat differ in initialization and order too.
    keys = [
        jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, RUNS), repeat), fold)
        for repeat, fold in np.ndindex(*parts.shape)
    ]

    def own(indices: np.ndarray) -> Any:
        run_keys = stack_keys([keys[index] for index in indices])
        orders = [epoch_orders(keys[index], epochs, examples, batch_size) for index in indices]
        # The same for all runs, since training parts have one size.
        lengths = np.full(len(indices), epoch_length, np.int32)
        subset = Subset(parts.train[indices], jnp.stack(orders), lengths)
        return run_keys, subset, parts.valid[indices], parts.counts[indices]

    program = LaneMap(("cross-validation", epochs, batch_size), run, recipes[0], lanes, task.mesh)
    return program(
        recipes,
        own,
        (task.data, host_lengths(epochs, epoch_length)),
        # One epoch of at most 8 steps is enough to choose the number of lanes.
        probe=(task.data, host_lengths(1, min(epoch_length, 8))),
    )


def _without_state(trained: Trained) -> dict[str, Any]:
    # (epochs, steps) -> (epochs,)
    return {LOSS: trained.losses.mean(1), **trained.figures}


def _measure(
    recipe: Recipe, train_state: TrainState, data: Data, indices: jax.Array, batch_size: int
) -> dict[str, Any]:
    """Return the values of loss and metrics for each of the examples of these indices."""
    forward = _forward(recipe, train_state, data)

    def measure(index: Step, indices: jax.Array) -> dict[str, Any]:
        targets = take_examples(data[1], indices)
        return measure_examples(recipe, forward(index, indices), targets)

    return map_batches(measure, (indices,), batch_size)


def _predict(
    recipe: Recipe, train_state: TrainState, data: Data, indices: jax.Array, batch_size: int
) -> Any:
    """Return the outputs for the examples of these indices."""
    return map_batches(_forward(recipe, train_state, data), (indices,), batch_size)


def _forward(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
) -> Callable[..., Any]:
    """Return the function (index of a batch, indices of its examples) -> outputs."""
    # The average of the parameters, if the optimizer keeps one.
    given = weights(recipe, train_state)
    # The draws are those of validation in train.run.
    key = derive_key(train_state, EVALUATION, train_state.step)

    def forward(index: Step, indices: jax.Array) -> Any:
        return forward_pass(recipe, given, take_examples(data[0], indices), key, index)

    return forward


def _collect(
    results: Any,
    parts: _Parts,
    score: Score,
) -> CrossValidation:
    """Return the results, given those of the runs."""
    figures, outputs, epochs = results
    # (runs,)
    scores = score.of(figures, epochs)
    if not np.isfinite(scores).any():
        got = f"{len(scores)} runs, all of them NaN or infinite"
        advice = "lower the learning rate, and train one run first"
        raise NonFiniteError(
            f"cross_validate {score.name}",
            "a finite score",
            got,
            advice,
        )
    repeats, examples = parts.fold_of.shape

    def scatter(values: np.ndarray) -> np.ndarray:
        # (runs, padded, ...) -> (repeats, n, ...)
        # Each example is in one validation part of a repeat, so that no entry stays empty.
        placed = np.empty((repeats, examples, *values.shape[2:]), values.dtype)
        for run, row in enumerate(values):
            # Without the padding.
            indices = parts.valid[run, : parts.counts[run]]
            placed[run // parts.shape[1], indices] = row[: parts.counts[run]]
        return placed

    return CrossValidation(
        # (runs,) -> (repeats, folds)
        scores=scores.reshape(parts.shape),
        # (runs, epochs, ...) -> (repeats, folds, epochs, ...)
        histories={
            name: rows.reshape(*parts.shape, *rows.shape[1:]) for name, rows in figures.items()
        },
        predictions=jax.tree.map(scatter, outputs),
        fold_of=parts.fold_of,
        # (runs, m) -> (repeats, folds, m)
        train=parts.train.reshape(*parts.shape, -1),
        figure=score,
    )
