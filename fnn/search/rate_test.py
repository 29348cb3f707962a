"""Learning rate test: many constant rates from one initialization, as one compiled program.

A ramp of the rate, as in the range test of Smith [2017, arXiv:1506.01186], confounds the rate with
the time: each rate starts where the smaller ones arrived, and a suggestion by a slope depends on
the axis of which the slope is taken. Here each rate has a run of its own. The suggestion depends on
the order of the rates and on the losses alone, hence on no axis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, NonFiniteError
from fnn.search.lane_map import LaneMap
from fnn.search.lanes import prepare_task
from fnn.search.options import LaneOptions, LaneSettings, read_options
from fnn.search.rate_band import Band, find_band, tail_mean
from fnn.search.subset_runs import Subset, epoch_orders, host_lengths, train_on_subset
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, Optimizer, RandomKey, Schedule
from fnn.values import Made

DEFAULT_RATES = np.geomspace(1e-6, 10, 32)
MAIN_NUMBERS = ("peak", "value", "start", "schedule")  # of a schedule, the first that it has


@dataclass(frozen=True, eq=False)
class RateTest:
    """The results of a rate test.

    Attributes:
        rates: The rates, ascending, (rates,).
        losses: Of each step, (rates, seeds, steps).
        baseline: Losses without training, on the same batches, (seeds, steps).
        band: Of all seeds: progress is averaged, and the high end is stable for each of them.
        bands: Of each seed.
        path: Path of the number in the recipe.
        recipe: The recipe with the suggested rate at this path.
    """

    rates: np.ndarray
    losses: np.ndarray
    baseline: np.ndarray
    band: Band
    bands: tuple[Band, ...]
    path: str
    recipe: Recipe

    @property
    def low(self) -> float:
        """The smallest rate with half of the best progress."""
        return self.band.low

    @property
    def suggested(self) -> float:
        """The smallest rate with 98 % of the best progress."""
        return self.band.suggested

    @property
    def high(self) -> float:
        """The largest rate up to which the loss falls at all rates and for all seeds."""
        return self.band.high

    @property
    def spread(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest value over seeds of low, suggested and high, by name."""
        columns = {
            name: [getattr(band, name) for band in self.bands]
            for name in ("low", "suggested", "high")
        }
        return {name: (min(values), max(values)) for name, values in columns.items()}

    @property
    def tail_losses(self) -> np.ndarray:
        """The mean losses over the last quarter of the steps, (rates, seeds)."""
        return tail_mean(self.losses)

    @property
    def tail_baseline(self) -> float:
        """The same without training, in the mean over seeds."""
        return float(tail_mean(self.baseline).mean())

    def __repr__(self) -> str:
        parts = []
        for name, (least, most) in self.spread.items():
            text = f"{name} {getattr(self, name):.2g}"
            parts.append(text if least == most else f"{text} ({least:.2g} to {most:.2g})")
        seeds = len(self.bands)
        notes = f"{len(self.rates)} rates, {self.losses.shape[2]} steps"
        notes += f", {seeds} seed{'s' if seeds > 1 else ''}"
        # The best rate may be beyond an end of the tested ones.
        if self.suggested == self.rates[0]:
            notes += "; the best rate is the smallest one: test smaller ones"
        if self.suggested == self.rates[-1]:
            notes += "; the best rate is the largest one: test larger ones"
        return f"{self.path}: {', '.join(parts)}; {notes}"


