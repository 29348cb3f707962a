"""fnn: a functional neural network library in JAX. A whole training run is a pure function."""

from fnn import augment as augment
from fnn import data as data
from fnn import diagnose as diagnose
from fnn import errors as errors
from fnn import lab as lab
from fnn import nn as nn
from fnn import objective as objective
from fnn import optim as optim
from fnn import train as train
from fnn import types as types
from fnn.values.decorator import maker as maker
