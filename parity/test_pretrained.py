"""Networks of fnn with the weights of torchvision and timm return the logits of these."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fnn import lab, nn


def with_operators(name: str):
    """Import a package, also if the C++ part of torchvision does not match torch.

    Then it lacks operators whose shapes it registers; the networks need none of them.
    """
    try:
        return pytest.importorskip(name)
    except RuntimeError:
        arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for operator in ("nms", "qnms"):
            OPERATORS.define(f"{operator}{arguments}")
        return pytest.importorskip(name)


OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
models, timm = with_operators("torchvision").models, pytest.importorskip("timm")

SHAPE = (32, 32, 3)


TIMM_SIZES = {"depth": 3, "num_heads": 4, "embed_dim": 32, "num_classes": 7}


def timm_vit(**options):
    return timm.models.VisionTransformer(32, 8, **TIMM_SIZES, **options)


def fnn_vit(**options):
    return nn.vit(8, 7, size=32, width=32, depth=3, heads=4, **options)


CASES = {
    "torchvision resnet18": (lambda: models.resnet18(num_classes=7), lambda: nn.resnet(18, 7)),
    "torchvision resnet34": (lambda: models.resnet34(num_classes=7), lambda: nn.resnet(34, 7)),
    "torchvision resnet50": (lambda: models.resnet50(num_classes=7), lambda: nn.resnet(50, 7)),
    "torchvision vit": (
        lambda: models.VisionTransformer(32, 8, 3, 4, 32, 128, num_classes=7),
        fnn_vit,
    ),
    "timm vit": (timm_vit, fnn_vit),
    "timm distilled vit": (
        lambda: timm.models.deit.VisionTransformerDistilled(32, 8, **TIMM_SIZES),
        lambda: fnn_vit(distilled=True),
    ),
    "timm vit with registers": (
        lambda: timm_vit(reg_tokens=4, no_embed_class=True, init_values=1e-5),
        lambda: fnn_vit(registers=4, layer_scale=1e-5),
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
def randomized():
    """A function that replaces weights that start at 0 or 1 with random numbers.

    These are norms, running statistics, biases, tokens and heads.
    """

    def randomize(model: torch.nn.Module) -> torch.nn.Module:
        torch.manual_seed(0)
        for name, tensor in model.state_dict().items():
            # Scales and variances are near 1, so that no norm vanishes.
            is_scale = name.endswith(("weight", "running_var")) and tensor.ndim == 1
            center = 1 if is_scale else 0
            if tensor.is_floating_point() and (tensor.ndim == 1 or not tensor.any()):
                tensor.copy_(center + torch.rand_like(tensor) - 1 / 2)
        return model.eval()

    return randomize


@pytest.mark.parametrize("case", CASES)
def test_logits_match_the_peer(case, randomized, tmp_path):
    model, network = (make() for make in CASES[case])
    save_file(randomized(model).state_dict(), tmp_path / "weights.safetensors")
    params, state = lab.load_weights(tmp_path / "weights.safetensors", network, SHAPE)
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    with torch.no_grad():
        wanted = model(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    got, _ = network.apply(params, state, jnp.asarray(x), train=False)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
