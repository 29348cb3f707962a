"""Callbacks on the host from within a compiled run."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.errors import ConfigError

# (step, figures by name); each value has a leading lane axis if the run is mapped.
Callback = Callable[[Any, Mapping[str, Any]], Any]


def expect_callback(callback: Any) -> None:
    """Raise ConfigError unless the callback is a function of two arguments or None."""
    if callback is None:
        return
    expected = "a function of (step, figures)"
    if not callable(callback):
        raise ConfigError(
            "callback",
            expected,
            checks.show(callback),
            "give the function itself",
        )
    try:
        inspect.signature(callback).bind(0, {})
    except TypeError as error:
        advice = "define it as def callback(step, figures)"
        raise ConfigError(
            "callback",
            expected,
            f"a function with {error}",
            advice,
        ) from None
    except ValueError:
        # Some functions of C have no signature.
        pass


def call_host(callback: Callback, figures: Mapping[str, Array]) -> None:
    """Call callback(step, figures) on the host, once for all lanes of a mapped run.

    No gradient flows through the call, and it changes no result of the run.

    Args:
        callback: Host function. Under vmap its arguments have a leading lane axis.
        figures: Arrays by name, one of them named step.
    """

    def on_host(figures: dict[str, np.ndarray]) -> None:
        without_step = dict(figures)
        step = without_step.pop("step")
        callback(step, without_step)

    # jax.debug.callback under vmap would call the host once for each lane.
    @jax.custom_batching.custom_vmap
    def call(figures: dict[str, Array]) -> Array:
        jax.debug.callback(on_host, figures)
        # custom_vmap needs an output.
        return jnp.zeros(())

    @call.def_vmap
    def call_for_all_lanes(
        lanes: int,
        is_mapped: Any,
        figures: dict[str, Array],
    ) -> tuple[Array, bool]:
        batched = {}
        for name, value in figures.items():
            if is_mapped[0][name]:
                batched[name] = value
            else:
                batched[name] = jnp.broadcast_to(value, (lanes, *value.shape))
        return call(batched), False

    call(jax.lax.stop_gradient(dict(figures)))
