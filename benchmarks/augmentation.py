"""Cost of augmentations per image: three recipes, compilation and single operations.

CIFAR: flip, crop, cutout and normalization to bfloat16; goals: 3 times the images per second of
dm_pix and 20 times those of kornia. 224 pixels: flip, rotation, color jitter and normalization;
goals: 5 times kornia and 15 times augmax. RandAugment with operations drawn per image; goal:
3 times kornia, which draws the operations once per batch. Goals of compilation: 2 s for six
operations and 4 s for RandAugment. Run `python benchmarks/augmentation.py`.
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
BATCHES = 8  # per call of RandAugment: the time of kornia depends on its draw for the batch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PADDING, CUTOUT = 4, 8
DEGREES, STRENGTH, HUE = 30.0, 0.4, 0.1

random = np.random.default_rng(0)
SMALL = random.integers(0, 256, (1024, 32, 32, 3), np.uint8)
LARGE = random.integers(0, 256, (32, 224, 224, 3), np.uint8)

Augmentations = Callable[[jax.Array, jax.Array], Any]


class Compiled:
    """An augmentation of a batch, compiled for these images; each batch has another key."""

    def __init__(self, augmentations: Augmentations, images: np.ndarray, batches: int = 1):
        self.images = jnp.asarray(images)
        self.batches = batches
        self.count = batches * len(images)
        self.keys = itertools.cycle(list(jax.random.split(jax.random.key(0), 64)))
        self.program = jax.jit(augmentations).lower(next(self.keys), self.images).compile()
        self.bytes = self.program.cost_analysis()["bytes accessed"] / len(images)

    def __call__(self) -> None:
        outputs = [self.program(next(self.keys), self.images) for _ in range(self.batches)]
        jax.block_until_ready(outputs)


class Modules:
    """A sequence of kornia's modules, timed with the conversion to float32, channels first."""

    def __init__(self, images: np.ndarray, *modules: Any, batches: int = 1, compiled: bool = False):
        self.images = torch.from_numpy(images)
        self.batches = batches
        self.count = batches * len(images)
        self.module = torch.nn.Sequential(*modules)
        if compiled:
            self.module = torch.compile(self.module)

    def __call__(self) -> None:
        with torch.no_grad():
            for _ in range(self.batches):
                self.module(self.images.permute(0, 3, 1, 2).contiguous().float() / 255)


class Recipe(NamedTuple):
    """One recipe in each library; those in JAX take one image."""

    fnn: Callable[[], augment.Policy]
    dm_pix: Augmentations
    augmax: Augmentations
    kornia: Callable[[], list[Any]]


# The CIFAR recipe. Operations that a library lacks, such as cutout, are written by hand, for speed.


def cifar_of_fnn() -> augment.Policy:
    crop = augment.random_crop(padding=PADDING)
    normalize = augment.normalize(MEAN, STD, dtype=jnp.bfloat16)
    return augment.chain(augment.flip_lr(), crop, augment.cutout(CUTOUT), normalize)


def cifar_of_dm_pix(key: jax.Array, image: jax.Array) -> jax.Array:
    flip, crop, hide = jax.random.split(key, 3)
    padded = reflected(dm_pix.random_flip_left_right(flip, image))
    levels = dm_pix.random_crop(crop, padded, image.shape) * cutout_mask(hide, image)
    return normalized(levels / 255).astype(jnp.bfloat16)


def cifar_of_augmax(key: jax.Array, image: jax.Array) -> jax.Array:
    move, hide = jax.random.split(key)
    moves = [augmax.RandomCrop(*image.shape[:2]), augmax.HorizontalFlip(), augmax.ByteToFloat()]
    levels = augmax.Chain(*moves)(move, reflected(image)) * cutout_mask(hide, image)
    return normalized(levels).astype(jnp.bfloat16)


def cifar_of_kornia() -> list[Any]:
    size = SMALL.shape[1:3]
    area = CUTOUT**2 / (SMALL.shape[1] * SMALL.shape[2])
    crop = kornia.RandomCrop(size, padding=PADDING, padding_mode="reflect")
    hide = kornia.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0))
    normalize = kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    return [kornia.RandomHorizontalFlip(), crop, hide, normalize]


def reflected(image: jax.Array) -> jax.Array:
    return jnp.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), "reflect")


