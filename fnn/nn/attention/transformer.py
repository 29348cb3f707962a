"""The transformer block."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.activations import gelu
from fnn.nn.attention.attention import attention
from fnn.nn.attention.dot_product import divide_width, projection
from fnn.nn.combinators.chain import chain
from fnn.nn.core.composite import Go, composite
from fnn.nn.core.decoder import per_position
from fnn.nn.core.wide_sums import along_last
from fnn.nn.dropout import drop_path, dropout
from fnn.nn.initializers.fixed import constant
from fnn.nn.normalization.layer_norm import layer_norm
from fnn.types import Initializer, Layer, Number, Params, Shape, State
from fnn.values import maker


@maker
def transformer_block(
    heads: int,
    *,
    expansion: int = 4,
    kv_heads: int | None = None,
    causal: bool = False,
    rotary: bool = False,
    use_bias: bool = True,
    drop_rate: Number | None = None,
    drop_path_rate: Number | None = None,
    layer_scale: Number | None = None,
    norm: Layer | None = None,
    activation: Layer | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Pre-norm transformer block: self-attention and a two-layer MLP, each in a residual branch.

    a = x + attention(norm(x)); y = a + down(activation(up(norm(a)))), where up is `expansion` times
    as wide as x. x and y (batch, time, width), or pairs of them and a mask as in `attention`, which
    is passed on to the next block [Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020,
    arXiv:2002.04745].

    Args:
        heads: Number of attention heads, a divisor of the width.
        expansion: Width of the hidden layer of the MLP in multiples of that of x.
        kv_heads: Number of heads of keys and values, as in `attention`.
        causal: Whether each query uses only keys of its own and earlier positions.
        rotary: Whether queries and keys are rotated by their positions.
        use_bias: Whether the dense layers have a bias.
        drop_rate: Probability of dropout of the attention weights, of the hidden layer and of the
            ends of both branches; no dropout if None.
        drop_path_rate: Probability of dropping a branch for an example, as in `drop_path`; none is
            dropped if None.
        layer_scale: Initial value of the trained factors of the channels at the end of each branch,
            such as 1e-5, with which deep stacks begin near the identity; no factors if None
            [Touvron et al. 2021, arXiv:2103.17239].
        norm: Normalization before each branch, with params for each; layer_norm() if None.
        activation: Nonlinearity of the MLP; gelu() if None.
        kernel_init: Initializer of the kernels, that of `dense` if None.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another shape, or a part changes its shape.
        DTypeError: x is not floating-point, or the mask is not boolean.
    """
    checks.whole("transformer_block expansion", expansion)
    if drop_path_rate is not None:
        checks.number("transformer_block drop_path_rate", drop_path_rate, "[0, 1)")
    if layer_scale is not None:
        checks.number("transformer_block layer_scale", layer_scale, "(-inf, inf)")
    # Each part below gets params of its own, though norm and noise are the same layers twice.
    norm = norm or layer_norm()
    activation = activation or gelu()
    drop: dict[str, Layer] = {}
    if drop_rate is not None:
        drop["dropout"] = dropout(drop_rate)
    path: dict[str, Layer] = {}
    if drop_path_rate is not None:
        path["drop_path"] = drop_path(drop_path_rate)
    noise = chain(**drop, **path)

    def down_width(inputs: int) -> int:
        return divide_width("transformer_block hidden width", inputs, expansion)

    up = projection(lambda inputs: expansion * inputs, use_bias, kernel_init)
    down = projection(down_width, use_bias, kernel_init)
    self_attention = attention(
        heads,
        kv_heads=kv_heads,
        causal=causal,
        rotary=rotary,
        use_bias=use_bias,
        drop_rate=drop_rate,
        kernel_init=kernel_init,
    )
    parts = {
        "attention_norm": norm,
        "attention": self_attention,
        "attention_noise": noise,
        "mlp_norm": norm,
        "mlp": chain(up=up, activation=activation, **drop, down=down),
        "mlp_noise": noise,
    }
    # Last, so that the draws of the other parts are those without it.
    if layer_scale is not None:
        parts["attention_scale"] = _channel_scale(layer_scale)
        parts["mlp_scale"] = _channel_scale(layer_scale)
    return _block(parts)


def _block(parts: Mapping[str, Layer]) -> Layer:
    def forward(
        go: Go,
        x: Any,
        is_single: Callable[[Any], bool],
        add: Callable[[Any, Any], Any],
    ) -> Any:
        def scaled(name: str, y: Any) -> Any:
            return go(name, y) if name in parts else y

        mask: tuple[Any, ...] = ()
        if not is_single(x):
            mask = tuple(x[1:])
            x = x[0]
        # The residual path x is never normalized, which keeps deep stacks trainable.
        y = go("attention_norm", x)
        y = go("attention", (y, *mask) if mask else y)
        y = scaled("attention_scale", y)
        x = add(x, go("attention_noise", y))
        y = go("mlp_norm", x)
        y = go("mlp", y)
        y = scaled("mlp_scale", y)
        x = add(x, go("mlp_noise", y))
        return (x, *mask) if mask else x

    # Shapes and arrays take the same path; only the test for a pair and the sum differ.
    shapes = partial(forward, is_single=trees.is_shape, add=_same_shape)
    arrays = partial(forward, is_single=lambda x: not isinstance(x, tuple), add=jnp.add)
    return per_position(composite("transformer_block", parts, shapes, arrays))


def _channel_scale(value: Number) -> Layer:
    """Make a layer of one trained factor a channel, y = scale x."""

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {"scale": constant(value)(key, shape[-1:])}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        trees.expect_arrays("transformer_block scale", params, {"scale": x.shape[-1:]})
        return x * along_last(params["scale"], x), state

    return per_position(Layer(init, apply, "scale"))


def _same_shape(x: Shape, branch: Shape) -> Shape:
    if branch != x:
        advice = "give heads that divide the width, and parts that keep it"
        raise ShapeError("transformer_block", f"a branch to end in {x}", branch, advice)
    return x
