"""A causal transformer of pre-norm blocks in Equinox, for one sequence."""

import equinox as eqx
import jax
import jax.numpy as jnp


class Block(eqx.Module):
    norm_1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm_2: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width, heads, key):
        attention, up, down = jax.random.split(key, 3)
        names = ("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias")
        biases = dict.fromkeys(names, True)
        self.norm_1, self.norm_2 = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, **biases, key=attention)
        self.up = eqx.nn.Linear(width, 4 * width, key=up)
        self.down = eqx.nn.Linear(4 * width, width, key=down)

    def __call__(self, x, mask):
        y = jax.vmap(self.norm_1)(x)
        x = x + self.attention(y, y, y, mask=mask)
        hidden = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm_2)(x)), approximate=False)
        return x + jax.vmap(self.down)(hidden)


class Transformer(eqx.Module):
    tokens: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear

    def __init__(self, key, *, vocabulary, length, width, heads, depth):
        tokens, positions, out, *keys = jax.random.split(key, 3 + depth)
        self.tokens = eqx.nn.Embedding(vocabulary, width, key=tokens)
        self.positions = eqx.nn.Embedding(length, width, key=positions)
        self.blocks = [Block(width, heads, block_key) for block_key in keys]
        self.norm, self.out = eqx.nn.LayerNorm(width), eqx.nn.Linear(width, vocabulary, key=out)

    def __call__(self, tokens, state):
        time = len(tokens)
        x = jax.vmap(self.tokens)(tokens) + jax.vmap(self.positions)(jnp.arange(time))
        for block in self.blocks:
            x = block(x, jnp.tril(jnp.ones((time, time), bool)))
        return jax.vmap(self.out)(jax.vmap(self.norm)(x)), state
