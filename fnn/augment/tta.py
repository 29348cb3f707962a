"""What a network predicts of several views of an image, averaged."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment.policy import Policy, as_policy, shape_of
from fnn.augment.targets import together
from fnn.errors import ConfigError
from fnn.types import Augmentation
from fnn.values import maker

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
        raise ConfigError("tta views", "at least one augmentation", views, "augment.chain() is the image itself")
    policies = [as_policy(f"tta views {place}", view) for place, view in enumerate(views)]

    def predicted(images: Any) -> Any:
        outputs = [_seen(predict, policy, place, images, dense) for place, policy in enumerate(policies)]
        return jax.tree.map(lambda *each: sum(each[1:], each[0]) / len(each), *outputs)

    return predicted


def _seen(predict: Predict, policy: Policy, place: int, images: Any, dense: bool) -> Any:
    shape = shape_of(images[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(place), jnp.arange(images.shape[0]))
    drawn = jax.vmap(lambda key: policy.draw(key, shape))(keys)
    outputs = predict(jax.vmap(policy.apply)(drawn, images))
    if not dense:
        return outputs
    undo = together(policy).undo
    return jax.tree.map(lambda maps: jax.vmap(lambda own, one: undo(own, one, shape))(drawn, maps), outputs)
