"""Statistics of batch norm for weights that no training step has used, such as averages."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.data.batches import permutation
from fnn.ensemble.members import Members, expect_members
from fnn.nn import batch_norm
from fnn.nn.core.composite import map_parts
from fnn.train.evaluate import weights as weights_of
from fnn.train.gradients import count_micro_batches
from fnn.train.inputs import NOISE, ORDER, derive_key, take_examples, validate_examples
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import prepare_batch
from fnn.types import Data, Layer, Params, RandomKey, Shape, State, TrainState, Weights
from fnn.values import Made

# In the state of a batch norm: the means over batches. No keyword argument has this name, so that a
# part called batches is a part like any other.
BATCHES = "(batches)"
COUNT = "count"  # of examples in these means


def refresh_statistics(
    key: RandomKey,
    recipe: Recipe,
    weights: TrainState | Weights,
    data: Data,
    *,
    batch_size: int,
) -> Weights:
    """Compute the statistics of batch norm for averaged weights, by one pass over training data.

        weights = ensemble.refresh_statistics(key, recipe, train_state, data, batch_size=128)
        train.evaluate(recipe, weights, test)

    The running mean and variance of a run are those of its last parameters. An average of
    parameters, a soup and a sample need their own. The network is applied to all examples in
    training mode, with the recipe's augmentation. A statistic is the mean of those of the batches,
    weighted by their sizes: Σ b mean_b / Σ b, and Σ b var_b / Σ b with the unbiased variance within
    each batch, as the running statistics of training [Izmailov et al. 2018, arXiv:1803.05407].
    Neither the parameters nor the run change.

    Other state, such as the singular vectors of `nn.spectral_norm`, is that after the pass. A
    network without state is returned as it is. Layers in `nn.inference` keep their statistics.

    Args:
        key: Key of the order of examples, of augmentation and of noise.
        recipe: From `train.recipe`. It needs no optimizer.
        weights: `Weights`; or a train state, whose parameters are averaged where the optimizer
            keeps an average.
        data: (inputs, targets), the training data.
        batch_size: Examples per batch, best that of training; with the `micro_batch_size` of the
            recipe, batches are micro-batches. The last batch has the remainder, and a remainder of
            one example joins the batch before it.

    Returns:
        The weights for inference, with the new state.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    checks.key("refresh_statistics key", key)
    expect_recipe("refresh_statistics", recipe, trains=False)
    given = weights_of(recipe, weights)
    checks.whole("refresh_statistics batch_size", batch_size)
    data = validate_examples("data", recipe, data)
    # A pass over the data would change nothing.
    if not jax.tree.leaves(given.state):
        return given
    return Weights(
        given.params,
        pass_state(
            recipe,
            given,
            data,
            key,
            batch_size,
        ),
    )


def refresh_members(
    key: RandomKey,
    members: Members,
    data: Data,
    *,
    batch_size: int,
) -> Members:
    """Compute the statistics of batch norm of each member, as `refresh_statistics` does.

    All members get the same examples in the same order, with the same augmentation and noise.

    Args:
        key: Key of the order of examples, of augmentation and of noise.
        members: From `ensemble.collect` or `sample_swag`.
        data: (inputs, targets), the training data.
        batch_size: Examples per batch, as for `refresh_statistics`.

    Returns:
        The members with the new state.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit a recipe, as for `train.run`.
    """
    checks.key("refresh_members key", key)
    expect_members("refresh_members", members)
    checks.whole("refresh_members batch_size", batch_size)
    parts = []
    for part in members.parts:
        # The recipes of a part differ in numbers alone, so the first one checks the data for all.
        recipe = part.recipe_of(0)
        data = validate_examples("data", recipe, data)
        weights = part.weights
        if jax.tree.leaves(weights.state):
            # The numbers of each recipe, (members, ...); None if all have the same.
            leaves = jax.tree.leaves(part.recipe) if part.is_stacked else None
            state = _pass_states(
                recipe,
                leaves,
                weights,
                data,
                key,
                batch_size,
            )
            weights = Weights(weights.params, state)
        parts.append(replace(part, weights=weights))
    return Members(tuple(parts))


