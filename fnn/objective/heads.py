"""Losses and metrics of one output of a network that returns several."""

from collections.abc import Mapping
from typing import Any

from fnn.errors import ConfigError, TreeMismatchError
from fnn.objective.loss import as_loss
from fnn.types import Loss, LossFunction, Metric, Metrics
from fnn.values import maker


@maker
def of(output: str | int, function: LossFunction | Metric) -> Loss | Metric:
    """A loss or a metric of one output of a network that returns a dict or a tuple.

        metrics = {"digit_accuracy": objective.of("digit", objective.accuracy)}

    Args:
        output: The name of the output in a dict, or its index in a tuple. Targets that are a dict
            or a tuple too have an entry of this name or index, which is used; others are used
            whole.
        function: The loss, or the metric, also of a whole data set.

    Returns:
        A `Metric` for a `Metric`, else a `Loss`.

    Raises:
        ConfigError: `output` is neither a name nor an index >= 0, or `function` is not a function.
        TreeMismatchError: When called, outputs or targets have no such entry.
    """
    is_index = isinstance(output, int) and not isinstance(output, bool) and output >= 0
    if not isinstance(output, str) and not is_index:
        raise ConfigError(
            "of output",
            "a name or an index >= 0",
            repr(output),
            "give the key of the output in the dict that the network returns",
        )

    def select(outputs: Any, targets: Any) -> tuple[Any, Any]:
        container = Mapping if isinstance(output, str) else tuple | list
        chosen = _entry("outputs", outputs, output)
        # Targets of a network with several outputs may be one array, as for two views of it.
        is_shared = not isinstance(targets, container)
        return chosen, targets if is_shared else _entry("targets", targets, output)

    if isinstance(function, Metric):
        metric = function

        def per_example(outputs: Any, targets: Any) -> Any:
            return metric.per_example(*select(outputs, targets))

        return Metric(per_example, metric.reduce, metric.mode)
    loss = as_loss("of function", function)

    def of_output(outputs: Any, targets: Any) -> Any:
        return loss(*select(outputs, targets))

    # Its targets are a part of the batch's, which is not checked before a run.
    return Loss(of_output, couples_examples=loss.couples_examples, mode=loss.mode)


def default_metrics(loss: Loss) -> Metrics:
    """Return the metrics that are reported for a loss unless others are given.

    For several heads these are the loss of each, `loss_head`, and its metric, as `accuracy_head`.
    """
    if loss.heads is None:
        return {} if loss.metric is None else dict([loss.metric])
    metrics: dict[str, LossFunction | Metric] = {}
    for head, function in loss.heads.items():
        head_loss = as_loss(head, function)
        metrics[f"loss_{head}"] = of(head, head_loss)
        if head_loss.metric is not None:
            name, metric = head_loss.metric
            metrics[f"{name}_{head}"] = of(head, metric)
    return metrics


def _entry(where: str, tree: Any, name: str | int) -> Any:
    """Return the entry of a dict, or of a tuple; TreeMismatchError if it has none."""
    if isinstance(name, str):
        names = list(tree) if isinstance(tree, Mapping) else []
    else:
        names = list(range(len(tree))) if isinstance(tree, tuple | list) else []
    if name not in names:
        kind = "dict" if isinstance(name, str) else "tuple"
        raise TreeMismatchError(
            where,
            f"a {kind} with the entry {name!r}",
            f"a {type(tree).__name__}" + (f" with {names}" if names else ""),
            "give the name or the index of an output of the network",
        )
    return tree[name]
