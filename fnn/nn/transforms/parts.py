"""The parts of a network, by path."""

from fnn.errors import ConfigError
from fnn.nn.composite import expect_layer, name_of, parts, with_changed
from fnn.types import Layer
from fnn.values import maker


def take(network: Layer, path: str) -> Layer:
    """The part of a network at a path such as "body/conv_0", the path that its params stand at and that errors tell.

    ConfigError for a path of no part, naming the parts there are where it fails.
    """
    name, rest = _first(path)
    part = _expect_part(network, name)
    return take(part, rest) if rest else part


@maker
def replace(network: Layer, path: str, layer: Layer) -> Layer:
    """The same network with another layer in place of its part at a path such as "head", or "body/conv_0".

    Everything else keeps its name and its place, so params of the parts that stay fit on. ConfigError for a path of no
    part, naming the parts there are where it fails; ShapeError, from init, for a layer that does not fit in.
    """
    expect_layer("replace layer", layer)
    name, rest = _first(path)
    _expect_part(network, name)

    def change(own: str, part: Layer) -> Layer:
        if own != name:
            return part
        return replace(part, rest, layer) if rest else layer

    changed = with_changed(network, change)
    return Layer(changed.init, changed.apply, name_of(network), changed.parts, changed.with_parts, changed.by_name)


def _first(path: str) -> tuple[str, str]:
    """The part that a path begins with, and the path from there on."""
    if not isinstance(path, str):
        raise ConfigError("path", "a path of parts", repr(path), "name the parts on the way, as in body/conv_0")
    name, _, rest = path.partition("/")
    return name, rest


def _expect_part(network: Layer, name: str) -> Layer:
    found = parts(expect_layer("network", network))
    if name not in found:
        there = f"a part among {list(found)}" if found else "a layer made of parts"
        raise ConfigError(f"path {name}", there, repr(name), "name the parts on the way, as in body/conv_0")
    return found[name]
