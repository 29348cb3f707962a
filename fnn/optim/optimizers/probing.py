"""Optimizers that look at the loss once more: what they need is told here."""

from collections.abc import Callable, Mapping
from typing import Any

from fnn.errors import ConfigError
from fnn.types import Params, Scalar


def value_function(name: str, extra: Mapping[str, Any]) -> Callable[[Params], Scalar]:
    """The loss of this batch as a function of the params; ConfigError where the update was not given it."""
    if extra.get("value_fn") is None:
        raise ConfigError(
            f"{name} value_fn",
            "the loss of this batch as a function of the params",
            None,
            "train.run gives it; by hand, update(grads, opt_state, params, value_fn=...)",
        )
    function: Callable[[Params], Scalar] = extra["value_fn"]
    return function
