"""Joint augmentation of images with masks, boxes and keypoints, and test-time augmentation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import matrices
from fnn.augment.execute import execute
from fnn.augment.ops import GeometricOp, Ops, PixelOp, Size, merge_ops
from fnn.augment.policy import Drawn, Policy, as_policy, shape_of
from fnn.augment.resample.warp import warp
from fnn.errors import ConfigError, ShapeError
from fnn.types import Augmentation, Image, ImageShape, Number, RandomKey
from fnn.values import maker

# Fixed-point iterations that invert a displacement field. For smooth fields with a slope below 1
# the result is exact to 1e-3 pixels.
ITERATIONS = 10


@dataclass(frozen=True, eq=False)
class Together:
    """An augmentation of an image and its annotations, (key, example) -> example; see `together`.

    Attributes:
        policy: The augmentation of the image.
        mask_fill: Value of the mask outside of the image.
    """

    policy: Policy
    mask_fill: Number

    def __call__(
        self,
        key: RandomKey,
        example: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Augment an example.

        Args:
            key: From `jax.random.key`.
            example: Entries "image" or "mask", "keypoints" and "boxes"; see `together`.
        """
        return self.apply(self.draw(key, example), example)

    def draw(self, key: RandomKey, example: Mapping[str, Any]) -> Drawn:
        """Draw the random parameters for an example: a pytree of arrays for `apply` and `undo`."""
        return self.policy.draw(key, _image_shape(example))

    def apply(
        self,
        drawn: Drawn,
        example: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Augment an example with the random parameters of a draw."""
        shape = _image_shape(example)
        ops = _geometric_ops(self.policy.lower(drawn, shape))
        augmented = dict(example)
        if "image" in example:
            augmented["image"] = self.policy.apply(drawn, example["image"])
        if "mask" in example:
            augmented["mask"] = _move_mask(ops, example["mask"], self.mask_fill)
        if "keypoints" in example:
            keypoints = _expect_rows("keypoints", example["keypoints"], 2)
            augmented["keypoints"] = _move_points(ops, keypoints)
        if "boxes" in example:
            boxes = _expect_rows("boxes", example["boxes"], 4)
            augmented["boxes"] = _move_boxes(ops, boxes, self.policy.reshape(shape))
        return augmented

    def undo(
        self,
        drawn: Drawn,
        moved: Image,
        shape: ImageShape,
    ) -> Image:
        """Move an image, or a map of outputs, back. Pixels that were cut off, and colors, stay.

        Args:
            drawn: The random parameters, from `draw`.
            moved: (height, width, k), of the size of the augmented image.
            shape: Shape of the image before the augmentation.
        """
        size = shape[:2]
        # Each op is inverted to the size before it, and the inverses run in reverse order.
        backward: list[GeometricOp] = []
        for op in _geometric_ops(self.policy.lower(drawn, shape)):
            backward.append(_invert(op, size))
            size = op.size
        return execute(backward[::-1], moved)


@maker
def together(
    augmentation: Augmentation,
    *,
    mask_fill: Number = 0,
) -> Together:
    """Augment an image together with its mask, keypoints and boxes: (key, example) -> example.

    An example is a dict. All its entries are moved by the same draw; colors change in the image
    only. Other entries are returned as they are.

    | entry | shape | |
    | --- | --- | --- |
    | "image" | (height, width, channels) | bytes or floats in [0, 1] |
    | "mask" | (height, width) or (height, width, k) | any dtype, moved by nearest pixels |
    | "keypoints" | (n, 2) | (x, y); may be moved outside of the image |
    | "boxes" | (n, 4) | (x1, y1, x2, y2): the bounds of the moved corners, cut to the image |

    "image" or "mask" is required. Coordinates are in pixels from the corner of the image, so that
    the center of the first pixel is (0.5, 0.5).

    Args:
        augmentation: An image augmentation whose geometric operations are known.
        mask_fill: Value of the mask outside of the image, for the mode "constant".

    Raises:
        ConfigError: The example has neither "image" nor "mask"; or pixels are moved by a function
            that cannot be applied to points: a choice with mode="exact", `augmix`, or a plain
            function.
        ShapeError: Keypoints or boxes have another shape.
    """
    checks.number("together mask_fill", mask_fill, "(-inf, inf)")
    return Together(as_policy("together", augmentation), mask_fill)


def _image_shape(example: Mapping[str, Any]) -> ImageShape:
    for name in ("image", "mask"):
        if name in example:
            # A mask may have no axis of channels.
            height, width, *channels = example[name].shape
            return height, width, *(channels or [1])
    expected = 'an entry "image" or "mask"'
    raise ConfigError("together example", expected, ", ".join(example) or "none", "give the image")


def _expect_rows(
    name: str,
    values: Any,
    width: int,
) -> Array:
    values = checks.floating(f"together {name}", jnp.asarray(values))
    if values.ndim != 2 or values.shape[1] != width:
        expected = f"(n, {width})"
        raise ShapeError(f"together {name}", expected, values.shape, "one row each")
    return values


def _geometric_ops(ops: Ops) -> list[GeometricOp]:
    """The merged geometric ops; raise if another op moves pixels."""
    if any(isinstance(op, PixelOp) and op.moves_pixels for op in ops):
        expected = "moves that can be followed"
        advice = 'choose by mode="fused", or leave it out'
        raise ConfigError("together", expected, "pixels moved by a function", advice)
    return [op for op in merge_ops(ops) if isinstance(op, GeometricOp)]


def _move_mask(
    ops: list[GeometricOp],
    mask: Any,
    fill: Number,
) -> Array:
    mask = jnp.asarray(mask)
    image = mask
    if mask.dtype == bool:
        image = mask.astype(jnp.uint8)
    if mask.ndim == 2:
        image = image[..., None]  # (height, width, k)
    for op in ops:
        # Means of labels are meaningless, so masks are neither interpolated nor antialiased.
        nearest = op._replace(method="nearest", support=None)
        level = jnp.asarray(fill).astype(image.dtype)
        image = warp(image, nearest, level)
    # The size may have changed; the other axes are those of the mask.
    height, width = image.shape[:2]
    moved = image.reshape(height, width, *mask.shape[2:])
    return moved.astype(mask.dtype)


def _move_points(ops: list[GeometricOp], points: Array) -> Array:
    """Move points (n, 2), as (x, y) in pixels from the corner of the image."""
    coordinates = points[:, ::-1] - 0.5  # (row, column), with pixel centers at whole numbers
    for op in ops:
        coordinates = _map_forward(op, coordinates)
    return coordinates[:, ::-1] + 0.5


def _move_boxes(
    ops: list[GeometricOp],
    boxes: Array,
    shape: ImageShape,
) -> Array:
    """Bounds (n, 4) of the moved corners, clipped to the image of this shape."""
    columns = jnp.array(
        [
            [0, 1],  # x1, y1
            [2, 1],  # x2, y1
            [0, 3],  # x1, y2
            [2, 3],  # x2, y2
        ]
    )
    corners = boxes[:, columns]  # (n, corner, (x, y))
    points = corners.reshape(-1, 2)  # (4 n, 2)
    moved = _move_points(ops, points).reshape(-1, 4, 2)
    height, width = shape[:2]
    limits = jnp.array([width, height], boxes.dtype)
    lower = moved.min(1)
    upper = moved.max(1)
    lower = jnp.clip(lower, 0, limits[None])
    upper = jnp.clip(upper, 0, limits[None])
    return jnp.concatenate([lower, upper], 1)


def _map_forward(op: GeometricOp, coordinates: Array) -> Array:
    """Coordinates in the new image of points (n, 2) of the old image."""
    # The matrix maps new coordinates to old ones.
    forward = matrices.inverse(op.matrix)
    mapped = matrices.carry(forward, coordinates)
    if op.field is None:
        return mapped
    return _invert_field(op.field, mapped)


def _invert_field(field: Array, coordinates: Array) -> Array:
    """Solve p + field(p) = coordinates for p, by fixed-point iteration."""
    solution = coordinates
    for _ in range(ITERATIONS):
        displacement = []
        for axis in (0, 1):
            # Bilinear interpolation between the pixels, the nearest value outside.
            values = field[..., axis]
            points = list(solution.T)
            at_points = jax.scipy.ndimage.map_coordinates(values, points, 1, mode="nearest")
            displacement.append(at_points)
        field_values = jnp.stack(displacement, -1)  # (n, 2)
        solution = coordinates - field_values.astype(coordinates.dtype)
    return solution


def _invert(op: GeometricOp, size: Size) -> GeometricOp:
    """The op that moves the new image back to the old one, of this size."""
    matrix = matrices.inverse(op.matrix)
    inverse = GeometricOp(matrix, size, integral=op.integral, projective=op.projective)
    if op.field is None:
        return inverse
    axes = [jnp.arange(length, dtype=jnp.float32) for length in size]
    rows, columns = jnp.meshgrid(*axes, indexing="ij")
    grid = jnp.stack([rows, columns], -1)
    grid = grid.reshape(-1, 2)  # (height * width, 2)
    field = _invert_field(op.field, grid) - grid
    return inverse._replace(field=field.reshape(*size, 2))


Predict = Callable[[Any], Any]


@maker
def tta(
    predict: Predict,
    *,
    views: Sequence[Augmentation],
    dense: bool = False,
) -> Predict:
    """Test-time augmentation: the mean prediction over several views of each image.

    Args:
        predict: (images) -> outputs, a pytree whose arrays have the image as first axis.
        views: Augmentations, at least one, each applied to all images. Their random numbers depend
            on the index of the view and of the image only, so that every call gives the same.
        dense: Outputs are maps (batch, height, width, k) of the size of the view, which are moved
            back before the mean.

    Returns:
        A function (images) -> outputs.

    Raises:
        ConfigError: There is no view.
    """
    checks.flag("tta dense", dense)
    if not views:
        advice = "augment.chain() is the image itself"
        raise ConfigError("tta views", "at least one augmentation", views, advice)
    policies = []
    for k, view in enumerate(views):
        policies.append(as_policy(f"tta views {k}", view))

    def predict_mean(images: Any) -> Any:
        outputs = []
        for seed, policy in enumerate(policies):
            outputs.append(_predict_view(predict, policy, seed, images, dense))
        return jax.tree.map(_mean, *outputs)

    return predict_mean


def _mean(*outputs: Any) -> Any:
    # Starting from the first output keeps the dtype.
    total = sum(outputs[1:], outputs[0])
    return total / len(outputs)


def _predict_view(
    predict: Predict,
    policy: Policy,
    seed: int,
    images: Any,
    dense: bool,
) -> Any:
    shape = shape_of(images[0])
    key = jax.random.key(seed)
    numbers = jnp.arange(images.shape[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    # Drawn apart from the call, because `undo` needs the parameters.
    drawn = jax.vmap(lambda key: policy.draw(key, shape))(keys)
    views = jax.vmap(policy.apply)(drawn, images)
    outputs = predict(views)
    if not dense:
        return outputs
    undo = together(policy).undo

    def undo_all(maps: Array) -> Array:
        return jax.vmap(lambda one, image: undo(one, image, shape))(drawn, maps)

    return jax.tree.map(undo_all, outputs)
