"""The arguments of `lab.fit` for its training loop."""

from dataclasses import dataclass

from fnn.lab.fit.checkpoint_policy import CheckpointPolicy
from fnn.lab.logs.log import Log
from fnn.train.callback import Callback
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey, Shape, TrainState


@dataclass(frozen=True)
class FitConfig:
    """The arguments of `lab.fit`, validated, except for the data source.

    Attributes:
        data: Training data as arrays, or the first batch of an iterable.
        out_shape: Shape of one output of the network.
        chunk: Steps per segment, or None to adapt it to the speed.
    """

    key: RandomKey
    recipe: Recipe
    data: Data
    valid: Data | None
    out_shape: Shape
    epochs: int
    batch_size: int
    checkpoints: CheckpointPolicy | None
    resume: bool | TrainState
    callback: Callback | None
    log: Log
    log_every: int
    max_seconds: float
    max_steps: float
    chunk: int | None
    show: bool
