"""Vision transformers with distillation or registers return the logits of a plain one in torch.

The torch module has the parameter names of timm, and computes by elementary operations.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn as torch_nn

from fnn import lab, nn

WIDTH, HEADS, DEPTH, PATCH, CLASSES = 24, 3, 2, 4, 5
SHAPE = (8, 12, 3)  # of an image: 2 x 3 patches


class Block(torch_nn.Module):
    """A pre-norm block, with factors of the channels at the ends of its branches."""

    def __init__(self, has_scale):
        super().__init__()
        self.norm1 = torch_nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = torch_nn.ModuleDict(
            {"qkv": torch_nn.Linear(WIDTH, 3 * WIDTH), "proj": torch_nn.Linear(WIDTH, WIDTH)}
        )
        self.norm2 = torch_nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = torch_nn.ModuleDict(
            {"fc1": torch_nn.Linear(WIDTH, 4 * WIDTH), "fc2": torch_nn.Linear(4 * WIDTH, WIDTH)}
        )
        if has_scale:
            self.ls1 = torch_nn.ParameterDict({"gamma": torch.zeros(WIDTH)})
            self.ls2 = torch_nn.ParameterDict({"gamma": torch.zeros(WIDTH)})
        self.has_scale = has_scale

    def attend(self, x):
        batch, tokens, _ = x.shape
        # (batch, tokens, 3, heads, size) -> 3 x (batch, heads, tokens, size)
        joined = self.attn["qkv"](x).reshape(batch, tokens, 3, HEADS, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        mean = scores.softmax(-1) @ value
        return self.attn["proj"](mean.transpose(1, 2).reshape(batch, tokens, WIDTH))

    def forward(self, x):
        branch = self.attend(self.norm1(x))
        x = x + (branch * self.ls1["gamma"] if self.has_scale else branch)
        hidden = torch_nn.functional.gelu(self.mlp["fc1"](self.norm2(x)))
        branch = self.mlp["fc2"](hidden)
        return x + (branch * self.ls2["gamma"] if self.has_scale else branch)


class Vit(torch_nn.Module):
    """A ViT with optional distillation, registers and layer scale.

    With `late_class` the class token has no position, as in timm's models with registers.
    """

    def __init__(self, *, distilled=False, registers=0, late_class=False, name="reg_token"):
        super().__init__()
        tokens = 2 if distilled else 1
        patches = (SHAPE[0] // PATCH) * (SHAPE[1] // PATCH)
        self.patch_embed = torch_nn.ModuleDict(
            {"proj": torch_nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)}
        )
        self.cls_token = torch_nn.Parameter(torch.zeros(1, 1, WIDTH))
        if distilled:
            self.dist_token = torch_nn.Parameter(torch.zeros(1, 1, WIDTH))
            self.head_dist = torch_nn.Linear(WIDTH, CLASSES)
        if registers:
            self.register_parameter(name, torch_nn.Parameter(torch.zeros(1, registers, WIDTH)))
        positions = patches if late_class else tokens + patches
        self.pos_embed = torch_nn.Parameter(torch.zeros(1, positions, WIDTH))
        self.blocks = torch_nn.ModuleList([Block(bool(registers)) for _ in range(DEPTH)])
        self.norm = torch_nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = torch_nn.Linear(WIDTH, CLASSES)
        self.distilled, self.late_class, self.name = distilled, late_class, name
        self.has_registers = bool(registers)

    def forward(self, images):
        batch = len(images)
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        tokens = [self.cls_token, self.dist_token] if self.distilled else [self.cls_token]
        tokens = [token.expand(batch, -1, -1) for token in tokens]
        if self.late_class:
            x = torch.cat([*tokens, x + self.pos_embed], 1)
        else:
            x = torch.cat([*tokens, x], 1) + self.pos_embed
        if self.has_registers:
            registers = getattr(self, self.name).expand(batch, -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        first = self.head(x[:, 0])
        if not self.distilled:
            return first
        second = self.head_dist(x[:, 1])
        return (first, second) if self.training else (first + second) / 2


REGISTERS = {"registers": 4, "layer_scale": 1e-5}
CASES = {
    "plain": ({}, {}),
    "distilled": ({"distilled": True}, {"distilled": True}),
    "timm's registers": ({"registers": 4, "late_class": True}, REGISTERS),
    "DINOv2's registers": ({"registers": 4, "name": "register_tokens"}, REGISTERS),
}


def make(case, tmp_path):
    """The torch module with random weights, fnn's network, and its params from their file."""
    torch_options, options = CASES[case]
    torch.manual_seed(0)
    model = Vit(**torch_options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / 4)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    network = nn.vit(
        PATCH, CLASSES, size=SHAPE[:2], width=WIDTH, depth=DEPTH, heads=HEADS, **options
    )
    params, _ = lab.load_weights(tmp_path / "vit.safetensors", network, SHAPE)
    return model, network, params


def images():
    x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    return jnp.asarray(x), torch.tensor(x).permute(0, 3, 1, 2)


def expect_close(got, wanted):
    wanted = wanted.numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES)
def test_logits_match_torch(case, tmp_path):
    model, network, params = make(case, tmp_path)
    x, torch_x = images()
    with torch.no_grad():
        expect_close(network.apply(params, {}, x)[0], model.eval()(torch_x))


def test_logits_of_both_heads_match_torch_in_training(tmp_path):
    model, network, params = make("distilled", tmp_path)
    x, torch_x = images()
    both, _ = network.apply(params, {}, x, train=True)
    with torch.no_grad():
        for got, wanted in zip(both.values(), model.train()(torch_x), strict=True):
            expect_close(got, wanted)
