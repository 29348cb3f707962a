"""A log that is told of one step."""

import numpy as np


def tell(log, step, figures):
    """The figures of a step, as numbers."""
    log.write(np.array([step]), {name: np.asarray(value)[None] for name, value in figures.items()})
