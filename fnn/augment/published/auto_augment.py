"""AutoAugment: pairs of operations, with chances and strengths, that were found by search on three data sets."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.choice import fused, selected
from fnn.augment.ops import Steps
from fnn.augment.policy import Drawn, Policy
from fnn.augment.published.operations import Span, operations
from fnn.augment.published.rand_augment import expect_looks
from fnn.types import ImageShape, Number
from fnn.values import maker

# The 25 pairs for each data set, one a line: operation, probability in tenths, strength in ninths.
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
LAST_BIN = 9
NAMES = [
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
]
NAMES += ["sharpness", "posterize", "solarize", "autocontrast", "equalize", "invert"]


@maker(structure=("fill",))
def auto_augment(
    table: str = "imagenet", *, mode: str = "fused", method: str = "nearest", fill: Number = 0.0
) -> Policy:
    """One of 25 pairs of operations, drawn for each image; each of the two happens with a probability of its own.

    table is "cifar10", "imagenet" or "svhn", what was found by search on these. mode: see `one_of`; method and fill of
    the moves as in `rotate`. ConfigError for an option out of range [Cubuk et al. 2018, arXiv:1805.09501, tables as in
    torchvision].
    """
    checks.choice("auto_augment table", table, list(TABLES))
    checks.choice("auto_augment mode", mode, ("fused", "exact"))
    looks = expect_looks("auto_augment", method, fill)
    pairs = _read(TABLES[table])
    parts = operations(NAMES, lambda word: word.astype(jnp.float32), Span(), looks)

    def read(words: Array, shape: ImageShape) -> Drawn:
        which, chances, strengths = map(jnp.asarray, pairs)
        pair = random.below(words[0], len(which))
        return [
            _turn(
                words[1 + 2 * turn :], which[pair, turn], chances[pair, turn], strengths[pair, turn]
            )
            for turn in (0, 1)
        ]

    def _turn(words: Array, which: Array, probability: Array, strength: Array) -> Drawn:
        happens = random.happens(words[0], probability)
        own = {"strength": strength, "sign": random.sign(words[1])}
        return {"which": jnp.where(happens, which, 0), "drawn": own}

    def lower(drawn: Drawn, shape: ImageShape) -> Steps:
        turns = [
            selected(
                turn["which"], [part.lower(turn["drawn"], shape) for part in parts], shape, mode
            )
            for turn in drawn
        ]
        return fused(turns) if mode == "fused" else [step for turn in turns for step in turn]

    return Policy(5, read, lower)


def _read(table: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operation numbers, chances and strengths (pairs, 2) of a table."""
    pairs = [[entry.split() for entry in line.split(",")] for line in table.strip().splitlines()]
    which = np.array([[NAMES.index(name) for name, _, _ in pair] for pair in pairs], np.int32)
    chances, strengths = (
        np.array([[int(entry[column]) for entry in pair] for pair in pairs], np.float32)
        / np.float32(whole)
        for column, whole in ((1, 10), (2, LAST_BIN))
    )
    return which, chances, strengths
