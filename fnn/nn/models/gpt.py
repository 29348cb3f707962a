"""GPT."""

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

STD = 0.02  # of all that is drawn, as in GPT-2


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
    """A language model: blocks of causal attention between a table of tokens and the same table.

    x (batch, time) integers -> logits (batch, time, vocabulary) of the token after each. Positions are learned, for
    time <= length, or, with no such limit, rotary. Compiling takes as long as for one block; the params of all stand
    stacked under `body/blocks/body`. The sizes of GPT-2 (50257, length=1024, width=768, depth=12, heads=12) give its
    124,439,808 parameters. ConfigError unless heads divide the width; RangeError for what is no token
    [Radford et al. 2019, Language models are unsupervised multitask learners].
    """
    checks.whole("gpt length", length)
    if checks.whole("gpt width", width) % checks.whole("gpt heads", heads):
        raise ConfigError(
            "gpt width", f"a multiple of heads={heads}", width, "choose another width"
        )
    checks.whole("gpt depth", depth)
    checks.flag("gpt rotary", rotary)
    initial = normal(STD)
    block = transformer_block(
        heads,
        kv_heads=kv_heads,
        causal=True,
        rotary=rotary,
        drop_rate=drop_rate,
        kernel_init=initial,
    )
    drop = {} if drop_rate is None else {"dropout": dropout(drop_rate)}
    places = {} if rotary else {"positions": learned_positions(length, table_init=initial)}

    def between(table: Layer) -> Layer:
        blocks, norm = repeat(block, depth), layer_norm()
        return chain(
            tokens=table,
            **places,
            **drop,
            blocks=blocks,
            norm=norm,
            logits=unembed(table, vocabulary),
        )

    return shared(embed(vocabulary, width, table_init=initial), between)
