"""What augmentations cost an image: three recipes beside those of the peers, compiling, and operations one by one.

CIFAR's flip, crop, cutout and normalization to bfloat16; goals: 3 times the images a second of dm_pix, 20 times those
of kornia. Flip, rotation, color jitter and normalization at 224 pixels; goals: 5 times kornia, 15 times augmax.
RandAugment drawn for each image; goal: 3 times kornia's, which draws the operations for a whole batch. Six operations
compile in 2 s, RandAugment in 4 s. Run `python benchmarks/augmentation.py`.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from measure import Timing, compare, judge, keep_pages, missing, show, table, version

from fnn import augment

try:
    import dm_pix
except ImportError:
    dm_pix = None
try:
    import augmax
except ImportError:
    augmax = None
try:
    import torch
    from kornia import augmentation as kornia
    from kornia.augmentation.auto import RandAugment
except ImportError:
    kornia = None

PEERS = ("kornia", "dm-pix", "augmax")
ROUNDS, FEW_ROUNDS, COMPILINGS = 15, 3, 3
BATCHES = 8  # of RandAugment a call: what kornia draws for a batch makes its time, and a mean over draws is told

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PADDING, CUTOUT = 4, 8
DEGREES, STRENGTH, HUE = 30.0, 0.4, 0.1

random = np.random.default_rng(0)
SMALL = random.integers(0, 256, (1024, 32, 32, 3), np.uint8)
LARGE = random.integers(0, 256, (32, 224, 224, 3), np.uint8)

Augmentations = Callable[[jax.Array, jax.Array], Any]


class Compiled:
    """An augmentation of a batch, compiled for these images, that has a new key at every batch."""

    def __init__(self, augmentations: Augmentations, images: np.ndarray, batches: int = 1):
        self.images, self.batches, self.count = jnp.asarray(images), batches, batches * len(images)
        self.keys = itertools.cycle(list(jax.random.split(jax.random.key(0), 64)))
        self.program = jax.jit(augmentations).lower(next(self.keys), self.images).compile()
        self.bytes = self.program.cost_analysis()["bytes accessed"] / len(images)

    def __call__(self) -> None:
        jax.block_until_ready(
            [self.program(next(self.keys), self.images) for _ in range(self.batches)]
        )


class Modules:
    """kornia's modules one after another on float32, channels first, which the bytes of a data set must be made."""

    def __init__(self, images: np.ndarray, *modules: Any, batches: int = 1, compiled: bool = False):
        self.images, self.batches, self.count = (
            torch.from_numpy(images),
            batches,
            batches * len(images),
        )
        self.module = torch.nn.Sequential(*modules)
        if compiled:
            self.module = torch.compile(self.module)

    def __call__(self) -> None:
        with torch.no_grad():
            for _ in range(self.batches):
                self.module(self.images.permute(0, 3, 1, 2).contiguous().float() / 255)


class Recipe(NamedTuple):
    """A recipe as each library writes it; those of jax are of one image."""

    fnn: Callable[[], augment.Policy]
    dm_pix: Augmentations
    augmax: Augmentations
    kornia: Callable[[], list[Any]]


# CIFAR's. What a library lacks, such as cutout, is written by hand, as cheap as it can be.


def cifar_of_fnn() -> augment.Policy:
    crop, hide = augment.random_crop(padding=PADDING), augment.cutout(CUTOUT)
    return augment.chain(
        augment.flip_lr(), crop, hide, augment.normalize(MEAN, STD, dtype=jnp.bfloat16)
    )


def cifar_of_dm_pix(key: jax.Array, image: jax.Array) -> jax.Array:
    flip, crop, hide = jax.random.split(key, 3)
    padded = reflected(dm_pix.random_flip_left_right(flip, image))
    shown = dm_pix.random_crop(crop, padded, image.shape) * shown_of(hide, image)
    return normalized(shown / 255).astype(jnp.bfloat16)


def cifar_of_augmax(key: jax.Array, image: jax.Array) -> jax.Array:
    move, hide = jax.random.split(key)
    moves = [augmax.RandomCrop(*image.shape[:2]), augmax.HorizontalFlip(), augmax.ByteToFloat()]
    return normalized(augmax.Chain(*moves)(move, reflected(image)) * shown_of(hide, image)).astype(
        jnp.bfloat16
    )


