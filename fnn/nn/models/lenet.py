"""LeNet-5."""

from fnn import checks
from fnn.nn.activations.pointwise import tanh
from fnn.nn.combinators.chain import chain
from fnn.nn.convolution.conv import conv
from fnn.nn.linear.dense import dense
from fnn.nn.pooling.windows import avg_pool
from fnn.nn.reshaping.shape import flatten
from fnn.types import Layer
from fnn.values import maker


@maker
def lenet5(classes: int = 10) -> Layer:
    """LeNet-5, two convolutions with pooling and three dense layers, for small gray images.

    x (batch, height, width, channels) -> logits (batch, classes); 61,706 parameters for 32 x 32 x 1, where the sizes go
    28, 14, 10, 5. As today: all feature maps are connected, the pools hold no parameters and the end is linear.
    ShapeError for images below 16 x 16 [LeCun et al. 1998, Gradient-based learning applied to document recognition].
    """
    checks.whole("lenet5 classes", classes)
    return chain(
        conv_1=conv(6, 5, padding="VALID"), tanh_1=tanh(), pool_1=avg_pool(),
        conv_2=conv(16, 5, padding="VALID"), tanh_2=tanh(), pool_2=avg_pool(),
        flatten=flatten(), dense_1=dense(120), tanh_3=tanh(), dense_2=dense(84), tanh_4=tanh(), dense_3=dense(classes),
    )  # fmt: skip
