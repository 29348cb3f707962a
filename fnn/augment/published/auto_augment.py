"""AutoAugment: pairs of operations with probabilities and strengths found by search."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.choice import fuse, select
from fnn.augment.ops import Ops
from fnn.augment.policy import Drawn, Policy
from fnn.augment.published.operations import Span, expect_sampling, operations
from fnn.augment.published.rand_augment import NAMES as RAND_AUGMENT_NAMES
from fnn.types import ImageShape, Number
from fnn.values import maker

# 25 pairs for each data set, one pair per line: operation, probability in tenths, strength in
# ninths. The values are those of torchvision.
TABLES = {
    "cifar10": """
        invert 1 0, contrast 2 6
        rotate 7 2, translate_x 3 9
        sharpness 8 1, sharpness 9 3
        shear_y 5 8, translate_y 7 9
        autocontrast 5 0, equalize 9 0
        shear_y 2 7, posterize 3 7
        color 4 3, brightness 6 7
        sharpness 3 9, brightness 7 9
        equalize 6 0, equalize 5 0
        contrast 6 7, sharpness 6 5
        color 7 7, translate_x 5 8
        equalize 3 0, autocontrast 4 0
        translate_y 4 3, sharpness 2 6
        brightness 9 6, color 2 8
        solarize 5 2, invert 0 0
        equalize 2 0, autocontrast 6 0
        equalize 2 0, equalize 6 0
        color 9 9, equalize 6 0
        autocontrast 8 0, solarize 2 8
        brightness 1 3, color 7 0
        solarize 4 5, autocontrast 9 0
        translate_y 9 9, translate_y 7 9
        autocontrast 9 0, solarize 8 3
        equalize 8 0, invert 1 0
        translate_y 7 9, autocontrast 9 0
    """,
    "imagenet": """
        posterize 4 8, rotate 6 9
        solarize 6 5, autocontrast 6 0
        equalize 8 0, equalize 6 0
        posterize 6 7, posterize 6 6
        equalize 4 0, solarize 2 4
        equalize 4 0, rotate 8 8
        solarize 6 3, equalize 6 0
        posterize 8 5, equalize 10 0
        rotate 2 3, solarize 6 8
        equalize 6 0, posterize 4 6
        rotate 8 8, color 4 0
        rotate 4 9, equalize 6 0
        equalize 0 0, equalize 8 0
        invert 6 0, equalize 10 0
        color 6 4, contrast 10 8
        rotate 8 8, color 10 2
        color 8 8, solarize 8 7
        sharpness 4 7, invert 6 0
        shear_x 6 5, equalize 10 0
        color 4 0, equalize 6 0
        equalize 4 0, solarize 2 4
        solarize 6 5, autocontrast 6 0
        invert 6 0, equalize 10 0
        color 6 4, contrast 10 8
        equalize 8 0, equalize 6 0
    """,
    "svhn": """
        shear_x 9 4, invert 2 0
        shear_y 9 8, invert 7 0
        equalize 6 0, solarize 6 6
        invert 9 0, equalize 6 0
        equalize 6 0, rotate 9 3
        shear_x 9 4, autocontrast 8 0
        shear_y 9 8, invert 4 0
        shear_y 9 5, solarize 2 6
        invert 9 0, autocontrast 8 0
        equalize 6 0, rotate 9 3
        shear_x 9 4, solarize 3 3
        shear_y 8 8, invert 7 0
        equalize 9 0, translate_y 6 6
        invert 9 0, equalize 6 0
        contrast 3 3, rotate 8 4
        invert 8 0, translate_y 0 2
        shear_y 7 6, solarize 4 8
        invert 6 0, rotate 8 4
        shear_y 3 7, translate_x 9 3
        shear_x 1 6, invert 6 0
        solarize 7 2, translate_y 6 7
        shear_y 8 4, invert 8 0
        shear_x 7 9, translate_y 8 3
        shear_y 8 5, autocontrast 7 0
        shear_x 7 2, invert 1 0
    """,
}
PROBABILITY_BINS = 10
LAST_BIN = 9  # of the strengths
# The identity is first: it replaces an operation that is not applied.
NAMES = [*RAND_AUGMENT_NAMES, "invert"]


@maker(structure=("fill",))
def auto_augment(
    table: str = "imagenet",
    *,
    mode: str = "fused",
    method: str = "nearest",
    fill: Number = 0.0,
) -> Policy:
    """AutoAugment: one of 25 pairs of operations, drawn for each image.

    Each operation of the pair is applied with its own probability and strength, in this order.
    Signs are random. The tables are those of torchvision [Cubuk et al. 2018, arXiv:1805.09501].

    Args:
        table: Data set that the pairs were searched on: "cifar10", "imagenet" or "svhn".
        mode: "fused" or "exact", see `one_of`. "fused" is faster; "exact" keeps the order of the
            pair.
        method: Interpolation of geometric operations, "nearest" or "bilinear".
        fill: Level outside of the image, in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.choice("auto_augment table", table, list(TABLES))
    checks.choice("auto_augment mode", mode, ("fused", "exact"))
    sampling = expect_sampling("auto_augment", method, fill)
    pairs = _parse(TABLES[table])
    # The strength comes from the table, so it is passed as it is.
    options = operations(NAMES, lambda word: word.astype(jnp.float32), Span(), sampling)

    def read(words: Array, shape: ImageShape) -> Drawn:
        indices, probabilities, strengths = map(jnp.asarray, pairs)
        pair = random.integers(words[0], len(indices))
        draws = []
        for k in (0, 1):
            # One word to apply the operation, one for its sign.
            draw_words = words[1 + 2 * k :]
            index = indices[pair, k]
            probability = probabilities[pair, k]
            strength = strengths[pair, k]
            applies = random.bernoulli(draw_words[0], probability)
            parameters = {"strength": strength, "sign": random.sign(draw_words[1])}
            draws.append({"which": jnp.where(applies, index, 0), "drawn": parameters})
        return draws

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        draws = []
        for draw in drawn:
            branches = [option.lower(draw["drawn"], shape) for option in options]
            draws.append(select(draw["which"], branches, shape, mode))
        if mode == "fused":
            return fuse(draws)
        return [op for draw in draws for op in draw]

    return Policy(5, read, lower)


def _parse(table: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices in NAMES, the probabilities and the strengths, (pairs, 2) each."""
    indices = []
    tenths = []
    bins = []
    for line in table.strip().splitlines():
        for entry in line.split(","):
            name, probability, strength = entry.split()
            indices.append(NAMES.index(name))
            tenths.append(int(probability))
            bins.append(int(strength))
    probabilities = np.array(tenths, np.float32) / np.float32(PROBABILITY_BINS)
    strengths = np.array(bins, np.float32) / np.float32(LAST_BIN)
    # (pairs * 2,) to (pairs, 2)
    shape = (-1, 2)
    return (
        np.array(indices, np.int32).reshape(shape),
        probabilities.reshape(shape),
        strengths.reshape(shape),
    )