def cifar_of_kornia() -> list[Any]:
    size, area = SMALL.shape[1:3], CUTOUT**2 / (SMALL.shape[1] * SMALL.shape[2])
    crop = kornia.RandomCrop(size, padding=PADDING, padding_mode="reflect")
    hide = kornia.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0))
    return [
        kornia.RandomHorizontalFlip(),
        crop,
        hide,
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    ]


def reflected(image: jax.Array) -> jax.Array:
    return jnp.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), "reflect")


def shown_of(key: jax.Array, image: jax.Array) -> jax.Array:
    """0 in a square, else 1: of ten ways to cut it out by hand this is the fastest, by a factor of two and more."""
    center = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    sides = [
        jnp.abs(jnp.arange(n) - own) < CUTOUT // 2
        for n, own in zip(image.shape[:2], center, strict=True)
    ]
    rows, columns = (side.astype(jnp.float32) for side in sides)
    return 1 - rows[:, None, None] * columns[None, :, None]


def normalized(levels: jax.Array) -> jax.Array:
    return (levels - jnp.array(MEAN)) / jnp.array(STD)


# At 224 pixels.


def jitter_of_fnn() -> augment.Policy:
    jitter = augment.jitter(brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH, hue=HUE)
    return augment.chain(
        augment.flip_lr(), augment.rotate((-DEGREES, DEGREES)), jitter, augment.normalize(MEAN, STD)
    )


def jitter_of_dm_pix(key: jax.Array, image: jax.Array) -> jax.Array:
    flip, turn, brightness, contrast, saturation, hue = jax.random.split(key, 6)
    angle = jnp.deg2rad(jax.random.uniform(turn, (), minval=-DEGREES, maxval=DEGREES))
    image = dm_pix.random_flip_left_right(flip, image).astype(jnp.float32) / 255
    image = dm_pix.random_brightness(
        brightness, dm_pix.rotate(image, angle, mode="constant"), STRENGTH
    )
    image = dm_pix.random_contrast(contrast, image, 1 - STRENGTH, 1 + STRENGTH)
    image = dm_pix.random_saturation(saturation, image, 1 - STRENGTH, 1 + STRENGTH)
    return normalized(dm_pix.random_hue(hue, image, HUE))


def jitter_of_augmax(key: jax.Array, image: jax.Array) -> jax.Array:
    jitter = augmax.ColorJitter(STRENGTH, STRENGTH, STRENGTH, HUE, p=1.0)
    levels = [augmax.ByteToFloat(), jitter, augmax.Normalize(np.array(MEAN), np.array(STD))]
    return augmax.Chain(augmax.HorizontalFlip(), augmax.Rotate(DEGREES), *levels)(key, image)


def jitter_of_kornia() -> list[Any]:
    rotate = kornia.RandomRotation(DEGREES, p=1.0)
    jitter = kornia.ColorJitter(STRENGTH, STRENGTH, STRENGTH, HUE, p=1.0)
    return [
        kornia.RandomHorizontalFlip(),
        rotate,
        jitter,
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    ]


CIFAR = Recipe(cifar_of_fnn, cifar_of_dm_pix, cifar_of_augmax, cifar_of_kornia)
JITTER = Recipe(jitter_of_fnn, jitter_of_dm_pix, jitter_of_augmax, jitter_of_kornia)


def six() -> augment.Policy:
    """Six operations to compile."""
    jitter = augment.jitter(brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH, hue=HUE)
    moves = (
        augment.flip_lr(),
        augment.random_crop(padding=PADDING),
        augment.rotate((-DEGREES, DEGREES)),
    )
    return augment.chain(*moves, jitter, augment.cutout(CUTOUT), augment.normalize(MEAN, STD))


