"""Transfer of trained networks: features, linear probes, nearest neighbors, fine-tuning."""

from fnn.transfer.advice import Advice as Advice
from fnn.transfer.advice import advise as advise
from fnn.transfer.blocks import Block as Block
from fnn.transfer.blocks import blocks as blocks
from fnn.transfer.comparison import RegimeComparison as RegimeComparison
from fnn.transfer.comparison import compare as compare
from fnn.transfer.features import features as features
from fnn.transfer.linear_probe import LinearProbe as LinearProbe
from fnn.transfer.linear_probe import attach as attach
from fnn.transfer.linear_probe import linear_probe as linear_probe
from fnn.transfer.neighbors import Neighbors as Neighbors
from fnn.transfer.neighbors import Retrieved as Retrieved
from fnn.transfer.neighbors import nearest_neighbors as nearest_neighbors
from fnn.transfer.neighbors import retrieve as retrieve
from fnn.transfer.regimes import fine_tune as fine_tune
from fnn.transfer.regimes import head_only as head_only
from fnn.transfer.regimes import last_blocks as last_blocks
from fnn.transfer.regimes import scratch as scratch
from fnn.transfer.stages import Stage as Stage
from fnn.transfer.stages import gradual_unfreezing as gradual_unfreezing
from fnn.transfer.stages import run_stages as run_stages
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
