"""All that uses terminal, clock or disk: fit, progress, plots, logs, checkpoints and weights."""

from typing import TYPE_CHECKING as TYPE_CHECKING
from typing import Any as Any

from fnn.lab.checkpoints.model import load_model as load_model
from fnn.lab.checkpoints.model import save_model as save_model
from fnn.lab.checkpoints.reader import read as read
from fnn.lab.checkpoints.restore import load as load
from fnn.lab.checkpoints.restore import restore as restore
from fnn.lab.checkpoints.safetensors import export_safetensors as export_safetensors
from fnn.lab.checkpoints.safetensors import import_safetensors as import_safetensors
from fnn.lab.checkpoints.store import checkpoint_store as checkpoint_store
from fnn.lab.checkpoints.store import save as save
from fnn.lab.connection import connect as connect
from fnn.lab.console.watch import progress as progress
from fnn.lab.exports.onnx_file import export_onnx as export_onnx
from fnn.lab.exports.program import export as export
from fnn.lab.exports.program import load_export as load_export
from fnn.lab.features import save_features as save_features
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
from fnn.lab.plots.learning_curve import plot_learning_curve as plot_learning_curve
from fnn.lab.plots.mistakes import plot_mistakes as plot_mistakes
from fnn.lab.plots.rate_test import plot_rate_test as plot_rate_test
from fnn.lab.plots.reliability import plot_reliability as plot_reliability
from fnn.lab.plots.reliability import plot_risk_coverage as plot_risk_coverage
from fnn.lab.plots.retrieval import plot_retrieval as plot_retrieval
from fnn.lab.plots.rungs import plot_population as plot_population
from fnn.lab.plots.rungs import plot_rungs as plot_rungs
from fnn.lab.plots.schedule import plot_schedule as plot_schedule
from fnn.lab.plots.trials import plot_best_of_n as plot_best_of_n
from fnn.lab.plots.trials import plot_parallel as plot_parallel
from fnn.lab.plots.trials import plot_search as plot_search
from fnn.lab.pretrained import load_weights as load_weights
from fnn.lab.report.content import Report as Report
from fnn.lab.report.content import Series as Series
from fnn.lab.report.content import read_report as read_report
from fnn.lab.report.html_report import report as report
from fnn.lab.search import search as search
from fnn.lab.study import optimize_study as optimize_study
from fnn.lab.study import study_recipe as study_recipe
from fnn.values.show import public_names as _public_names

if TYPE_CHECKING:
    from fnn.lab.estimators.classifier import Classifier as Classifier
    from fnn.lab.estimators.regressor import Regressor as Regressor


def __getattr__(name: str) -> Any:
    """Import the estimators on first use, since scikit-learn is optional and slow to import."""
    if name == "Classifier":
        from fnn.lab.estimators.classifier import Classifier

        return Classifier
    if name == "Regressor":
        from fnn.lab.estimators.regressor import Regressor

        return Regressor
    raise AttributeError(f"module 'fnn.lab' has no attribute {name!r}")


# Without the estimators, whose import may fail.
__all__ = _public_names(globals())
