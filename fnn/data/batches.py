"""In which order the examples are seen."""

import jax

from fnn.data.shuffling import shuffled
from fnn.types import RandomKey


def batches(key: RandomKey, epoch: jax.Array | int, *, examples: int, batch_size: int) -> jax.Array:
    """The example numbers of each batch of an epoch, (examples // batch_size, batch_size).

    A permutation by fold_in(key, epoch): every epoch has its own order, and it can be asked for again without replaying
    those before it. The examples left over sit this epoch out.
    """
    steps = examples // batch_size
    order = shuffled(jax.random.fold_in(key, epoch), examples)
    return order[: steps * batch_size].reshape(steps, batch_size)
