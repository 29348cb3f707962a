"""Masks, boxes and keypoints moved with their image, and test-time augmentation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import matrices
from fnn.augment.execute import rendered
from fnn.augment.ops import Move, Paint, Steps, joined
from fnn.augment.policy import Drawn, Policy, as_policy, shape_of
from fnn.augment.resample.warp import warped
from fnn.errors import ConfigError, ShapeError
from fnn.types import Augmentation, Image, ImageShape, Number, RandomKey
from fnn.values import maker

ROUNDS = 10  # of the fixed point that inverts a smooth field, whose slope is below 1: then it is exact to 1e-3 pixels


@dataclass(frozen=True, eq=False)
class Together:
    """The augmentation of an image with what belongs to it, made by `together`.

    draw:  (key, example) -> drawn
    apply: (drawn, example) -> example
    undo:  (drawn, moved, shape) -> image, an image or a map of outputs moved back to an image of this shape
    """

    policy: Policy
    mask_fill: Number

    def __call__(self, key: RandomKey, example: Mapping[str, Any]) -> dict[str, Any]:
        """The example as it is seen with this key."""
        return self.apply(self.draw(key, example), example)

    def draw(self, key: RandomKey, example: Mapping[str, Any]) -> Drawn:
        """What is drawn for the example's image."""
        return self.policy.draw(key, _shape(example))

    def apply(self, drawn: Drawn, example: Mapping[str, Any]) -> dict[str, Any]:
        """The example as it is seen with what was drawn."""
        shape = _shape(example)
        moves = _moves(self.policy.lower(drawn, shape))
        seen = dict(example)
        if "image" in example:
            seen["image"] = self.policy.apply(drawn, example["image"])
        if "mask" in example:
            seen["mask"] = _moved_mask(moves, example["mask"], self.mask_fill)
        if "keypoints" in example:
            seen["keypoints"] = _moved_points(moves, _expect("keypoints", example["keypoints"], 2))
        if "boxes" in example:
            seen["boxes"] = _moved_boxes(
                moves, _expect("boxes", example["boxes"], 4), self.policy.reshape(shape)
            )
        return seen

    def undo(self, drawn: Drawn, moved: Image, shape: ImageShape) -> Image:
        """The image moved back, as far as it was not cut off; its colors stay."""
        back: list[Move] = []
        size = shape[:2]
        for move in _moves(self.policy.lower(drawn, shape)):
            back.insert(0, _backwards(move, size))
            size = move.size
        return rendered(back, moved)


@maker
def together(augmentation: Augmentation, *, mask_fill: Number = 0) -> Together:
    """The augmentation of an image with all that belongs to it: (key, example) -> example.

    example is a dict with "image" or "mask", and maybe "keypoints" and "boxes"; other entries pass. All are moved by
    the same drawing, colors change in the image alone. mask (height, width) or (height, width, k) of any dtype is moved
    by nearest pixels, mask_fill outside; keypoints (n, 2) as (x, y) and boxes (n, 4) as (x1, y1, x2, y2) are in pixels
    from the corner of the image, so that a pixel's center is at a half. A box becomes the bounds of its four moved
    corners, cut to the image; keypoints may come to lie outside. ShapeError for other shapes; ConfigError for pixels
    that are moved in a way that cannot be followed: a choice in mode "exact", augmix, a plain function.
    """
    checks.number("together mask_fill", mask_fill, "(-inf, inf)")
    return Together(as_policy("together", augmentation), mask_fill)


def _shape(example: Mapping[str, Any]) -> ImageShape:
    for name in ("image", "mask"):
        if name in example:
            height, width, *rest = example[name].shape
            return height, width, *(rest or [1])
    raise ConfigError(
        "together example",
        'an entry "image" or "mask"',
        ", ".join(example) or "none",
        "give the image",
    )


def _expect(name: str, values: Any, width: int) -> Array:
    values = checks.floating(f"together {name}", jnp.asarray(values))
    if values.ndim != 2 or values.shape[1] != width:
        raise ShapeError(f"together {name}", f"(n, {width})", values.shape, "one row each")
    return values


