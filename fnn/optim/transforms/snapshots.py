"""Averages of snapshots of the parameters along a run: SWA, LAWA, SWAG."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.optim.per_parameter import wide_zeros, widen
from fnn.optim.schedules.base import since
from fnn.optim.transform import at_least, frozen_paths, hide
from fnn.optim.transforms.averages import (
    AverageState,
    Weigh,
    Weighing,
    collect_params,
    expect_shapes,
    move_mean,
    show_average,
)
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class SnapshotTally(NamedTuple):
    """Counts of steps and snapshots.

    Attributes:
        step: Number of steps made.
        waited: Number of steps since the last snapshot.
        taken: Number of snapshots.
    """

    step: Step
    waited: Step
    taken: Step


def _no_snapshots() -> SnapshotTally:
    # Three arrays, since JAX donates no buffer twice.
    return SnapshotTally(*(jnp.zeros((), jnp.int32) for _ in range(3)))


def _weigh_snapshots(start: Number, every: Number) -> Weigh:
    """Give snapshots equal weights: the first at step `start`, then one after `every` steps."""

    def weigh(tally: SnapshotTally) -> Weighing:
        step = tally.step + 1
        waited = tally.waited + 1
        # With start = 0 the first params would be the first snapshot, but no step has made them.
        is_first = (since(step, start) >= 0) & (since(tally.step, start) < 0)
        is_due = is_first | ((since(step, start) >= 0) & at_least(waited, every))
        taken = tally.taken + jnp.where(is_due, 1, 0)
        # Before the first snapshot, the last params are shown.
        is_shown = is_due | (taken == 0)
        # It divides, so that it is 1 before the first snapshot.
        count = jnp.maximum(taken, 1).astype(jnp.result_type(float))
        # A mean of n snapshots has a share of 1 / n of the last one.
        share = jnp.where(is_shown, 1 / count, 0)
        return Weighing(SnapshotTally(step, jnp.where(is_due, 0, waited), taken), share, is_due)

    return weigh


def _expect_snapshots(name: str, start: Number, every: Number) -> None:
    checks.number(f"{name} start", start, "[0, inf)")
    checks.number(f"{name} every", every, "[1, inf)")


@maker
def swa(optimizer: Optimizer, *, start: Number = 0, every: Number = 1) -> Optimizer:
    """Stochastic weight averaging: the mean of the parameters at some steps, for evaluation.

    a <- a + (θ - a) / n at step `start` and after every `every` further steps, where n counts them.
    Steps stay as they are. Before the first snapshot the average is the last θ. With every=1 it is
    the average of Polyak and Ruppert. Refresh the statistics of batch norm afterwards by
    `ensemble.refresh_statistics`; `swa_schedule` is the schedule of the paper [Izmailov et al.
    2018, arXiv:1803.05407; Polyak & Juditsky 1992].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        start: Step after which the first snapshot is taken, >= 0. With 0 it is the step `every`.
        every: Steps from one snapshot to the next, >= 1; in the paper those of an epoch.

    Raises:
        ConfigError: A number is out of range, or `optimizer` is not an optimizer.
    """
    _expect_snapshots("swa", start, every)

    def begin(inner_state: OptState, params: Params) -> AverageState:
        return AverageState(
            inner=inner_state,
            begun=jnp.zeros((), bool),
            mean=wide_zeros(params),
            tally=_no_snapshots(),
            # Before the first step, the average is the params.
            share=jnp.ones((), jnp.result_type(float)),
        )

    return collect_params("swa", optimizer, begin, _weigh_snapshots(start, every))


class LawaState(NamedTuple):
    """The state of `lawa`.

    Attributes:
        inner: The state of the optimizer.
        begun: Whether a step has been made.
        latest: The latest snapshots in a ring, (window, ...) for each leaf, 0 where there is none.
        tally: Counts of steps and snapshots.
        share: Greater than 0 if the average that is shown includes the last params.
    """

    inner: OptState
    begun: Array
    latest: Params
    tally: SnapshotTally
    share: Scalar

    def include(self, params: Params, share: Scalar) -> "LawaState":
        """The state with these params as the latest snapshot; a share of 0 changes nothing."""
        return self._replace(latest=_put(self.latest, self.tally.taken, params, share > 0))

    def averaged(self, params: Params) -> Params:
        """The mean of the latest snapshots; before the first of them, the params."""
        # The shapes of one snapshot.
        like = jax.tree.map(lambda ring: ring[0], self.latest)
        # The params that are given count if they have a share.
        taken = self.tally.taken + jnp.where(self.share > 0, 1, 0)

        def mean(ring: Array) -> Array:
            # Until the ring is full, it has fewer snapshots.
            count = jnp.clip(taken, 1, len(ring))
            is_filled = jnp.arange(len(ring), dtype=count.dtype) < count
            # (window, 1, ..., 1)
            is_filled = is_filled.reshape(-1, *(1,) * (ring.ndim - 1))
            # Distances from one snapshot: the mean of equal ones is exact.
            distances = jnp.where(is_filled, ring - ring[:1], 0)
            return ring[0] + distances.sum(0) / count.astype(ring.dtype)

        return show_average(self, params, like, lambda state: jax.tree.map(mean, state.latest))


def _put(
    ring: Params,
    taken: Step,
    params: Params,
    is_put: Array,
) -> Params:
    """Write params into a ring of arrays (size, ...), in place of the oldest ones."""

    def one(ring: Array, p: Array) -> Array:
        # Of a full ring, the oldest snapshot.
        place = taken % len(ring)
        row = jnp.where(is_put, jnp.asarray(p, ring.dtype), ring[place])
        # A single row is written, whatever the size of the ring.
        return jax.lax.dynamic_update_index_in_dim(ring, row, place, 0)

    return jax.tree.map(one, ring, params)


def _empty_ring(params: Params, size: int) -> Params:
    def one(p: Array) -> Array:
        wide = widen(p)
        return jnp.zeros((size, *wide.shape), wide.dtype)

    return jax.tree.map(one, params)


@maker
def lawa(optimizer: Optimizer, *, every: Number, window: int = 6) -> Optimizer:
    """Latest weight averaging: the mean of the last snapshots of the parameters, for evaluation.

    A snapshot is taken after every `every` steps. Steps stay as they are. Before the first
    snapshot the average is the last θ. The memory is that of `window` copies of the params
    [Kaddour 2022, arXiv:2209.14981].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        every: Steps from one snapshot to the next, >= 1; in the paper those of an epoch.
        window: Number of snapshots in the mean, >= 1; fewer until there are as many.

    Raises:
        ConfigError: A number is out of range, or `optimizer` is not an optimizer.
    """
    _expect_snapshots("lawa", 0, every)
    checks.whole("lawa window", window)

    def begin(inner_state: OptState, params: Params) -> LawaState:
        return LawaState(
            inner=inner_state,
            begun=jnp.zeros((), bool),
            latest=_empty_ring(params, window),
            tally=_no_snapshots(),
            share=jnp.ones((), jnp.result_type(float)),
        )

    return collect_params("lawa", optimizer, begin, _weigh_snapshots(0, every))


class Posterior(NamedTuple):
    """A Gaussian distribution of parameters, N(mean, (diag(var) + D Dᵀ / (k - 1)) / 2).

    Attributes:
        mean: The mean of all snapshots.
        var: The biased variance of all snapshots for each parameter.
        deviations: The columns of D, (rank, ...) for each leaf, 0 where there is none.
        taken: Number of snapshots, int32, or 1 before the first; D has k = min(taken, rank)
            columns.
    """

    mean: Params
    var: Params
    deviations: Params
    taken: Step


class SwagState(NamedTuple):
    """The state of `swag`.

    Attributes:
        inner: The state of the optimizer.
        begun: Whether a step has been made.
        mean: The mean of the snapshots, in float32 or wider.
        var: The biased variance of the snapshots.
        deviations: The latest snapshots minus the mean up to each, in a ring (rank, ...).
        tally: Counts of steps and snapshots.
        share: The share of the last params in the mean that is shown.
    """

    inner: OptState
    begun: Array
    mean: Params
    var: Params
    deviations: Params
    tally: SnapshotTally
    share: Scalar

    def include(self, params: Params, share: Scalar) -> "SwagState":
        """The state with these params as a snapshot; a share of 0 changes nothing."""

        def move_var(var: Array, mean: Array, p: Array) -> Array:
            way = jnp.asarray(p, mean.dtype) - mean
            part = share.astype(mean.dtype)
            # The variance after the mean has moved by a part of the way.
            # A difference of second moments would lose most digits in float32.
            moved = (1 - part) * (var + part * jnp.square(way))
            return jnp.where(share > 0, moved, var)

        mean = move_mean(self.mean, params, share)
        # From the mean with this snapshot, as in Algorithm 1.
        way = jax.tree.map(lambda p, m: jnp.asarray(p, m.dtype) - m, params, mean)
        return self._replace(
            mean=mean,
            var=jax.tree.map(move_var, self.var, self.mean, params),
            deviations=_put(self.deviations, self.tally.taken, way, share > 0),
        )

    def averaged(self, params: Params) -> Params:
        """The mean of the snapshots, as of `swa`; before the first of them, the params."""
        return show_average(self, params, self.mean, lambda state: state.mean)

    def posterior(self, params: Params) -> Posterior:
        """The distribution of all snapshots, with these params as those after the last step.

        Frozen parameters have no part in it: their leaves are None.
        """
        # The state lacks frozen parameters.
        visible = hide(params, frozen_paths(self.inner))
        expect_shapes("swag params", visible, self.mean)
        state = self.include(visible, self.share)
        taken = self.tally.taken + jnp.where(self.share > 0, 1, 0)
        return Posterior(state.mean, state.var, state.deviations, taken)


@maker
def swag(
    optimizer: Optimizer, *, start: Number = 0, every: Number = 1, rank: int = 20
) -> Optimizer:
    """SWA-Gaussian: the mean and a low-rank covariance of the parameters at some steps.

    It collects the mean, the variance of each parameter, and the last `rank` deviations θ - mean,
    with the mean up to that snapshot. Steps stay as they are. The average is that of `swa`, and
    `ensemble.sample_swag` draws networks from the Gaussian. The memory is that of rank + 2 copies
    of the params [Maddox et al. 2019, arXiv:1902.02476].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        start: Step after which the first snapshot is taken, >= 0. With 0 it is the step `every`.
        every: Steps from one snapshot to the next, >= 1; in the paper those of an epoch.
        rank: Number of deviations that are kept, >= 2; the paper's value.

    Raises:
        ConfigError: A number is out of range, or `optimizer` is not an optimizer.
    """
    _expect_snapshots("swag", start, every)
    checks.whole("swag rank", rank, 2)

    def begin(inner_state: OptState, params: Params) -> SwagState:
        return SwagState(
            inner=inner_state,
            begun=jnp.zeros((), bool),
            mean=wide_zeros(params),
            var=wide_zeros(params),
            deviations=_empty_ring(params, rank),
            tally=_no_snapshots(),
            share=jnp.ones((), jnp.result_type(float)),
        )

    return collect_params("swag", optimizer, begin, _weigh_snapshots(start, every))
