"""Geometric augmentations of one image: flips, rotations and warps by a matrix."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import matrices, random
from fnn.augment.ops import GeometricOp, Ops
from fnn.augment.policy import Drawn, Policy, simple_policy
from fnn.augment.random import expect_magnitude
from fnn.augment.resample.borders import MODES
from fnn.errors import ShapeError
from fnn.types import ImageShape, Magnitude, Number
from fnn.values import maker
from fnn.xla import rounded_product

METHODS = ("bilinear", "nearest")
# Degrees. The tangent of a shear angle must be finite.
SHEAR_INTERVAL = "(-90, 90)"


@maker
def flip_lr(probability: Number = 0.5) -> Policy:
    """Flip the image left to right with a probability.

    Args:
        probability: In [0, 1].

    Raises:
        ConfigError: `probability` is outside of [0, 1].
    """
    return _flip("flip_lr", probability, axis=1)


@maker
def flip_ud(probability: Number = 0.5) -> Policy:
    """Flip the image upside down with a probability.

    Args:
        probability: In [0, 1].

    Raises:
        ConfigError: `probability` is outside of [0, 1].
    """
    return _flip("flip_ud", probability, axis=0)


def _flip(
    name: str,
    probability: Number,
    axis: int,
) -> Policy:
    checks.number(f"{name} probability", probability, "[0, 1]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        identity = jnp.eye(3, dtype=jnp.float32)
        last = shape[axis] - 1
        # Source coordinate = last - coordinate.
        flip = identity.at[axis, axis].set(-1)
        flip = flip.at[axis, 2].set(last)
        matrix = jnp.where(drawn["flipped"], flip, identity)
        # Nothing outside of the image is read, so that neither mode nor fill matter.
        op = GeometricOp(matrix, shape[:2], integral=True, reach=(0, 0))
        return (op,)

    return simple_policy(lower, flipped=partial(random.bernoulli, probability=probability))


@maker
def rot90(turns: int | None = None) -> Policy:
    """Rotate the image by quarter turns counterclockwise, without interpolation.

    Height and width are exchanged by an odd number of turns.

    Args:
        turns: Number of quarter turns, a static whole number >= -3; negative turns are clockwise.
            None: 0, 1, 2 or 3 with equal probability, for square images.

    Raises:
        ConfigError: `turns` is not a whole number >= -3.
        ShapeError: `turns` is None and the image is not square.
    """
    if turns is not None:
        checks.whole("rot90 turns", turns, -3)
    is_odd = turns is not None and turns % 2 == 1

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        size = reshape(shape)[:2]
        last_row = shape[0] - 1
        last_column = shape[1] - 1
        # The first two rows of the matrix for each number of turns, (4, 2, 3). After one quarter
        # turn, the new row r and column c come from row c and column last_column - r.
        quarters = jnp.array(
            [
                [[1, 0, 0], [0, 1, 0]],
                [[0, 1, 0], [-1, 0, last_column]],
                [[-1, 0, last_row], [0, -1, last_column]],
                [[0, -1, last_row], [1, 0, 0]],
            ],
            jnp.float32,
        )
        bottom = jnp.array([[0, 0, 1]], jnp.float32)
        matrix = jnp.concatenate([quarters[drawn["turns"]], bottom])
        # The size is static, hence drawn turns need a square image.
        op = GeometricOp(matrix, size, integral=True)
        return (op,)

    def reshape(shape: ImageShape) -> ImageShape:
        height, width, channels = shape
        if turns is None and height != width:
            advice = "give the number of turns, or crop first"
            raise ShapeError("rot90", "a square image", shape, advice)
        return (width, height, channels) if is_odd else shape

    def read(word: Array) -> Array:
        if turns is None:
            return random.integers(word, 4)
        return jnp.int32(turns % 4)  # not negative, also for clockwise turns

    policy = simple_policy(lower, turns=read)
    return Policy(policy.words, policy.read, policy.lower, reshape)


@maker(structure=("fill",))
def rotate(
    degrees: Magnitude,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Rotate the image about its center and keep its size.

    Args:
        degrees: Angle in degrees, counterclockwise; negative is clockwise. A number is used as it
            is; from a pair (low, high) it is drawn uniformly.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("rotate degrees", degrees)

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        rotation = matrices.rotation(drawn["degrees"])
        center = matrices.middle(shape)
        return matrices.around(center, rotation)

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
    """Translate the image and keep its size.

    Args:
        rows: Shift down as a share of the height; negative is up. A number is used as it is; from
            a pair (low, high) it is drawn uniformly.
        columns: Shift to the right as a share of the width; negative is to the left. A number or a
            pair, as `rows`.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("translate rows", rows)
    expect_magnitude("translate columns", columns)

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        return _translation(drawn, shape)

    return _warp("translate", forward, method, mode, fill, {"rows": rows, "columns": columns})


