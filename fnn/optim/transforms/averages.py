"""Averages of parameters along a run, exponential moving averages, and lookahead.

`ema`, and `swa`, `lawa` and `swag` of snapshots.py, share one mechanism, `collect_params`. They
collect the params after each step with different weights, and leave the steps as they are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.errors import TreeMismatchError
from fnn.optim.per_parameter import wide_copy, wide_zeros, widen
from fnn.optim.schedules.base import as_floats, as_schedule
from fnn.optim.transform import (
    Advance,
    at_least,
    fill_hidden,
    find_states,
    frozen_paths,
    hide,
    leave_frozen_out,
    make_wrapper,
)
from fnn.types import (
    AveragesParams,
    Number,
    Optimizer,
    OptState,
    Params,
    Rate,
    Scalar,
    Schedule,
    Step,
)
from fnn.values import maker


def averaged_params(opt_state: OptState, params: Params) -> Params:
    """Return the parameters to evaluate: the optimizer's average, or the params if it has none.

    The state of the network, such as running means of batch norm, belongs to the params and not to
    their average; `ensemble.refresh_statistics` computes that of the average.

    Args:
        opt_state: The state of an optimizer, such as `ema`, `swa` or `schedule_free_sgd`.
        params: The params after the step that returned this state.

    Raises:
        TreeMismatchError: The params are not those of this state.
    """
    states = find_states(opt_state, AveragesParams)
    return states[0].averaged(params) if states else params


def has_average(opt_state: OptState) -> bool:
    """Whether a part of the state keeps an average, which its structure alone decides."""
    return bool(find_states(opt_state, AveragesParams))


# Collecting params along a run.


class Weighing(NamedTuple):
    """The place of the params after a step among all params that are collected.

    Attributes:
        tally: Numbers on which the weights of later params depend, those of this step included.
        share: Share of these params in an average that ends with them; 0 if it leaves them out.
        is_kept: Whether later averages include them too.
    """

    tally: Any
    share: Scalar
    is_kept: Array


# (tally of the steps before) -> the place of the next params
Weigh = Callable[[Any], Weighing]


class AverageState(NamedTuple):
    """The state of `ema` and `swa`.

    Attributes:
        inner: The state of the optimizer.
        begun: Whether a step has been made.
        mean: The average of the collected params before the last step, in float32 or wider.
        tally: Numbers on which weights depend.
        share: The share of the last params in the average that is shown; 1 before the first step.
    """

    inner: OptState
    begun: Array
    mean: Params
    tally: Any
    share: Scalar

    def include(self, params: Params, share: Scalar) -> "AverageState":
        """The state with these params in the mean; a share of 0 changes nothing."""
        return self._replace(mean=move_mean(self.mean, params, share))

    def averaged(self, params: Params) -> Params:
        """The average with these params as the last; before the first step, the params."""
        return show_average(self, params, self.mean, lambda state: state.mean)


def collect_params(
    name: str,
    optimizer: Optimizer,
    start: Callable[[OptState, Params], Any],
    weigh: Weigh,
) -> Optimizer:
    """Make a transform that collects the params after each step.

    Args:
        name: The name of the transform in errors.
        optimizer: An optimizer, of fnn or of another library.
        start: (state of the optimizer, params) -> the state, as an `AverageState`.
        weigh: The weights.
    """

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> Any:
            return start(inner.init(params), params)

        def transform(
            advance: Advance,
            grads: Params,
            opt_state: Any,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, Any]:
            # A step includes the params that it is given, not those that it
            # returns: outer transforms may still change its updates. The
            # first params are not the result of a step and do not count.
            given = weigh(opt_state.tally)
            share = jnp.where(opt_state.begun & given.is_kept, given.share, 0)
            tally = trees.select(opt_state.begun, given.tally, opt_state.tally)
            included = opt_state.include(params, share)
            changed, inner_state = advance(inner, grads, opt_state.inner, params, **extra)
            new_state = included._replace(
                inner=inner_state,
                begun=jnp.ones((), bool),
                tally=tally,
                # `averaged` is given no numbers, so the next share is computed here.
                share=weigh(tally).share,
            )
            return changed, new_state

        return make_wrapper(init, transform)

    return leave_frozen_out(name, wrap, optimizer)


def move_mean(mean: Params, params: Params, share: Scalar) -> Params:
    """Move the mean to the params by their share; a normalized mean stays normalized."""

    def one(mean: Array, p: Array) -> Array:
        way = jnp.asarray(p, mean.dtype) - mean
        # Params that do not count may be infinite.
        return jnp.where(share > 0, mean + share.astype(mean.dtype) * way, mean)

    return jax.tree.map(one, mean, params)


def show_average(
    state: Any,
    params: Params,
    like: Params,
    read: Callable[[Any], Params],
) -> Params:
    """Return read(state with these params as the last) in the dtypes of the params."""
    visible = hide(params, frozen_paths(state.inner))
    expect_shapes("averaged_params params", visible, like)
    found = read(state.include(visible, state.share))
    # The mean is wider, so that small shares are not lost in it.
    found = jax.tree.map(lambda mean, p: mean.astype(jnp.result_type(p)), found, visible)
    return fill_hidden(found, params)


def expect_shapes(where: str, params: Params, like: Params) -> None:
    """Raise TreeMismatchError unless the params have the structure and the shapes of a tree."""
    leaves, structure = jax.tree.flatten(params)
    wanted: Any = jax.tree.structure(like)
    if structure == wanted and all(map(_have_one_shape, leaves, jax.tree.leaves(like))):
        return
    got_shapes = {path: jnp.shape(leaf) for path, leaf in trees.named_leaves(params).items()}
    shapes = {path: jnp.shape(leaf) for path, leaf in trees.named_leaves(like).items()}
    # Either tree may have leaves that the other one lacks.
    differ = [path for path in {**shapes, **got_shapes} if shapes.get(path) != got_shapes.get(path)]
    path = differ[0] if differ else ""
    raise TreeMismatchError(
        f"{where} {path}".rstrip(),
        f"the shape {shapes[path]}" if path in shapes else "no such leaf",
        f"the shape {got_shapes[path]}" if path in got_shapes else "no such leaf",
        "give the params of the run that this optimizer state is of",
    )


def _have_one_shape(a: Any, b: Any) -> bool:
    return bool(jnp.shape(a) == jnp.shape(b))


# Exponential moving average.


@maker
def ema(optimizer: Optimizer, decay: Rate = 0.999, *, debias: bool = True) -> Optimizer:
    """Exponential moving average of the parameters, for evaluation; steps stay as they are.

    a <- decay a + (1 - decay) θ after each step, from 0. The average is a / (1 - decayᵗ).
    `averaged_params` reads it, and `train.run` validates with it. The statistics of batch norm are
    still those of the last θ; `ensemble.refresh_statistics` computes those of the average [Polyak &
    Juditsky 1992; Kingma & Ba 2015, sec. 7.2].

        optim.ema(optimizer, optim.ema_warmup(0.9999))  # a short average at first, as in timm

    Args:
        optimizer: An optimizer, of fnn or of another library.
        decay: A number in [0, 1): the average spans about 1 / (1 - decay) steps. Or a schedule of
            such numbers, such as `ema_warmup`, by the number of params in the average so far.
        debias: Whether to divide a by the sum of its weights, 1 - decayᵗ. If False, a begins at the
            first θ and is the average, as in torch.

    Raises:
        ConfigError: `decay` is out of range, or `optimizer` is not an optimizer.
    """
    checks.flag("ema debias", debias)
    is_schedule = callable(decay)
    if not is_schedule:
        checks.number("ema decay", decay, "[0, 1)")
    schedule = as_schedule("ema", decay)

    def start(inner_state: OptState, params: Params) -> AverageState:
        floats = jnp.result_type(float)
        # A weight of 1 stays 1: then the mean is the plain recursion from the first params.
        weight = jnp.full((), 0.0 if debias else 1.0, floats)
        return AverageState(
            inner=inner_state,
            begun=jnp.zeros((), bool),
            mean=wide_zeros(params) if debias else wide_copy(params),
            tally=(weight, jnp.zeros((), jnp.int32)) if is_schedule else (weight,),
            share=jnp.ones((), floats),
        )

    def weigh(tally: Any) -> Weighing:
        weight, *counts = tally
        now = jnp.asarray(schedule(*counts) if is_schedule else decay, weight.dtype)
        # The sum of the weights of all params; 1 - decay^t if the decay is constant.
        total = now * weight + (1 - now)
        next_tally = (total, *(count + 1 for count in counts))
        # Divided by the sum, the mean is normalized after every step.
        return Weighing(next_tally, (1 - now) / total, jnp.array(True))

    return collect_params("ema", optimizer, start, weigh)


@maker
def ema_warmup(decay: Number = 0.9999, *, gamma: Number = 1.0, power: Number = 2 / 3) -> Schedule:
    """Decay of an exponential moving average with a warm-up, for the `decay` of `ema`.

    d(t) = min(1 - (1 + t / gamma)^-power, decay), where t counts the params in the average so far.
    The first params are copied, since d(0) = 0. A power of 1 gives the plain mean. With a power of
    2/3, d reaches 0.999 after 31,622 steps and 0.9999 after 10⁶; with 3/4 after 10,000 and 215,443
    [timm, ModelEmaV3].

    Args:
        decay: The largest decay, in [0, 1).
        gamma: Steps after which the average begins to be longer, > 0.
        power: Exponent of the warm-up, > 0; 2/3 for runs of 10⁶ steps, 3/4 for shorter ones.

    Raises:
        ConfigError: A number is out of range.
    """
    checks.number("ema_warmup decay", decay, "[0, 1)")
    checks.number("ema_warmup gamma", gamma, "(0, inf)")
    checks.number("ema_warmup power", power, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        t, largest, unit, exponent = as_floats(step, decay, gamma, power)
        share = (1 + t / unit) ** -exponent
        return jnp.minimum(1 - share, largest)

    return Schedule(schedule)


# Lookahead.


class LookaheadState(NamedTuple):
    """The state of `lookahead`.

    Attributes:
        inner: The state of the optimizer.
        slow: The slow parameters φ, a pytree like params.
        counted: The number of steps since they last moved.
    """

    inner: OptState
    slow: Params
    counted: Step

    def averaged(self, params: Params) -> Params:
        """The slow parameters, which the paper evaluates."""
        return fill_hidden(self.slow, params)


@maker
def lookahead(optimizer: Optimizer, *, steps: Number = 5, share: Number = 0.5) -> Optimizer:
    """Lookahead: after a number of steps, go back to a point on the line from the last such point.

    φ <- φ + share (θ - φ), θ <- φ after every `steps` steps; φ begins at θ. The state of the
    optimizer is kept. `averaged_params` reads φ, and `train.run` validates with it [Zhang et al.
    2019, arXiv:1907.08610].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        steps: Steps of the optimizer between two moves of φ, >= 1; the paper's value.
        share: Share of the way that φ moves, in [0, 1]; the
            paper's value. 1 is the optimizer alone.

    Raises:
        ConfigError: A number is out of range, or `optimizer` is not an optimizer.
    """
    checks.number("lookahead steps", steps, "[1, inf)")
    checks.number("lookahead share", share, "[0, 1]")

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> LookaheadState:
            # A copy, since the params may be donated.
            slow = jax.tree.map(jnp.array, params)
            return LookaheadState(
                inner=inner.init(params),
                slow=slow,
                counted=jnp.zeros((), jnp.int32),
            )

        def update(
            grads: Params,
            opt_state: LookaheadState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, LookaheadState]:
            updates, inner_state = inner.update(grads, opt_state.inner, params, **extra)
            count = opt_state.counted + 1
            due = at_least(count, steps)

            def one(slow: Array, p: Array, u: Array) -> Array:
                wide_slow = widen(slow)
                wide_p = widen(p)
                # From φ to the params after the step of the optimizer.
                way = wide_p + widen(u) - wide_slow
                target = wide_slow + trees.knob(share, wide_slow) * way
                # An optimizer returns updates, so the target is given as one.
                return jnp.where(due, (target - wide_p).astype(u.dtype), u)

            updates = jax.tree.map(one, opt_state.slow, params, updates)
            # p + u and not `target`: φ must equal the new params to the last bit.
            new_params = jax.tree.map(jnp.add, params, updates)
            slow = trees.select(due, new_params, opt_state.slow)
            return updates, LookaheadState(inner_state, slow, jnp.where(due, 0, count))

        return Optimizer(init, update)

    return leave_frozen_out("lookahead", wrap, optimizer)
