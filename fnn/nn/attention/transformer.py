"""The block that transformers repeat."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.activations import gelu
from fnn.nn.attention.attention import attention
from fnn.nn.attention.dot_product import divided, projection
from fnn.nn.combinators.chain import chain
from fnn.nn.core.composite import Go, composite
from fnn.nn.dropout import drop_path, dropout
from fnn.nn.normalization.layer_norm import layer_norm
from fnn.types import Initializer, Layer, Number, Shape
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
    norm: Layer | None = None,
    activation: Layer | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Attention, then two dense layers, each on what is normalized and around a way past it (pre-norm).

    a = x + attention(norm(x)); y = a + down(activation(up(norm(a)))), where up is `expansion` times as wide as x.
    x and y (batch, time, width), or pairs of such and a mask as in nn.attention, which goes through for the next block.
    norm is nn.layer_norm() and activation nn.gelu() unless given. drop_rate drops shares of the attention, hidden
    numbers and those of both branches' ends; drop_path_rate whole branches of an example. The errors are those of the
    parts [Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745].
    """
    checks.whole("transformer_block expansion", expansion)
    if drop_path_rate is not None:
        checks.number("transformer_block drop_path_rate", drop_path_rate, "[0, 1)")
    norm, activation = norm or layer_norm(), activation or gelu()
    drop = {} if drop_rate is None else {"dropout": dropout(drop_rate)}
    noise = chain(
        **drop, **({} if drop_path_rate is None else {"drop_path": drop_path(drop_path_rate)})
    )
    own: dict[str, Any] = {"use_bias": use_bias, "kernel_init": kernel_init}
    up = projection(lambda inputs: expansion * inputs, **own)
    down = projection(
        lambda inputs: divided("transformer_block hidden width", inputs, expansion), **own
    )
    look = attention(
        heads, kv_heads=kv_heads, causal=causal, rotary=rotary, drop_rate=drop_rate, **own
    )
    return _block(
        {
            "attention_norm": norm,
            "attention": look,
            "attention_noise": noise,
            "mlp_norm": norm,
            "mlp": chain(up=up, activation=activation, **drop, down=down),
            "mlp_noise": noise,
        }
    )


def _block(parts: Mapping[str, Layer]) -> Layer:
    def through(
        go: Go, x: Any, alone: Callable[[Any], bool], add: Callable[[Any, Any], Any]
    ) -> Any:
        x, mask = (x, ()) if alone(x) else (x[0], tuple(x[1:]))
        y = go("attention_norm", x)
        x = add(x, go("attention_noise", go("attention", (y, *mask) if mask else y)))
        x = add(x, go("mlp_noise", go("mlp", go("mlp_norm", x))))
        return (x, *mask) if mask else x

    shapes = partial(through, alone=trees.is_shape, add=_same)
    arrays = partial(through, alone=lambda x: not isinstance(x, tuple), add=jnp.add)
    return composite("transformer_block", parts, shapes, arrays)


def _same(x: Shape, branch: Shape) -> Shape:
    if branch != x:
        advice = "give heads that divide the width, and parts that keep it"
        raise ShapeError("transformer_block", f"a branch to end in {x}", branch, advice)
    return x
