"""Ensembles of networks, averages of weights, uncertainty and calibration of predictions."""

from fnn.ensemble.members import Member as Member
from fnn.ensemble.members import Members as Members
from fnn.ensemble.members import collect as collect
from fnn.ensemble.members import predict as predict
from fnn.ensemble.snapshots import Snapshots as Snapshots
from fnn.ensemble.snapshots import snapshots as snapshots
from fnn.ensemble.soup import Soup as Soup
from fnn.ensemble.soup import average as average
from fnn.ensemble.soup import greedy_soup as greedy_soup
from fnn.ensemble.statistics import refresh_members as refresh_members
from fnn.ensemble.statistics import refresh_statistics as refresh_statistics
from fnn.ensemble.swag import sample_swag as sample_swag
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
