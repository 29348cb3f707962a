"""The blocks of the residual networks for CIFAR, which the models of all libraries are built by."""

CLASSES = 10
STAGES = ((16, 16, 1), (16, 32, 2), (32, 64, 2))


def blocks(depth: int) -> list[tuple[int, int, int]]:
    """In-channels, out-channels and stride of each block, as they are in `nn.resnet_cifar(depth)`."""
    more = (depth - 2) // 6 - 1
    return [block for i, o, stride in STAGES for block in ((i, o, stride), *[(o, o, 1)] * more)]
