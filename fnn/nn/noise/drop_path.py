"""Noise on whole examples, for the branches of a residual network."""

from fnn.nn.noise.dropping import dropping
from fnn.types import Layer, Number
from fnn.values import maker


@maker
def drop_path(drop_rate: Number) -> Layer:
    """In training whole examples are dropped by chance, and the others grow: y = x m / (1 - drop_rate).

    x (batch, ...); m ~ Bernoulli(1 - drop_rate), one draw an example; with train=False y = x. At the end of the body of
    a residual, nn.residual(nn.chain(..., nn.drop_path(0.1))), it is stochastic depth: an example skips the body. Deeper
    bodies are commonly skipped more, the last of n at the full rate, body i at i / n of it. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Huang et al. 2016, arXiv:1603.09382].
    """
    return dropping("drop_path", drop_rate, lambda shape: (1,) * len(shape))
