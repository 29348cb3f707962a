"""Logs of the figures of a run: JSON lines, CSV, TensorBoard, or a user's function."""

from fnn.lab.logs.jsonl_csv import csv_log as csv_log
from fnn.lab.logs.jsonl_csv import jsonl_log as jsonl_log
from fnn.lab.logs.log import Log as Log
from fnn.lab.logs.log import RunInfo as RunInfo
from fnn.lab.logs.log import as_log as as_log
from fnn.lab.logs.read_log import read_log as read_log
from fnn.lab.logs.summarize import summarize_runs as summarize_runs
from fnn.lab.logs.tensorboard import tensorboard_log as tensorboard_log
