"""Search of hyperparameters: gradients of whole runs by the numbers of a recipe."""

from fnn.search.hypergradient import Hypergradient as Hypergradient
from fnn.search.hypergradient import hypergradient as hypergradient
from fnn.search.hypergradient import truncated as truncated
from fnn.search.implicit import implicit as implicit
