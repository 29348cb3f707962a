"""Samplers: points of the unit cube, from which trials are made by the quantiles."""

import warnings

import jax
import numpy as np

from fnn import checks
from fnn.types import RandomKey

SAMPLERS = ("random", "sobol", "halton")


def unit_points(
    key: RandomKey,
    count: int,
    dimensions: int,
    *,
    sampler: str = "random",
    scramble: bool = True,
) -> np.ndarray:
    """Return points of the unit cube [0, 1), (count, dimensions).

    Args:
        key: From `jax.random.key`.
        count: Number of points.
        dimensions: Number of hyperparameters.
        sampler: "random" for independent points; "sobol" or "halton" for sequences that fill the
            cube more evenly.
        scramble: Whether a sequence is randomized (Owen). The first point of one that is not is the
            lower corner of the cube.
    """
    checks.choice("sampler", sampler, SAMPLERS)
    # Points are drawn on the host, where scipy needs them.
    generator = host_generator(key)
    if sampler == "random" or dimensions == 0:
        return generator.random((count, dimensions))
    # On first use, since scipy.stats takes longer to import than fnn.
    from scipy.stats import qmc

    engine = qmc.Sobol if sampler == "sobol" else qmc.Halton
    with warnings.catch_warnings():
        # Sobol points are balanced for powers of 2. Other numbers of trials are valid all the same.
        warnings.simplefilter("ignore", UserWarning)
        points = engine(dimensions, scramble=scramble, rng=generator).random(count)
    # Points in single precision could round up to 1.
    return np.minimum(points, np.nextafter(1.0, 0.0))


def host_generator(key: RandomKey) -> np.random.Generator:
    """Return a NumPy generator seeded by a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
