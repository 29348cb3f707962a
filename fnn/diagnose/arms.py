"""Arms of an experiment: runs of several keys with a treated recipe, compared with a control.

All arms of one structure share a compiled program, which computes the runs of all keys as lanes.
Arm and control have the same keys, so that they differ in the treatment alone. The first key is
that of the examined run, whose initialization and order of examples it repeats.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import nn, trees
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED
from fnn.diagnose.parameter_rules import kernel_paths
from fnn.errors import NonFiniteError
from fnn.optim.transforms.plateau import has_plateau
from fnn.search.lane_map import LaneMap
from fnn.search.lanes import Task
from fnn.train.evaluate import evaluate, predict
from fnn.train.figures import FINITE, LOSS, RATE
from fnn.train.inputs import take_examples, validate_fit
from fnn.train.measure import count_examples
from fnn.train.nonfinite import replay_to_step
from fnn.train.recipe import Recipe
from fnn.train.run import run_epochs
from fnn.train.step import start_on_data
from fnn.train.tasks import optimizer_of
from fnn.types import Data, RandomKey, Result, TrainState

TAIL = 0.25  # last share of the steps, whose mean loss is compared
MARGIN = 2.0  # standard errors over keys between an effect and the least one that counts
BATCH = 256  # examples that determine the scale of an initialization
# Purposes of keys, apart from those of a run.
SEEDS, RESCALE, SHUFFLE = 101, 102, 103


class Start(NamedTuple):
    """Changes of the initial parameters. All of them share a program.

    Attributes:
        rescales: Whether the kernels are drawn and rescaled by `nn.lsuv`.
        head: Factor of the parameters of the last layer with a kernel.
    """

    rescales: bool = False
    head: float = 1.0


class Figures(NamedTuple):
    """The figures of the runs of an arm, one row per key.

    Attributes:
        losses: Training loss of each step (keys, steps); inf for a step that is not finite.
        rates: Rate of each step (keys, steps).
        train_loss: Loss on the training data in evaluation mode at the end (keys,).
        valid_loss: The same on the validation data; that of training without such data.
        recalls: Share of the examples of each class whose class is predicted (keys, classes), on
            the validation data; (keys, 0) without classes.
        scores: Accuracy, or the explained share of the variance, on the validation data (keys,);
            NaN for other targets.
    """

    losses: np.ndarray
    rates: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    recalls: np.ndarray
    scores: np.ndarray

    @property
    def mean_loss(self) -> np.ndarray:
        """Mean training loss of the run (keys,)."""
        return self.losses.mean(1)

    @property
    def tail_loss(self) -> np.ndarray:
        """Mean training loss of the last quarter of the steps (keys,)."""
        tail = max(1, round(TAIL * self.losses.shape[1]))
        return self.losses[:, -tail:].mean(1)


class Arms:
    """The runs of an experiment on one recipe and its data.

    Attributes:
        recipe: The examined recipe, without metrics, measures, instruments and early stopping.
        result: The examined run; None before there is one, and for one that failed.
        task: Data and length of the runs.
        keys: Keys of the runs, (keys,).
    """

    def __init__(
        self,
        recipe: Recipe,
        examined: Result | NonFiniteError | RandomKey,
        task: Task,
        seeds: int,
    ):
        """Prepare the arms.

        Args:
            recipe: The examined recipe.
            examined: The examined run, the error that ended it, or its key.
            task: Data and length of the runs.
            seeds: Number of keys.
        """
        # Arms are compared at their last step. A figure that nothing compares costs time.
        made: Any = recipe
        self.recipe = made.replace(metrics={}, measures=None, instruments=None, early_stopping=None)
        self.result = examined if isinstance(examined, Result) else None
        self._error = examined if isinstance(examined, NonFiniteError) else None
        key = key_of(examined)
        self._key = key
        self.task = task
        self._out_shape = validate_fit(recipe, task.data, task.valid)
        seed_key = jax.random.fold_in(key, SEEDS)
        fold_each = jax.vmap(jax.random.fold_in, (None, 0))
        others = fold_each(seed_key, np.arange(seeds - 1))
        self.keys = jnp.concatenate([key[None], others])
        self._figures: dict[Any, Figures] = {}

    @property
    def key(self) -> RandomKey:
        """Key of the examined run."""
        # Each use is one of the same run.
        return jax.random.clone(self._key)

    @property
    def before_failure(self) -> TrainState | None:
        """The train state before the first step that was not finite; None if all were."""
        if self._error is not None:
            return self._error.train_state
        if self.result is None:
            return None
        finite = np.asarray(self.result.history[FINITE])
        if finite.all():
            return None
        made: Any = self.recipe
        # Skipped steps count as steps.
        endless = made.replace(on_nonfinite="ignore")
        first = start_on_data(endless, self.key, self.data)
        # The history of a run that was continued begins later.
        offset = max(int(self.result.train_state.step) - len(finite), 0)
        step = offset + int(finite.argmin())
        return replay_to_step(
            endless,
            first,
            self.data,
            None,
            self.task.batch_size,
            step,
        )

    @property
    def data(self) -> Data:
        """The training data."""
        return self.task.data

    @property
    def classes(self) -> int:
        """Number of classes of integer labels, one per example; 0 for other targets."""
        targets = self.data[1]
        is_label = getattr(targets, "ndim", 0) == 1 and len(self._out_shape) == 1
        is_class = self.recipe.loss.classes and is_label
        return int(self._out_shape[0]) if is_class else 0

    @property
    def figure_of_test(self) -> str:
        """Name of the data on which generalization is measured."""
        return "training data" if self.task.valid is None else "validation data"

    @property
    def kernels(self) -> list[str]:
        """Paths of the kernels of the network, in the order of its layers."""
        first = jax.eval_shape(lambda: start_on_data(self.recipe, self.key, self.data))
        return kernel_paths(self.recipe.network, first.params)

    @property
    def chance(self) -> float | None:
        """Loss of guessing, log(classes); None without classes."""
        return float(np.log(self.classes)) if self.classes > 1 else None

    def run(
        self,
        recipe: Recipe,
        *,
        permuted: bool = False,
        start: Start | None = None,
        times: int = 1,
    ) -> Figures:
        """Train with a recipe from each key.

        Args:
            recipe: A treatment of `recipe`.
            permuted: Whether the targets of training are exchanged at random between examples.
            start: Changes of the initial parameters; None for a program without them.
            times: Factor of the number of epochs.
        """
        # Several rules compare the same arms.
        name = recipe, permuted, start, times
        if name not in self._figures:
            self._figures[name] = self._train(recipe, permuted, start, times)
        return self._figures[name]

    def _train(
        self,
        recipe: Recipe,
        permuted: bool,
        start: Start | None,
        times: int,
    ) -> Figures:
        epochs = times * self.task.epochs
        batch_size = self.task.batch_size
        classes = self.classes
        examples = count_examples(self.data)
        is_changed = start is not None

        def train(
            recipe: Recipe,
            own: Any,
            common: Any,
        ) -> dict[str, Any]:
            key, order, change = own
            (inputs, targets), valid = common
            data = inputs, take_examples(targets, order)
            begin = start_on_data(recipe, key, data)
            if is_changed:
                begin = change_start(recipe, begin, data, Start(*change))
            # Only optim.plateau needs validation before the end of the run.
            watched = valid if has_plateau(begin.opt_state) else None
            last, history = run_epochs(
                recipe,
                begin,
                data,
                watched,
                epochs,
                batch_size,
                None,
                False,
                None,
            )
            tested = data if valid is None else valid
            figures = {
                "losses": jnp.where(history[FINITE], history[LOSS], jnp.inf),
                "rates": history[RATE],
                "train_loss": evaluate(recipe, last, data)[LOSS],
                "valid_loss": evaluate(recipe, last, tested)[LOSS],
            }
            outputs = predict(recipe, last, tested[0])
            return figures | score_outputs(outputs, tested[1], classes)

        count = len(self.keys)
        change = Start() if start is None else start
        changes = np.full(count, change.rescales), np.full(count, change.head, np.float32)
        own = self.keys, self._orders(permuted, examples), changes
        common = self.data, self.task.valid
        # One run after another: lanes of large networks are slower on CPU.
        lanes = 1 if jax.default_backend() == "cpu" else count
        name = "arm", epochs, batch_size, classes, is_changed
        program = LaneMap(
            name,
            train,
            recipe,
            lanes,
        )
        found = program(
            [recipe] * count,
            lambda indices: jax.tree.map(lambda leaf: leaf[indices], own),
            common,
            probe=common,
        )
        return Figures(**found)

    def _orders(self, permuted: bool, examples: int) -> np.ndarray:
        """Return the example that each example gets its target from, (keys, examples)."""
        orders = np.tile(np.arange(examples, dtype=np.int32), (len(self.keys), 1))
        if not permuted:
            return orders
        own_keys = [jax.random.fold_in(key, SHUFFLE) for key in jax.random.clone(self.keys)]
        return np.stack([jax.random.permutation(key, orders[0]) for key in own_keys])


def key_of(examined: Result | NonFiniteError | RandomKey) -> RandomKey:
    """Return the key of a run, given its result, the error that ended it, or the key."""
    if isinstance(examined, Result | NonFiniteError):
        return examined.train_state.key
    return examined


def change_start(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    change: Start,
) -> TrainState:
    """Change the initial parameters.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the first step.
        data: Validated (inputs, targets).
        change: A boolean and a number, arrays ().
    """
    examples = count_examples(data)
    # Examples at even distances, since data may be sorted.
    rows = jnp.asarray(np.linspace(0, examples - 1, min(BATCH, examples)), jnp.int32)
    batch = recipe.prepare(take_examples(data[0], rows))
    key = jax.random.fold_in(train_state.key, RESCALE)
    params, state = train_state.params, train_state.state
    scaled = nn.lsuv(key, recipe.network, params, state, batch)
    chosen = jax.tree.map(lambda old, new: jnp.where(change.rescales, new, old), params, scaled)
    head = kernel_paths(recipe.network, params)[-1].rpartition("/")[0]

    def shrink_head(path: str, leaf: jax.Array) -> jax.Array:
        is_head = path.rpartition("/")[0] == f"params/{head}"
        return leaf * jnp.asarray(change.head, leaf.dtype) if is_head else leaf

    chosen = trees.map_named(shrink_head, "params", chosen)
    # Some optimizers begin with a copy of the parameters.
    return train_state._replace(params=chosen, opt_state=optimizer_of(recipe).init(chosen))


def score_outputs(outputs: Any, targets: Any, classes: int) -> dict[str, jax.Array]:
    """Return the recall of each class (classes,), NaN without examples, and the score ().

    Args:
        outputs: Of the network (n, ...).
        targets: Labels (n,), or values (n, ...).
        classes: Number of classes; 0 without, which gives no recalls.
    """
    if classes:
        labels = targets.astype(jnp.int32)
        hits = (outputs.argmax(-1).astype(jnp.int32) == labels).astype(jnp.float32)
        ones = jnp.ones_like(hits)
        found, counts = (jnp.bincount(labels, each, length=classes) for each in (hits, ones))
        return {"recalls": found / counts, "scores": hits.mean()}
    score = jnp.array(jnp.nan)
    shapes = [getattr(value, "shape", None) for value in (outputs, targets)]
    if shapes[0] is not None and shapes[0] == shapes[1]:
        spread = jnp.square(targets - targets.mean(0, keepdims=True)).mean()
        score = 1 - jnp.square(outputs - targets).mean() / spread
    return {"recalls": jnp.zeros(0), "scores": score.astype(jnp.float32)}


# Comparison.


def gains(
    control: np.ndarray,
    treated: np.ndarray,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Return the fall of a loss by a treatment, relative to a scale.

    Args:
        control: Losses (keys,).
        treated: The same with the treatment.
        scale: Losses (keys,); by default the larger one of both, so that losses >= 0 give a gain in
            [-1, 1].
    """
    if scale is None:
        scale = np.maximum(np.abs(control), np.abs(treated))
    is_finite = np.isfinite(control) & np.isfinite(treated) & np.isfinite(scale)
    before = np.where(is_finite, control, 0)
    after = np.where(is_finite, treated, 0)
    divisor = np.where(is_finite & (scale > 0), scale, 1)
    # A loss that is not finite is worse than any other, and none is better than another.
    lost = (~np.isfinite(control)).astype(float) - (~np.isfinite(treated)).astype(float)
    return np.where(is_finite, (before - after) / divisor, lost)


def judge(effects: np.ndarray, least: float) -> str:
    """Return whether an effect is at least as large as a number, given one value per key.

    Args:
        effects: (keys,).
        least: The least effect that counts.

    Returns:
        "confirmed" if the mean is above by two standard errors, "refuted" if it is below by two,
        and "likely" between. A single key has no standard error, and decides alone.
    """
    mean = effects.mean()
    error = standard_error(effects)
    if mean - MARGIN * error >= least:
        return CONFIRMED
    return REFUTED if mean + MARGIN * error < least else LIKELY


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of values (keys,); 0 for a single one."""
    count = len(values)
    return float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
