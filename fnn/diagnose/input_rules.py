"""The rule of the input pipeline: time of waiting for batches."""

from typing import NamedTuple

from fnn.diagnose.findings import WARNING, Finding, Rule
from fnn.diagnose.thresholds import Thresholds

LEAST_SECONDS = 2.0  # of a run; a shorter one ends before a loader is worth a change
INPUT_BOUND = Rule(
    "T20",
    "input_bound",
    "DLCheck; Cockpit's time per step",
    (
        "batches are decoded, augmented or read by Python, one after another",
        "batches are small, so that each step is short",
    ),
    (
        "augment by the recipe's augment=, which is compiled",
        "read batches in several processes, as by num_workers of torch's DataLoader",
        "give arrays in the place of the loader if they fit into memory",
    ),
    "train on one batch, repeated: an epoch must take less time",
)


class InputTimes(NamedTuple):
    """Times of a run on a stream of batches, in seconds.

    Attributes:
        steps: Number of steps that were timed.
        batch: Mean time of the loader for a batch.
        step: Time of the program for a step, measured alone.
        waited: Time of the loader beyond that of the step which the device computes meanwhile.
        total: Time of all these steps.
    """

    steps: int
    batch: float
    step: float
    waited: float
    total: float


def input_bound(
    times: InputTimes,
    limits: Thresholds,
) -> list[Finding]:
    """T20: the device waits for the loader for most of the time.

    Args:
        times: Of a run.
        limits: Numbers at which rules report.
    """
    if times.steps < limits.min_steps or times.total < LEAST_SECONDS:
        return []
    share = times.waited / times.total
    if not share > limits.input_share:
        return []
    measured = {
        "share": share,
        "seconds per batch": times.batch,
        "seconds per step": times.step,
    }
    title = (
        f"{share:.0%} of the time is waiting for the loader: {1e3 * times.batch:.3g} ms per batch, "
        f"{1e3 * times.step:.3g} ms per step"
    )
    threshold = f"share > {limits.input_share:.0%}"
    return [
        INPUT_BOUND.finding(
            WARNING,
            title,
            measured,
            threshold,
        )
    ]
