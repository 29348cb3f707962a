"""The vision transformer has the published numbers of parameters and takes patches in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, images, initial_outputs, losses, out_shapes, parameters

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError

BASE = {"width": 768, "depth": 12, "heads": 12}
LARGE = {"width": 1024, "depth": 24, "heads": 16}
TINY = {"size": 6, "width": 8, "depth": 2, "heads": 2}
PARAMETERS = {  # in torchvision
    "ViT-B/16": (16, BASE, 86_567_656),
    "ViT-B/32": (32, BASE, 88_224_232),
    "ViT-L/16": (16, LARGE, 304_326_632),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_number_of_parameters_equals_torchvision(name):
    patch, options, wanted = PARAMETERS[name]
    assert parameters(nn.vit(patch, **options), (224, 224, 3)) == wanted


def test_the_shapes_agree():
    network = nn.vit((2, 3), 7, **TINY | {"size": (4, 9)}, drop_rate=0.1, drop_path_rate=0.1)
    assert out_shapes(network, (4, 9, 3)) == ((7,), (7,))


def test_the_params_of_blocks_are_stacked():
    params, _ = arrays(nn.vit(2, 7, **TINY | {"depth": 5}), (6, 6, 3))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params["blocks"])} == {5}


def test_patches_follow_the_class_token_row_by_row():
    network = nn.vit(2, 7, **TINY)
    x = images(6)
    y, params = initial_outputs(
        nn.chain(**{name: nn.take(network, name) for name in ("patches", "sequence", "tokens")}), x
    )
    cuts = np.asarray(x).reshape(8, 3, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(8, 9, 12)
    np.testing.assert_allclose(
        y[:, 1:], cuts @ params["patches"]["kernel"].reshape(12, 8), rtol=1e-4, atol=1e-5
    )
    assert not y[:, 0].any()


@pytest.mark.slow
def test_vit_learns():
    found = losses(nn.vit(2, 4, **TINY), images(6), jnp.arange(8) % 4)
    assert found[-1] < found[0] / 2


@pytest.mark.slow
def test_only_the_last_block_is_dropped_at_the_full_rate(key):
    """At a rate near 1 the first of two blocks drops each branch for half of the batch."""
    x = jax.random.normal(key, (64, 3, 8))
    y, _ = initial_outputs(nn.take(nn.vit(2, 7, **TINY, drop_path_rate=0.999999), "blocks"), x)
    untouched = (y == np.asarray(x)).all((1, 2)).sum()
    assert 4 <= untouched <= 30  # of 64 at a chance of 1/4: outside of this one time in 1e4


INVALID_OPTIONS = {
    "patch": ({"patch": 4, "size": 6}, "vit size: expected a multiple of the patch"),
    "heads": ({"width": 9, "heads": 2}, "vit width: expected a multiple of heads=2"),
    "rate": ({"drop_path_rate": 1.0}, r"vit drop_path_rate: expected a number in \[0, 1\)"),
    "no rate": ({"drop_rate": -0.1}, "drop_rate: expected a number"),
    "registers": ({"registers": -1}, "vit registers: expected >= 0"),
    "distilled": ({"distilled": 1}, "vit distilled: expected True or False"),
    "no depth": ({"depth": 0}, "vit depth: expected >= 1"),
}


@pytest.mark.parametrize("case", INVALID_OPTIONS)
def test_an_option_out_of_range_raises(case):
    options, message = INVALID_OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        nn.vit(**{"patch": 2, **TINY} | options)


@pytest.mark.parametrize("shape", [(4, 6, 3), (8, 8, 3)])
def test_an_image_of_another_size_raises(shape):
    network = nn.vit(2, 7, **TINY)
    params, state = arrays(network, (6, 6, 3))
    with pytest.raises(ShapeError, match=r"vit x: expected images of \(6, 6\)"):
        network.apply(params, state, jnp.ones((1, *shape)))


@pytest.mark.slow
def test_a_distilled_vit_has_both_heads_in_training_and_their_mean_else(key):
    network = nn.vit(2, 7, **TINY, distilled=True)
    assert out_shapes(network, (6, 6, 3), train=False) == ((7,), (7,))
    params, _, _ = network.init(key, (6, 6, 3))
    draw = np.random.default_rng(0)
    for head in params["head"].values():
        head["kernel"] = jnp.float32(draw.normal(size=(8, 7)))
    both, _ = network.apply(params, {}, images(6), train=True)
    assert list(both) == ["classes", "distillation"]
    mean, _ = network.apply(params, {}, images(6))
    np.testing.assert_allclose(mean, (both["classes"] + both["distillation"]) / 2, rtol=1e-6)
    assert np.abs(both["classes"] - both["distillation"]).max() > 0.1


@pytest.mark.slow
def test_each_head_of_a_distilled_vit_learns_its_targets(key):
    x = images(6)
    labels = jnp.arange(8) % 4
    cross_entropy = objective.cross_entropy()

    def loss(outputs, targets):
        labels, teacher = targets
        if not isinstance(outputs, dict):
            return cross_entropy(outputs, labels)
        of_labels = cross_entropy(outputs["classes"], labels)
        return (of_labels + cross_entropy(outputs["distillation"], teacher)) / 2

    network = nn.vit(2, 4, **TINY, distilled=True)
    recipe = train.recipe(network, optim.adam(1e-2), loss=loss)
    data = (x, (labels, (labels + 1) % 4))
    result = train.run(key, recipe, data, valid=data, epochs=60, batch_size=8)
    both, _ = network.apply(result.train_state.params, {}, x, train=True)
    np.testing.assert_array_equal(both["classes"].argmax(-1), labels)
    np.testing.assert_array_equal(both["distillation"].argmax(-1), (labels + 1) % 4)


def test_registers_follow_the_patches_without_position():
    network = nn.vit(2, 7, **TINY, registers=3)
    x = images(6)
    plain = nn.vit(2, 7, **TINY)
    first = ("patches", "sequence", "tokens", "positions")
    with_registers = nn.chain(**{name: nn.take(network, name) for name in (*first, "registers")})
    y, params = initial_outputs(with_registers, x)
    without, _ = nn.chain(**{name: nn.take(plain, name) for name in first}).apply(
        {name: params[name] for name in first if name in params}, {}, x
    )
    np.testing.assert_array_equal(y[:, :-3], without)
    registers = params["registers"]["registers"]["value"]
    np.testing.assert_array_equal(y[0, -3:], registers)
    # Equal registers would stay equal in training.
    assert np.unique(registers[:, 0]).size == 3


@pytest.mark.slow
def test_layer_scale_multiplies_the_branches_of_all_blocks(key):
    x = jax.random.normal(key, (2, 3, 8))
    blocks = nn.take(nn.vit(2, 7, **TINY, layer_scale=0.0), "blocks")
    y, params = initial_outputs(blocks, x)
    np.testing.assert_array_equal(y, x)
    assert params["body"]["attention_scale"]["scale"].shape == (2, 8)
