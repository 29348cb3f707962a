"""Where the figures of a run go while it runs: files, TensorBoard, or a function of one's own."""

from fnn.lab.logs.jsonl_csv import csv_log as csv_log
from fnn.lab.logs.jsonl_csv import jsonl_log as jsonl_log
from fnn.lab.logs.log import Begun as Begun
from fnn.lab.logs.log import Log as Log
from fnn.lab.logs.log import as_log as as_log
from fnn.lab.logs.read_log import read_log as read_log
from fnn.lab.logs.summarize import summarize_runs as summarize_runs
from fnn.lab.logs.tensorboard import tensorboard_log as tensorboard_log
