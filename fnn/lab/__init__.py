"""All that uses terminal, clock or disk: fit, progress, plots, logs, checkpoints and weights."""

from fnn.lab.checkpoints.reader import read as read
from fnn.lab.checkpoints.restore import load as load
from fnn.lab.checkpoints.restore import restore as restore
from fnn.lab.checkpoints.safetensors import export_safetensors as export_safetensors
from fnn.lab.checkpoints.safetensors import import_safetensors as import_safetensors
from fnn.lab.checkpoints.store import checkpoint_store as checkpoint_store
from fnn.lab.checkpoints.store import save as save
from fnn.lab.console.watch import progress as progress
from fnn.lab.fit.checkpoint_policy import checkpoint_policy as checkpoint_policy
from fnn.lab.fit.fit import fit as fit
from fnn.lab.logs import Log as Log
from fnn.lab.logs import RunInfo as RunInfo
from fnn.lab.logs import csv_log as csv_log
from fnn.lab.logs import jsonl_log as jsonl_log
from fnn.lab.logs import read_log as read_log
from fnn.lab.logs import summarize_runs as summarize_runs
from fnn.lab.logs import tensorboard_log as tensorboard_log
from fnn.lab.plots.augmentations import plot_augmentations as plot_augmentations
from fnn.lab.plots.batch import plot_batch as plot_batch
from fnn.lab.plots.confusion import plot_confusion as plot_confusion
from fnn.lab.plots.curves import plot_curves as plot_curves
from fnn.lab.plots.mistakes import plot_mistakes as plot_mistakes
from fnn.lab.plots.rungs import plot_population as plot_population
from fnn.lab.plots.rungs import plot_rungs as plot_rungs
from fnn.lab.plots.schedule import plot_schedule as plot_schedule
from fnn.lab.pretrained import load_weights as load_weights
