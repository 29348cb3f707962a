"""What is trained: layers, how they begin, and how they become networks."""

from fnn.nn.activations.pointwise import elementwise as elementwise
from fnn.nn.activations.pointwise import elu as elu
from fnn.nn.activations.pointwise import gelu as gelu
from fnn.nn.activations.pointwise import leaky_relu as leaky_relu
from fnn.nn.activations.pointwise import relu as relu
from fnn.nn.activations.pointwise import sigmoid as sigmoid
from fnn.nn.activations.pointwise import silu as silu
from fnn.nn.activations.pointwise import softplus as softplus
from fnn.nn.activations.pointwise import tanh as tanh
from fnn.nn.combinators.chain import chain as chain
from fnn.nn.combinators.residual import residual as residual
from fnn.nn.convolution.conv import conv as conv
from fnn.nn.initializers.scaled import he_normal as he_normal
from fnn.nn.initializers.scaled import he_uniform as he_uniform
from fnn.nn.initializers.scaled import lecun_normal as lecun_normal
from fnn.nn.initializers.scaled import normal as normal
from fnn.nn.initializers.scaled import xavier_normal as xavier_normal
from fnn.nn.initializers.scaled import xavier_uniform as xavier_uniform
from fnn.nn.linear.dense import dense as dense
from fnn.nn.noise.dropout import dropout as dropout
from fnn.nn.normalization.batch_norm import batch_norm as batch_norm
from fnn.nn.pooling.windows import avg_pool as avg_pool
from fnn.nn.pooling.windows import global_avg_pool as global_avg_pool
from fnn.nn.pooling.windows import max_pool as max_pool
from fnn.nn.reshaping.shape import flatten as flatten
