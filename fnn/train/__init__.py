"""Training as pure functions: single steps, epochs, whole runs and evaluation."""

from fnn.train.early_stopping import early_stopping as early_stopping
from fnn.train.epoch import epoch as epoch
from fnn.train.evaluate import evaluate as evaluate
from fnn.train.evaluate import predict as predict
from fnn.train.evaluate import weights as weights
from fnn.train.layout import Layout as Layout
from fnn.train.layout import layout as layout
from fnn.train.param_specs import transformer_rules as transformer_rules
from fnn.train.recipe import Recipe as Recipe
from fnn.train.recipe import recipe as recipe
from fnn.train.recipe import stack as stack
from fnn.train.run import run as run
from fnn.train.step import num_steps as num_steps
from fnn.train.step import start as start
from fnn.train.step import step as step
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
