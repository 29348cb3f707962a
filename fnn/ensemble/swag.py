"""Networks from the Gaussian distribution that `optim.swag` collected along a run."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.ensemble.members import Members, collect
from fnn.errors import ConfigError, TreeMismatchError
from fnn.optim.transform import fill_hidden, find_states
from fnn.optim.transforms.snapshots import Posterior, SwagState
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import expect_train_state
from fnn.types import Number, Params, RandomKey, Step, TrainState, Weights

MIN_VARIANCE = 1e-30  # of a parameter, as in the authors' code


def sample_swag(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    *,
    n: int,
    scale: Number = 0.5,
) -> Members:
    """Draw networks from the Gaussian distribution of SWAG.

        recipe = recipe.replace(optimizer=optim.swag(optim.momentum(0.05), start=900, every=30))
        result = train.run(key, recipe, data, epochs=40, batch_size=64)
        members = ensemble.sample_swag(key, recipe, result.train_state, n=30)
        members = ensemble.refresh_members(key, members, data, batch_size=64)

    θ = mean + √scale (√var ε + D z / √(k - 1)), where ε is normal for each parameter, and z (k,) is
    one draw for all layers. D are the last deviations, k = min(snapshots, rank) of them. The
    authors' code divides by √(rank - 1) also where it has fewer. Networks with batch norm need
    `refresh_members` afterwards. Frozen parameters are those of the train state
    [Maddox et al. 2019, arXiv:1902.02476, eq. 1].

    Args:
        key: From `jax.random.key`. Member i draws from fold_in(key, i).
        recipe: The recipe of the run, whose optimizer is or contains an `optim.swag`.
        train_state: Of that run, after at least two snapshots.
        n: Number of networks, >= 1.
        scale: Factor of the covariance, >= 0. 1/2 is the Gaussian of the paper, 0 the mean.

    Raises:
        ConfigError: An argument is not of the type described here, the optimizer collects no
            distribution, or it has fewer than two snapshots.
    """
    checks.key("sample_swag key", key)
    expect_recipe("sample_swag", recipe, trains=False)
    expect_train_state("sample_swag", train_state)
    checks.whole("sample_swag n", n)
    checks.number("sample_swag scale", scale, "[0, inf)")
    posterior = _find_posterior(train_state)

    def draw(index: Step) -> Params:
        own_key = jax.random.fold_in(key, index)
        # Frozen parameters have no distribution, and are taken from the run.
        drawn = fill_hidden(_draw(own_key, posterior, scale), train_state.params)
        # Drawn in float32 or wider, returned in the dtypes of the network.
        return jax.tree.map(lambda leaf, p: leaf.astype(p.dtype), drawn, train_state.params)

    indices = jnp.arange(n)
    # leaves (...) -> (n, ...)
    params = jax.vmap(draw)(indices)
    # leaves (...) -> (n, ...): statistics of the run, until `refresh_members`
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * n), train_state.state)
    return collect(recipe, Weights(params, state))


def _find_posterior(train_state: TrainState) -> Posterior:
    """Return the distribution in the state of the optimizer, or raise ConfigError."""
    # Other transforms may be around it, with its state inside of theirs.
    found = find_states(train_state.opt_state, SwagState)
    expected = "a train state of one optim.swag around the whole optimizer"
    if len(found) != 1:
        got = f"{len(found)} of them" if found else "none"
        advice = "train with recipe.replace(optimizer=optim.swag(optimizer))"
        raise ConfigError(
            "sample_swag train_state",
            expected,
            got,
            advice,
        )
    try:
        posterior: Posterior = found[0].posterior(train_state.params)
    except TreeMismatchError:
        # As within optim.partition.
        got, advice = (
            "one of a part of the parameters",
            "wrap the whole, as in optim.swag(optimizer)",
        )
        raise ConfigError(
            "sample_swag train_state",
            expected,
            got,
            advice,
        ) from None
    taken = posterior.taken
    if checks.is_concrete(taken) and int(taken) < 2:
        advice = "train longer, or collect earlier or more often, by start and every of optim.swag"
        raise ConfigError(
            "sample_swag train_state",
            "at least 2 snapshots",
            "fewer",
            advice,
        )
    return posterior


def _draw(key: RandomKey, posterior: Posterior, scale: Number) -> Params:
    """Draw the parameters of one network, without frozen ones, in float32 or wider."""
    structure: Any = jax.tree.structure(posterior.mean)
    mean = jax.tree.leaves(posterior.mean)
    rows = zip(
        mean,
        structure.flatten_up_to(posterior.var),
        structure.flatten_up_to(posterior.deviations),
        strict=True,
    )
    # The length of the ring of deviations, of which some rows may be unused.
    rank = len(jax.tree.leaves(posterior.deviations)[0]) if mean else 0
    # One z for all layers: the covariance of two layers is that of their deviations. Its key is
    # that of index 0; the leaves have those from 1 on.
    z = jax.random.normal(jax.random.fold_in(key, 0), (rank,))
    # k - 1 of eq. 1; at least 1, since a traced number of snapshots is not checked.
    divisor = jnp.maximum(jnp.minimum(posterior.taken, rank) - 1, 1)
    drawn = []
    for index, (center, var, deviations) in enumerate(rows, 1):
        noise = jax.random.normal(jax.random.fold_in(key, index), center.shape, center.dtype)
        # The diagonal part. The bound keeps the slope of the root finite at 0.
        own = jnp.sqrt(jnp.maximum(var, MIN_VARIANCE)) * noise
        # (rank,), (rank, ...) -> (...)
        # The low-rank part D z. Unused columns of D are 0.
        joint = jnp.tensordot(z.astype(center.dtype), deviations, 1)
        spread = own + joint / jnp.sqrt(divisor.astype(center.dtype))
        factor = jnp.sqrt(jnp.asarray(scale, center.dtype))
        drawn.append(center + factor * spread)
    return structure.unflatten(drawn)
