"""Noise on weights."""

from typing import Any

import jax

from fnn import checks
from fnn.nn.noise.dropping import thinned
from fnn.nn.reparametrization import change_kernels, kernels, with_kernels
from fnn.types import Layer, Number, Params, State
from fnn.values import maker


@maker
def drop_connect(layer: Layer, drop_rate: Number) -> Layer:
    """In training a layer's weights are dropped by chance, and the rest grows: W m / (1 - drop_rate) in place of W.

    W is every `kernel` of the layer, or of the layers it is made of; m ~ Bernoulli(1 - drop_rate) is drawn for every
    weight, once a batch; with train=False W itself acts. Params and state are the layer's own. ConfigError unless
    0 <= drop_rate < 1, and in init for a layer without kernel; DTypeError in training without a key
    [Wan et al. 2013, ICML].
    """
    checks.number("drop_connect drop_rate", drop_rate, "[0, 1)")

    def dropped(leaf: Layer) -> Layer:
        def apply(params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False):
            own = kernels(params)
            if not own or not train:
                return leaf.apply(params, state, x, key=key, train=train)
            key = checks.key("drop_connect key", key)
            for place, (path, kernel) in enumerate(own.items(), 1):
                own[path] = thinned("drop_connect", jax.random.fold_in(key, place), kernel, drop_rate, kernel.shape)
            return leaf.apply(with_kernels(params, own), state, x, key=jax.random.fold_in(key, 0), train=train)

        return Layer(leaf.init, apply, leaf.name)

    return change_kernels("drop_connect", layer, dropped)