def _moves(steps: Steps) -> list[Move]:
    if any(isinstance(step, Paint) and step.moves for step in steps):
        raise ConfigError(
            "together",
            "moves that can be followed",
            "pixels moved by a function",
            'choose by mode="fused", or leave it out',
        )
    return [step for step in joined(steps) if isinstance(step, Move)]


def _moved_mask(moves: list[Move], mask: Any, fill: Number) -> Array:
    mask = jnp.asarray(mask)
    image = mask.astype(jnp.uint8) if mask.dtype == bool else mask
    image = image[..., None] if mask.ndim == 2 else image
    for move in moves:
        nearest = move._replace(order="nearest", support=None)
        image = warped(image, nearest, jnp.asarray(fill).astype(image.dtype))
    return image.reshape(*image.shape[:2], *mask.shape[2:]).astype(mask.dtype)


def _moved_points(moves: list[Move], points: Array) -> Array:
    places = points[:, ::-1] - 0.5  # (row, column) of pixel centers
    for move in moves:
        places = _sent(move, places)
    return places[:, ::-1] + 0.5


def _moved_boxes(moves: list[Move], boxes: Array, shape: ImageShape) -> Array:
    corners = boxes[:, jnp.array([[0, 1], [2, 1], [0, 3], [2, 3]])]  # (n, 4, 2)
    moved = _moved_points(moves, corners.reshape(-1, 2)).reshape(-1, 4, 2)
    limits = jnp.array([shape[1], shape[0]], boxes.dtype)
    ends = [jnp.clip(end, 0, limits[None]) for end in (moved.min(1), moved.max(1))]
    return jnp.concatenate(ends, 1)


def _sent(move: Move, places: Array) -> Array:
    """Where the pixels that were at places (n, 2) of the old image are in the new one."""
    sent = matrices.carry(matrices.inverse(move.matrix), places)
    return sent if move.field is None else _against(move.field, sent)


def _against(field: Array, places: Array) -> Array:
    """The places p with p + field(p) = places, by the fixed point of p = places - field(p)."""
    found = places
    for _ in range(ROUNDS):
        at = [
            jax.scipy.ndimage.map_coordinates(field[..., k], list(found.T), 1, mode="nearest")
            for k in (0, 1)
        ]
        found = places - jnp.stack(at, -1).astype(places.dtype)
    return found


def _backwards(move: Move, size: tuple[int, int]) -> Move:
    """The move from the new image to the old one, of this size."""
    back = Move(matrices.inverse(move.matrix), size, whole=move.whole, projective=move.projective)
    if move.field is None:
        return back
    rows, columns = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in size), indexing="ij")
    grid = jnp.stack([rows, columns], -1).reshape(-1, 2)
    return back._replace(field=(_against(move.field, grid) - grid).reshape(*size, 2))


Predict = Callable[[Any], Any]


@maker
def tta(predict: Predict, *, views: Sequence[Augmentation], dense: bool = False) -> Predict:
    """The mean of what a network predicts of several views of each image: (images) -> outputs.

    predict: (images) -> outputs, whose first axis is the image. views: augmentations, each done to all images; what one
    draws, it draws from its place alone, so it is the same at every call. With `dense` outputs are maps (batch, height,
    width, k), of the size of the view, which are moved back before the mean. ConfigError without a view.
    """
    checks.flag("tta dense", dense)
    if not views:
        raise ConfigError(
            "tta views", "at least one augmentation", views, "augment.chain() is the image itself"
        )
    policies = [as_policy(f"tta views {place}", view) for place, view in enumerate(views)]

    def predicted(images: Any) -> Any:
        outputs = [
            _seen(predict, policy, place, images, dense) for place, policy in enumerate(policies)
        ]
        return jax.tree.map(lambda *each: sum(each[1:], each[0]) / len(each), *outputs)

    return predicted


def _seen(predict: Predict, policy: Policy, place: int, images: Any, dense: bool) -> Any:
    shape = shape_of(images[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(place), jnp.arange(images.shape[0])
    )
    drawn = jax.vmap(lambda key: policy.draw(key, shape))(keys)
    outputs = predict(jax.vmap(policy.apply)(drawn, images))
    if not dense:
        return outputs
    undo = together(policy).undo
    return jax.tree.map(
        lambda maps: jax.vmap(lambda own, one: undo(own, one, shape))(drawn, maps), outputs
    )
