"""The rule of thumb for transfer: number of examples by similarity to the data of the weights."""

from typing import NamedTuple

from fnn import checks

FEW = 5_000  # examples of a small data set; our choice, since the source gives no number
SIMILARITIES = ("high", "low")
# (whether examples are few, similarity) -> regime and reason
RULES = {
    (True, "high"): (
        "linear_probe",
        "few examples would overfit all layers, and high-level features of similar data fit: "
        "train a linear classifier on the input of the head",
    ),
    (False, "high"): (
        "fine_tune",
        "enough examples not to overfit, from a start that is close: fine-tune all layers, with a "
        "rate far below that of training from scratch",
    ),
    (True, "low"): (
        "linear_probe",
        "few examples, and the last layers are specific to other data: train a linear classifier "
        "on the features of an earlier layer, layer=",
    ),
    (False, "low"): (
        "fine_tune",
        "enough examples to train from scratch, but pretrained weights are usually the better "
        "start: fine-tune all layers",
    ),
}


class Advice(NamedTuple):
    """A rule of thumb.

    Attributes:
        regime: Name of a regime of `transfer.compare`.
        reason: Why, and how.
    """

    regime: str
    reason: str

    def __str__(self) -> str:
        return f"{self.regime}: {self.reason}"


def advise(*, examples: int, similarity: str) -> Advice:
    """Return the textbook's advice of how to use pretrained weights.

    | examples | similarity | regime |
    | --- | --- | --- |
    | few | high | linear probe on the last features |
    | many | high | fine-tune all |
    | few | low | linear probe on earlier features |
    | many | low | fine-tune all, or train from scratch |

    `transfer.compare` measures it on your data instead. [Stanford CS231n, notes on transfer
    learning; Yosinski et al. 2014, arXiv:1411.1792]

    Args:
        examples: Number of training examples; fewer than 5,000 are few, which is our number.
        similarity: Of the data to that of the pretrained weights, "high" or "low".

    Raises:
        ConfigError: An argument is not of the type described here.
    """
    checks.whole("advise examples", examples)
    checks.choice("advise similarity", similarity, SIMILARITIES)
    return Advice(*RULES[examples < FEW, similarity])
