"""How long a CIFAR-10 speed run takes on a tenth of the images: the same network and recipe in fnn and in torch.

The recipe is that of airbench94 [Jordan 2024, arXiv:2404.00498], but for its average of the weights, which so few steps
cannot use: a first layer that whitens, flips in turns and shifts, Nesterov's momentum with fast biases under a
triangular rate, smoothed labels, and both mirror images at the test. The time for compiling is included. There is no
goal: which is faster is shown. Run `python benchmarks/cifar.py`, with CIFAR=folder for where the binary files are; else
they are downloaded on first use.
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

TRAINED, TESTED, WHITENED, ROUNDS = 5120, 5000, 2000, 3
EPOCHS, BATCH, MOVED, SMOOTHING, WIDTHS, SCALE = 2, 128, 2, 0.2, (64, 256, 256), 1 / 9
PEAK, DECAY, FASTER, MOMENTUM = (
    1.5 * BATCH / 1024,
    1.33e-3,
    64.0,
    0.85,
)  # FASTER: than other weights do biases learn
STEPS = EPOCHS * (TRAINED // BATCH)
FIRST, MIDDLE, LAST = (
    0.2,
    0.23,
    0.07,
)  # the rate's begin and end, as parts of its peak, and when the peak is


def triangle(peak: float) -> Schedule:
    up = optim.linear(FIRST * peak, steps=MIDDLE * STEPS, floor=peak)
    down = optim.linear(peak, steps=(1 - MIDDLE) * STEPS, floor=LAST * peak)
    return optim.join([up, down], boundaries=[MIDDLE * STEPS])


def with_fnn(cifar: data.DataSet, seed: int) -> float:
    """The accuracy after a run."""

    def part(times: float) -> Optimizer:
        rule = optim.momentum(triangle(PEAK * times), momentum=MOMENTUM, nesterov=True)
        return optim.weight_decay(rule, DECAY / times, decoupled=False)

    images, labels = cifar.test
    prepare = data.standardize(cifar.train[0])
    recipe = train.recipe(
        nn.cifar_speedrun(
            prepare(jnp.asarray(cifar.train[0][:WHITENED])), widths=WIDTHS, scale=SCALE
        ),
        optim.partition({"*norm*bias": part(FASTER)}, part(1.0)),
        loss=objective.cross_entropy(label_smoothing=SMOOTHING),
        augment=augment.batch_chain(
            augment.alternate(augment.flip_lr(1.0)), augment.random_crop(padding=MOVED)
        ),
        prepare=prepare,
    )
    result = lab.fit(
        jax.random.key(seed), recipe, cifar.train, epochs=EPOCHS, batch_size=BATCH, show=False
    )
    predict = partial(train.predict, recipe, result.train_state)
    both = augment.tta(predict, views=[augment.chain(), augment.flip_lr(1.0)])
    return float(objective.accuracy(both(jnp.asarray(images)), labels).mean())


def with_torch(cifar: data.DataSet, seed: int) -> float:
    """The same in torch, channels last: data in memory, all images of an epoch moved at once, a fused optimizer."""
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
        {"params": fast, "weight_decay": DECAY / FASTER},
        {"params": slow, "weight_decay": DECAY},
    ]
    optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=MOMENTUM, nesterov=True, fused=True)
    rates = iter(np.asarray(jax.vmap(triangle(PEAK))(np.arange(STEPS))).tolist())
    turned = torch.where((torch.rand(TRAINED) < 0.5)[:, None, None, None], images.flip(-1), images)
    padded = functional.pad(turned, (MOVED,) * 4, "reflect")
    model.train()
    for epoch in range(EPOCHS):
        shown = moved(padded).flip(-1) if epoch % 2 else moved(padded)
        for batch in torch.randperm(TRAINED).split(BATCH):
            rate = next(rates)
            for group, times in zip(optimizer.param_groups, (FASTER, 1.0), strict=True):
                group["lr"] = rate * times
            optimizer.zero_grad(set_to_none=True)
            outputs = model(last(shown[batch]))
            functional.cross_entropy(outputs, labels[batch], label_smoothing=SMOOTHING).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        both = torch.cat([model(x) + model(x.flip(-1)) for x in tests.split(500)])
    return float((both.argmax(1) == answers).float().mean())


def module(kernel: "torch.Tensor") -> "torch.nn.Module":
    """nn.cifar_speedrun in torch, with this kernel in its first layer."""
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
        parts = {"conv_1": conv(inputs, outputs), "pool": tnn.MaxPool2d(2), "norm_1": norm(outputs)}
        parts |= {
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
    return tnn.Sequential(
        whiten, tnn.GELU(), *stages, tnn.AdaptiveMaxPool2d(1), tnn.Flatten(), head
    )


def whitening(images: "torch.Tensor") -> "torch.Tensor":
    """The kernel of nn.whitening, (24, 3, 2, 2)."""
    patches = torch.nn.functional.unfold(images, 2).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    half = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(-1, 3, 2, 2)
    return torch.cat([half, -half])


def moved(padded: "torch.Tensor") -> "torch.Tensor":
    """A window of each image, all that begin at the same place by one copy, as airbench does it."""
    size = padded.shape[-1] - 2 * MOVED
    begins, shown = (
        torch.randint(2 * MOVED + 1, (len(padded), 2)),
        padded[..., :size, :size].clone(),
    )
    for top, left in product(range(2 * MOVED + 1), repeat=2):
        chosen = (begins[:, 0] == top) & (begins[:, 1] == left)
        shown[chosen] = padded[chosen, :, top : top + size, left : left + size]
    return shown


def last(what: "torch.Tensor | torch.nn.Module") -> "torch.Tensor | torch.nn.Module":
    return what.to(memory_format=torch.channels_last)


def main() -> None:
    try:
        whole = data.cifar10(os.environ.get("CIFAR"))
    except DatasetUnavailableError:
        show(
            __doc__,
            "Not measured: the files are not here, nor to be fetched. CIFAR=folder tells where they are.",
            [],
        )
        return
    sizes = zip(whole, (TRAINED, TESTED), strict=True)
    cifar = data.DataSet(*(tuple(part[:size] for part in pair) for pair, size in sizes))
    runs = {"fnn": partial(with_fnn, cifar)} | (
        {"torch": partial(with_torch, cifar)} if torch else {}
    )
    finishes = race(runs, base="fnn", rounds=ROUNDS)
    rows = [finish.row(name) for name, finish in finishes.items()]
    ratios = {name: finish.ratio for name, finish in finishes.items()}
    method = f"{TRAINED:,} images, {EPOCHS} epochs, {TESTED:,} to test; {ROUNDS} seeds, in alternating rounds; medians."
    show(__doc__, method, rows, *verdict(ratios), *missing("torch"))


def verdict(ratios: dict[str, float]) -> list[str]:
    """Which is faster, if there are two."""
    if "torch" not in ratios:
        return []
    first, second = ("fnn", "torch") if ratios["torch"] > 1 else ("torch", "fnn")
    return [f"{first} is faster: {ratios[first] / ratios[second]:.2f} of the time of {second}."]


if __name__ == "__main__":
    main()
