"""Callbacks on the host from inside of a compiled run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.errors import ConfigError

# (step, figures by name), each with a lane axis first where the run is mapped
Callback = Callable[[Any, Mapping[str, Any]], Any]


def expect_callback(callback: Any) -> None:
    """Raise ConfigError for what is no function."""
    if callback is not None and not callable(callback):
        raise ConfigError(
            "callback", "a function of (step, figures)", repr(callback), "give the function itself"
        )


def call_host(callback: Callback, figures: Mapping[str, Array]) -> None:
    """Call callback(step, figures) on the host, once for all lanes of a mapped run: figures then have a lane axis.

    No gradient goes through it, and it changes no number.
    """

    def on_host(figures: dict[str, np.ndarray]) -> None:
        named = dict(figures)
        callback(named.pop("step"), named)

    @jax.custom_batching.custom_vmap
    def say(figures: dict[str, Array]) -> Array:
        jax.debug.callback(on_host, figures)
        return jnp.zeros(())

    @say.def_vmap
    def say_for_all(lanes: int, is_mapped: Any, figures: dict[str, Array]) -> tuple[Array, bool]:
        whole = {
            name: value if is_mapped[0][name] else jnp.broadcast_to(value, (lanes, *value.shape))
            for name, value in figures.items()
        }
        return say(whole), False

    say(jax.lax.stop_gradient(dict(figures)))
