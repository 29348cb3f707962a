"""The doors to the world: terminal, clock and disk."""

from fnn.lab.checkpoints.exporting import export_safetensors as export_safetensors
from fnn.lab.checkpoints.exporting import import_safetensors as import_safetensors
from fnn.lab.checkpoints.filling import restore as restore
from fnn.lab.checkpoints.reading import read as read
from fnn.lab.checkpoints.store import checkpoints as checkpoints
from fnn.lab.checkpoints.store import save as save
from fnn.lab.fitting import fit as fit
from fnn.lab.galleries import gallery as gallery
from fnn.lab.reports import curves as curves
from fnn.lab.schedules import plot_schedule as plot_schedule
from fnn.lab.weights import load_weights as load_weights
