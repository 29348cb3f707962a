"""Small data sets that are drawn, for tests and to look at: pairs (inputs, labels), pure functions of their key."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.types import Number, RandomKey

Drawn = tuple[jax.Array, jax.Array]


def blobs(
    key: RandomKey, examples: int, *, classes: int = 3, features: int = 2, spread: Number = 0.3
) -> Drawn:
    """Round clouds, one a class: x = c[label] + spread N(0, I), c the centers, drawn from N(0, I).

    Inputs float32 (examples, features), labels int32 (examples,), of each class as many, or one more.
    """
    checks.number("blobs spread", spread, "[0, inf)")
    key, labels = _labels("blobs", key, examples, classes)
    centers = jax.random.normal(
        jax.random.fold_in(key, 0), (classes, checks.whole("blobs features", features))
    )
    return _noisy(key, centers[labels], spread), labels


def moons(key: RandomKey, examples: int, *, noise: Number = 0.1) -> Drawn:
    """Two half circles that reach into each other, those of scikit-learn's make_moons: no line parts them.

    (cos t, sin t) of label 0 and (1 - cos t, ½ - sin t) of label 1, t uniform in [0, π], plus noise N(0, I). Inputs
    float32 (examples, 2), labels int32 (examples,), of each class as many, or one more.
    """
    checks.number("moons noise", noise, "[0, inf)")
    key, labels = _labels("moons", key, examples, 2)
    angle = jnp.pi * jax.random.uniform(jax.random.fold_in(key, 0), (examples,))
    upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    lower = jnp.stack([1 - jnp.cos(angle), 0.5 - jnp.sin(angle)], -1)
    return _noisy(key, jnp.where(labels[:, None] == 0, upper, lower), noise), labels


def spirals(
    key: RandomKey, examples: int, *, classes: int = 2, turns: Number = 1.5, noise: Number = 0.02
) -> Drawn:
    """Arms of a spiral, one a class: r (cos a, sin a), a = 2π (turns r + label / classes), r = √u, u uniform in [0, 1].

    Plus noise N(0, I). Inputs float32 (examples, 2), labels int32 (examples,), of each class as many, or one more.
    """
    checks.number("spirals turns", turns, "[0, inf)")
    checks.number("spirals noise", noise, "[0, inf)")
    key, labels = _labels("spirals", key, examples, classes)
    radius = jnp.sqrt(jax.random.uniform(jax.random.fold_in(key, 0), (examples,)))
    angle = (
        2 * jnp.pi * (trees.knob(turns, radius) * radius + labels.astype(radius.dtype) / classes)
    )
    points = jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], -1)
    return _noisy(key, points, noise), labels


def gratings(
    key: RandomKey,
    examples: int,
    *,
    classes: int = 4,
    size: int = 16,
    waves: Number = 3.0,
    noise: Number = 0.1,
) -> Drawn:
    """Images of waves in the directions π label / classes, of any phase: sin(2π (waves (x cos + y sin) + phase)).

    Plus noise N(0, 1), and -1 to 1 spread over 0 to 255, cut there. Images uint8 (examples, size, size, 1), where x and
    y run from 0 to 1; labels int32 (examples,), of each class as many, or one more. A convolution sees the class, no
    pixel does.
    """
    checks.number("gratings waves", waves, "[0, inf)")
    checks.number("gratings noise", noise, "[0, inf)")
    side = (jnp.arange(checks.whole("gratings size", size), dtype=float) + 0.5) / size
    key, labels = _labels("gratings", key, examples, classes)
    phase = jax.random.uniform(jax.random.fold_in(key, 0), (examples, 1, 1))
    angle = (jnp.pi * labels.astype(phase.dtype) / classes)[:, None, None]
    along = side[None, None, :] * jnp.cos(angle) + side[None, :, None] * jnp.sin(angle)
    values = _noisy(key, jnp.sin(2 * jnp.pi * (trees.knob(waves, along) * along + phase)), noise)
    return jnp.rint(127.5 * (1 + jnp.clip(values, -1, 1))).astype(jnp.uint8)[..., None], labels


def _labels(where: str, key: RandomKey, examples: int, classes: int) -> tuple[RandomKey, jax.Array]:
    """A key of its own for what is drawn next, and labels of which each is as frequent, in random order."""
    checks.key(f"{where} key", key)
    count, kinds = (
        checks.whole(f"{where} examples", examples),
        checks.whole(f"{where} classes", classes),
    )
    labels = jax.random.permutation(
        jax.random.fold_in(key, 0), jnp.arange(count, dtype=jnp.int32) % kinds
    )
    return jax.random.fold_in(key, 1), labels


def _noisy(key: RandomKey, x: jax.Array, deviation: Number) -> jax.Array:
    return x + trees.knob(deviation, x) * jax.random.normal(
        jax.random.fold_in(key, 1), x.shape, x.dtype
    )
