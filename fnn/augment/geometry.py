"""Moves of the pixels of one image: flips and turns, and whatever a matrix does."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import matrices, random
from fnn.augment.ops import Move, Steps
from fnn.augment.policy import Drawn, Policy, simple
from fnn.augment.random import expect_magnitude
from fnn.augment.resample.borders import MODES
from fnn.errors import ShapeError
from fnn.types import ImageShape, Magnitude, Number
from fnn.values import maker

ORDERS = ("bilinear", "nearest")


@maker
def flip_lr(probability: Number = 0.5) -> Policy:
    """Left and right change places, with the given probability. ConfigError unless 0 <= probability <= 1."""
    return _flip("flip_lr", probability, 1)


@maker
def flip_ud(probability: Number = 0.5) -> Policy:
    """Top and bottom change places, with the given probability. ConfigError unless 0 <= probability <= 1."""
    return _flip("flip_ud", probability, 0)


def _flip(name: str, probability: Number, axis: int) -> Policy:
    checks.number(f"{name} probability", probability, "[0, 1]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        m = jnp.eye(3, dtype=jnp.float32)
        last = shape[axis] - 1
        flipped = m.at[axis, axis].set(-1).at[axis, 2].set(last)
        return (Move(jnp.where(drawn["flipped"], flipped, m), shape[:2], whole=True, reach=(0, 0)),)

    return simple(steps, flipped=partial(random.happens, probability=probability))


@maker
def rot90(turns: int | None = None) -> Policy:
    """So many quarter turns counter-clockwise, exactly; without a number one of 0, 1, 2, 3, each as likely.

    ShapeError where the number is to be drawn and the image is not square.
    """
    if turns is not None:
        checks.whole("rot90 turns", turns, -3)
    odd = turns is not None and turns % 2 == 1

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        size = reshape(shape)[:2]
        # Of a quarter turn, the new row r and column c come from row c and column width - 1 - r.
        quarters = jnp.array(
            [
                [[1, 0, 0], [0, 1, 0]],
                [[0, 1, 0], [-1, 0, shape[1] - 1]],
                [[-1, 0, shape[0] - 1], [0, -1, shape[1] - 1]],
                [[0, -1, shape[0] - 1], [1, 0, 0]],
            ],
            jnp.float32,
        )
        last = jnp.array([[0, 0, 1]], jnp.float32)
        return (Move(jnp.concatenate([quarters[drawn["turns"]], last]), size, whole=True),)

    def reshape(shape: ImageShape) -> ImageShape:
        if turns is None and shape[0] != shape[1]:
            raise ShapeError("rot90", "a square image", shape, "tell how many turns, or crop first")
        return (shape[1], shape[0], shape[2]) if odd else shape

    def read(word: Array) -> Array:
        return random.below(word, 4) if turns is None else jnp.int32(turns % 4)

    policy = simple(steps, turns=read)
    return Policy(policy.words, policy.read, policy.lower, reshape)


@maker(structure=("fill",))
def rotate(
    degrees: Magnitude, *, method: str = "bilinear", mode: str = "constant", fill: Number = 0.0
) -> Policy:
    """Turned counter-clockwise about the center, by so many degrees.

    A magnitude is one number, which is taken as it is, or a pair (low, high), between which it is drawn. method is
    "bilinear" or "nearest"; mode what is seen outside of the image, one of numpy.pad's modes, "constant" showing
    fill, a part of the whole range. ConfigError for an option out of range.
    """
    expect_magnitude("rotate degrees", degrees)

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        return matrices.around(matrices.middle(shape), matrices.rotation(drawn["degrees"]))

    return _warp("rotate", forward, method, mode, fill, {"degrees": degrees})


@maker(structure=("fill",))
def translate(
    rows: Magnitude = 0.0,
    columns: Magnitude = 0.0,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Moved down by rows x height and to the right by columns x width; see `rotate` for the options."""
    expect_magnitude("translate rows", rows)
    expect_magnitude("translate columns", columns)

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        return matrices.translation(drawn["rows"] * shape[0], drawn["columns"] * shape[1])

    return _warp("translate", forward, method, mode, fill, {"rows": rows, "columns": columns})


