"""3-Augment: grayscale, solarization or blur, then color jitter."""

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
    """3-Augment: flip, one of grayscale, solarization and blur, then color jitter.

    The three are equally likely. Solarization has threshold 128, the blur is Gaussian with σ drawn
    uniformly from 0.1 to 2 pixels. The paper crops first: put `random_resized_crop` or
    `random_crop` before [Touvron et al. 2022, arXiv:2204.07118].

    Args:
        strength: Strength of brightness, contrast and saturation in `jitter`, >= 0. May be traced.

    Raises:
        ConfigError: `strength` is negative.
    """
    checks.number("three_augment strength", strength, "[0, inf)")
    degradation = one_of(
        grayscale(),
        solarize(128 / 255),
        gaussian_blur((0.1, 2.0), size=11),
    )
    # The paper leaves out the hue.
    color = jitter(brightness=strength, contrast=strength, saturation=strength)
    return chain(flip_lr(), degradation, color)
