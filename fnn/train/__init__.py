"""Training, put together as pure functions; a whole run is one of them."""

from fnn.train.early_stopping import early_stopping as early_stopping
from fnn.train.epochs import epoch as epoch
from fnn.train.evaluation import evaluate as evaluate
from fnn.train.evaluation import predict as predict
from fnn.train.evaluation import weights as weights
from fnn.train.recipe import Recipe as Recipe
from fnn.train.recipe import recipe as recipe
from fnn.train.recipe import stack as stack
from fnn.train.runs import run as run
from fnn.train.steps import num_steps as num_steps
from fnn.train.steps import start as start
from fnn.train.steps import step as step