@maker(structure=("fill",))
def shear(
    rows: Magnitude = 0.0,
    columns: Magnitude = 0.0,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Slanted about the center: pixels go down by tan(rows) a column and right by tan(columns) a row, in degrees.

    See `rotate` for the options. ConfigError for an angle of 90 degrees or more.
    """
    expect_magnitude("shear rows", rows, "(-90, 90)")
    expect_magnitude("shear columns", columns, "(-90, 90)")

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        slopes = [jnp.tan(jnp.deg2rad(drawn[name])) for name in ("rows", "columns")]
        return matrices.around(matrices.middle(shape), matrices.shearing(slopes[0], slopes[1]))

    return _warp("shear", forward, method, mode, fill, {"rows": rows, "columns": columns})


@maker(structure=("fill",))
def scale(
    factor: Magnitude = 1.0, *, method: str = "bilinear", mode: str = "constant", fill: Number = 0.0
) -> Policy:
    """Enlarged about the center by the factor, within the same size; see `rotate` for the options.

    Nothing is antialiased: for a much smaller image use `resize`. ConfigError for a factor that is not positive.
    """
    expect_magnitude("scale factor", factor, "(0, inf)")

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        return matrices.around(
            matrices.middle(shape), matrices.scaling(drawn["factor"], drawn["factor"])
        )

    return _warp("scale", forward, method, mode, fill, {"factor": factor})


@maker(structure=("fill",))
def affine(
    *,
    degrees: Magnitude = 0.0,
    rows: Magnitude = 0.0,
    columns: Magnitude = 0.0,
    factor: Magnitude = 1.0,
    shear_rows: Magnitude = 0.0,
    shear_columns: Magnitude = 0.0,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Sheared, enlarged and turned about the center, then moved, all by one matrix T C R S Z C⁻¹.

    degrees turn counter-clockwise, as everywhere here; see `shear`, `scale`, `translate` and `rotate`. ConfigError for
    a magnitude or an option out of range.
    """
    own = {"degrees": degrees, "rows": rows, "columns": columns, "factor": factor}
    own |= {"shear_rows": shear_rows, "shear_columns": shear_columns}
    intervals = {"factor": "(0, inf)", "shear_rows": "(-90, 90)", "shear_columns": "(-90, 90)"}
    for name, magnitude in own.items():
        expect_magnitude(f"affine {name}", magnitude, intervals.get(name, "(-inf, inf)"))

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        slopes = [jnp.tan(jnp.deg2rad(drawn[name])) for name in ("shear_rows", "shear_columns")]
        linear = matrices.product(
            matrices.rotation(drawn["degrees"]),
            matrices.scaling(drawn["factor"], drawn["factor"]),
            matrices.shearing(slopes[0], slopes[1]),
        )
        shift = matrices.translation(drawn["rows"] * shape[0], drawn["columns"] * shape[1])
        return matrices.product(shift, matrices.around(matrices.middle(shape), linear))

    return _warp("affine", forward, method, mode, fill, own)


CORNERS = ("top", "bottom"), ("left", "right")


@maker(structure=("fill",))
def perspective(
    distortion: Number = 0.5,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Seen from aside: each corner comes inwards by up to distortion / 2 of the height and of the width.

    See `rotate` for the options. ConfigError unless 0 <= distortion <= 1 [torchvision RandomPerspective].
    """
    checks.number("perspective distortion", distortion, "[0, 1]")
    names = [
        f"{v}_{h}_{axis}" for v in CORNERS[0] for h in CORNERS[1] for axis in ("rows", "columns")
    ]

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        ends = [
            jnp.array([v * (shape[0] - 1), h * (shape[1] - 1)], jnp.float32)
            for v in (0, 1)
            for h in (0, 1)
        ]
        inwards = [
            jnp.array([(1 - 2 * v) * shape[0] / 2, (1 - 2 * h) * shape[1] / 2])
            for v in (0, 1)
            for h in (0, 1)
        ]
        by = jnp.stack([drawn[name] for name in names]).reshape(4, 2)
        moved = jnp.stack(
            [end + own * part for end, own, part in zip(ends, inwards, by, strict=True)]
        )
        return _homography(jnp.stack(ends), moved)

    own: dict[str, Magnitude] = dict.fromkeys(names, (0.0, distortion))
    return _warp("perspective", forward, method, mode, fill, own, projective=True)


def _homography(before: Array, after: Array) -> Array:
    """The 3 x 3 matrix that sends four places (4, 2) to four others."""
    rows = []
    for (r, c), (to_r, to_c) in zip(before, after, strict=True):
        zero, one = jnp.zeros_like(r), jnp.ones_like(r)
        rows.append(jnp.stack([r, c, one, zero, zero, zero, -to_r * r, -to_r * c]))
        rows.append(jnp.stack([zero, zero, zero, r, c, one, -to_c * r, -to_c * c]))
    entries = jnp.linalg.solve(jnp.stack(rows), after.reshape(8))
    return jnp.concatenate([entries, jnp.ones(1, jnp.float32)]).reshape(3, 3)


def _warp(
    name: str,
    forward: Callable[[Drawn, ImageShape], Array],
    method: str,
    mode: str,
    fill: Number,
    own: dict[str, Magnitude],
    *,
    projective: bool = False,
) -> Policy:
    """The policy of one warp, whose matrix sends old places to new ones, by magnitudes of its own."""
    checks.choice(f"{name} method", method, ORDERS)
    checks.choice(f"{name} mode", mode, MODES)
    checks.number(f"{name} fill", fill, "[0, 1]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        back = matrices.inverse(forward(drawn, shape))
        return (Move(back, shape[:2], projective=projective, border=mode, fill=fill, order=method),)

    return simple(
        steps,
        **{key: partial(random.within, magnitude=magnitude) for key, magnitude in own.items()},
    )
