"""Ensembles of networks, averages of weights, uncertainty and calibration of predictions."""

from fnn.ensemble.combination import Moments as Moments
from fnn.ensemble.combination import average_outputs as average_outputs
from fnn.ensemble.combination import average_probabilities as average_probabilities
from fnn.ensemble.combination import mixture_moments as mixture_moments
from fnn.ensemble.combination import vote as vote
from fnn.ensemble.evaluate import Evaluation as Evaluation
from fnn.ensemble.evaluate import evaluate as evaluate
from fnn.ensemble.members import Member as Member
from fnn.ensemble.members import Members as Members
from fnn.ensemble.members import collect as collect
from fnn.ensemble.members import predict as predict
from fnn.ensemble.statistics import refresh_statistics as refresh_statistics
from fnn.ensemble.train import Ensemble as Ensemble
from fnn.ensemble.train import train as train
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
