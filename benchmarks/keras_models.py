"""The convolutional networks of the benchmarks in Keras on JAX; the import takes seconds."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # read when keras is imported

import keras
from keras import layers
from resnet_blocks import CLASSES, blocks


def cnn(channels, size):
    """Convolutions with these channels, each with relu and 2x2 max pooling, then a dense layer."""
    body = []
    for o in channels:
        body.append(layers.Conv2D(o, 3, padding="same", activation="relu"))
        body.append(layers.MaxPool2D())
    images = keras.Input((size, size, 3))
    return keras.Sequential([images, *body, layers.Flatten(), layers.Dense(CLASSES)])


def resnet(depth, size):
    """The residual network of `nn.resnet_cifar`."""
    images = keras.Input((size, size, 3))
    x = layers.ReLU()(convolved(images, 16, 1))
    for block in blocks(depth):
        x = residual(x, *block)
    return keras.Model(images, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def convolved(x, channels, stride):
    y = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(y)


def residual(x, i, o, stride):
    y = convolved(layers.ReLU()(convolved(x, o, stride)), o, 1)
    x = keras.ops.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, o - i)))
    return layers.ReLU()(x + y)
