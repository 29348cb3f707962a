"""What is minimized and what is reported: functions (outputs, targets) -> one value an example."""

from fnn.objective.losses import cross_entropy as cross_entropy
from fnn.objective.losses import squared_error as squared_error
from fnn.objective.metrics import accuracy as accuracy
