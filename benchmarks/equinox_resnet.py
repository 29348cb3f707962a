"""The residual network of `nn.resnet_cifar` in Equinox, for one example, channels first."""

import equinox as eqx
import jax
import jax.numpy as jnp
from resnet_blocks import CLASSES, blocks


def conv(i, o, stride, key):
    return eqx.nn.Conv2d(i, o, 3, stride, 1, use_bias=False, key=key)


def norm(channels):
    return eqx.nn.BatchNorm(channels, axis_name="batch", mode="batch")


class Block(eqx.Module):
    first: eqx.nn.Conv2d
    norm_1: eqx.nn.BatchNorm
    second: eqx.nn.Conv2d
    norm_2: eqx.nn.BatchNorm
    stride: int = eqx.field(static=True)
    more: int = eqx.field(static=True)

    def __init__(self, i, o, stride, key):
        first, second = jax.random.split(key)
        self.first, self.norm_1 = conv(i, o, stride, first), norm(o)
        self.second, self.norm_2 = conv(o, o, 1, second), norm(o)
        self.stride, self.more = stride, o - i

    def __call__(self, x, state):
        y, state = self.norm_1(self.first(x), state)
        y, state = self.norm_2(self.second(jax.nn.relu(y)), state)
        x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, self.more), (0, 0), (0, 0)))
        return jax.nn.relu(x + y), state


class ResNet(eqx.Module):
    stem: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    blocks: list[Block]
    out: eqx.nn.Linear

    def __init__(self, key, depth=8):
        chosen = blocks(depth)
        stem, out, *keys = jax.random.split(key, 2 + len(chosen))
        self.stem, self.norm = conv(3, 16, 1, stem), norm(16)
        pairs = zip(chosen, keys, strict=True)
        self.blocks = [Block(*block, block_key) for block, block_key in pairs]
        self.out = eqx.nn.Linear(64, CLASSES, key=out)

    def __call__(self, x, state):
        x, state = self.norm(self.stem(x), state)
        x = jax.nn.relu(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.out(x.mean((1, 2))), state
