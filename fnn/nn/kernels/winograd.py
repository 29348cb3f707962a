"""Convolutions of 3 x 3 at half the multiplications: Winograd's F(4, 3) along the height.

Four results of three taps are 12 products. As the product of two polynomials, known by its values at six points, they
are 6 [Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308]:

    y = Aᵀ ((G w) ⊙ (Bᵀ x))    x: 6 neighbors along a column, w: 3 taps, y: 4 results

For each of the six points the sum over in-channels and the three columns is one product of matrices. The six are one
batch: by themselves they run no faster and take half as long again to compile. Along the height all that is added are
whole lines, which lie in one piece in memory. In two dimensions fewer products would be left, but they would be
smaller, and float32 would lose more digits.
"""

import operator
from collections.abc import Iterable
from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.nn.kernels.batch_tiles import added, mapped, pieces
from fnn.nn.kernels.reference import Geometry, output_shape

TAPS, RESULTS = 3, 4
# With the point at infinity, six. These lose a third of the digits that 0, ±1 and ±2 lose: at 256 channels float32 is
# within 1.5e-6 of the largest result, not 4e-6, where the plain convolution is within 0.5e-6.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bᵀ (6, 6), G (6, 3) and Aᵀ (4, 6), by Lagrange's interpolation."""
    others = [np.delete(POINTS, place) for place in range(len(POINTS))]
    inputs = [np.append(np.poly(own)[::-1], 0) for own in others] + [np.poly(POINTS)[::-1]]
    scales = [np.prod(point - own) for point, own in zip(POINTS, others, strict=True)]
    kernel = [
        np.power(point, range(TAPS)) / scale for point, scale in zip(POINTS, scales, strict=True)
    ]
    output = [np.power(point, range(RESULTS)) for point in POINTS]
    at_infinity = [np.eye(size)[-1] for size in (TAPS, RESULTS)]
    return _exact(inputs), _exact([*kernel, at_infinity[0]]), _exact([*output, at_infinity[1]]).T


def _exact(rows: Iterable[np.ndarray]) -> np.ndarray:
    """The rows as a matrix, with 0 for what rounding left of it."""
    matrix = np.stack([*rows])
    return np.where(np.abs(matrix) < 1e-12, 0, matrix)


INPUT, KERNEL, OUTPUT = transforms()
SEEN = len(INPUT)  # neighbors that four results are made of

CACHE = 8e6  # bytes that the rows of a piece of the batch may take, for all six points


def forward(x: Array, w: Array, geometry: Geometry) -> Array:
    """A convolution of one group at stride and dilation 1, with a kernel of 3 x 3."""
    _, height, width, outputs = output_shape(x.shape, w.shape, geometry)
    taps = jnp.einsum("bi,ijco->bjco", KERNEL.astype(w.dtype), w).reshape(SEEN, -1, outputs)
    strips = -(-height // RESULTS)

    def some(x: Array) -> Array:
        found = (_rows(x, height, width, geometry) @ taps).reshape(
            SEEN, len(x), strips, width * outputs
        )
        return _combined(OUTPUT, found, 2).reshape(len(x), strips * RESULTS, width, outputs)

    return mapped(some, x, _parts(x, height, width))[:, :height]


def input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    """The same convolution of y with the kernel turned around."""
    lows = [TAPS - 1 - low for low, _ in geometry.padding]
    highs = [
        n + TAPS - 1 - low - m for n, low, m in zip(geometry.image, lows, y.shape[1:3], strict=True)
    ]
    pads = tuple(zip(lows, highs, strict=True))
    return forward(
        y, w[::-1, ::-1].swapaxes(2, 3), geometry._replace(padding=pads, image=y.shape[1:3])
    )


def kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    """The transpose in w."""
    (height, width, outputs), inputs = y.shape[1:], x.shape[-1]
    y = jnp.pad(y, ((0, 0), (0, -height % RESULTS), (0, 0), (0, 0)))

    def some(x: Array, y: Array) -> Array:
        found = _combined(OUTPUT.T, [y[:, k::RESULTS] for k in range(RESULTS)], 0).reshape(
            SEEN, -1, outputs
        )
        return jnp.einsum("bmk,bmo->bko", _rows(x, height, width, geometry), found)

    taps = added(some, _parts(x, height, width), x, y).reshape(SEEN, TAPS, inputs, outputs)
    return jnp.einsum("bi,bjco->ijco", KERNEL.astype(x.dtype), taps)


def _rows(x: Array, height: int, width: int, geometry: Geometry) -> Array:
    """For each point what the results see there, pixels of a line side by side: (6, n strips width, columns in)."""
    strips = -(-height // RESULTS)
    (top, bottom), (left, right) = geometry.padding
    pads = [(0, 0, 0), (top, bottom + RESULTS * strips - height, 0), (left, right, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    points = _combined(
        INPUT, [x[:, k : k + RESULTS * (strips - 1) + 1 : RESULTS] for k in range(SEEN)], 0
    )
    rows = jnp.concatenate([points[:, :, :, j : j + width] for j in range(TAPS)], -1)
    return rows.reshape(SEEN, len(x) * strips * width, TAPS * x.shape[-1])


def _parts(x: Array, height: int, width: int) -> int:
    n, inputs = x.shape[0], x.shape[3]
    return pieces(
        n, n * SEEN * -(-height // RESULTS) * width * TAPS * inputs * x.dtype.itemsize, CACHE
    )


def _combined(matrix: np.ndarray, arrays: Iterable[Array], axis: int) -> Array:
    """Each row of the matrix times the arrays, where it is not 0, along a new axis."""
    rows = [[(part, own) for part, own in zip(row, arrays, strict=True) if part] for row in matrix]
    return jnp.stack(
        [
            reduce(operator.add, (own if part == 1 else float(part) * own for part, own in row))
            for row in rows
        ],
        axis,
    )
