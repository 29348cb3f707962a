"""The time of a loader against that of the program, in a run on a stream."""

import time
from collections.abc import Callable
from statistics import median

from fnn.diagnose.findings import Findings
from fnn.diagnose.input_rules import InputTimes, input_bound
from fnn.diagnose.thresholds import DEFAULT

FIRST_PROBE = 4  # step; those before may compile, or fill caches


class InputClock:
    """Measures for how long the device waits for the loader.

    While the device computes a step, the host fetches the next batch. The device waits if the batch
    takes longer than the step. The time of a step is not known from outside, since it overlaps: so
    step 4, 8, 16, ... are computed alone. Their number is a logarithm, and so is their cost.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._steps = 0  # of this session
        self._probed: list[float] = []
        self._timed = 0
        self._fetched = 0.0
        self._waited = 0.0
        self._began = 0.0

    @property
    def is_probe(self) -> bool:
        """Whether the next step is to be computed alone."""
        count = self._steps + 1
        is_power_of_two = count & (count - 1) == 0
        return is_power_of_two and count >= FIRST_PROBE

    def add_step(self, batch_seconds: float, step_seconds: float | None) -> None:
        """Count a step.

        Args:
            batch_seconds: Time of the loader.
            step_seconds: Time of the program if the step was computed alone, else None.
        """
        self._steps += 1
        if step_seconds is not None:
            # Steps that are computed alone are left out of the total.
            if self._probed:
                self._began += batch_seconds + step_seconds
            else:
                self._began = self.clock()
            self._probed.append(step_seconds)
        elif self._probed:
            self._timed += 1
            self._fetched += batch_seconds
            self._waited += max(0.0, batch_seconds - median(self._probed))

    def findings(self) -> Findings:
        """Return T20 if the loader is the bottleneck of the run so far."""
        if not self._timed:
            return Findings()
        times = InputTimes(
            steps=self._timed,
            batch=self._fetched / self._timed,
            step=median(self._probed),
            waited=self._waited,
            total=self.clock() - self._began,
        )
        return Findings(input_bound(times, DEFAULT))