def singles() -> dict[str, augment.Policy]:
    """Operations one by one, at strengths of use."""
    turn, factor = (-DEGREES, DEGREES), (1 - STRENGTH, 1 + STRENGTH)
    return {
        "flip_lr": augment.flip_lr(),
        "flip_ud": augment.flip_ud(),
        "rot90": augment.rot90(),
        "crop, to 192": augment.crop(192),
        "pad, by 16": augment.pad(16),
        "random_crop, padding 16": augment.random_crop(padding=16),
        "resize, to 160": augment.resize(160),
        "random_resized_crop, to 224": augment.random_resized_crop(224),
        "random_resized_crop, bicubic": augment.random_resized_crop(224, method="bicubic"),
        "rotate": augment.rotate(turn),
        "rotate, nearest": augment.rotate(turn, method="nearest"),
        "translate": augment.translate((-0.1, 0.1), (-0.1, 0.1)),
        "shear": augment.shear(columns=(-17.0, 17.0)),
        "scale": augment.scale((0.8, 1.2)),
        "affine": augment.affine(
            degrees=turn, rows=(-0.1, 0.1), columns=(-0.1, 0.1), factor=(0.8, 1.2)
        ),
        "perspective": augment.perspective(),
        "elastic": augment.elastic(4.0),
        "brightness": augment.brightness(factor),
        "contrast": augment.contrast(factor),
        "saturation": augment.saturation(factor),
        "hue": augment.hue((-HUE, HUE)),
        "jitter, without hue": augment.jitter(
            brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH
        ),
        "jitter, with hue": augment.jitter(
            brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH, hue=HUE
        ),
        "gamma": augment.gamma((0.7, 1.4)),
        "grayscale": augment.grayscale(0.5),
        "channel_drop": augment.channel_drop(),
        "rgb_shift": augment.rgb_shift((-0.1, 0.1)),
        "pca_lighting": augment.pca_lighting(),
        "invert": augment.invert(),
        "posterize": augment.posterize(4),
        "solarize": augment.solarize(0.5),
        "autocontrast": augment.autocontrast(),
        "equalize": augment.equalize(),
        "sharpness": augment.sharpness((0.1, 1.9)),
        "gaussian_blur, 7 x 7": augment.gaussian_blur((0.1, 2.0)),
        "jpeg": augment.jpeg((50.0, 100.0)),
        "cutout": augment.cutout(64),
        "grid_mask": augment.grid_mask(),
        "random_erasing": augment.random_erasing(1.0),
        "random_erasing, noise": augment.random_erasing(1.0, fill="noise"),
        "gaussian_noise": augment.gaussian_noise(0.05),
        "salt_and_pepper": augment.salt_and_pepper(0.05),
        "normalize": augment.normalize(MEAN, STD),
        "trivial_augment": augment.trivial_augment(),
        "auto_augment": augment.auto_augment(),
        "three_augment": augment.three_augment(),
        "augmix": augment.augmix(),
    }


# The questions.


def programs_of(recipe: Recipe, images: np.ndarray) -> dict[str, Any]:
    """fnn, and the peers that are installed; dm_pix in a program of its own where it is far too slow for turns."""
    programs: dict[str, Any] = {"fnn": Compiled(augment.per_image(recipe.fnn()), images)}
    if dm_pix:
        programs["dm_pix"] = Compiled(augment.per_image(recipe.dm_pix), images)
    if augmax:
        programs["augmax"] = Compiled(augment.per_image(recipe.augmax), images)
    if kornia:
        programs["kornia, eager"] = Modules(images, *recipe.kornia())
        programs |= working(
            "kornia, torch.compile", Modules(images, *recipe.kornia(), compiled=True)
        )
    return programs


def working(name: str, program: Modules) -> dict[str, Modules]:
    """The program, where torch.compile finds what it needs, a C++ compiler."""
    try:
        program()
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {}
    return {name: program}


def sides(what: str, programs: dict[str, Any], timings: dict[str, Timing]) -> list[dict[str, str]]:
    """A row a program."""
    return [
        {
            what: name,
            "images/s": f"{programs[name].count / timing.seconds:,.0f}",
            "seconds by fnn's": f"{timing.ratio:.2f}",
            "kB an image": f"{programs[name].bytes / 1e3:,.1f}"
            if isinstance(programs[name], Compiled)
            else "–",
        }
        for name, timing in timings.items()
    ]


