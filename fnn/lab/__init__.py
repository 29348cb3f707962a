"""The doors to the world: terminal, clock and disk."""

from fnn.lab.confusions import confusion as confusion
from fnn.lab.fitting import fit as fit
from fnn.lab.galleries import gallery as gallery
from fnn.lab.mistakes import mistakes as mistakes
from fnn.lab.reports import curves as curves
from fnn.lab.schedules import plot_schedule as plot_schedule
from fnn.lab.seeing import seen as seen
from fnn.lab.weights import load_weights as load_weights