def _translation(drawn: Drawn, shape: ImageShape) -> Array:
    """Return the matrix of a shift by shares of the height and the width."""
    rows = drawn["rows"] * shape[0]
    columns = drawn["columns"] * shape[1]
    return matrices.translation(rows, columns)


@maker(structure=("fill",))
def shear(
    rows: Magnitude = 0.0,
    columns: Magnitude = 0.0,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Shear the image about its center and keep its size.

    Args:
        rows: Angle in degrees, in (-90, 90): pixels move down by tan(rows) per column to the right
            of the center. A number is used as it is; from a pair (low, high) it is drawn uniformly.
        columns: Angle in degrees, in (-90, 90): pixels move to the right by tan(columns) per row
            below the center. A number or a pair, as `rows`.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("shear rows", rows, SHEAR_INTERVAL)
    expect_magnitude("shear columns", columns, SHEAR_INTERVAL)

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        row_slope = _tangent(drawn["rows"])
        column_slope = _tangent(drawn["columns"])
        shearing = matrices.shearing(row_slope, column_slope)
        center = matrices.middle(shape)
        return matrices.around(center, shearing)

    return _warp("shear", forward, method, mode, fill, {"rows": rows, "columns": columns})


def _tangent(degrees: Array) -> Array:
    return jnp.tan(matrices.radians(degrees))


@maker(structure=("fill",))
def scale(
    factor: Magnitude = 1.0,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Scale the image about its center and keep its size.

    There is no antialiasing, so small factors give aliased images; use `resize` for these.

    Args:
        factor: Factor > 0: above 1 enlarges, below 1 shrinks. A number is used as it is; from a
            pair (low, high) it is drawn uniformly.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("scale factor", factor, "(0, inf)")

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        # The same factor along both axes.
        scaling = matrices.scaling(drawn["factor"], drawn["factor"])
        center = matrices.middle(shape)
        return matrices.around(center, scaling)

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
    """Shear, scale and rotate the image about its center, then translate it, in one warp.

    The matrix is T C R S Z C⁻¹: shear Z, scaling S, rotation R, all about the center C, and
    translation T.

    Args:
        degrees: Angle of the rotation in degrees, counterclockwise. A number is used as it is;
            from a pair (low, high) it is drawn uniformly. So are the other magnitudes.
        rows: Shift down as a share of the height.
        columns: Shift to the right as a share of the width.
        factor: Factor > 0 of the scaling; above 1 enlarges.
        shear_rows: Angle in degrees, in (-90, 90), whose tangent is the shift down per column.
        shear_columns: Angle in degrees, in (-90, 90), whose tangent is the shift to the right per
            row.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("affine degrees", degrees)
    expect_magnitude("affine rows", rows)
    expect_magnitude("affine columns", columns)
    expect_magnitude("affine factor", factor, "(0, inf)")
    expect_magnitude("affine shear_rows", shear_rows, SHEAR_INTERVAL)
    expect_magnitude("affine shear_columns", shear_columns, SHEAR_INTERVAL)
    magnitudes = {
        "degrees": degrees,
        "rows": rows,
        "columns": columns,
        "factor": factor,
        "shear_rows": shear_rows,
        "shear_columns": shear_columns,
    }

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        row_slope = _tangent(drawn["shear_rows"])
        column_slope = _tangent(drawn["shear_columns"])
        # The last factor is applied first.
        linear = matrices.product(
            matrices.rotation(drawn["degrees"]),
            matrices.scaling(drawn["factor"], drawn["factor"]),
            matrices.shearing(row_slope, column_slope),
        )
        translation = _translation(drawn, shape)
        center = matrices.middle(shape)
        about_center = matrices.around(center, linear)
        return matrices.product(translation, about_center)

    return _warp("affine", forward, method, mode, fill, magnitudes)


# Corners of the image as (row, column), 0 or 1, and their names.
CORNERS = {
    (0, 0): "top_left",
    (0, 1): "top_right",
    (1, 0): "bottom_left",
    (1, 1): "bottom_right",
}


@maker(structure=("fill",))
def perspective(
    distortion: Number = 0.5,
    *,
    method: str = "bilinear",
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Warp the image by a random perspective transform, as torchvision's RandomPerspective.

    Each corner moves inward along each axis, by an independent uniform distance between 0 and
    distortion / 2 of the height or the width.

    Args:
        distortion: In [0, 1]; 0 is the identity, with 1 a corner may move to the center.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.number("perspective distortion", distortion, "[0, 1]")
    names = []
    for corner in CORNERS.values():
        names += [f"{corner}_rows", f"{corner}_columns"]

    def forward(drawn: Drawn, shape: ImageShape) -> Array:
        height, width = shape[:2]
        corners = []
        inward = []
        # Coordinates of the corner pixels.
        for row, column in CORNERS:
            coordinates = [_corner(row, height), _corner(column, width)]
            corners.append(jnp.array(coordinates, jnp.float32))
        # Half a side along each axis, toward the center: 1 - 2 * 0 is down or right, 1 - 2 * 1 is
        # up or left.
        for row, column in CORNERS:
            offset = [(1 - 2 * row) * height / 2, (1 - 2 * column) * width / 2]
            inward.append(jnp.array(offset))
        # (corners, axes)
        shares = jnp.stack([drawn[name] for name in names]).reshape(4, 2)
        moved = []
        for start, direction, share in zip(corners, inward, shares, strict=True):
            moved.append(start + rounded_product(direction, share))
        targets = jnp.stack(moved)
        return _homography(jnp.stack(corners), targets)

    magnitudes: dict[str, Magnitude] = dict.fromkeys(names, (0.0, distortion))
    return _warp("perspective", forward, method, mode, fill, magnitudes, projective=True)


def _corner(end: int, length: int) -> float:
    """Return the coordinate of the first (end 0) or last (end 1) pixel along an axis."""
    # One pixel has its two edges as corners, since its center alone has no extent.
    return end - 0.5 if length == 1 else end * (length - 1)


def _homography(sources: Array, targets: Array) -> Array:
    """Return the matrix (3, 3) that maps four points (4, 2) to four others."""
    # With the last entry of the matrix set to 1, each pair of points gives two linear equations for
    # the other eight entries.
    equations = []
    for (r, c), (target_r, target_c) in zip(sources, targets, strict=True):
        zero = jnp.zeros_like(r)
        one = jnp.ones_like(r)
        # target_r = (m00 r + m01 c + m02) / (m20 r + m21 c + 1), multiplied by the denominator.
        row = [r, c, one, zero, zero, zero, -target_r * r, -target_r * c]
        equations.append(jnp.stack(row))
        # target_c likewise, with m10, m11, m12.
        column = [zero, zero, zero, r, c, one, -target_c * r, -target_c * c]
        equations.append(jnp.stack(column))
    entries = jnp.linalg.solve(jnp.stack(equations), targets.reshape(8))
    last = jnp.ones(1, jnp.float32)
    return jnp.concatenate([entries, last]).reshape(3, 3)


def _warp(
    name: str,
    forward: Callable[[Drawn, ImageShape], Array],
    method: str,
    mode: str,
    fill: Number,
    magnitudes: dict[str, Magnitude],
    *,
    projective: bool = False,
) -> Policy:
    """Make the policy of one warp.

    Args:
        name: Name of the policy in errors.
        forward: (drawn, shape) -> matrix from old coordinates to new ones.
        method: Interpolation.
        mode: Padding mode.
        fill: Level of the mode "constant".
        magnitudes: Magnitudes to draw, by name.
        projective: Whether the last row of the matrix may differ from (0, 0, 1).
    """
    checks.choice(f"{name} method", method, METHODS)
    checks.choice(f"{name} mode", mode, MODES)
    checks.number(f"{name} fill", fill, "[0, 1]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        # An op maps new coordinates to old ones.
        backward = matrices.inverse(forward(drawn, shape))
        op = GeometricOp(
            backward,
            shape[:2],
            projective=projective,
            mode=mode,
            fill=fill,
            method=method,
        )
        return (op,)

    # One random word for each magnitude, in the order of the names.
    readers = {}
    for key, magnitude in magnitudes.items():
        readers[key] = partial(random.sample_magnitude, magnitude=magnitude)
    return simple_policy(lower, **readers)
