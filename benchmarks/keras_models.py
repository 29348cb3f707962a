"""The convolutional networks of the benchmarks in keras, on jax. Importing it takes seconds."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # read when keras is imported

import keras
from keras import layers
from resnet_blocks import CLASSES, blocks


def cnn(channels, size):
    """Convolutions of so many channels, each with relu and max-pool 2, then a dense layer."""
    body = [
        part
        for o in channels
        for part in (layers.Conv2D(o, 3, padding="same", activation="relu"), layers.MaxPool2D())
    ]
    return keras.Sequential(
        [keras.Input((size, size, 3)), *body, layers.Flatten(), layers.Dense(CLASSES)]
    )


def resnet(depth, size):
    """The residual network of `nn.resnet_cifar`."""
    images = keras.Input((size, size, 3))
    x = layers.ReLU()(convolved(images, 16, 1))
    for block in blocks(depth):
        x = residual(x, *block)
    return keras.Model(images, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def convolved(x, channels, stride):
    return layers.BatchNormalization()(
        layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
    )


def residual(x, i, o, stride):
    y = convolved(layers.ReLU()(convolved(x, o, stride)), o, 1)
    x = keras.ops.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, o - i)))
    return layers.ReLU()(x + y)
