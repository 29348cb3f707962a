"""Search of hyperparameters: many training runs as one compiled program."""

from fnn.search.distributions import choice as choice
from fnn.search.distributions import integer as integer
from fnn.search.distributions import log_integer as log_integer
from fnn.search.distributions import log_uniform as log_uniform
from fnn.search.distributions import normal as normal
from fnn.search.distributions import uniform as uniform
from fnn.search.halving import halving as halving
from fnn.search.halving import hyperband as hyperband
from fnn.search.random import grid as grid
from fnn.search.random import random as random
from fnn.search.space import Space as Space
from fnn.search.space import space as space
from fnn.search.trials import Trial as Trial
from fnn.search.trials import Trials as Trials
