"""From any step of a run to any other, as one program."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.train.epoch import Measures, learn, order_of
from fnn.train.evaluate import observed, validate
from fnn.train.figures import FINITE
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.types import Data, Step, TrainState

ROOM = 1024  # steps of short epochs that are one call


class Reached(NamedTuple):
    """How far a run has got since it set out.

    train_state: where it stands, having taken note of validation if that is between epochs
    order:       of the examples of the epoch that it stands in, (steps, batch)
    measured:    by each step since, at its place, (most_steps, ...)
    validated:   the figures of each epoch that ended since, at its place, (ends, ...)
    goes_on:     whether there is more to do
    """

    train_state: TrainState
    order: jax.Array
    measured: Measures
    validated: Measures
    goes_on: jax.Array


def most_steps(length: int) -> int:
    """How many steps one call of `advance` has room to note, where an epoch has this length."""
    return max(length, ROOM)


@per_recipe(static=(6,))
def advance(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    order: jax.Array,
    stop: Step | np.integer,
    valid: Data | None,
    batch_size: int,
) -> Reached:
    """The steps up to `stop`, with validation where an epoch ends, from within the epoch of this order.

    The same program, whatever the number of steps and epochs; what the first `most_steps` measure is noted. It ends
    before where early stopping does, or after a step that was not finite with on_nonfinite="raise". Without a step it
    validates where it stands, if that is between epochs, and nothing takes note of it.
    """
    length, first = len(order), train_state.step

    def step(reached: Reached) -> Reached:
        now, place = jnp.divmod(reached.train_state.step, length)
        after, measured = learn(recipe, reached.train_state, data, now, reached.order[place])
        noted = _noted(reached.measured, reached.train_state.step - first, measured)
        goes_on = measured[FINITE] | (recipe.on_nonfinite != "raise")
        return reached._replace(train_state=after, measured=noted, goes_on=goes_on)

    def end(reached: Reached) -> Reached:
        now = reached.train_state.step // length
        figures = validate(recipe, reached.train_state, valid, batch_size)
        is_new = reached.train_state.step > first
        after = jax.lax.cond(
            is_new, partial(observed, recipe), lambda now, _: now, reached.train_state, figures
        )
        noted = _noted(reached.validated, jnp.maximum(now - first // length - 1, 0), figures)
        following = order_of(after.key, now, count_examples(data), order.shape[1])
        return reached._replace(train_state=after, order=following, validated=noted)

    def epoch(reached: Reached) -> Reached:
        """The steps that are left of one, and its end if it is reached."""
        goal = jnp.minimum(stop, (reached.train_state.step // length + 1) * length)
        goal = jnp.where(recipe.is_over(reached.train_state), 0, goal)
        reached = jax.lax.while_loop(
            lambda now: now.goes_on & (now.train_state.step < goal), step, reached
        )
        reached = jax.lax.cond(
            reached.train_state.step % length == 0, end, lambda reached: reached, reached
        )
        is_there = (reached.train_state.step >= stop) | recipe.is_over(reached.train_state)
        return reached._replace(goes_on=reached.goes_on & ~is_there)

    measured = jax.eval_shape(lambda: learn(recipe, train_state, data, first, order[0])[1])
    figures = jax.eval_shape(lambda: validate(recipe, train_state, valid, batch_size))
    room = _room(measured, most_steps(length)), _room(figures, -(-most_steps(length) // length))
    begin = Reached(train_state, order, *room, goes_on=jnp.array(True))
    return jax.lax.while_loop(lambda reached: reached.goes_on, epoch, begin)


def _room(shapes: Any, places: int) -> Measures:
    return jax.tree.map(lambda shape: jnp.zeros((places, *shape.shape), shape.dtype), shapes)


def _noted(records: Measures, place: Step, figures: Measures) -> Measures:
    return {
        name: record.at[place].set(figures[name], mode="drop") for name, record in records.items()
    }
