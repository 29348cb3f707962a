"""Training of the members of an ensemble: independent runs as lanes of one program."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.ensemble.member_epoch import bootstrap_indices, train_on_all, train_on_bootstrap
from fnn.ensemble.members import Members, Part, make_part
from fnn.errors import ConfigError, NonFiniteError
from fnn.optim import averaged_params
from fnn.search.execution import group_by_structure
from fnn.search.lanes import Lanes, Task, prepare_task
from fnn.search.options import LaneOptions, LaneSettings, read_options
from fnn.train.figures import FINITE, VALID_LOSS, is_validation
from fnn.train.measure import count_examples
from fnn.train.nonfinite import find_fatal_step
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Data, History, RandomKey, Weights


class Ensemble(NamedTuple):
    """The result of the training of an ensemble.

    Attributes:
        members: The trained members, without those that diverged.
        history: The figures of all n runs: per step (n, steps), per epoch (n, epochs). With early
            stopping they are NaN after the end of a run.
        indices: The run of each member, (members,): the row of its figures.
        diverged: The first step that was not finite, of each run that diverged, by its index.
        examples: Indices of the examples that each run was trained on, (n, examples); None
            without bootstrap.
    """

    members: Members
    history: History
    indices: np.ndarray
    diverged: dict[int, int]
    examples: np.ndarray | None

    def __str__(self) -> str:
        count = len(self.indices)
        lines = [f"{count} member{'s' if count > 1 else ''} of {count + len(self.diverged)} runs"]
        for index, step in self.diverged.items():
            lines.append(f"run {index} diverged at step {step}")
        # False sorts before True, so that the loss is first.
        for name in sorted(filter(is_validation, self.history), key=VALID_LOSS.__ne__):
            # (n, epochs) -> (members, epochs)
            rows = np.asarray(self.history[name])[self.indices]
            last = list(map(_last_number, rows))
            lines.append(f"{name} {min(last):.4g} to {max(last):.4g} after the last epoch")
        return "\n".join(lines)


def _last_number(row: np.ndarray) -> Any:
    # Early stopping pads with NaN.
    known = row[~np.isnan(row)]  # (epochs,)
    return known[-1] if known.size else np.nan


def train(
    key: RandomKey,
    recipe: Recipe | Sequence[Recipe],
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    n: int | None = None,
    valid: Data | None = None,
    bootstrap: bool = False,
    **options: Unpack[LaneOptions],
) -> Ensemble:
    """Train a deep ensemble: n runs that differ in initialization, order, augmentation and noise.

        result = ensemble.train(key, recipe, data, n=5, epochs=20, batch_size=64, valid=valid)
        outputs = ensemble.predict(result.members, inputs)  # (5, examples, classes)

    Run i is `train.run` with the key fold_in(key, i): to the last bit where runs are computed one
    after another, to rounding where they are mapped. Hence the runs of n = 3 are the first three of
    n = 5. A run that diverged, as by the recipe's `on_nonfinite`, is not a member; a warning names
    it. [Lakshminarayanan et al. 2017, arXiv:1612.01474]

    Args:
        key: From `jax.random.key`.
        recipe: The recipe of all members, or a sequence with one for each.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data, >= 1.
        batch_size: Examples per step.
        n: Number of members; None for a sequence of recipes, which has their number.
        valid: (inputs, targets) to evaluate after each epoch; None for no validation.
        bootstrap: Whether each member is trained on a sample of its own: as many examples as the
            data has, drawn with replacement [Breiman 1996, "Bagging predictors"]. Data is not
            copied. Deep ensembles usually do better without.
        options: `lanes="auto"`, number of members that are trained at a time; 1 for one after
            another; "auto" for the faster of the two by a measurement. `mesh=None`, a
            jax.sharding.Mesh over whose devices members are divided; `lanes` is then the number at
            a time on each of them.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit a recipe, as for `train.run`.
        NonFiniteError: All members diverged.
    """
    checks.key("key", key)
    recipes = _expect_recipes(recipe, n)
    checks.flag("train bootstrap", bootstrap)
    settings = read_options(train, LaneSettings, options)
    # Recipes that differ in numbers alone share a program.
    groups = group_by_structure(recipes)
    firsts = [recipes[group[0]] for group in groups]
    task = prepare_task(
        firsts,
        data,
        valid,
        epochs=epochs,
        batch_size=batch_size,
        mesh=settings.mesh,
    )
    # (n,)
    # By the index among all runs, so that a run does not depend on n.
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(np.arange(len(recipes)))
    runs = [
        _train_group(
            recipes,
            group,
            keys,
            task,
            bootstrap,
            settings.lanes,
        )
        for group in groups
    ]
    diverged: dict[int, int] = {}
    for own in runs:
        diverged |= own.diverged
    diverged = dict(sorted(diverged.items()))
    _expect_members(diverged, len(recipes))
    kept = np.setdiff1d(np.arange(len(recipes)), list(diverged))  # (members,)
    parts = [part for own in runs for part in _kept_parts(recipes, own, kept)]
    # Runs that diverged may have been the first ones of their part.
    parts.sort(key=lambda part: part.indices[0])
    examples = None
    if bootstrap:
        # The same draws as in training, repeated from the keys: (n, examples).
        draw = jax.vmap(bootstrap_indices, (0, None))
        examples = np.asarray(draw(keys, count_examples(task.data)))
    return Ensemble(
        members=Members(tuple(parts)),
        history=_join_figures(runs, len(recipes)),
        indices=kept,
        diverged=diverged,
        examples=examples,
    )


def _expect_recipes(recipe: Any, n: Any) -> list[Recipe]:
    """Return the recipe of each member; ConfigError if it is not clear how many there are."""
    if isinstance(recipe, list | tuple) and recipe:
        if n is not None and checks.whole("train n", n) != len(recipe):
            advice = "leave n out for a sequence of recipes"
            raise ConfigError(
                "train n",
                f"the number of recipes, {len(recipe)}",
                n,
                advice,
            )
        return [expect_recipe("train", one) for one in recipe]
    expect_recipe("train", recipe)
    if n is None:
        raise ConfigError(
            "train n",
            "the number of members",
            None,
            "give n=5",
        )
    return [recipe] * checks.whole("train n", n)


def _expect_members(diverged: dict[int, int], count: int) -> None:
    """Warn of runs that diverged; NonFiniteError if all did."""
    if not diverged:
        return
    runs = ", ".join(f"{index} at step {step}" for index, step in diverged.items())
    advice = 'lower the rate; on_nonfinite="skip" leaves such steps out'
    if len(diverged) == count:
        error = NonFiniteError("ensemble.train", "a run that stays finite", f"none: {runs}", advice)
        # As for a single run, the first step that failed.
        error.step = min(diverged.values())
        raise error
    message = f"ensemble.train: expected finite runs, got non-finite ones: {runs}; {advice}"
    # Level 3 is the line that called `train`.
    warnings.warn(message, stacklevel=3)


# Runs of one structure.


class _Runs(NamedTuple):
    """The runs of one structure.

    Attributes:
        indices: Among all runs, (runs,).
        weights: Stacked.
        figures: By name, (runs, steps) or (runs, epochs).
        diverged: The step at which a run diverged, by its index among all runs.
    """

    indices: np.ndarray
    weights: Weights
    figures: dict[str, np.ndarray]
    diverged: dict[int, int]


def _train_group(
    recipes: Sequence[Recipe],
    group: np.ndarray,
    keys: jax.Array,
    task: Task,
    bootstrap: bool,
    lanes: int | str,
) -> _Runs:
    """Train the runs of these indices, which have one structure."""
    own = [recipes[index] for index in group]
    # One epoch a call, so that any number of epochs shares a program.
    epoch = train_on_bootstrap if bootstrap else train_on_all
    program = Lanes(
        own[0],
        task,
        len(own),
        lanes,
        own_keys=True,
        epoch=epoch,
    )
    states, measured = program.advance(own, program.start(keys[group], own), task.epochs)
    # With early stopping, the best weights in the place of the last.
    states = program.finish(states)
    # As `train.weights`: the average, where an optimizer keeps one.
    params = jax.vmap(averaged_params)(states.opt_state, states.params)
    weights = Weights(params, states.state)
    figures = {}
    for name, values in measured.items():
        if not is_validation(name):
            # (runs, epochs, steps, ...) -> (runs, steps, ...)
            values = values.reshape(len(values), -1, *values.shape[3:])
        figures[name] = values
    # Places within the group become indices among all runs.
    steps = _diverged_steps(own, figures[FINITE], weights)
    diverged = {int(group[place]): step for place, step in steps.items()}
    return _Runs(group, weights, figures, diverged)


def _diverged_steps(recipes: list[Recipe], finite: np.ndarray, weights: Weights) -> dict[int, int]:
    """Return the step at which each run diverged, by its place among the runs."""
    has_finite_weights = np.ones(len(recipes), bool)
    for leaf in jax.tree.leaves(weights):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            # (runs, ...) -> (runs, size)
            per_run = jnp.isfinite(leaf).reshape(len(recipes), -1)
            has_finite_weights &= np.asarray(per_run.all(1))
    steps = {}
    for place, (recipe, flags) in enumerate(zip(recipes, finite, strict=True)):
        step = find_fatal_step(recipe, flags)
        if step is None and not has_finite_weights[place]:
            # With on_nonfinite="ignore"; or the last step overflowed.
            # The appended False gives the number of steps if all of them were finite.
            step = int(np.argmin(np.append(flags, False)))
        if step is not None:
            steps[place] = step
    return steps


def _kept_parts(recipes: Sequence[Recipe], runs: _Runs, kept: np.ndarray) -> list[Part]:
    """Return the part of the members among runs; none if all of them diverged."""
    # The places of the kept runs within their group.
    places = np.flatnonzero(np.isin(runs.indices, kept))
    if not places.size:
        return []
    weights = runs.weights
    # Usually none diverged, and the weights are not copied.
    if len(places) < len(runs.indices):
        weights = jax.tree.map(lambda leaf: leaf[places], weights)
    own = runs.indices[places]
    # The index of a member counts the kept runs alone.
    return [make_part([recipes[index] for index in own], weights, np.searchsorted(kept, own))]


def _join_figures(runs: Sequence[_Runs], count: int) -> History:
    """Return the figures of all runs, in their order."""
    joined: dict[str, Any] = {}
    shapes: dict[str, set[Any]] = {}
    for own in runs:
        for name, values in own.figures.items():
            shapes.setdefault(name, set()).add(values.shape[1:])
            if len(shapes[name]) > 1:
                # Instruments of other networks have other columns, which no array can hold.
                joined.pop(name, None)
                continue
            # Recipes of other structures may have other figures.
            missing = np.nan if np.issubdtype(values.dtype, np.inexact) else 0
            blank = np.full((count, *values.shape[1:]), missing, values.dtype)
            # rows of (n, ...), filled group by group
            joined.setdefault(name, blank)[own.indices] = values
    return History(joined)
