"""Time of a CIFAR-10 speed run on a tenth of the images, in fnn and in torch.

The network and the recipe are those of airbench94 [Jordan 2024, arXiv:2404.00498] without its
average of the weights, which does not help in a few steps: a whitening first layer, alternating
flips and shifts, Nesterov momentum with a higher rate for biases under a triangular schedule,
label smoothing, and both mirror images at the test. Compilation is included. There is no goal.
Run `python benchmarks/cifar.py`; CIFAR=folder names the folder of the binary files, which are
otherwise downloaded on first use.
"""

import os
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from measure import missing, race, show

from fnn import augment, data, lab, nn, objective, optim, train
from fnn.errors import DatasetUnavailableError
from fnn.types import Optimizer, Schedule

try:
    import torch
except ImportError:
    torch = None

# Numbers of images for training, for the test, and for the statistics of the whitening layer.
TRAINED, TESTED, WHITENED, ROUNDS = 5120, 5000, 2000, 3
EPOCHS, BATCH, SHIFT, SMOOTHING, WIDTHS, SCALE = 2, 128, 2, 0.2, (64, 256, 256), 1 / 9
PEAK, DECAY, MOMENTUM = 1.5 * BATCH / 1024, 1.33e-3, 0.85
BIAS_FACTOR = 64.0  # the rate of the biases of norms, relative to the rate of the other weights
STEPS = EPOCHS * (TRAINED // BATCH)
# First and last rate relative to the peak, and the share of the steps before the peak.
FIRST, MIDDLE, LAST = 0.2, 0.23, 0.07


def triangle(peak: float) -> Schedule:
    up = optim.linear(FIRST * peak, steps=MIDDLE * STEPS, floor=peak)
    down = optim.linear(peak, steps=(1 - MIDDLE) * STEPS, floor=LAST * peak)
    return optim.join([up, down], boundaries=[MIDDLE * STEPS])


def with_fnn(cifar: data.DataSet, seed: int) -> float:
    """The test accuracy after a run."""

    def optimizer(factor: float) -> Optimizer:
        rule = optim.momentum(triangle(PEAK * factor), momentum=MOMENTUM, nesterov=True)
        return optim.weight_decay(rule, DECAY / factor, decoupled=False)

    images, labels = cifar.test
    prepare = data.standardize(cifar.train[0])
    samples = prepare(jnp.asarray(cifar.train[0][:WHITENED]))
    flips = augment.alternate(augment.flip_lr(1.0))
    recipe = train.recipe(
        nn.cifar_speedrun(samples, widths=WIDTHS, scale=SCALE),
        optim.partition({"*norm*bias": optimizer(BIAS_FACTOR)}, optimizer(1.0)),
        loss=objective.cross_entropy(label_smoothing=SMOOTHING),
        augment=augment.batch_chain(flips, augment.random_crop(padding=SHIFT)),
        prepare=prepare,
    )
    result = lab.fit(
        jax.random.key(seed), recipe, cifar.train, epochs=EPOCHS, batch_size=BATCH, show=False
    )
    predict = partial(train.predict, recipe, result.train_state)
    both = augment.tta(predict, views=[augment.chain(), augment.flip_lr(1.0)])
    return float(objective.accuracy(both(jnp.asarray(images)), labels).mean())


def with_torch(cifar: data.DataSet, seed: int) -> float:
    """The same in torch.

    Channels last, data in memory, all images of an epoch shifted at once, a fused optimizer.
    """
    from torch.nn import functional

    torch.manual_seed(seed)
    images, tests = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x, _ in cifar)
    labels, answers = (torch.from_numpy(y).long() for _, y in cifar)
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    images, tests = (images - mean) / std, last((tests - mean) / std)
    model = last(module(whitening(images[:WHITENED])))
    fast = [p for name, p in model.named_parameters() if p.requires_grad and "norm" in name]
    slow = [p for name, p in model.named_parameters() if p.requires_grad and "norm" not in name]
    groups = [
        {"params": fast, "weight_decay": DECAY / BIAS_FACTOR},
        {"params": slow, "weight_decay": DECAY},
    ]
    optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=MOMENTUM, nesterov=True, fused=True)
    rates = iter(np.asarray(jax.vmap(triangle(PEAK))(np.arange(STEPS))).tolist())
    is_flipped = (torch.rand(TRAINED) < 0.5)[:, None, None, None]
    flipped = torch.where(is_flipped, images.flip(-1), images)
    padded = functional.pad(flipped, (SHIFT,) * 4, "reflect")
    model.train()
    for epoch in range(EPOCHS):
        # Each image is flipped in every second epoch.
        inputs = shifted(padded).flip(-1) if epoch % 2 else shifted(padded)
        for batch in torch.randperm(TRAINED).split(BATCH):
            rate = next(rates)
            for group, factor in zip(optimizer.param_groups, (BIAS_FACTOR, 1.0), strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
            outputs = model(last(inputs[batch]))
            functional.cross_entropy(outputs, labels[batch], label_smoothing=SMOOTHING).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        both = torch.cat([model(x) + model(x.flip(-1)) for x in tests.split(500)])
    return float((both.argmax(1) == answers).float().mean())


def module(kernel: "torch.Tensor") -> "torch.nn.Module":
    """nn.cifar_speedrun in torch, with the given kernel in its first layer."""
    from collections import OrderedDict

    from torch import nn as tnn

    def conv(inputs: int, outputs: int) -> tnn.Module:
        layer = tnn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        tnn.init.dirac_(layer.weight.data[:inputs])
        return layer

    def norm(channels: int) -> tnn.Module:
        layer = tnn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
        layer.weight.requires_grad = False
        return layer

    def stage(inputs: int, outputs: int) -> tnn.Module:
        parts = {
            "conv_1": conv(inputs, outputs),
            "pool": tnn.MaxPool2d(2),
            "norm_1": norm(outputs),
            "gelu_1": tnn.GELU(),
            "conv_2": conv(outputs, outputs),
            "norm_2": norm(outputs),
            "gelu_2": tnn.GELU(),
        }
        return tnn.Sequential(OrderedDict(parts))

    class Tempered(tnn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return SCALE * super().forward(x)

    whiten, head = tnn.Conv2d(3, len(kernel), 2), Tempered(WIDTHS[-1], 10, bias=False)
    whiten.weight = tnn.Parameter(kernel, requires_grad=False)
    tnn.init.zeros_(whiten.bias)
    tnn.init.normal_(head.weight, std=WIDTHS[-1] ** -0.5)
    stages = [stage(*sizes) for sizes in zip((len(kernel), *WIDTHS), WIDTHS, strict=False)]
    pool = tnn.AdaptiveMaxPool2d(1)
    return tnn.Sequential(whiten, tnn.GELU(), *stages, pool, tnn.Flatten(), head)


def whitening(images: "torch.Tensor") -> "torch.Tensor":
    """The kernel of nn.whitening, (24, 3, 2, 2)."""
    patches = torch.nn.functional.unfold(images, 2).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    half = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(-1, 3, 2, 2)
    return torch.cat([half, -half])


def shifted(padded: "torch.Tensor") -> "torch.Tensor":
    """A random window of each image; one copy per offset, as in airbench."""
    size = padded.shape[-1] - 2 * SHIFT
    offsets = torch.randint(2 * SHIFT + 1, (len(padded), 2))
    windows = padded[..., :size, :size].clone()
    for top, left in product(range(2 * SHIFT + 1), repeat=2):
        chosen = (offsets[:, 0] == top) & (offsets[:, 1] == left)
        windows[chosen] = padded[chosen, :, top : top + size, left : left + size]
    return windows


def last(value: "torch.Tensor | torch.nn.Module") -> "torch.Tensor | torch.nn.Module":
    """The tensor or module with channels last in memory."""
    return value.to(memory_format=torch.channels_last)


def main() -> None:
    try:
        whole = data.cifar10(os.environ.get("CIFAR"))
    except DatasetUnavailableError:
        method = "Not measured: no files, and no download. CIFAR=folder names their folder."
        show(__doc__, method, [])
        return
    sizes = zip(whole, (TRAINED, TESTED), strict=True)
    cifar = data.DataSet(*(tuple(part[:size] for part in pair) for pair, size in sizes))
    runs = {"fnn": partial(with_fnn, cifar)}
    if torch:
        runs["torch"] = partial(with_torch, cifar)
    finishes = race(runs, base="fnn", rounds=ROUNDS)
    rows = [finish.row(name) for name, finish in finishes.items()]
    ratios = {name: finish.ratio for name, finish in finishes.items()}
    method = (
        f"{TRAINED:,} images, {EPOCHS} epochs, {TESTED:,} test images; "
        f"{ROUNDS} seeds, in alternating rounds; medians."
    )
    show(__doc__, method, rows, *verdict(ratios), *missing("torch"))


def verdict(ratios: dict[str, float]) -> list[str]:
    """A remark on which library is faster, if there are two."""
    if "torch" not in ratios:
        return []
    first, second = ("fnn", "torch") if ratios["torch"] > 1 else ("torch", "fnn")
    return [f"{first} is faster: {ratios[first] / ratios[second]:.2f} of the time of {second}."]


if __name__ == "__main__":
    main()
