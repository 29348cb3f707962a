"""Weights of torchvision and timm, loaded into fnn's networks, give their logits."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fnn import lab, nn


def with_operators(name: str):
    """A package, imported although torchvision's C++ part may be built for another machine than torch is.

    It then lacks the operators that it tells the shapes of; the networks need neither of them.
    """
    try:
        return pytest.importorskip(name)
    except RuntimeError:
        for operator in ("nms", "qnms"):
            OPERATORS.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        return pytest.importorskip(name)


OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
models, timm = with_operators("torchvision").models, pytest.importorskip("timm")

SHAPE = (32, 32, 3)
CASES = {
    "torchvision resnet18": (lambda: models.resnet18(num_classes=7), lambda: nn.resnet(18, 7)),
    "torchvision resnet34": (lambda: models.resnet34(num_classes=7), lambda: nn.resnet(34, 7)),
    "torchvision resnet50": (lambda: models.resnet50(num_classes=7), lambda: nn.resnet(50, 7)),
    "torchvision vit": (
        lambda: models.VisionTransformer(32, 8, 3, 4, 32, 128, num_classes=7),
        lambda: nn.vit(8, 7, size=32, width=32, depth=3, heads=4),
    ),
    "timm vit": (
        lambda: timm.models.VisionTransformer(
            32, 8, depth=3, num_heads=4, embed_dim=32, num_classes=7
        ),
        lambda: nn.vit(8, 7, size=32, width=32, depth=3, heads=4),
    ),
    "timm resnet18": (
        lambda: timm.create_model("resnet18", num_classes=7),
        lambda: nn.resnet(18, 7),
    ),
    "timm resnet50": (
        lambda: timm.create_model("resnet50", num_classes=7),
        lambda: nn.resnet(50, 7),
    ),
}


@pytest.fixture
def jumbled():
    """A function that draws what begins as 0 or 1 anew: norms, running statistics, biases, tokens, heads."""

    def jumble(model: torch.nn.Module) -> torch.nn.Module:
        torch.manual_seed(0)
        for name, tensor in model.state_dict().items():
            around = (
                1 if name.endswith(("weight", "running_var")) and tensor.ndim == 1 else 0
            )  # norms do not vanish
            if tensor.is_floating_point() and (tensor.ndim == 1 or not tensor.any()):
                tensor.copy_(around + torch.rand_like(tensor) - 1 / 2)
        return model.eval()

    return jumble


@pytest.mark.parametrize("case", CASES)
def test_the_logits_are_those_of_the_peer(case, jumbled, tmp_path):
    model, network = (make() for make in CASES[case])
    save_file(jumbled(model).state_dict(), tmp_path / "weights.safetensors")
    params, state = lab.load_weights(tmp_path / "weights.safetensors", network, SHAPE)
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    with torch.no_grad():
        wanted = model(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    got, _ = network.apply(params, state, jnp.asarray(x), train=False)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
