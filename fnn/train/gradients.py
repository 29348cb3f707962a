"""What a step makes smaller, and its gradient: of a batch at once, or of parts of it, one after another."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import optim, trees
from fnn.train.figures import LOSS
from fnn.train.inputs import NOISE, own_key
from fnn.train.measure import count_examples, mean, measure_examples, reduce_examples
from fnn.train.recipe import Recipe
from fnn.types import PENALTY, Params, PerExample, RandomKey, Scalar, State, TrainState, Weighted

LEAST = 1e-19  # what a part of which nothing counts weighs, so that penalties stand where no part has anything else


class Seen(NamedTuple):
    """What the network made of examples.

    looks:   what the loss and each metric see of them, by name
    penalty: the sum of all penalties, None where there are none
    state:   the network's next one
    """

    looks: dict[str, Any]
    penalty: Scalar | None
    state: State


# (state, key, inputs, targets) -> (what is averaged over parts, what was seen)
OfPart = Callable[[State, RandomKey, Any, Any], tuple[Any, Seen]]


def gradients(
    recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any
) -> tuple[dict[str, Scalar], Params, State]:
    """The loss and metrics of a batch, the gradient for the optimizer by the params, and the network's next state."""

    def of_part(state: State, key: RandomKey, inputs: Any, targets: Any) -> tuple[Params, Seen]:
        def lifted(params: Params) -> tuple[Scalar, Seen]:
            value, seen = _value(recipe, params, state, key, inputs, targets)
            return optim.scale_loss(train_state.opt_state, value), seen

        (_, seen), grads = jax.value_and_grad(lifted, has_aux=True)(train_state.params)
        return grads, seen

    grads, seen = _over_parts(of_part, recipe, train_state, inputs, targets)
    penalty = {} if seen.penalty is None else {PENALTY: seen.penalty}
    return reduce_examples(recipe, seen.looks) | penalty, grads, seen.state


def objective(
    recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any
) -> Callable[[Params], Scalar]:
    """What this step makes smaller, as a function of the params."""
    return lambda params: _over_parts(
        partial(_value, recipe, params), recipe, train_state, inputs, targets
    )[0]


def minimized(measured: dict[str, Scalar]) -> dict[str, Scalar]:
    """Of what was measured, what is made smaller: the loss and, where there is any, the penalty."""
    return {name: measured[name] for name in (LOSS, PENALTY) if name in measured}


def _value(
    recipe: Recipe, params: Params, state: State, key: RandomKey, inputs: Any, targets: Any
) -> tuple[Scalar, Seen]:
    outputs, state = recipe.network.apply(params, state, inputs, key=key, train=True)
    looks, penalties = measure_examples(recipe, outputs, targets), _penalties(recipe, params, state)
    penalty = jnp.stack(penalties).sum() if penalties else None
    return mean(looks[LOSS]) + (0 if penalty is None else penalty), Seen(looks, penalty, state)


def _penalties(recipe: Recipe, params: Params, state: State) -> list[Scalar]:
    by_params = [] if recipe.regularizer is None else [recipe.regularizer(params)]
    by_layers = [
        leaf.sum()
        for path, leaf in trees.named_leaves(state).items()
        if path.split("/")[-1] == PENALTY
    ]
    return by_params + by_layers


def _over_parts(
    function: OfPart, recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any
) -> tuple[Any, Seen]:
    """The function's mean over equal parts of a batch, each of which counts as its targets do, and all that was seen.

    The state goes from part to part. What differentiates this works a part out again, so that it too keeps only one.
    """
    key, examples = own_key(train_state, NOISE, train_state.step), count_examples(targets)
    parts = _count(examples, recipe.micro_batch_size)
    if parts == 1:
        return function(train_state.state, key, inputs, targets)

    def of_part(state: State, part: Any) -> tuple[Any, Seen]:
        number, *own = part
        averaged, seen = function(state, jax.random.fold_in(key, number), *own)
        return (_weight(seen.looks[LOSS]), (averaged, seen.penalty)), seen

    def add(carry: Any, part: Any) -> tuple[Any, dict[str, Any]]:
        state, (weight, sums) = carry
        (more, averaged), seen = of_part(state, part)
        sums = jax.tree.map(
            lambda sum, own: sum + more.astype(sum.dtype) * own.astype(sum.dtype), sums, averaged
        )
        return (seen.state, (weight + more, sums)), seen.looks

    split = jnp.arange(parts), *jax.tree.map(partial(_cut, parts), (inputs, targets))
    like, _ = jax.eval_shape(of_part, train_state.state, jax.tree.map(lambda a: a[0], split))
    none = jax.tree.map(lambda a: jnp.zeros_like(a, trees.wide(a)), like)
    (state, (weight, sums)), looks = jax.lax.scan(
        jax.checkpoint(add, prevent_cse=False), (train_state.state, none), split
    )
    averaged, penalty = jax.tree.map(
        lambda a, sum: (sum / weight.astype(sum.dtype)).astype(a.dtype), like[1], sums
    )
    return averaged, Seen(jax.tree.map(_joined, looks), penalty, state)


def _count(examples: int, most: int | None) -> int:
    """The fewest equal parts of which none has more examples than that."""
    if most is None:
        return 1
    return next(
        parts
        for parts in range(1, examples + 1)
        if examples % parts == 0 and examples <= most * parts
    )


def _cut(parts: int, array: jax.Array) -> jax.Array:
    """(parts, examples, ...), each part of every n-th example: of a batch over devices, each has some of every part."""
    return array.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)


def _joined(array: jax.Array) -> jax.Array:
    """What was cut, in its order."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


def _weight(seen: PerExample | Weighted) -> Scalar:
    """How much a part counts in the mean over the batch."""
    if isinstance(seen, Weighted):
        return seen.weights.astype(trees.wide(seen.weights)).sum() + LEAST
    return jnp.ones((), trees.wide(seen))
