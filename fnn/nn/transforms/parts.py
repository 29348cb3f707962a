"""The parts of a network, by path."""

from fnn.errors import ConfigError
from fnn.nn.composite import expect_layer, parts
from fnn.types import Layer


def take(network: Layer, path: str) -> Layer:
    """The part of a network at a path such as "body/conv_0", the path that its params stand at and that errors tell.

    ConfigError for a path of no part, naming the parts there are where it fails.
    """
    name, rest = _first(path)
    part = _expect_part(network, name)
    return take(part, rest) if rest else part


def replace(network: Layer, path: str, layer: Layer) -> Layer:
    """The same network with another layer in place of its part at a path such as "head", or "body/conv_0".

    Everything else keeps its name and its place, so params of the parts that stay fit on. ConfigError for a path of no
    part, naming the parts there are where it fails; ShapeError, from init, for a layer that does not fit in.
    """
    expect_layer("replace layer", layer)
    name, rest = _first(path)
    _expect_part(network, name)
    rebuild = network.rebuild
    assert rebuild is not None  # since it has that part

    def change(own: str, part: Layer) -> Layer:
        if own != name:
            return part
        return replace(part, rest, layer) if rest else layer

    return rebuild(change)


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
