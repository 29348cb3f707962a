"""Losses of networks that return the outputs of several members."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.objective.loss import as_loss
from fnn.types import Loss, LossFunction, Metric
from fnn.values import maker


@maker
def per_member(loss: LossFunction) -> Loss:
    """The mean of a loss over the members of a network, Σ_m L(outputs[:, m], targets) / M.

    It trains the members that one network holds, such as those of `nn.ensemble`, of
    `nn.batch_ensemble` with join="members", or of layers with groups. The gradient of a member's
    params is that of the member alone, divided by M.

        network = nn.ensemble(nn.chain(nn.dense(32), nn.relu(), nn.dense(10)), 4)
        loss = objective.per_member(objective.cross_entropy)
        recipe = train.recipe(network, optimizer, loss=loss)

    Args:
        loss: A loss or a metric of the outputs of one member. Its default metric is reported as the
            mean over the members too.

    Raises:
        ConfigError: `loss` is not a function, or is a `Metric` of a whole data set.
        ShapeError: When called, the outputs are not arrays (batch, members, ...).
    """
    if isinstance(loss, Metric):
        raise ConfigError(
            "per_member loss",
            "a function (outputs, targets) -> a value an example",
            f"a Metric of the whole data set, {loss!r}",
            "compute it from combined outputs, as by ensemble.evaluate",
        )
    inner = as_loss("per_member loss", loss)

    def mean(outputs: Any, targets: Any) -> Any:
        _expect_members(outputs)
        # The weights of weighted values are those of the targets, the same for all members.
        values = jax.vmap(inner, (1, None), 1)(outputs, targets)
        return jax.tree.map(partial(jnp.mean, axis=1), values)

    metric = inner.metric
    if metric is not None:
        name, function = metric
        metric = None if isinstance(function, Metric) else (name, per_member(function))
    # Targets are not compared with the outputs before a run, since these have one axis more.
    return Loss(mean, couples_examples=inner.couples_examples, mode=inner.mode, metric=metric)


def _expect_members(outputs: Any) -> None:
    """Raise ShapeError unless all outputs have a second axis of members."""
    leaves = jax.tree.leaves(outputs)
    counts = {jnp.shape(leaf)[1:2] for leaf in leaves}
    if len(counts) != 1 or () in counts:
        raise ShapeError(
            "per_member outputs",
            "arrays (batch, members, ...)",
            checks.show(outputs) if len(leaves) == 1 else checks.describe_tree(outputs),
            "use a network that returns them, such as nn.ensemble(network, n)",
        )
