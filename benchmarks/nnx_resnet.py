"""ResNet-8 in flax nnx, as it is in `nn.resnet_cifar(8)`."""

import jax.numpy as jnp
from flax import nnx

CLASSES = 10
STAGES = ((16, 16, 1), (16, 32, 2), (32, 64, 2))  # in-channels, out-channels and stride of each block


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
    def __init__(self, rngs):
        self.stem, self.norm = conv(3, 16, 1, rngs), nnx.BatchNorm(16, rngs=rngs)
        self.blocks = nnx.List([Block(*stage, rngs) for stage in STAGES])
        self.out = nnx.Linear(64, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((1, 2)))