def rate_test(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    batch_size: int,
    steps: int = 100,
    rates: Sequence[float] | np.ndarray | None = None,
    seeds: int = 3,
    path: str | None = None,
    **options: Unpack[LaneOptions],
) -> RateTest:
    """Test many learning rates, each at a constant rate from the same initialization.

        test = search.rate_test(key, recipe, data, batch_size=64)
        print(test)
        result = train.run(key, test.recipe, data, epochs=10, batch_size=64)

    The loss of a rate is its mean over the last quarter of the steps. Progress is the fall from the
    loss of the untrained parameters on the same batches. All rates of a seed have the same
    initialization, batches and noise. A rate is stable if its losses are finite and its loss is not
    above that of the untrained parameters (by more than 2 % of the largest fall).

    - high: the largest rate such that it and all smaller ones are stable, for every seed.
    - suggested: the smallest stable rate with at least 98 % of the best progress.
    - low: the smallest stable rate with at least half of the best progress.

    The test is a pure function, which changes no run. It says which rate is fast for this number of
    steps. Longer runs often need a decay from that rate.

    Args:
        key: From `jax.random.key`. It determines the runs.
        recipe: From `train.recipe`, with an optimizer whose rate is a number or a schedule.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples per step.
        steps: Steps of each run.
        rates: Two or more rates > 0, ascending, such as `np.geomspace(1e-4, 1, 16)`. By default 32
            from 1e-6 to 10.
        seeds: Number of initializations and orders of the examples.
        path: Path of the number that the suggestion replaces, such as "optimizer.rate.peak". A
            schedule around it is constant in the test. By default the rate of the optimizer, or the
            peak of its schedule.
        options: `lanes="auto"`, number of rates at a time; "auto" measures whether they are faster
            together or one after another, and how many fit into memory. `mesh=None`, devices over
            which rates are divided.

    Returns:
        The band, its spread over seeds, the losses, and the recipe with the suggested rate.

    Raises:
        FnnError: An argument is not valid, or there is no number at the path. Raised before
            anything compiles.
        NonFiniteError: The loss of the untrained parameters is not finite.
    """
    checks.key("key", key)
    expect_recipe("rate_test", recipe)
    checks.whole("rate_test steps", steps)
    checks.whole("rate_test seeds", seeds)
    settings = read_options(rate_test, LaneSettings, options)
    tested = DEFAULT_RATES if rates is None else _ascending(rates)
    path = _expect_number_path(recipe, path)
    target = _constant_path(recipe, path)
    # The first run, at a rate of 0, measures the loss of the untrained parameters.
    recipes = [_with_rate(recipe, target, rate) for rate in (0.0, *tested.tolist())]
    # A recipe with early stopping or optim.plateau needs validation, which the test never makes.
    task = prepare_task(
        recipes[:1], data, data, epochs=1, batch_size=batch_size, mesh=settings.mesh
    )
    examples = len(jax.tree.leaves(task.data)[0])
    epoch_length = steps_per_epoch(task.data, batch_size)
    # Whole epochs, enough to draw the order of all steps.
    epochs = -(-steps // epoch_length)

    def run(
        recipe: Recipe,
        own: Any,
        common: Any,
    ) -> jax.Array:
        key, data, subset, length = common
        # One segment of all steps, without validation.
        trained = train_on_subset(recipe, key, data, subset, length, (1, steps), lambda _: {})
        # (1, steps) -> (steps,)
        return trained.losses[0]

    program = LaneMap(("rate test", steps), run, recipes[0], settings.lanes, task.mesh)
    # (1 + rates, seeds, steps)
    losses = np.empty((len(recipes), seeds, steps))
    # One seed after another: the rates of a seed share its order of the examples.
    for seed in range(seeds):
        seed_key = jax.random.fold_in(key, seed)
        order = epoch_orders(seed_key, epochs, examples, batch_size)[:steps]
        # The subset is all of the data.
        subset = Subset(jnp.arange(examples, dtype=jnp.int32), order, np.int32(epoch_length))
        common = (seed_key, task.data, subset)
        losses[:, seed] = program(
            recipes,
            _no_arguments,
            (*common, host_lengths(1, steps)),
            # A few steps are enough to choose the number of lanes.
            probe=(*common, host_lengths(1, min(steps, 4))),
        )
    return _collect(recipe, path, tested, losses)


def _collect(
    recipe: Recipe,
    path: str,
    rates: np.ndarray,
    losses: np.ndarray,
) -> RateTest:
    """Return the results, given the losses (1 + rates, seeds, steps)."""
    # The first run had a rate of 0.
    baseline, losses = losses[0], losses[1:]
    if not np.isfinite(baseline).all():
        advice = "check the data and the initialization"
        raise NonFiniteError(
            "rate_test loss",
            "a finite one before training",
            "NaN or inf",
            advice,
        )
    band = find_band(rates, losses, baseline)
    if np.isnan(band.suggested):
        got = f"none from {rates[0]:.2g} to {rates[-1]:.2g}"
        advice = "test smaller ones; if the loss falls at none, check gradients and data"
        raise ConfigError(
            "rate_test rates",
            "a rate at which the loss falls",
            got,
            advice,
        )
    # A list as the index keeps the axis of seeds.
    bands = tuple(
        find_band(rates, losses[:, [seed]], baseline[[seed]]) for seed in range(len(baseline))
    )
    # The number itself is replaced, so that its schedule keeps its form.
    chosen = _with_rate(recipe, path, band.suggested)
    return RateTest(rates, losses, baseline, band, bands, path, chosen)


def _no_arguments(indices: np.ndarray) -> Any:
    """Return the arguments of lanes that differ in the recipe alone: none."""
    # A mapped axis needs an array, so each lane gets a number that it does not use.
    return np.zeros(len(indices))


def _ascending(rates: Any) -> np.ndarray:
    """Return the rates as an array (rates,); ConfigError unless they are ascending and > 0."""
    array = np.asarray(rates)
    is_numbers = array.ndim == 1 and array.size >= 2 and array.dtype.kind in "iuf"
    # NaN is in no order. (rates,) -> (rates - 1,)
    if not is_numbers or not (
        array[0] > 0 and np.isfinite(array[-1]) and (np.diff(array) > 0).all()
    ):
        raise ConfigError(
            "rate_test rates",
            "two or more finite numbers > 0 in ascending order",
            checks.show(rates),
            "use numpy.geomspace(lowest, highest, count)",
        )
    return array.astype(float)


# The path of the rate.


def _expect_number_path(recipe: Recipe, path: str | None) -> str:
    """Return the path of the rate in the recipe; ConfigError if there is no number."""
    if path is not None:
        if isinstance(path, str) and path in dict(_numbers(recipe)):
            return path
        raise _path_error(recipe, repr(path))
    found = list(_rate_paths(recipe.optimizer, "optimizer"))
    if len(found) != 1:
        raise _path_error(recipe, f"{len(found)} rates {found}" if found else "none")
    return found[0]


def _path_error(recipe: Recipe, got: str) -> ConfigError:
    known = [path for path, _ in _numbers(recipe) if path.startswith("optimizer")]
    if not known:
        expected = "an optimizer whose rate is a number or a schedule of fnn"
        advice = "give one, as in optim.adam(1e-3)"
        return ConfigError("rate_test recipe", expected, recipe.optimizer, advice)
    expected = f"the path of one number, one of {', '.join(known)}"
    return ConfigError("rate_test path", expected, got, "give path=, the rate to replace")


def _rate_paths(value: Any, path: str) -> Iterator[str]:
    """Iterate over the paths of the rates of an optimizer and of those that it wraps."""
    # Parts that are no optimizers have no learning rate.
    if not isinstance(value, Made) or not isinstance(value, Optimizer):
        return
    for key, child in value.by_key():
        inner = f"{path}.{key}"
        if key == "rate":
            yield from _main_number(child, inner)
        else:
            yield from _rate_paths(child, inner)


def _main_number(rate: Any, path: str) -> Iterator[str]:
    """Iterate over the path of the number that scales a rate, if there is one."""
    if not isinstance(rate, Made):
        # An array has no single number to replace.
        if np.shape(rate) == ():
            yield path
        return
    children = dict(rate.by_key())
    # The first one scales the whole schedule.
    for name in MAIN_NUMBERS:
        if name in children:
            yield from _main_number(children[name], f"{path}.{name}")
            return


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the numbers of a value with their paths."""
    for key, child in value.by_key():
        inner = f"{path}.{key}" if path else key
        if isinstance(child, Made):
            yield from _numbers(child, inner)
        elif np.shape(child) == ():
            yield inner, child


def _constant_path(recipe: Recipe, path: str) -> str:
    """Return the path of the outermost schedule around a number, or that of the number."""
    names = path.split(".")
    values = _values(recipe)
    # From the outside, since the test replaces the whole schedule.
    for end in range(1, len(names)):
        outer = ".".join(names[:end])
        # An index within a list is not the path of a value.
        if isinstance(values.get(outer), Schedule):
            return outer
    return path


def _values(value: Any, path: str = "") -> dict[str, Any]:
    """Return all made values within a value, by path."""
    found: dict[str, Any] = {}
    for key, child in value.by_key():
        if isinstance(child, Made):
            inner = f"{path}.{key}" if path else key
            found |= {inner: child} | _values(child, inner)
    return found


def _with_rate(
    recipe: Any,
    path: str,
    rate: float,
) -> Recipe:
    return recipe.replace_at(path, rate)
