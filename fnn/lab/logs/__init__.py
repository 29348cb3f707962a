"""Where the figures of a run go while it runs: files, TensorBoard, or a function of one's own."""

from fnn.lab.logs.log import Begun as Begun
from fnn.lab.logs.log import Log as Log
from fnn.lab.logs.log import as_log as as_log
from fnn.lab.logs.population import population as population
from fnn.lab.logs.reading import read_log as read_log
from fnn.lab.logs.tables import csv_log as csv_log
from fnn.lab.logs.tables import jsonl_log as jsonl_log
from fnn.lab.logs.tensorboard import tensorboard_log as tensorboard_log
