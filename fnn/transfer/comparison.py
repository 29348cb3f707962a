"""Comparison of the regimes of transfer by cross-validation over the same folds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.split import whole_folds
from fnn.errors import ConfigError, NonFiniteError
from fnn.search.cross_validation import FOLDS, cross_validate
from fnn.search.fold_statistics import SIGNIFICANCE, Comparison, CrossValidation
from fnn.search.fold_statistics import compare as compare_folds
from fnn.search.score import Score, find_score
from fnn.train.arrays import validate_data
from fnn.train.figures import LOSS, VALID_LOSS, validation_name
from fnn.train.inputs import validate_inputs
from fnn.train.measure import measure_examples, reduce_examples
from fnn.train.recipe import Recipe, expect_recipe
from fnn.transfer.features import Cut, features_at
from fnn.transfer.head import expect_head, expect_plain, fitting_weights, kernels
from fnn.transfer.linear_probe import attach, linear_probe
from fnn.transfer.neighbors import nearest_neighbors
from fnn.transfer.regimes import changed, fine_tune, head_only, last_blocks, scratch
from fnn.types import Data, Number, Optimizer, RandomKey, Weights
from fnn.values import expect_arguments, signature_of

SCRATCH, PROBE, NEIGHBORS = "scratch", "linear_probe", "nearest_neighbors"
HEAD, LAST, TUNED, PROBE_THEN_TUNED = "head_only", "last_blocks", "fine_tune", "probe_then_tune"
REGIMES = (SCRATCH, PROBE, NEIGHBORS, HEAD, LAST, TUNED, PROBE_THEN_TUNED)

PROBE_KEY = 2  # use of the key of a comparison; cross-validation has 0 and 1
INNER_FOLDS = 3  # of the training part of a fold, by which the penalty of a probe is chosen
MAX_NEIGHBORS = 20
BATCH = 256  # examples of which features are computed at once
SMALLEST_SHARE = 1e-6  # of a class without neighbors, whose logarithm is finite


class Options(TypedDict, total=False):
    """The options of `transfer.compare` that seldom change."""

    optimizers: Mapping[str, Optimizer]
    classes: int | None
    head: str | None
    blocks: int | str
    decay: Number | None
    l2: Number | Sequence[Number]
    k: int | None
    stratified: bool
    score: str | None
    mode: str | None
    lanes: int | str


@dataclass(frozen=True)
class Settings:
    """The options with their defaults.

    Attributes:
        optimizers: By regime, an optimizer in the place of that of the recipe.
        classes: Number of classes of a new head.
        head: Path of the head.
        blocks: Of last_blocks.
        decay: Of fine_tune and probe_then_tune.
        l2: Penalties of the probe, of which each fold chooses one.
        k: Number of neighbors.
        stratified: Whether folds have the shares of the classes.
        score: Name of a figure of validation; None for the accuracy, or the loss without one.
        mode: "min" or "max"; None for the direction of the figure.
        lanes: Number of runs at a time, or "auto".
    """

    optimizers: Mapping[str, Optimizer] = field(default_factory=dict)
    classes: int | None = None
    head: str | None = None
    blocks: int | str = 2
    decay: Number | None = None
    l2: Number | Sequence[Number] = (1e-4, 1e-3, 1e-2, 1e-1)
    k: int | None = None
    stratified: bool = False
    score: str | None = None
    mode: str | None = None
    lanes: int | str = "auto"


@dataclass(frozen=True, eq=False)
class RegimeComparison:
    """The regimes of transfer over the same folds. It prints as a table, the best first.

    Attributes:
        results: The cross-validation of each regime.
    """

    results: dict[str, CrossValidation]

    @property
    def order(self) -> list[str]:
        """The regimes from the best mean score to the worst; those that diverged last."""
        names = list(self.results)
        score = self.results[names[0]].figure
        means = np.array([self.results[name].mean for name in names])
        return [names[index] for index in score.order(means)]

    @property
    def best(self) -> str:
        """The regime with the best mean score."""
        return self.order[0]

    @property
    def ties(self) -> list[str]:
        """The other regimes that are not significantly worse than the best, from the best on."""
        return [name for name in self.order[1:] if self.against_best(name).p_value >= SIGNIFICANCE]

    def against_best(self, name: str) -> Comparison:
        """Return the paired comparison of the best regime, the first, with another one.

        Args:
            name: Of the other regime.
        """
        return compare_folds(self.results[self.best], self.results[name])

    def __repr__(self) -> str:
        order = self.order
        score = self.results[order[0]].figure
        rows = [("regime", score.name, "95 % interval", "to the best", "p", "")]
        ties = self.ties
        for name in order:
            result = self.results[name]
            low, high = result.interval()
            interval = f"{low:.4f} to {high:.4f}"
            difference, p_value, verdict = "", "", "best"
            if name != order[0]:
                paired = self.against_best(name)
                # This regime less the best one. The z of the format drops the sign of -0.
                difference, p_value = f"{-paired.mean:+z.4f}", f"{paired.p_value:.2g}"
                verdict = "tie" if name in ties else "worse"
            rows.append((name, f"{result.mean:.4f}", interval, difference, p_value, verdict))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        won = f"{order[0]} has the best mean"
        if ties:
            won += f"; no significant difference to {', '.join(ties)}"
        return "\n".join([*lines, won])


def compare(
    key: RandomKey,
    recipe: Recipe,
    weights: Weights,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    regimes: Sequence[str] = REGIMES,
    folds: int = 5,
    **options: Unpack[Options],
) -> RegimeComparison:
    """Compare the regimes of transfer on a data set, by cross-validation over the same folds.

        table = transfer.compare(key, recipe, weights, data, epochs=20, batch_size=32, classes=5)
        print(table)

    The regimes are: scratch, random weights; linear_probe and nearest_neighbors on the features;
    head_only, last_blocks and fine_tune, as the functions of these names; and probe_then_tune,
    fine-tuning that begins with the probe of the fold [Kumar et al. 2022, arXiv:2202.10054]. Each
    is compared with the best one by the corrected paired t-test of `search.compare`. The p-values
    are not corrected for the number of regimes.

    Args:
        key: From `jax.random.key`. It determines folds and runs.
        recipe: Network, optimizer, loss and all else of the new task, from `train.recipe`.
        weights: The pretrained weights of its network.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the training part of a fold.
        batch_size: Examples per step.
        regimes: Names of the regimes to compare.
        folds: Number of folds.
        options: `optimizers={}`, by regime an optimizer in the place of that of the recipe, since
            the best rate of a head is often 10 to 100 times that of all layers. `classes=None`,
            `head=None`, `blocks=2` and `decay=None`, as for `last_blocks` and `fine_tune`.
            `l2=(1e-4, 1e-3, 1e-2, 1e-1)`, penalties of the probe, of which each fold chooses one
            within its training part. `k=None`, number of neighbors, at most 20 by default.
            `stratified=False`, `score=None` for the accuracy, or the loss of a recipe without one,
            `mode=None` and `lanes="auto"`, as for `search.cross_validate`.

    Returns:
        The cross-validation of each regime; it prints as a table.

    Raises:
        FnnError: An argument is not valid, as for the functions of the regimes and for
            `search.cross_validate`.
        NonFiniteError: The scores of all folds of a regime are NaN or infinite.
    """
    checks.key("key", key)
    expect_arguments("compare", signature_of(Settings), (), options)
    settings = Settings(**options)
    expect_recipe("compare", recipe)
    names = _expect_regimes(regimes)
    _expect_optimizers(settings.optimizers, names)
    # Of the recipe of the new task, since all regimes share its loss and metrics.
    name = settings.score or _default_score(recipe)
    task = _Task(key, recipe, weights, data, settings, folds)
    score = find_score(
        recipe,
        name,
        settings.mode,
        has_valid=True,
        has_training=False,
        where="compare",
    )
    results = {}
    for regime in names:
        if regime in (PROBE, NEIGHBORS):
            results[regime] = task.by_features(regime, score)
            continue
        results[regime] = cross_validate(
            key,
            task.recipe_of(regime),
            data,
            epochs=epochs,
            batch_size=batch_size,
            folds=folds,
            stratified=settings.stratified,
            score=name,
            mode=settings.mode,
            lanes=settings.lanes,
        )
    return RegimeComparison(results)


class _Task:
    """The arguments that all regimes have in common."""

    def __init__(
        self,
        key: RandomKey,
        recipe: Recipe,
        weights: Weights,
        data: Data,
        settings: Settings,
        folds: int,
    ):
        self.key = key
        self.recipe = recipe
        self.given = expect_plain("compare", recipe.network, weights)
        self.data = validate_data("data", data)
        self.settings = settings
        self.folds = folds
        self.head = expect_head("compare", recipe.network, self.given, settings.head)
        # Without a new head, the classes are those of the kernel (width, classes).
        kernel = kernels(self.given).get(self.head)
        own_classes = None if kernel is None else kernel.shape[-1]
        self.classes = own_classes if settings.classes is None else settings.classes
        self._features: Any = None

    def recipe_of(self, regime: str) -> Recipe | Callable[[Data], Recipe]:
        """Return the recipe of a regime, or the recipe of a fold by its training part."""
        own = self.settings.optimizers.get(regime)
        recipe = self.recipe if own is None else changed(self.recipe, optimizer=own)
        new: dict[str, Any] = {"classes": self.settings.classes, "head": self.settings.head}
        decay = self.settings.decay
        if regime == SCRATCH:
            return scratch(recipe, self.given, **new)
        if regime == HEAD:
            return head_only(recipe, self.given, **new)
        if regime == LAST:
            return last_blocks(recipe, self.given, self.settings.blocks, **new)
        if regime == TUNED:
            return fine_tune(recipe, self.given, decay=decay, **new)

        def of_fold(part: Data) -> Recipe:
            # Fitted to the training part alone: the other examples score the fold.
            probe = self._probe(self._read(part[0]), part[1])
            network, begun = attach(recipe.network, self.given, probe, head=self.head)
            return fine_tune(changed(recipe, network=network), begun, decay=decay)

        return of_fold

    def by_features(self, regime: str, score: Score) -> CrossValidation:
        """Return the cross-validation of a regime without training of the network."""
        # The two regimes of features share one pass through the network.
        if self._features is None:
            self._features = self._read(self.data[0])
        x, targets = self._features, checks.one_array("compare targets", self.data[1])
        fold_of, train = self._parts()
        folds = train.shape[0]
        scores = np.empty((1, folds))  # (repeats, folds)
        predictions: np.ndarray | None = None
        for fold in range(folds):
            own = train[fold]
            if regime == PROBE:
                # Of all examples; those of the fold are taken below.
                outputs = self._probe(x[own], targets[own]).predict(x)
            else:
                outputs = self._neighbors(x[own], targets[own], x)
            host = np.asarray(outputs)
            if predictions is None:
                predictions = np.empty((1, *host.shape), host.dtype)
            valid = np.flatnonzero(fold_of == fold)  # (examples of the fold,)
            predictions[0, valid] = host[valid]
            scores[0, fold] = self._score(score, host[valid], np.asarray(targets)[valid])
        if not np.isfinite(scores).any():
            advice = "standardize the features, or choose another layer"
            got = "folds that are all NaN or infinite"
            raise NonFiniteError(f"compare {regime}", "a finite score", got, advice)
        # Without histories, since nothing is trained.
        return CrossValidation(scores, {}, predictions, fold_of[None], train[None], score)

    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the fold of each example and the training parts, as of cross_validate."""
        # The key of repeat 0 of `cross_validate`, hence the folds of the other regimes.
        fold_key = jax.random.fold_in(jax.random.fold_in(self.key, FOLDS), 0)
        stratified = self.settings.stratified
        return whole_folds("compare", fold_key, self.data, folds=self.folds, stratified=stratified)

    def _read(self, inputs: Any) -> jax.Array:
        """Return the inputs of the head."""
        cut = Cut(self.head, is_input=True)
        valid = validate_inputs("inputs", self.recipe, inputs)
        given = fitting_weights("compare", self.recipe, self.given, valid)
        return features_at(self.recipe, given, valid, cut, BATCH)

    def _probe(self, x: Any, targets: Any) -> Any:
        is_label = jnp.issubdtype(jnp.asarray(targets).dtype, jnp.integer)
        return linear_probe(
            x,
            targets,
            l2=self.settings.l2,
            classes=self.classes if is_label else None,
            folds=INNER_FOLDS,
            key=jax.random.fold_in(self.key, PROBE_KEY),
        )

    def _neighbors(self, x: Any, targets: Any, queries: Any) -> jax.Array:
        is_label = jnp.issubdtype(jnp.asarray(targets).dtype, jnp.integer)
        k = min(MAX_NEIGHBORS, len(x)) if self.settings.k is None else self.settings.k
        classes = self.classes if is_label else None
        found = nearest_neighbors(x, targets, queries, k=k, classes=classes)
        # Shares of classes become logits, whose softmax they are.
        return jnp.log(found.outputs + SMALLEST_SHARE) if is_label else found.outputs

    def _score(self, score: Score, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Return the figure of the score for outputs."""
        y = jnp.asarray(outputs)
        if jnp.issubdtype(targets.dtype, jnp.floating):
            # A probe of numbers returns (n, 1) also for targets (n,).
            y = y.reshape(targets.shape)
        values = measure_examples(self.recipe, y, jnp.asarray(targets))
        figures = reduce_examples(self.recipe, values)
        named = {validation_name(name): figures[name] for name in (LOSS, *self.recipe.metrics)}
        return float(named[score.name])


def _expect_regimes(regimes: Any) -> list[str]:
    """Return the names of the regimes; ConfigError for others, none, or one twice."""
    names = list(regimes) if isinstance(regimes, tuple | list) else []
    if not names or len(set(map(str, names))) != len(names):
        expected = f"names among {', '.join(REGIMES)}, each once"
        raise ConfigError("compare regimes", expected, checks.show(regimes), "give a list of them")
    for name in names:
        checks.choice("compare regimes", name, REGIMES)
    return names


def _expect_optimizers(optimizers: Any, names: Sequence[str]) -> None:
    """Raise ConfigError unless these are optimizers by the names of regimes that train."""
    known = [name for name in names if name not in (PROBE, NEIGHBORS)]
    if not isinstance(optimizers, Mapping):
        got = checks.show(optimizers)
        advice = 'as in {"head_only": optim.adam(1e-2)}'
        raise ConfigError("compare optimizers", "optimizers by regime", got, advice)
    for name, optimizer in optimizers.items():
        checks.choice("compare optimizers", name, known)
        checks.optimizer(f"compare optimizers {name}", optimizer)


def _default_score(recipe: Recipe) -> str:
    return validation_name("accuracy") if "accuracy" in recipe.metrics else VALID_LOSS
