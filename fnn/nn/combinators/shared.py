"""Parameter sharing: one layer used at several positions of a network."""

from collections.abc import Callable
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ConfigError, inside
from fnn.nn.core.composite import as_shape, describe_arrays, drop_empty, expect_layer, expect_names
from fnn.nn.core.decoder import per_position
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker

SHARED, BODY = "shared", "body"
# The keys of the shared layer and of the rest are fold_in(key, ...) with these.
SHARED_KEY, BODY_KEY = 0, 1


@maker
def shared(layer: Layer, use: Callable[[Layer], Layer]) -> Layer:
    """Weight tying: one layer at several positions of a network, with one set of parameters.

    As in shared(dense(4), lambda tied: chain(tied, tanh(), tied)). The params are {"shared": those
    of the layer, "body": the rest}. The shared ones are initialized at the input shape of the
    first position; their gradient is the sum over the positions. Each position has separate state,
    under "body".

    Args:
        layer: The layer to share.
        use: A function that gets a placeholder for the layer, without params, and returns the
            network with the placeholder at each position.

    Raises:
        ConfigError: `layer` is not a Layer, or `use` does not return one, or not one with the
            placeholder in it.
        TreeMismatchError: A position needs params of another shape.
    """
    expect_layer("shared layer", layer)

    def network(init: Callable[..., Any], apply: Callable[..., Any]) -> Layer:
        """Return the network with a layer of these functions at each position."""
        # The layer has its own decoder, so that a position of it needs none.
        placeholder = per_position(Layer(init, apply, layer.name))
        return expect_layer("shared use", use(placeholder))

    network(layer.init, layer.apply)  # raises now if `use` returns no layer

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("shared key", key)
        position_shapes: list[Shape] = []

        def init_layer(shape: Shape) -> tuple[Params, State, Shape]:
            return layer.init(jax.random.fold_in(key, SHARED_KEY), shape)

        def init_position(_: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
            position_shapes.append(shape)
            # The key of the position is not used, so that the states begin alike.
            _, state, out_shape = init_layer(shape)
            return {}, state, out_shape

        with inside(BODY, shape=shape):
            body = network(init_position, layer.apply)
            body_key = jax.random.fold_in(key, BODY_KEY)
            rest, state, out_shape = body.init(body_key, as_shape(shape))
        if not position_shapes:
            raise ConfigError(
                "shared use",
                "a network with the layer in it",
                "one without it",
                "use the argument of `use` in it",
            )
        first_shape = position_shapes[0]
        # Shapes only, so that nothing is computed for the comparison.
        for position, position_shape in enumerate(position_shapes):
            needed = jax.eval_shape(lambda shape=position_shape: init_layer(shape)[0])
            first = jax.eval_shape(lambda: init_layer(first_shape)[0])
            trees.expect_like(f"shared position {position}", needed, first)
        tied, _, _ = init_layer(first_shape)
        return drop_empty({SHARED: tied, BODY: rest}), drop_empty({BODY: state}), out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        expect_names("shared", [SHARED, BODY], params)
        expect_names("shared", [BODY], state)
        rest = params.get(BODY, {})
        tied = params.get(SHARED, {})

        def apply_position(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            # A position has no params: leaves here would be those of another network.
            trees.expect_arrays("shared position", params, {})
            return layer.apply(tied, state, x, key=key, train=train)

        with inside(BODY, **describe_arrays(x, rest)):
            # The layer draws noise by the key of its position, not by the key of the shared params.
            body_key = None if key is None else jax.random.fold_in(key, BODY_KEY)
            body = network(layer.init, apply_position)
            y, new_state = body.apply(rest, state.get(BODY, {}), x, key=body_key, train=train)
        return y, drop_empty({BODY: new_state})

    parts: dict[str, Layer | Callable[..., Layer]] = {SHARED: layer, BODY: use}
    tied = Layer(init, apply, "shared", parts, lambda parts: shared(parts[SHARED], parts[BODY]))
    return per_position(tied)
