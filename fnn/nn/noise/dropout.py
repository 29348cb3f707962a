"""Noise on single numbers."""

from fnn.nn.noise.dropping import dropping
from fnn.types import Layer, Number
from fnn.values import maker


@maker
def dropout(drop_rate: Number) -> Layer:
    """In training each number is dropped by chance, and the rest grows to keep the mean: y = x m / (1 - drop_rate).

    m ~ Bernoulli(1 - drop_rate), drawn anew for every number; with train=False y = x. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Srivastava et al. 2014, JMLR 15].
    """
    return dropping("dropout", drop_rate, lambda shape: shape)
