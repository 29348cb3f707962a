"""Number of steps per segment of the training loop."""

SECONDS_PER_CHUNK = 0.5  # short enough for a live bar, long enough to cost nothing
# Limits for one adaptation: the first segments are short, and their times are not reliable.
MAX_GROWTH = 256
MIN_GROWTH = 1 / 16


def count_steps(step: int, chunk: int, last_step: float, boundary: int | None) -> int:
    """Return the number of steps of the next segment.

    Args:
        step: Number of steps done before it.
        chunk: Number of steps, unless one of the following ends the segment.
        last_step: Number of steps of the run.
        boundary: A segment does not cross multiples of this number of steps, if it is given.
    """
    stop = min(step + chunk, last_step)
    if boundary is not None:
        next_boundary = (step // boundary + 1) * boundary
        stop = min(stop, next_boundary)
    return int(stop - step)


def next_chunk(steps: int, seconds: float) -> int:
    """Return the number of steps that take SECONDS_PER_CHUNK, within the limits of growth.

    Args:
        steps: Number of steps of the last segment.
        seconds: The time that it took.
    """
    growth = SECONDS_PER_CHUNK / max(seconds, 1e-9)
    growth = max(growth, MIN_GROWTH)
    growth = min(growth, MAX_GROWTH)
    chunk = round(steps * growth)
    return max(1, chunk)