def judged(what: str, timings: dict[str, Timing], **goals: float) -> list[str]:
    """fnn's images a second by those of the fastest row of each peer."""
    ratios = {
        peer: [own.ratio for name, own in timings.items() if name.startswith(peer)]
        for peer in goals
    }
    return [
        judge(
            f"{what}, images/s by those of {peer}:",
            min(own),
            goals[peer],
            at_least=True,
            form=".1f",
        )
        for peer, own in ratios.items()
        if own
    ]


def cifar() -> tuple[list[dict[str, str]], list[str]]:
    programs = programs_of(CIFAR, SMALL)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    return sides("CIFAR, 1024 x 32 x 32", programs, timings), judged(
        "CIFAR", timings, dm_pix=3, kornia=20
    )


def jitter() -> list[str]:
    programs = programs_of(JITTER, LARGE)
    slow = programs.pop("dm_pix", None)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    if slow:
        programs["dm_pix"] = slow
        timings["dm_pix"] = compare(
            {"fnn": programs["fnn"], "dm_pix": slow}, base="fnn", rounds=FEW_ROUNDS
        )["dm_pix"]
    rows = sides("flip, rotate, jitter, 32 x 224 x 224", programs, timings)
    return [table(rows), *judged("at 224", timings, kornia=5, augmax=15)]


def rand_augment() -> list[str]:
    policy = augment.rand_augment(count=2, magnitude=9.0)
    programs: dict[str, Any] = {"fnn": Compiled(augment.per_image(policy), LARGE, BATCHES)}
    if hasattr(augment, "stratified"):
        programs["fnn, stratified"] = Compiled(augment.stratified(policy), LARGE, BATCHES)
    if kornia:
        programs["kornia, a draw a batch"] = Modules(LARGE, RandAugment(n=2, m=9), batches=BATCHES)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    rows = sides("RandAugment, 32 x 224 x 224", programs, timings)
    return [table(rows), *judged("RandAugment", timings, kornia=3)]


def compiling() -> list[str]:
    """Seconds from a policy to a program, as in a fresh process."""

    def seconds(policy: augment.Policy, images: np.ndarray) -> float:
        jax.clear_caches()
        began = time.perf_counter()
        jax.jit(augment.per_image(policy)).lower(jax.random.key(0), images).compile()
        return time.perf_counter() - began

    def judged(what: str, policy: augment.Policy, images: np.ndarray, goal: float) -> str:
        median = statistics.median(seconds(policy, images) for _ in range(COMPILINGS))
        return judge(f"s to compile {what}:", median, goal, form=".2f")

    return [
        judged("six operations", six(), SMALL, 2.0),
        judged("RandAugment", augment.rand_augment(), LARGE, 4.0),
    ]


def one_by_one() -> str:
    programs = {
        name: Compiled(augment.per_image(policy), LARGE) for name, policy in singles().items()
    }
    timings = compare(programs, base="normalize", rounds=ROUNDS)
    return table(
        [
            {
                "operation, 32 x 224 x 224": name,
                "images/s": f"{programs[name].count / timing.seconds:,.0f}",
                "kB an image": f"{programs[name].bytes / 1e3:,.0f}",
            }
            for name, timing in timings.items()
        ]
    )


def main() -> None:
    keep_pages()
    peers = ", ".join(f"{peer} {version(peer)}" for peer in PEERS if version(peer))
    method = (
        f"Warm, a new key a batch, median of {ROUNDS} alternating rounds, {FEW_ROUNDS} of dm_pix at 224, {BATCHES} "
        f"batches a round of RandAugment. All get bytes, channels last; the floats or channels first that a peer needs "
        f"are part of its time. CIFAR's result is bfloat16, kornia's float32; augmax's jitter leaves the saturation as "
        f"it is. Bytes as XLA counts them. {peers}"
    )
    rows, goals = cifar()
    show(
        __doc__,
        method.strip(),
        rows,
        *goals,
        *jitter(),
        *rand_augment(),
        *compiling(),
        one_by_one(),
        *missing(*PEERS),
    )


if __name__ == "__main__":
    main()
