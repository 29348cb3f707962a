"""The blocks of the residual networks for CIFAR, for the models of all libraries."""

CLASSES = 10
STAGES = ((16, 16, 1), (16, 32, 2), (32, 64, 2))


def blocks(depth: int) -> list[tuple[int, int, int]]:
    """Input channels, output channels and stride of each block of `nn.resnet_cifar(depth)`."""
    repeats = (depth - 2) // 6 - 1
    all_blocks = []
    for i, o, stride in STAGES:
        all_blocks += [(i, o, stride), *[(o, o, 1)] * repeats]
    return all_blocks