@per_recipe(static=(5,))
def _pass_states(
    recipe: Recipe,
    leaves: list[Any] | None,
    weights: Weights,
    data: Data,
    key: RandomKey,
    batch_size: int,
) -> State:
    """Return the stacked state of members; `leaves` are the stacked numbers of their recipes."""

    def pass_one(own: tuple[list[Any] | None, Weights]) -> State:
        own_leaves, given = own
        one = recipe
        if own_leaves is not None:
            # The structure is common to the part, the numbers are those of this member.
            one = jax.tree.unflatten(jax.tree.structure(recipe), own_leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = one.built
        return pass_state(
            one,
            given,
            data,
            key,
            batch_size,
        )

    # As for predictions: members one after another share the memory of temporary values.
    if jax.default_backend() == "cpu":
        return jax.lax.map(pass_one, (leaves, weights))
    return jax.vmap(pass_one)((leaves, weights))


@per_recipe(static=(4,))
def pass_state(
    recipe: Recipe,
    given: Weights,
    data: Data,
    key: RandomKey,
    batch_size: int,
) -> State:
    """Return the state after one pass over the data in training mode.

    Args:
        recipe: From `train.recipe`.
        given: The weights.
        data: Validated (inputs, targets).
        key: As for `refresh_statistics`.
        batch_size: Examples per batch.
    """
    network = _average_batches(recipe.network)
    # Keys are derived as in a run with this key, whose first epoch this pass is.
    run = TrainState(
        (),
        (),
        (),
        jnp.zeros((), jnp.int32),
        key,
    )
    examples = count_examples(data)
    order = permutation(derive_key(run, ORDER, 0), examples)  # (examples,)

    def apply(state: State, index: Any, rows: jax.Array) -> State:
        inputs, targets = take_examples(data, rows)
        # Augmented as in training, by the index of the example. No loss needs the targets.
        inputs, _ = prepare_batch(
            recipe,
            run,
            0,
            inputs,
            targets,
            rows,
        )
        # Dropout is on: it changes the statistics of the layers behind it.
        noise = derive_key(run, NOISE, index)
        _, state = network.apply(
            given.params,
            state,
            inputs,
            key=noise,
            train=True,
        )
        return state

    # In training the statistics are those of micro-batches.
    size = batch_size // count_micro_batches(batch_size, recipe.micro_batch_size)
    full, rest = _split_examples(examples, size)
    # (full * size,) -> (full, size)
    rows = order[: full * size].reshape(full, size)
    # Fewer examples than a batch are one batch.
    first = rows[0] if full else order
    # A scan carries one structure, so the means that `apply` adds exist before it.
    state = _with_sums(given.state, jax.eval_shape(apply, given.state, 0, first))

    def one(state: State, batch: tuple[Any, jax.Array]) -> tuple[State, None]:
        return apply(state, *batch), None

    state, _ = jax.lax.scan(one, state, (jnp.arange(full), rows))
    if rest:
        # Outside of the scan, since its length differs.
        state = apply(state, full, order[full * size :])
    return _without_sums(given.state, state)


def _split_examples(examples: int, size: int) -> tuple[int, int]:
    """Return the number of full batches, and the number of examples of the batch after them."""
    full, rest = divmod(examples, size)
    if rest == 1 and full:
        # A single example may have no variance.
        return full - 1, size + 1
    return full, rest


def _average_batches(layer: Layer) -> Layer:
    """Make every batch norm of a network average the statistics of its batches in training."""
    if isinstance(layer, Made) and layer.maker is batch_norm:
        return _averaging(layer)
    if layer.parts:
        return map_parts(layer, lambda name, part: _average_batches(part))
    if not isinstance(layer, Made):
        return layer
    # A wrapper of one layer, such as `freeze`, has no parts if that layer has none.
    inner = {name: part for name, part in layer.arguments.items() if isinstance(part, Layer)}
    changed = {name: _average_batches(part) for name, part in inner.items()}
    if any(changed[name] is not part for name, part in inner.items()):
        return layer.replace(**changed)
    # A maker of a user may return the layer of another one.
    returned: Any = layer.built
    is_made = isinstance(returned, Made)
    return _average_batches(returned) if is_made else layer


def _averaging(norm: Any) -> Layer:
    """Make a batch norm that averages the statistics of its batches.

    Its own statistics stay as they are, since a layer in inference mode uses them.
    """
    # The new statistics are those of the batch alone.
    measure = norm.replace(momentum=0.0)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return norm.init(key, shape)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool,
    ) -> tuple[Any, State]:
        # The statistics in use, without the means over batches.
        own = {name: leaf for name, leaf in state.items() if name != BATCHES}
        if not train:
            y, _ = norm.apply(params, own, x, train=False)
            return y, state
        zeros = jax.tree.map(jnp.zeros_like, own)
        # The first batch finds no means, and begins with those of 0 examples.
        sums = state.get(BATCHES, {**zeros, COUNT: jnp.zeros(())})
        means = {name: sums[name] for name in own}
        # With momentum 0 the statistics that go in have no effect on those that come out.
        y, batch = measure.apply(params, means, x, train=True)
        size = jax.tree.leaves(x)[0].shape[0]
        count = sums[COUNT] + size

        def move(mean: jax.Array, now: jax.Array) -> jax.Array:
            # Σ b x / Σ b, one batch at a time, without large sums.
            return mean + (size / count).astype(mean.dtype) * (now - mean)

        return y, {**own, BATCHES: {**jax.tree.map(move, means, batch), COUNT: count}}

    return Layer(init, apply, norm.name)


def _with_sums(state: State, extended: State) -> State:
    """Return the state in the structure of an extended one, with zeros where it has no leaf."""
    # The paths of map_named begin with the name of the tree.
    given = {f"state/{path}": leaf for path, leaf in trees.named_leaves(state).items()}

    def fill(path: str, leaf: Any) -> jax.Array:
        return jnp.asarray(given[path]) if path in given else jnp.zeros(leaf.shape, leaf.dtype)

    return trees.map_named(fill, "state", extended)


def _without_sums(state: State, extended: State) -> State:
    """Return the extended state in the structure of the original, with the means over batches."""
    found = {f"state/{path}": leaf for path, leaf in trees.named_leaves(extended).items()}

    def read(path: str, given: Any) -> jax.Array:
        layer, _, name = path.rpartition("/")
        mean = found.get(f"{layer}/{BATCHES}/{name}")
        # Not a batch norm: its state is that after the pass.
        if mean is None:
            return found[path]
        # Copies of a layer have a leading axis: (copies,) -> (copies, 1)
        count = found[f"{layer}/{BATCHES}/{COUNT}"]
        count = count.reshape(count.shape + (1,) * (mean.ndim - count.ndim))
        # A layer that no batch passed in training mode keeps its statistics.
        return jnp.where(count > 0, mean, given)

    return trees.map_named(read, "state", state)
