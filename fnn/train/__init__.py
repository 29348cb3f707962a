"""Training, put together as pure functions; a whole run is one of them."""

from fnn.train.epochs import epoch as epoch
from fnn.train.evaluation import evaluate as evaluate
from fnn.train.evaluation import predict as predict
from fnn.train.runs import run as run
from fnn.train.steps import start as start
from fnn.train.steps import step as step
from fnn.train.steps import steps as steps
from fnn.train.stopping import early_stopping as early_stopping
