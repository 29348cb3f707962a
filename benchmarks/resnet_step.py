"""What a step of ResNet-8 with batch norm costs, and what it costs peers.

The network of nn.resnet_cifar(8): a convolution and three blocks of two, of 16, 32 and 64 channels, shortcuts without
parameters; batch 128 of 32x32x3, momentum. Goal: fnn takes at most 0.85 of torch's time. Run
`python benchmarks/resnet_step.py`.
"""

from typing import Any

from measure import Program, compare, judge, missing, show
from stepping import CLASSES, STEPS, fnn_step, inside, nnx, outside, torch, with_nnx, with_torch

from fnn import nn

STAGES = ((16, 16, 1), (16, 32, 2), (32, 64, 2))  # in-channels, out-channels and stride of each block
ROUNDS = 7


def torch_model() -> Any:
    layers = torch.nn

    def conv(i, o, stride):
        return layers.Conv2d(i, o, 3, stride, 1, bias=False)

    class Block(layers.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            first = (conv(i, o, stride), layers.BatchNorm2d(o), layers.ReLU())
            self.body = layers.Sequential(*first, conv(o, o, 1), layers.BatchNorm2d(o))
            self.stride, self.more = stride, o - i

        def forward(self, x):
            y = self.body(x)
            x = x[:, :, :: self.stride, :: self.stride]
            return torch.relu(layers.functional.pad(x, (0, 0, 0, 0, 0, self.more)) + y)

    stem = (conv(3, 16, 1), layers.BatchNorm2d(16), layers.ReLU())
    head = (layers.AdaptiveAvgPool2d(1), layers.Flatten(), layers.Linear(64, CLASSES))
    return layers.Sequential(*stem, *(Block(*stage) for stage in STAGES), *head)


def programs() -> dict[str, Program]:
    found = {
        "fnn, in a scan": inside(*fnn_step(nn.resnet_cifar(8))),
        "fnn, a call a step": outside(*fnn_step(nn.resnet_cifar(8))),
    }
    if nnx:
        from nnx_resnet import ResNet

        found |= {"flax nnx + optax": with_nnx(ResNet(nnx.Rngs(0)))}
    if torch:
        eager, compiled = with_torch(torch_model()), with_torch(torch_model(), compiled=True)
        found |= {"torch, eager, channels last": eager, "torch, compiled": compiled}
    return found


def main() -> None:
    timings = compare(programs(), base="fnn, in a scan", rounds=ROUNDS)
    rows = [
        {"one step": name, "ms": f"{1e3 * t.seconds / STEPS:.1f}", "× fnn in a scan": f"{t.ratio:.2f}"}
        for name, t in timings.items()
    ]
    goals = []
    if torch:
        fastest = min(t.ratio for name, t in timings.items() if name.startswith("torch"))
        goals.append(judge("fnn in a scan by the fastest of torch:", 1 / fastest, 0.85, form=".2f"))
    show(
        __doc__, f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds.", rows, *goals, *missing("torch", "flax")
    )


if __name__ == "__main__":
    main()
