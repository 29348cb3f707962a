"""The residual network of `nn.resnet_cifar` in flax nnx."""

import jax.numpy as jnp
from flax import nnx
from resnet_blocks import CLASSES, blocks


def conv(i, o, stride, rngs):
    return nnx.Conv(i, o, (3, 3), strides=stride, use_bias=False, rngs=rngs)


class Block(nnx.Module):
    def __init__(self, i, o, stride, rngs):
        self.first, self.norm_1 = conv(i, o, stride, rngs), nnx.BatchNorm(o, rngs=rngs)
        self.second, self.norm_2 = conv(o, o, 1, rngs), nnx.BatchNorm(o, rngs=rngs)
        self.stride, self.more = stride, o - i

    def __call__(self, x):
        y = self.norm_2(self.second(nnx.relu(self.norm_1(self.first(x)))))
        x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((0, self.more),))
        return nnx.relu(x + y)


class ResNet(nnx.Module):
    def __init__(self, rngs, depth=8):
        self.stem, self.norm = conv(3, 16, 1, rngs), nnx.BatchNorm(16, rngs=rngs)
        self.blocks = nnx.List([Block(*block, rngs) for block in blocks(depth)])
        self.out = nnx.Linear(64, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((1, 2)))