def cutout_mask(key: jax.Array, image: jax.Array) -> jax.Array:
    """A mask that is 0 in a square and 1 elsewhere.

    This is at least twice as fast as nine other ways to write a cutout by hand.
    """
    center = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    axes = zip(image.shape[:2], center, strict=True)
    sides = [jnp.abs(jnp.arange(size) - middle) < CUTOUT // 2 for size, middle in axes]
    rows, columns = (side.astype(jnp.float32) for side in sides)
    return 1 - rows[:, None, None] * columns[None, :, None]


def normalized(levels: jax.Array) -> jax.Array:
    return (levels - jnp.array(MEAN)) / jnp.array(STD)


# The recipe at 224 pixels.


def jitter_of_fnn() -> augment.Policy:
    jitter = augment.jitter(brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH, hue=HUE)
    rotate = augment.rotate((-DEGREES, DEGREES))
    return augment.chain(augment.flip_lr(), rotate, jitter, augment.normalize(MEAN, STD))


def jitter_of_dm_pix(key: jax.Array, image: jax.Array) -> jax.Array:
    flip, turn, brightness, contrast, saturation, hue = jax.random.split(key, 6)
    angle = jnp.deg2rad(jax.random.uniform(turn, (), minval=-DEGREES, maxval=DEGREES))
    image = dm_pix.random_flip_left_right(flip, image).astype(jnp.float32) / 255
    image = dm_pix.rotate(image, angle, mode="constant")
    image = dm_pix.random_brightness(brightness, image, STRENGTH)
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
    normalize = kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    return [kornia.RandomHorizontalFlip(), rotate, jitter, normalize]


CIFAR = Recipe(cifar_of_fnn, cifar_of_dm_pix, cifar_of_augmax, cifar_of_kornia)
JITTER = Recipe(jitter_of_fnn, jitter_of_dm_pix, jitter_of_augmax, jitter_of_kornia)


def six_operations() -> augment.Policy:
    """Six operations to compile."""
    crop = augment.random_crop(padding=PADDING)
    rotate = augment.rotate((-DEGREES, DEGREES))
    jitter = augment.jitter(brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH, hue=HUE)
    return augment.chain(
        augment.flip_lr(),
        crop,
        rotate,
        jitter,
        augment.cutout(CUTOUT),
        augment.normalize(MEAN, STD),
    )


def singles() -> dict[str, augment.Policy]:
    """Single operations, at usual strengths."""
    turn = (-DEGREES, DEGREES)
    factor = (1 - STRENGTH, 1 + STRENGTH)
    shift = (-0.1, 0.1)
    colors = {"brightness": STRENGTH, "contrast": STRENGTH, "saturation": STRENGTH}
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
        "affine": augment.affine(degrees=turn, rows=shift, columns=shift, factor=(0.8, 1.2)),
        "perspective": augment.perspective(),
        "elastic": augment.elastic(4.0),
        "brightness": augment.brightness(factor),
        "contrast": augment.contrast(factor),
        "saturation": augment.saturation(factor),
        "hue": augment.hue((-HUE, HUE)),
        "jitter, without hue": augment.jitter(**colors),
        "jitter, with hue": augment.jitter(**colors, hue=HUE),
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


# The measurements.


def programs_of(recipe: Recipe, images: np.ndarray) -> dict[str, Any]:
    """The programs of fnn and of the installed peers."""
    programs: dict[str, Any] = {"fnn": Compiled(augment.per_image(recipe.fnn()), images)}
    if dm_pix:
        programs["dm_pix"] = Compiled(augment.per_image(recipe.dm_pix), images)
    if augmax:
        programs["augmax"] = Compiled(augment.per_image(recipe.augmax), images)
    if kornia:
        programs["kornia, eager"] = Modules(images, *recipe.kornia())
        compiled = Modules(images, *recipe.kornia(), compiled=True)
        programs |= if_it_runs("kornia, torch.compile", compiled)
    return programs


def if_it_runs(name: str, program: Modules) -> dict[str, Modules]:
    """The program, or nothing where torch.compile finds no C++ compiler."""
    try:
        program()
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {}
    return {name: program}


def rows_of(title: str, programs: dict[str, Any], timings: dict[str, Timing]) -> list[dict]:
    """One row per program."""
    rows = []
    for name, timing in timings.items():
        program = programs[name]
        row = {title: name, "images/s": f"{program.count / timing.seconds:,.0f}"}
        row["time relative to fnn"] = f"{timing.ratio:.2f}"
        is_xla = isinstance(program, Compiled)
        row["kB per image"] = f"{program.bytes / 1e3:,.1f}" if is_xla else "–"
        rows.append(row)
    return rows


def judged(title: str, timings: dict[str, Timing], **goals: float) -> list[str]:
    """Images per second of fnn relative to the fastest row of each peer."""
    remarks = []
    for peer, goal in goals.items():
        ratios = [timing.ratio for name, timing in timings.items() if name.startswith(peer)]
        if ratios:
            label = f"{title}, images/s relative to {peer}:"
            remarks.append(judge(label, min(ratios), goal, at_least=True, form=".1f"))
    return remarks


def cifar() -> tuple[list[dict[str, str]], list[str]]:
    programs = programs_of(CIFAR, SMALL)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    rows = rows_of("CIFAR, 1024 x 32 x 32", programs, timings)
    return rows, judged("CIFAR", timings, dm_pix=3, kornia=20)


def jitter() -> list[str]:
    programs = programs_of(JITTER, LARGE)
    # dm_pix is too slow for as many rounds as the others.
    slow = programs.pop("dm_pix", None)
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    if slow:
        programs["dm_pix"] = slow
        pair = {"fnn": programs["fnn"], "dm_pix": slow}
        timings["dm_pix"] = compare(pair, base="fnn", rounds=FEW_ROUNDS)["dm_pix"]
    rows = rows_of("flip, rotate, jitter, 32 x 224 x 224", programs, timings)
    return [table(rows), *judged("at 224", timings, kornia=5, augmax=15)]


def rand_augment() -> list[str]:
    policy = augment.rand_augment(count=2, magnitude=9.0)
    programs: dict[str, Any] = {"fnn": Compiled(augment.per_image(policy), LARGE, BATCHES)}
    if hasattr(augment, "stratified"):
        stratified = augment.stratified(policy)

        def of_batch(key: jax.Array, images: jax.Array) -> jax.Array:
            return stratified(key, augment.Batch(images)).images

        programs["fnn, stratified"] = Compiled(of_batch, LARGE, BATCHES)
    if kornia:
        programs["kornia, one draw per batch"] = Modules(
            LARGE, RandAugment(n=2, m=9), batches=BATCHES
        )
    timings = compare(programs, base="fnn", rounds=ROUNDS)
    rows = rows_of("RandAugment, 32 x 224 x 224", programs, timings)
    return [table(rows), *judged("RandAugment", timings, kornia=3)]


def compiling() -> list[str]:
    """Seconds from a policy to a program, as in a fresh process."""

    def seconds(policy: augment.Policy, images: np.ndarray) -> float:
        jax.clear_caches()
        began = time.perf_counter()
        jax.jit(augment.per_image(policy)).lower(jax.random.key(0), images).compile()
        return time.perf_counter() - began

    def judged(name: str, policy: augment.Policy, images: np.ndarray, goal: float) -> str:
        median = statistics.median(seconds(policy, images) for _ in range(COMPILINGS))
        return judge(f"s to compile {name}:", median, goal, form=".2f")

    return [
        judged("six operations", six_operations(), SMALL, 2.0),
        judged("RandAugment", augment.rand_augment(), LARGE, 4.0),
    ]


def one_by_one() -> str:
    augmentations = {name: augment.per_image(policy) for name, policy in singles().items()}
    programs = {name: Compiled(function, LARGE) for name, function in augmentations.items()}
    timings = compare(programs, base="normalize", rounds=ROUNDS)
    rows = []
    for name, timing in timings.items():
        images_per_second = programs[name].count / timing.seconds
        row = {"operation, 32 x 224 x 224": name, "images/s": f"{images_per_second:,.0f}"}
        rows.append(row | {"kB per image": f"{programs[name].bytes / 1e3:,.0f}"})
    return table(rows)


def main() -> None:
    keep_pages()
    peers = ", ".join(f"{peer} {version(peer)}" for peer in PEERS if version(peer))
    method = (
        f"Warm, a new key per batch, median of {ROUNDS} alternating rounds, {FEW_ROUNDS} of dm_pix "
        f"at 224 pixels; {BATCHES} batches per round of RandAugment. All programs get bytes, "
        f"channels last; the conversion to floats or channels first that a peer needs is part of "
        f"its time. The result of CIFAR is bfloat16, float32 in kornia; the jitter of augmax does "
        f"not change the saturation. Bytes are those that XLA counts. {peers}"
    )
    rows, goals = cifar()
    remarks = [*goals, *jitter(), *rand_augment(), *compiling(), one_by_one()]
    show(__doc__, method.strip(), rows, *remarks, *missing(*PEERS))


if __name__ == "__main__":
    main()
