"""An example in another shape."""

from math import prod

from fnn.nn.plain import plain
from fnn.types import Layer


def flatten() -> Layer:
    """Each example as one vector: x (batch, ...) -> y (batch, features)."""
    return plain("flatten", lambda shape: (prod(shape),), lambda x: x.reshape(x.shape[0], prod(x.shape[1:])))
