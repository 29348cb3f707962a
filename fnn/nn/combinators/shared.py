"""One layer in several places."""

from collections.abc import Callable
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ConfigError, inside
from fnn.nn.core.composite import as_shape, expect_layer, expect_names, filled, seen
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker

SHARED, BODY = "shared", "body"


@maker
def shared(layer: Layer, use: Callable[[Layer], Layer]) -> Layer:
    """One layer in several places, as in shared(dense(4), lambda tied: chain(tied, tanh(), tied)).

    `use` is given a stand-in that has no params of its own, and makes the network with it. The params are {"shared":
    the layer's, "body": the rest}, drawn at the shape that the first place sees; their gradient is the sum over the
    places. Each place keeps a state of its own under "body". ConfigError where `use` gives no Layer, or places the
    stand-in nowhere; TreeMismatchError where another place needs params of another shape.
    """
    expect_layer("shared layer", layer)

    def network(init: Callable[..., Any], apply: Callable[..., Any]) -> Layer:
        return expect_layer("shared use", use(Layer(init, apply, layer.name)))

    network(layer.init, layer.apply)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("shared key", key)
        places: list[Shape] = []

        def drawn(shape: Shape) -> tuple[Params, State, Shape]:
            return layer.init(jax.random.fold_in(key, 0), shape)

        def init_place(_: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
            places.append(shape)
            return {}, *drawn(shape)[1:]  # the same at every place, so that they begin alike

        with inside(BODY, shape=shape):
            rest, state, out_shape = network(init_place, layer.apply).init(
                jax.random.fold_in(key, 1), as_shape(shape)
            )
        if not places:
            raise ConfigError(
                "shared use", "a network with the layer in it", "none", "place what `use` is given"
            )
        for number, place in enumerate(places):
            needed, first = (
                jax.eval_shape(lambda s=shape: drawn(s)[0]) for shape in (place, places[0])
            )
            trees.expect_like(f"shared place {number}", needed, first)
        return filled({SHARED: drawn(places[0])[0], BODY: rest}), filled({BODY: state}), out_shape

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        expect_names("shared", [SHARED, BODY], params)
        expect_names("shared", [BODY], state)
        rest, tied = params.get(BODY, {}), params.get(SHARED, {})

        def apply_place(
            own: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
        ):
            trees.expect_arrays("shared place", own, {})
            return layer.apply(tied, state, x, key=key, train=train)

        with inside(BODY, **seen(x, rest)):
            own_key = None if key is None else jax.random.fold_in(key, 1)
            body = network(layer.init, apply_place)
            y, new_state = body.apply(rest, state.get(BODY, {}), x, key=own_key, train=train)
        return y, filled({BODY: new_state})

    parts: dict[str, Layer | Callable[..., Layer]] = {SHARED: layer, BODY: use}
    return Layer(init, apply, "shared", parts, lambda parts: shared(parts[SHARED], parts[BODY]))
