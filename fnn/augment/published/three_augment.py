"""3-Augment: three changes that take something away, of which each image gets one."""

from fnn import checks
from fnn.augment.color.channels import grayscale
from fnn.augment.color.color_jitter import jitter
from fnn.augment.color.pointwise import solarize
from fnn.augment.compose import chain, one_of
from fnn.augment.filters import gaussian_blur
from fnn.augment.geometry import flip_lr
from fnn.augment.policy import Policy
from fnn.types import Number
from fnn.values import maker


@maker
def three_augment(*, strength: Number = 0.3) -> Policy:
    """A flip; gray, solarized or blurred, each as likely; then color jitter of this strength without hue.

    Put `random_resized_crop` or `random_crop` before it. The blur is Gaussian with σ of 0.1 to 2 pixels. ConfigError
    for a negative strength [Touvron et al. 2022, arXiv:2204.07118].
    """
    checks.number("three_augment strength", strength, "[0, inf)")
    one = one_of(grayscale(), solarize(128 / 255), gaussian_blur((0.1, 2.0), size=11))
    return chain(
        flip_lr(), one, jitter(brightness=strength, contrast=strength, saturation=strength)
    )
