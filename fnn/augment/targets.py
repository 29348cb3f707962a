"""Joint augmentation of images with masks, boxes and keypoints, and test-time augmentation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

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

CUT_OFF = -1.0  # coordinates of a keypoint that was cut off


@dataclass(frozen=True, eq=False)
class Together:
    """An augmentation of an image and its annotations, (key, example) -> example; see `together`.

    Attributes:
        policy: The augmentation of the image.
        mask_fill: Value of the mask outside of the image.
        visibility: Whether the result says which boxes and keypoints are left.
    """

    policy: Policy
    mask_fill: Number
    visibility: bool = False

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
        return self.apply_to_entries(drawn, _image_shape(example), example)

    def apply_to_entries(
        self,
        drawn: Drawn,
        shape: ImageShape,
        entries: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Augment some of the entries of an example whose image has this shape.

        Args:
            drawn: The random parameters, from `draw`.
            shape: Shape of the image before the augmentation.
            entries: "image", "mask", "keypoints", "boxes" and others, as far as they are known.
        """
        ops = _geometric_ops(self.policy.lower(drawn, shape))
        augmented = dict(entries)
        if "image" in entries:
            augmented["image"] = self.policy.apply(drawn, entries["image"])
        if "mask" in entries:
            augmented["mask"] = _move_mask(ops, entries["mask"], self.mask_fill)
        if "keypoints" in entries:
            keypoints = _expect_rows("keypoints", entries["keypoints"], 2)
            keypoints, is_cut_off = _move_points(ops, keypoints, shape[:2])
            limits = jnp.array(self.policy.reshape(shape)[1::-1], keypoints.dtype)[None]
            is_inside = ((keypoints >= 0) & (keypoints < limits)).all(1)
            augmented["keypoints"] = jnp.where(is_cut_off[:, None], CUT_OFF, keypoints)
            if self.visibility:
                augmented["keypoints_visible"] = is_inside & ~is_cut_off
        if "boxes" in entries:
            boxes = _expect_rows("boxes", entries["boxes"], 4)
            augmented["boxes"] = _move_boxes(ops, boxes, shape[:2])
            if self.visibility:
                sides = augmented["boxes"][:, 2:] - augmented["boxes"][:, :2]
                augmented["boxes_visible"] = (sides > 0).all(1)
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
    visibility: bool = False,
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

    Boxes are cut wherever pixels are: after each operation of a chain, but for those that are
    executed as one. A box of which nothing is left has no area. A keypoint that an operation before
    the last cut off is at (-1, -1). Arrays keep their size, so nothing is dropped: `visibility`
    adds "boxes_visible" (n,) and "keypoints_visible" (n,), with which labels can be masked.

    In `train.recipe` it augments the pairs of a batch: `augment=together(policy)`. Inputs are
    images, or a dict with "image". Targets are masks (batch, height, width) or (batch, height,
    width, k), or a dict with "mask", "keypoints" or "boxes".

    Args:
        augmentation: An image augmentation whose geometric operations are known.
        mask_fill: Value of the mask outside of the image, for the mode "constant".
        visibility: Add for each box whether it has an area, and for each keypoint whether it lies
            in the image and has not been cut off.

    Raises:
        ConfigError: The example has neither "image" nor "mask"; or pixels are moved by a function
            that cannot be applied to points: a choice with mode="exact", `augmix`, or a plain
            function.
        ShapeError: Keypoints or boxes have another shape.
    """
    checks.number("together mask_fill", mask_fill, "(-inf, inf)")
    checks.flag("together visibility", visibility)
    return Together(as_policy("together", augmentation), mask_fill, visibility)


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
    _expect_fill(fill, image.dtype)
    for op in ops:
        # Means of labels are meaningless, so masks are neither interpolated nor antialiased.
        nearest = op._replace(method="nearest", support=None)
        level = jnp.asarray(fill).astype(image.dtype)
        image = warp(image, nearest, level)
    # The size may have changed; the other axes are those of the mask.
    height, width = image.shape[:2]
    moved = image.reshape(height, width, *mask.shape[2:])
    return moved.astype(mask.dtype)


def _expect_fill(fill: Number, dtype: DTypeLike) -> None:
    """Raise if a mask of this dtype cannot hold the fill, which would wrap around or be cut."""
    if jnp.issubdtype(dtype, jnp.integer) and checks.is_concrete(fill):
        limits = jnp.iinfo(dtype)
        if float(fill) % 1 or not limits.min <= float(fill) <= limits.max:
            expected = f"a whole number in [{limits.min}, {limits.max}], as the mask"
            raise ConfigError("together mask_fill", expected, fill, "convert the mask first")


def _move_points(
    ops: list[GeometricOp],
    points: Array,
    size: Size,
) -> tuple[Array, Array]:
    """Move points (n, 2), as (x, y) in pixels from the corner of an image of this size.

    Returns:
        The points, and for each whether it was outside of the image before the last op (n,).
    """
    is_cut_off = jnp.zeros(points.shape[0], bool)
    for index, op in enumerate(ops):
        if index > 0:
            limits = _limits(size, points.dtype)
            is_cut_off |= ((points < 0) | (points >= limits)).any(1)
        points = _move(op, points)
        size = op.size
    return points, is_cut_off


def _move(op: GeometricOp, points: Array) -> Array:
    coordinates = points[:, ::-1] - 0.5  # (row, column), with pixel centers at whole numbers
    return _map_forward(op, coordinates)[:, ::-1] + 0.5


def _limits(size: Size, dtype: DTypeLike) -> Array:
    """The largest x and y in an image of this size: (1, 2)."""
    height, width = size
    return jnp.array([[width, height]], dtype)


def _move_boxes(
    ops: list[GeometricOp],
    boxes: Array,
    size: Size,
) -> Array:
    """Bounds (n, 4) of the moved corners, cut to the image after each op."""
    corners = _corners(boxes)
    for op in ops:
        corners = _move(op, corners.reshape(-1, 2)).reshape(corners.shape)
        limits = _limits(op.size, boxes.dtype)[None]  # (1, 1, 2)
        cut = jnp.clip(corners, 0, limits)
        # A box that lies in the image keeps its moved corners, so that its bounds stay tight.
        is_cut = (cut != corners).any((1, 2), keepdims=True)
        corners = jnp.where(is_cut, _corners(_bounds(cut)), corners)
    return _bounds(jnp.clip(corners, 0, _limits(ops[-1].size if ops else size, boxes.dtype)[None]))


def _corners(boxes: Array) -> Array:
    """Return the corners (n, 4, (x, y)) of boxes (n, 4)."""
    columns = jnp.array(
        [
            [0, 1],  # x1, y1
            [2, 1],  # x2, y1
            [0, 3],  # x1, y2
            [2, 3],  # x2, y2
        ]
    )
    return boxes[:, columns]


def _bounds(corners: Array) -> Array:
    """Return the smallest boxes (n, 4) around corners (n, 4, (x, y))."""
    return jnp.concatenate([corners.min(1), corners.max(1)], 1)


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
