"""The keys of a run, by purpose and position, so that any moment of it can be asked for."""

import jax

from fnn.types import RandomKey, Step, TrainState

# What a run's key is folded with, one number a purpose.
INIT, ORDER, AUGMENT, NOISE = range(4)


def own_key(train_state: TrainState, purpose: int, number: Step) -> RandomKey:
    """The key for a purpose at a step or an epoch."""
    return jax.random.fold_in(jax.random.fold_in(train_state.key, purpose), number)
