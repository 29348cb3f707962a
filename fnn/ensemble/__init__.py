"""Ensembles of networks, averages of weights, uncertainty and calibration of predictions."""

from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
