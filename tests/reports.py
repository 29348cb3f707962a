"""Reports of a small run, and a parser of pages."""

from html.parser import HTMLParser

import jax
import numpy as np

from fnn import nn, optim, train
from fnn.diagnose import Findings
from fnn.diagnose.findings import Rule
from fnn.diagnose.layer_statistics import BINS, HISTOGRAM
from fnn.types import History, Result

STEPS, LAYERS = 12, 3
HOSTILE = '<script>alert("1")</script>'
LABELS = np.arange(48) % 3
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 4, 4, 1), np.uint8)
DATA = (IMAGES, LABELS)
VALID = (IMAGES[:12], LABELS[:12])
NAMES = ["cat", HOSTILE, "a & b"]
RECIPE = train.recipe(nn.chain(nn.flatten(), nn.dense(3)), optim.adam(0.1))
DEAD = Rule(
    "T06",
    "dead_units",
    "TheDeepChecker",
    ("the rate was too high",),
    ("divide the rate by 3", "use leaky_relu"),
    "the same run at a tenth of the rate",
)
PLAIN = Rule("P03", "class_imbalance", "SageMaker", (), ("weigh the classes",), "")
FINDINGS = Findings(
    [
        PLAIN.finding("warning", "4 of 5 are cats", {"ratio": np.float32(0.1)}, "> 10"),
        DEAD.finding(
            "error",
            f"62 % of the units of {HOSTILE} are dead",
            {"dead_share": 0.62, "worst": float("inf")},
            "> 50 %",
            layer="layer 1",
            steps=(3, 6),
        ),
    ]
)


class Page(HTMLParser):
    """The elements of a page: tags with their attributes, and the text outside of styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.data, self.path = [], [], [], []
        self.feed(text)
        self.close()
        assert self.path == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("br", "img", "link", "meta"):
            self.path.append(tag)

    def handle_endtag(self, tag):
        assert self.path.pop() == tag

    def handle_data(self, data):
        if "template" in self.path:
            self.data.append(data)
        elif "style" not in self.path:
            self.texts.append(data)

    @property
    def tags(self):
        return {tag for tag, _ in self.elements}

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def sections(self):
        return [attributes["id"] for tag, attributes in self.elements if tag == "section"]


def small_run():
    return train.run(jax.random.key(3), RECIPE, DATA, epochs=3, batch_size=12, valid=VALID)


def with_instruments(result, every=2):
    """The result with statistics of layers at every second step, NaN at the others."""
    steps = len(result.history.loss)
    arrays = dict(result.history)
    for index, name in enumerate(("activation_std", "dead_share", "grad_rms", "update_ratio")):
        values = np.full((steps, LAYERS), np.nan, np.float32)
        values[::every] = 0.1 * (index + 1) + 0.01 * np.arange(LAYERS)
        arrays[name] = values
    return Result(result.train_state, History(arrays))


def with_histograms(result, every=2):
    """The result with histograms of activations at every second step, NaN at the others."""
    shares = np.full((len(result.history.loss), LAYERS, BINS), np.nan, np.float32)
    shares[::every] = np.eye(BINS)[:LAYERS]
    arrays = dict(result.history) | {HISTOGRAM: shares}
    return Result(result.train_state, History(arrays))
