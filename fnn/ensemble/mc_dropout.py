"""Monte Carlo dropout: samples of the outputs with dropout on and batch norm in evaluation mode."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, nn
from fnn.errors import ConfigError
from fnn.train.evaluate import map_batches, weights
from fnn.train.inputs import validate_inputs
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.types import RandomKey, Step, TrainState, Weights
from fnn.xla import subjaxprs

# Primitives that draw random numbers. Gamma and beta draw by the last one alone.
DRAWS = ("random_bits", "threefry2x32", "random_gamma")


def mc_dropout(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState | Weights,
    inputs: Any,
    *,
    n: int,
    batch_size: int = 256,
) -> Any:
    """Draw samples of the outputs with the noise of training: Monte Carlo dropout.

    Layers without a state act as in training: dropout, channel dropout, stochastic depth, dropout
    of weights and of attention, and layers that sample. Layers with a state, such as batch norm,
    act as in evaluation, by their running statistics; so do parts within `nn.inference`. Every
    sample and example has its own mask. `nn.drop_connect` draws the weights once for the examples
    of a batch, as in training.

    All samples are one compiled program. Sample i depends on key, i and batch_size alone, so that
    more samples begin with the same ones. Pass the samples to `entropy_decomposition` or
    `variance_decomposition` as members [Gal & Ghahramani 2016, arXiv:1506.02142].

    Args:
        key: Key of the draws.
        recipe: From `train.recipe`. It needs no optimizer.
        train_state: Of a run of this recipe; or `Weights`.
        inputs: Arrays whose first axis is the example; prepared by the recipe.
        n: Number of samples.
        batch_size: Examples, over all samples, that pass through the network at once. It affects
            memory, speed and the draws.

    Returns:
        The outputs, (n, examples, ...), in their structure.

    Raises:
        ConfigError: `n` is not a whole number >= 1, the network draws nothing, or an argument is
            not of the type described here.
        FnnError: The inputs do not fit the recipe, as for `train.predict`.
    """
    checks.key("mc_dropout key", key)
    given = weights(recipe, train_state)
    checks.whole("mc_dropout n", n)
    checks.whole("mc_dropout batch_size", batch_size)
    inputs = validate_inputs("inputs", recipe, inputs)
    return _sample(
        recipe,
        given,
        inputs,
        key,
        n,
        batch_size,
    )


@per_recipe(static=(4, 5))
def _sample(
    recipe: Recipe,
    given: Weights,
    inputs: Any,
    key: RandomKey,
    n: int,
    batch_size: int,
) -> Any:
    # Layers with a state get train=False, all others train=True.
    network = nn.inference(recipe.network, params=False, statistics=True, noise=False)
    examples = len(jax.tree.leaves(inputs)[0])
    # As many samples at once as fill a batch.
    groups = -(-n // max(1, batch_size // examples))
    # Samples of a group. The groups may hold a few more than n, which are cut off.
    size = -(-n // groups)

    def forward(
        sample: Step,
        index: Step,
        batch: Any,
    ) -> Any:
        # By sample and by batch, so that no two passes share a mask.
        own_key = jax.random.fold_in(jax.random.fold_in(key, sample), index)
        prepared = recipe.prepare(batch)
        # train=True for the noise. The new state is dropped: a sample changes nothing.
        outputs, _ = network.apply(
            given.params,
            given.state,
            prepared,
            key=own_key,
            train=True,
        )
        return outputs

    def of_group(samples: Step) -> Any:
        def of_batch(index: Step, batch: Any) -> Any:
            # All samples of a group read the same batch.
            draw = jax.vmap(forward, (0, None, None))
            outputs = draw(samples, index, batch)
            # (size, batch, ...) -> (batch, size, ...)
            return jax.tree.map(lambda output: jnp.swapaxes(output, 0, 1), outputs)

        return map_batches(of_batch, (inputs,), batch_size)

    # Known before anything is computed: this function runs while it is traced.
    first = jax.tree.map(lambda array: array[:1], inputs)
    if not _draws(jax.make_jaxpr(forward)(jnp.int32(0), jnp.int32(0), first)):
        raise ConfigError(
            "mc_dropout network",
            "a layer that draws in training, such as nn.dropout",
            "none",
            "train with dropout, or use an ensemble of several networks",
        )
    # (groups * size,) -> (groups, size), the index of each sample
    numbers = jnp.arange(groups * size, dtype=jnp.int32).reshape(groups, size)
    # (groups, size) -> (groups, examples, size, ...)
    outputs = jax.lax.map(of_group, numbers)

    def merge(output: jax.Array) -> jax.Array:
        # (groups, examples, size, ...) -> (groups, size, examples, ...) -> (n, examples, ...)
        ordered = jnp.swapaxes(output, 1, 2)
        return ordered.reshape(-1, *ordered.shape[2:])[:n]

    return jax.tree.map(merge, outputs)


def _draws(jaxpr: Any) -> bool:
    """Return whether a program draws random numbers."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name in DRAWS:
            return True
        # A draw may be in the body of a loop, a branch or a jitted function.
        if any(map(_draws, subjaxprs(equation))):
            return True
    return False
