"""The multilayer perceptron."""

from collections.abc import Sequence

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations.pointwise import relu
from fnn.nn.combinators.chain import chain
from fnn.nn.linear.dense import dense
from fnn.nn.noise.dropout import dropout
from fnn.types import Layer, Number
from fnn.values import maker


@maker
def mlp(units: Sequence[int], *, activation: Layer | None = None, drop_rate: Number | None = None) -> Layer:
    """Dense layers of so many units, and an activation between each two: y = W_n f(... f(W_1 x + b_1)) + b_n.

    x (batch, ..., inputs) -> y (batch, ..., units[-1]); relu unless an activation is given, dropout after it if a
    drop_rate is. For images put nn.flatten() before it. ConfigError for no units, or units below 1
    [Rosenblatt 1961; Rumelhart et al. 1986].
    """
    if not isinstance(units, Sequence) or not units:
        raise ConfigError("mlp units", "a sequence of one or more", repr(units), "list the widths, as in (64, 10)")
    widths = [checks.whole("mlp units", width) for width in units]
    bend = relu() if activation is None else activation
    parts: dict[str, Layer] = {}
    for place, width in enumerate(widths, 1):
        parts[f"dense_{place}"] = dense(width)
        if place < len(widths):
            parts[f"activation_{place}"] = bend
            parts |= {} if drop_rate is None else {f"dropout_{place}": dropout(drop_rate)}
    return chain(**parts)
