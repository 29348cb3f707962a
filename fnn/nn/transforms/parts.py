"""Take, replace and initialize parts of a network, for transfer learning."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import expect_layer, map_parts, name_of, parts, wrap_layer
from fnn.nn.transforms.tap import offsets, split, with_offsets
from fnn.types import Layer, Params, State
from fnn.values import maker

ADVICE = "name the parts on the way, as in body/conv_0"


def take(network: Layer, path: str) -> Layer:
    """Return the part of a network at a path.

    Args:
        network: The network.
        path: Path of the part, such as "body/conv_0": the path of its params, also used in errors.

    Raises:
        ConfigError: There is no part at the path; the message lists the parts where it fails.
    """
    name, rest = _split_first(path)
    part = _expect_part(network, name)
    return take(part, rest) if rest else part


@maker
def replace(network: Layer, path: str, layer: Layer) -> Layer:
    """Replace the part of a network at a path by another layer.

    The other parts keep their names and their indices, so that their params still fit. `init` and
    `apply` raise ShapeError if the layer does not fit in.

    Args:
        network: The network.
        path: Path of the part, such as "head" or "body/conv_0".
        layer: The new part.

    Raises:
        ConfigError: `layer` is not a Layer, or there is no part at the path; the message lists the
            parts where it fails.
    """
    expect_layer("replace layer", layer)
    name, rest = _split_first(path)
    _expect_part(network, name)

    def change(part_name: str, part: Layer) -> Layer:
        if part_name != name:
            return part
        return replace(part, rest, layer) if rest else layer

    # Only the parts on the path are made again; the others are the same objects.
    changed = map_parts(network, change)
    # The name is kept, so that a changed part of a chain has params under the same name.
    return Layer(
        changed.init,
        changed.apply,
        name_of(network),
        changed.parts,
        changed.with_parts,
        changed.by_name,
        decoder=changed.decoder,
    )


@maker
def pretrained(layer: Layer, params: Params, state: State) -> Layer:
    """Initialize a layer with given params and state instead of random ones.

    chain(freeze(pretrained(body, params, state)), dense(10)) is transfer learning. Parts of the
    layer, from `take`, are initialized with their share.

    Args:
        layer: The layer.
        params: Its params, such as those of an earlier run.
        state: Its state.

    Raises:
        ConfigError: `layer` is not a Layer.
        TreeMismatchError: In `init`, params or state differ in structure, shapes or dtypes from
            those that the layer would initialize; the message names the path.
    """
    expect_layer("pretrained layer", layer)

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        out_shapes = []

        def draw() -> tuple[Params, State]:
            params, state, out_shape = layer.init(key, shape)
            # eval_shape returns arrays only, so the output shape is stored here.
            out_shapes.append(out_shape)
            return params, state

        # The layer is initialized abstractly: only shapes and dtypes are needed.
        expected_params, expected_state = jax.eval_shape(draw)
        trees.expect_like("pretrained params", params, expected_params)
        own_state, _ = split(expected_state)
        trees.expect_like("pretrained state", state, own_state)
        # Copies: donating the arrays of a run must not delete those of the caller.
        jax_params, jax_state = jax.tree.map(jnp.array, (params, state))
        # Outputs of tapped layers that travel in the state are not part of the given one.
        return jax_params, with_offsets(jax_state, offsets(expected_state)), out_shapes[0]

    if not layer.by_name:
        # The arrays of stacked copies belong to the whole; a part has no share of them.
        again = partial(pretrained, params=params, state=state)
        return wrap_layer(layer, Layer(init, layer.apply), again)
    # A chain, for example: the params of each part are an entry of the whole.
    shares = {}
    for name, part in parts(layer).items():
        shares[name] = pretrained(part, params.get(name, {}), state.get(name, {}))
    return Layer(
        init,
        layer.apply,
        name_of(layer),
        shares,
        layer.with_parts,
        by_name=True,
        decoder=layer.decoder,
    )


def _split_first(path: str) -> tuple[str, str]:
    """Return the first part of a path, and the rest of it."""
    if not isinstance(path, str):
        raise ConfigError(
            "path",
            "a path of parts",
            repr(path),
            ADVICE,
        )
    name, _, rest = path.partition("/")
    return name, rest


def _expect_part(network: Layer, name: str) -> Layer:
    found = parts(expect_layer("network", network))
    if name not in found:
        expected = f"a part among {list(found)}" if found else "a layer made of parts"
        raise ConfigError(
            f"path {name}",
            expected,
            repr(name),
            ADVICE,
        )
    return found[name]
