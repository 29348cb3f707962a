"""What is trained: layers, how they begin, and how they become networks."""

from fnn.nn.activations import elementwise as elementwise
from fnn.nn.activations import elu as elu
from fnn.nn.activations import gelu as gelu
from fnn.nn.activations import leaky_relu as leaky_relu
from fnn.nn.activations import relu as relu
from fnn.nn.activations import sigmoid as sigmoid
from fnn.nn.activations import silu as silu
from fnn.nn.activations import softplus as softplus
from fnn.nn.activations import tanh as tanh
from fnn.nn.combinators import chain as chain
from fnn.nn.combinators import residual as residual
from fnn.nn.convolution import conv as conv
from fnn.nn.dense import dense as dense
from fnn.nn.dropout import dropout as dropout
from fnn.nn.initializers import he_normal as he_normal
from fnn.nn.initializers import he_uniform as he_uniform
from fnn.nn.initializers import lecun_normal as lecun_normal
from fnn.nn.initializers import normal as normal
from fnn.nn.initializers import xavier_normal as xavier_normal
from fnn.nn.initializers import xavier_uniform as xavier_uniform
from fnn.nn.normalization import batch_norm as batch_norm
from fnn.nn.pooling import avg_pool as avg_pool
from fnn.nn.pooling import global_avg_pool as global_avg_pool
from fnn.nn.pooling import max_pool as max_pool
from fnn.nn.reshaping import flatten as flatten
