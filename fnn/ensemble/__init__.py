"""Ensembles of networks, averages of weights, uncertainty and calibration of predictions."""

from fnn.ensemble.calibration import calibrate as calibrate
from fnn.ensemble.calibration import fit_matrix_scaling as fit_matrix_scaling
from fnn.ensemble.calibration import fit_temperature as fit_temperature
from fnn.ensemble.calibration import fit_vector_scaling as fit_vector_scaling
from fnn.ensemble.conformal import PredictionInterval as PredictionInterval
from fnn.ensemble.conformal import adaptive_sets as adaptive_sets
from fnn.ensemble.conformal import conformal_quantile as conformal_quantile
from fnn.ensemble.conformal import fit_adaptive_sets as fit_adaptive_sets
from fnn.ensemble.conformal import fit_quantile_intervals as fit_quantile_intervals
from fnn.ensemble.conformal import fit_residual_intervals as fit_residual_intervals
from fnn.ensemble.conformal import fit_threshold_sets as fit_threshold_sets
from fnn.ensemble.conformal import quantile_intervals as quantile_intervals
from fnn.ensemble.conformal import residual_intervals as residual_intervals
from fnn.ensemble.conformal import threshold_sets as threshold_sets
from fnn.ensemble.mc_dropout import mc_dropout as mc_dropout
from fnn.ensemble.outliers import fit_mahalanobis as fit_mahalanobis
from fnn.ensemble.outliers import mahalanobis as mahalanobis
from fnn.ensemble.outliers import neighbor_distance as neighbor_distance
from fnn.ensemble.outliers import outlier_scores as outlier_scores
from fnn.ensemble.reliability import BrierDecomposition as BrierDecomposition
from fnn.ensemble.reliability import NllDecomposition as NllDecomposition
from fnn.ensemble.reliability import Reliability as Reliability
from fnn.ensemble.reliability import brier_decomposition as brier_decomposition
from fnn.ensemble.reliability import nll_decomposition as nll_decomposition
from fnn.ensemble.reliability import reliability as reliability
from fnn.ensemble.risk_coverage import RiskCoverage as RiskCoverage
from fnn.ensemble.risk_coverage import risk_coverage as risk_coverage
from fnn.ensemble.scaling import matrix_scaling as matrix_scaling
from fnn.ensemble.scaling import temperature as temperature
from fnn.ensemble.scaling import vector_scaling as vector_scaling
from fnn.ensemble.uncertainty import Decomposition as Decomposition
from fnn.ensemble.uncertainty import disagreement as disagreement
from fnn.ensemble.uncertainty import entropy_decomposition as entropy_decomposition
from fnn.ensemble.uncertainty import variance_decomposition as variance_decomposition
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
