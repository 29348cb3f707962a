"""Synthetic data sets for tests and demonstrations: (inputs, labels) as pure functions of a key."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.types import Number, RandomKey

Examples = tuple[jax.Array, jax.Array]  # inputs, labels


def blobs(
    key: RandomKey,
    examples: int,
    *,
    classes: int = 3,
    features: int = 2,
    spread: Number = 0.3,
) -> Examples:
    """Isotropic Gaussian clusters, one for each class: x = c[label] + spread N(0, I).

    The centers c are drawn from N(0, I).

    Args:
        key: Random key.
        examples: Number of examples.
        classes: Number of classes.
        features: Number of features of an input.
        spread: Standard deviation within a cluster, >= 0; may be traced.

    Returns:
        Inputs float32 (examples, features) and labels int32 (examples,). The classes are balanced,
        to within one example.

    Raises:
        ConfigError: A count is not a whole number >= 1, or `spread` is negative.
        DTypeError: `key` is not a key.
    """
    checks.number("blobs spread", spread, "[0, inf)")
    key, labels = _draw_labels("blobs", key, examples, classes)
    shape = (classes, checks.whole("blobs features", features))
    center_key = jax.random.fold_in(key, 0)
    centers = jax.random.normal(center_key, shape)
    inputs = _add_noise(key, centers[labels], spread)
    return inputs, labels


def moons(
    key: RandomKey,
    examples: int,
    *,
    noise: Number = 0.1,
) -> Examples:
    """Two interleaving half circles, those of scikit-learn's make_moons: not linearly separable.

    (cos t, sin t) of label 0 and (1 - cos t, ½ - sin t) of label 1, t uniform in [0, π], plus
    noise N(0, I).

    Args:
        key: Random key.
        examples: Number of examples.
        noise: Standard deviation of the noise, >= 0; may be traced.

    Returns:
        Inputs float32 (examples, 2) and labels int32 (examples,). The classes are balanced, to
        within one example.

    Raises:
        ConfigError: `examples` is not a whole number >= 1, or `noise` is negative.
        DTypeError: `key` is not a key.
    """
    checks.number("moons noise", noise, "[0, inf)")
    key, labels = _draw_labels("moons", key, examples, 2)
    angle_key = jax.random.fold_in(key, 0)
    angle = jnp.pi * jax.random.uniform(angle_key, (examples,))
    # Both (examples, 2): each example has a point on either moon, and its label selects one.
    upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    lower = jnp.stack([1 - jnp.cos(angle), 0.5 - jnp.sin(angle)], -1)
    points = jnp.where(labels[:, None] == 0, upper, lower)
    inputs = _add_noise(key, points, noise)
    return inputs, labels


def spirals(
    key: RandomKey,
    examples: int,
    *,
    classes: int = 2,
    turns: Number = 1.5,
    noise: Number = 0.02,
) -> Examples:
    """Interleaving spiral arms, one for each class.

    r (cos a, sin a) with a = 2π (turns r + label / classes) and r = √u, u uniform in [0, 1], plus
    noise N(0, I).

    Args:
        key: Random key.
        examples: Number of examples.
        classes: Number of classes, hence of arms.
        turns: Number of turns from the center to radius 1, >= 0; may be traced.
        noise: Standard deviation of the noise, >= 0; may be traced.

    Returns:
        Inputs float32 (examples, 2) and labels int32 (examples,). The classes are balanced, to
        within one example.

    Raises:
        ConfigError: A count is not a whole number >= 1, or `turns` or `noise` is negative.
        DTypeError: `key` is not a key.
    """
    checks.number("spirals turns", turns, "[0, inf)")
    checks.number("spirals noise", noise, "[0, inf)")
    key, labels = _draw_labels("spirals", key, examples, classes)
    # The root makes the density of points uniform over the disk.
    radius_key = jax.random.fold_in(key, 0)
    radius = jnp.sqrt(jax.random.uniform(radius_key, (examples,)))
    rotation = trees.knob(turns, radius) * radius
    # Each arm starts in another direction.
    start = labels.astype(radius.dtype) / classes
    angle = 2 * jnp.pi * (rotation + start)
    # Polar coordinates to inputs (examples, 2).
    x = radius * jnp.cos(angle)
    y = radius * jnp.sin(angle)
    points = jnp.stack([x, y], -1)
    inputs = _add_noise(key, points, noise)
    return inputs, labels


def gratings(
    key: RandomKey,
    examples: int,
    *,
    classes: int = 4,
    size: int = 16,
    waves: Number = 3.0,
    noise: Number = 0.1,
) -> Examples:
    """Images of sinusoidal gratings, one orientation for each class, of random phase.

    sin(2π (waves (x cos a + y sin a) + phase)) with a = π label / classes and x, y in [0, 1], plus
    noise N(0, 1). Values -1..1 are mapped to 0..255 and clipped. As the phase is random, a single
    pixel does not predict the class, but a convolution does.

    Args:
        key: Random key.
        examples: Number of examples.
        classes: Number of classes, hence of orientations.
        size: Height and width of an image, in pixels.
        waves: Number of waves along one side, >= 0; may be traced.
        noise: Standard deviation of the noise, >= 0, where the grating runs from -1 to 1; may be
            traced.

    Returns:
        Images uint8 (examples, size, size, 1) and labels int32 (examples,). The classes are
        balanced, to within one example.

    Raises:
        ConfigError: A count or `size` is not a whole number >= 1, or `waves` or `noise` is
            negative.
        DTypeError: `key` is not a key.
    """
    checks.number("gratings waves", waves, "[0, inf)")
    checks.number("gratings noise", noise, "[0, inf)")
    pixels = checks.whole("gratings size", size)
    # Coordinates of the centers of the pixels along a side.
    side = (jnp.arange(pixels, dtype=float) + 0.5) / size
    key, labels = _draw_labels("gratings", key, examples, classes)
    phase_key = jax.random.fold_in(key, 0)
    phase = jax.random.uniform(phase_key, (examples, 1, 1))
    angle = jnp.pi * labels.astype(phase.dtype) / classes
    angle = angle[:, None, None]
    # Distance along the direction of the wave, (examples, size, size).
    along_x = side[None, None, :] * jnp.cos(angle)
    along_y = side[None, :, None] * jnp.sin(angle)
    distance = along_x + along_y
    periods = trees.knob(waves, distance) * distance + phase
    values = _add_noise(key, jnp.sin(2 * jnp.pi * periods), noise)
    clipped = jnp.clip(values, -1, 1)
    levels = jnp.rint(127.5 * (1 + clipped))
    images = levels.astype(jnp.uint8)[..., None]
    return images, labels


def _draw_labels(
    where: str,
    key: RandomKey,
    examples: int,
    classes: int,
) -> tuple[RandomKey, jax.Array]:
    """Return an unused key for the inputs, and balanced labels in random order."""
    checks.key(f"{where} key", key)
    count = checks.whole(f"{where} examples", examples)
    class_count = checks.whole(f"{where} classes", classes)
    label_key = jax.random.fold_in(key, 0)
    # Cycling through the classes balances them to within one example.
    cycle = jnp.arange(count, dtype=jnp.int32) % class_count
    labels = jax.random.permutation(label_key, cycle)
    return jax.random.fold_in(key, 1), labels


def _add_noise(
    key: RandomKey,
    x: jax.Array,
    deviation: Number,
) -> jax.Array:
    scale = trees.knob(deviation, x)
    # fold_in(key, 0) has drawn the inputs.
    noise_key = jax.random.fold_in(key, 1)
    noise = jax.random.normal(noise_key, x.shape, x.dtype)
    return x + scale * noise
