"""The doors to the world: terminal, clock and disk."""

from fnn.lab.checkpoints.exporting import export_safetensors as export_safetensors
from fnn.lab.checkpoints.exporting import import_safetensors as import_safetensors
from fnn.lab.checkpoints.filling import load as load
from fnn.lab.checkpoints.filling import restore as restore
from fnn.lab.checkpoints.reading import read as read
from fnn.lab.checkpoints.store import checkpoints as checkpoints
from fnn.lab.checkpoints.store import save as save
from fnn.lab.confusions import confusion as confusion
from fnn.lab.fitting import fit as fit
from fnn.lab.galleries import gallery as gallery
from fnn.lab.logs import Begun as Begun
from fnn.lab.logs import Log as Log
from fnn.lab.logs import csv_log as csv_log
from fnn.lab.logs import jsonl_log as jsonl_log
from fnn.lab.logs import population as population
from fnn.lab.logs import read_log as read_log
from fnn.lab.logs import tensorboard_log as tensorboard_log
from fnn.lab.mistakes import mistakes as mistakes
from fnn.lab.reports import curves as curves
from fnn.lab.saving import saving as saving
from fnn.lab.schedules import plot_schedule as plot_schedule
from fnn.lab.seeing import seen as seen
from fnn.lab.watching import watching as watching
from fnn.lab.weights import load_weights as load_weights
