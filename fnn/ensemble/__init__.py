"""Ensembles of networks, averages of weights, uncertainty and calibration of predictions."""

from fnn.ensemble.members import Member as Member
from fnn.ensemble.members import Members as Members
from fnn.ensemble.members import collect as collect
from fnn.ensemble.members import predict as predict
from fnn.ensemble.statistics import refresh_statistics as refresh_statistics
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
