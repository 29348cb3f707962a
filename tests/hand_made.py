"""Evidence of a healthy run, made by hand, of which tests change single figures."""

import numpy as np

from fnn.diagnose.baselines import Baselines
from fnn.diagnose.evidence import CLASSES, Evidence, Task
from fnn.diagnose.loss_probes import Probes
from fnn.diagnose.observation import Observation
from fnn.diagnose.update_lines import FRACTIONS

CHANCE = float(np.log(2))
EXAMPLES = 400
LAYERS = ("dense_0", "relu_1", "dense_2")
PARAMETERS = ("dense_0/bias", "dense_0/kernel", "dense_2/bias", "dense_2/kernel")
STEPS, EPOCHS = 200, 10
LABELS = np.arange(EXAMPLES) % 2


def outputs(right: float, labels: np.ndarray = LABELS) -> np.ndarray:
    """Logits that are right for the first share of the examples of each class."""
    count = int(right * len(labels))
    predicted = np.where(np.arange(len(labels)) < count, labels, 1 - labels)
    return 6 * np.eye(2)[predicted]


def line(best: float, depth: float = 0.1) -> np.ndarray:
    """Loss along an update, lowest at a multiple of it."""
    fractions = np.array(FRACTIONS)
    return 1 + depth * (np.square(fractions / best - 1) - 1)[None].repeat(3, 0)


def curve(first: float, last: float, steps: int = STEPS, noise: float = 0.02) -> np.ndarray:
    """An exponential decay with noise."""
    draws = np.random.default_rng(0).standard_normal(steps)
    fall = np.exp(-np.linspace(0, 5, steps))
    return last + (first - last) * fall + noise * draws * (last + (first - last) * fall)


def observation(**changes) -> Observation:
    """Statistics without a fault."""
    values = {
        "outputs": outputs(0.99),
        "valid_outputs": outputs(0.97),
        "losses": np.full(EXAMPLES, 0.02),
        "valid_losses": np.full(EXAMPLES, 0.05),
        "activation_mean": np.zeros(3),
        "activation_std": np.ones(3),
        "variation": np.ones(3),
        "dead_share": np.array([np.nan, 0.1, np.nan]),
        "saturated_share": np.full(3, np.nan),
        "units": np.full(3, 8),
        "gradient_norm": np.ones(3),
        "grad_rms": np.full(4, 1e-2),
        "penalty_rms": np.zeros(4),
        "weight_rms": np.full(4, 0.1),
        "weight_std": np.full(4, 0.1),
        "tiny_share": np.zeros(4),
        "update_ratio": np.full(4, 1e-3),
        "line": line(4.0),
        "other_line": line(2.0),
        "slope": np.float32(-0.5),
        "train_mode_loss": np.float32(0.02),
        "eval_mode_loss": np.float32(0.02),
        "rate": np.float32(0.1),
    }
    return Observation(**(values | changes))


def untrained(**changes) -> Observation:
    """Statistics before training, without a fault."""
    values = {
        "outputs": outputs(0.5),
        "losses": np.full(EXAMPLES, CHANCE),
        "valid_outputs": (),
        "valid_losses": (),
        "train_mode_loss": np.float32(CHANCE),
        "eval_mode_loss": np.float32(CHANCE),
    }
    return observation(**(values | changes))


def task(**changes) -> Task:
    """Two classes in equal shares that a linear model separates."""
    values = {
        "kind": CLASSES,
        "targets": LABELS,
        "valid_targets": LABELS,
        "shares": np.array([0.5, 0.5]),
        "probes": Probes(3e-4, CHANCE, 8.0, 0.0, CHANCE, 0.0),
        "baselines": Baselines(0.9, 0.95, 0.95, 0.01),
    }
    return Task(**(values | changes))


def evidence(**changes) -> Evidence:
    """Evidence of a healthy run; `history` updates the recorded figures."""
    history = {
        "loss": curve(CHANCE, 0.02),
        "rate": np.full(STEPS, 0.1),
        "finite": np.ones(STEPS, bool),
        "valid_loss": np.r_[0.07, np.full(EPOCHS - 1, 0.05)],
    }
    values = {
        "epoch_length": STEPS // EPOCHS,
        "batch_size": 20,
        "examples": EXAMPLES,
        "layers": LAYERS,
        "kinds": ("dense", "relu", "dense"),
        "parameters": PARAMETERS,
        "frozen": frozenset(),
        "change": np.full(4, 0.5),
        "still": (),
        "start": untrained(),
        "end": observation(),
        "task": task(),
    }
    merged = history | changes.pop("history", {})
    return Evidence(history=merged, **(values | changes))
