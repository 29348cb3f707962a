"""GPT, a transformer language model."""

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.attention.transformer import transformer_block
from fnn.nn.combinators.chain import chain
from fnn.nn.combinators.repeat import repeat
from fnn.nn.combinators.shared import shared
from fnn.nn.dropout import dropout
from fnn.nn.embedding import embed, learned_positions, unembed
from fnn.nn.initializers.random import normal
from fnn.nn.normalization.layer_norm import layer_norm
from fnn.types import Layer, Number
from fnn.values import maker

STD = 0.02  # standard deviation of all initial draws, as in GPT-2


@maker
def gpt(
    vocabulary: int,
    *,
    length: int = 256,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    kv_heads: int | None = None,
    rotary: bool = False,
    drop_rate: Number | None = None,
) -> Layer:
    """GPT: blocks of causal attention between a token embedding and the same table as output layer.

    x (batch, time) integers -> logits (batch, time, vocabulary) of the token after each. Compiling
    takes as long as for one block: the params of all blocks are stacked under `body/blocks/body`.
    The sizes of GPT-2 (50257, length=1024, width=768, depth=12, heads=12) give its 124,439,808
    parameters [Radford et al. 2019, Language models are unsupervised multitask learners].

    Args:
        vocabulary: Number of tokens.
        length: Largest number of tokens in a sequence, for learned positions.
        width: Size of the vector of a token; a multiple of `heads`.
        depth: Number of blocks.
        heads: Number of attention heads.
        kv_heads: Number of heads of keys and values, a divisor of `heads`; `heads` if None.
        rotary: Whether positions are rotary instead of learned; `length` then sets no limit.
        drop_rate: Rate of dropout of embeddings and branches, in [0, 1); no dropout if None.

    Raises:
        ConfigError: An option is out of range, or `heads` does not divide `width`.
        RangeError: A known x is outside of 0 <= x < vocabulary.
    """
    checks.whole("gpt length", length)
    if checks.whole("gpt width", width) % checks.whole("gpt heads", heads):
        raise ConfigError(
            "gpt width",
            f"a multiple of heads={heads}",
            width,
            "choose another width",
        )
    checks.whole("gpt depth", depth)
    checks.flag("gpt rotary", rotary)
    initializer = normal(STD)
    # One block is traced, and repeated over stacked params.
    block = transformer_block(
        heads,
        kv_heads=kv_heads,
        causal=True,
        rotary=rotary,
        drop_rate=drop_rate,
        kernel_init=initializer,
    )
    # Rotary positions act inside of the attention instead.
    before_blocks: dict[str, Layer] = {}
    if not rotary:
        before_blocks["positions"] = learned_positions(length, table_init=initializer)
    if drop_rate is not None:
        before_blocks["dropout"] = dropout(drop_rate)

    def body(table: Layer) -> Layer:
        return chain(
            tokens=table,
            **before_blocks,
            blocks=repeat(block, depth),
            # The blocks normalize their inputs, so that the last output needs a norm.
            norm=layer_norm(),
            logits=unembed(table, vocabulary),
        )

    # One table of tokens at both ends: its gradient is the sum of both uses.
    return shared(embed(vocabulary, width, table_init=initializer), body)
