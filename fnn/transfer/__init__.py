"""Transfer of trained networks: features, linear probes, nearest neighbors, fine-tuning."""

from fnn.transfer.features import features as features
from fnn.transfer.linear_probe import LinearProbe as LinearProbe
from fnn.transfer.linear_probe import attach as attach
from fnn.transfer.linear_probe import linear_probe as linear_probe
from fnn.transfer.neighbors import Neighbors as Neighbors
from fnn.transfer.neighbors import Retrieved as Retrieved
from fnn.transfer.neighbors import nearest_neighbors as nearest_neighbors
from fnn.transfer.neighbors import retrieve as retrieve
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
