"""Networks that process sequences part by part, with a cache of the earlier parts in the state."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fnn.errors import ConfigError, inside
from fnn.nn.core.composite import drop_empty, map_parts, name_of
from fnn.types import Layer, Span, State

ADVICE = (
    "use layers that treat each position alone, nn.attention(causal=True), or recurrent layers "
    "of one direction"
)


def decode(layer: Layer, span: Span) -> Layer:
    """Return the layer that processes this part of each sequence, with the same params.

    The state of the first part is that of the layer. Of a later part it is the state that the
    previous part returned.

    Args:
        layer: A network (batch, time, ...) -> (batch, time, ...).
        span: The part.

    Raises:
        ConfigError: A layer needs the whole sequence at once. The note names its path.
    """
    if layer.decoder is None:
        name = name_of(layer)
        expected = "layers that can process a sequence part by part"
        raise ConfigError("generate network", expected, f"nn.{name}", ADVICE)
    return layer.decoder(span)


def per_position(layer: Layer) -> Layer:
    """Declare that a layer treats each position of a sequence alone, except within its parts.

    Args:
        layer: A layer whose y at position t depends on x at position t only, if its parts do so.

    Returns:
        The same layer with a decoder, that of its parts.
    """

    def decode_part(span: Span, name: str, part: Layer) -> Layer:
        with inside(name):
            return decode(part, span)

    def decoder(span: Span) -> Layer:
        if not layer.parts:
            return layer
        return map_parts(layer, lambda name, part: decode_part(span, name, part))

    with_parts: Callable[[Mapping[str, Any]], Layer] | None = None
    if layer.with_parts is not None:
        rebuild = layer.with_parts

        def with_parts(parts: Mapping[str, Any]) -> Layer:
            rebuilt = rebuild(parts)
            # The result of a maker has been declared by it.
            return rebuilt if rebuilt.decoder is not None else per_position(rebuilt)

    return replace(layer, decoder=decoder, with_parts=with_parts)


def split_cache(new_state: State, state: State) -> State:
    """Return the entries of a state that another one does not have: the cache of a decoder.

    Args:
        new_state: The state that a decoder returned.
        state: The state of the network, without a cache.
    """
    if not isinstance(new_state, Mapping):
        return {}
    cache = {}
    for name, part in new_state.items():
        cache[name] = split_cache(part, state[name]) if name in state else part
    return drop_empty(cache)


def join_cache(state: State, cache: State) -> State:
    """Return the state of a network with the cache of a decoder added."""
    if not isinstance(cache, Mapping):
        return cache
    joined = dict(state)
    for name, part in cache.items():
        joined[name] = join_cache(state[name], part) if name in state else part
    return joined
