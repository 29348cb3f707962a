"""Small windows of images, as examples of their own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ShapeError
from fnn.types import Images


def patches(images: Images, size: int | Sequence[int], *, stride: int | Sequence[int] = 1) -> jax.Array:
    """Every patch of the images, cut where it fits whole: image after image, of each row after row.

    patch (i, r, q) = images[i, stride r : stride r + size, stride q : stride q + size]. images (n, height, width,
    channels) of any dtype; patches (n · rows · columns, size, size, channels), rows = (height - size) // stride + 1;
    size and stride are one int or (vertical, horizontal). `pca_whiten` and `zca_whiten` can be fitted on them.
    ShapeError for no images (n, height, width, channels) and for a size that does not fit [Coates, Lee & Ng 2011].
    """
    images = jnp.asarray(images)
    if images.ndim != 4:
        advice = "add a channel axis, images[..., None], or a batch axis, images[None]"
        raise ShapeError("patches images", "rank 4 (n, height, width, channels)", images.shape, advice)
    window, steps = checks.pair("patches size", size), checks.pair("patches stride", stride)
    if any(length > whole for length, whole in zip(window, images.shape[1:3], strict=True)):
        raise ShapeError("patches size", f"at most the image's {images.shape[1:3]}", window, "choose a smaller one")
    places = zip(images.shape[1:3], window, steps, strict=True)
    rows, columns = (
        np.arange(0, whole - length + 1, step)[:, None] + np.arange(length) for whole, length, step in places
    )
    cut = images[:, rows][:, :, :, columns]  # (n, rows, size, columns, size, channels)
    return jnp.moveaxis(cut, 3, 2).reshape(-1, *window, images.shape[-1])
