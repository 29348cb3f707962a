"""Search of hyperparameters: many training runs as one compiled program."""

from fnn.search.brackets import Bracket as Bracket
from fnn.search.brackets import brackets as brackets
from fnn.search.cross_validation import cross_validate as cross_validate
from fnn.search.distributions import choice as choice
from fnn.search.distributions import integer as integer
from fnn.search.distributions import log_integer as log_integer
from fnn.search.distributions import log_uniform as log_uniform
from fnn.search.distributions import normal as normal
from fnn.search.distributions import uniform as uniform
from fnn.search.fold_statistics import Comparison as Comparison
from fnn.search.fold_statistics import CrossValidation as CrossValidation
from fnn.search.fold_statistics import compare as compare
from fnn.search.halving_trials import HalvingTrials as HalvingTrials
from fnn.search.hyperband import halving as halving
from fnn.search.hyperband import hyperband as hyperband
from fnn.search.hypergradient import Hypergradient as Hypergradient
from fnn.search.hypergradient import hypergradient as hypergradient
from fnn.search.hypergradient import truncated as truncated
from fnn.search.implicit import implicit as implicit
from fnn.search.learning_curve import LearningCurve as LearningCurve
from fnn.search.learning_curve import learning_curve as learning_curve
from fnn.search.population import Population as Population
from fnn.search.population import population as population
from fnn.search.power_law import PowerLaw as PowerLaw
from fnn.search.random import grid as grid
from fnn.search.random import random as random
from fnn.search.rate_test import RateTest as RateTest
from fnn.search.rate_test import rate_test as rate_test
from fnn.search.replay import Schedule as Schedule
from fnn.search.replay import replay as replay
from fnn.search.space import Space as Space
from fnn.search.space import space as space
from fnn.search.stop_rules import halving_promotion as halving_promotion
from fnn.search.stop_rules import halving_stops as halving_stops
from fnn.search.stop_rules import patience_stops as patience_stops
from fnn.search.stop_rules import percentile_stops as percentile_stops
from fnn.search.stop_rules import wilcoxon_stops as wilcoxon_stops
from fnn.search.trials import Trial as Trial
from fnn.search.trials import Trials as Trials
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
