"""Files of ONNX: equal to fnn in onnxruntime, for any batch size. Needs the extra `onnx`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab, nn, train
from fnn.errors import ConfigError
from fnn.types import Weights

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 8, 8, 3), np.uint8)
TOKENS = RNG.integers(0, 7, (20, 6)).astype(np.int32)

try:
    import jax2onnx  # noqa: F401

    is_installed = True
except ImportError:
    is_installed = False
needs_converter = pytest.mark.skipif(not is_installed, reason="needs jax2onnx")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def model(network, inputs):
    params, state, _ = network.init(jax.random.key(0), inputs.shape[1:])

    def disturb(leaf):
        return leaf + jnp.asarray(0.05 * RNG.standard_normal(leaf.shape), leaf.dtype)

    return train.recipe(network), Weights(jax.tree.map(disturb, params), state)


MODELS = {
    "convolutions": (
        nn.chain(
            nn.conv(4, padding=2),
            nn.batch_norm(),
            nn.relu(),
            nn.max_pool(),
            nn.conv_transpose(3, stride=2),
            nn.avg_pool(3, stride=2, padding=1),
            nn.flatten(),
            nn.dense(3),
        ),
        IMAGES,
    ),
    "groups": (
        nn.chain(nn.conv(4), nn.group_norm(2), nn.depthwise_conv(2), nn.gelu(), nn.upsample(2)),
        IMAGES,
    ),
    "gpt": (nn.gpt(7, length=6, width=8, depth=2, heads=2), TOKENS),
    "lstm": (nn.chain(nn.embed(7, 4), nn.lstm(5), nn.dense(3)), TOKENS),
    "vit": (nn.vit(2, 3, size=8, width=8, depth=2, heads=2), IMAGES),
    "unet": (nn.unet((2, 3), 2), IMAGES),
}


@needs_converter
@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_gives_the_outputs_of_fnn_for_every_batch_size(name, tmp_path):
    import onnxruntime

    network, inputs = MODELS[name]
    recipe, weights = model(network, inputs)
    folder = lab.export_onnx(tmp_path, (recipe, weights), inputs)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    wanted = train.predict(recipe, weights, inputs)
    scale = float(jnp.abs(wanted).max())
    for count in (1, 20):
        (found,) = session.run(None, {session.get_inputs()[0].name: inputs[:count]})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5 * scale)
    card = json.loads((folder / "card.json").read_text())
    assert card["programs"]["onnx"]["compared"]["difference"] < 1e-5 * scale


@needs_converter
def test_both_programs_of_a_model_share_a_card(tmp_path):
    pytest.importorskip("flatbuffers")
    given = model(nn.chain(nn.flatten(), nn.dense(3)), IMAGES)
    lab.export(tmp_path, given, IMAGES)
    lab.export_onnx(tmp_path, given, IMAGES)
    program = lab.load_export(tmp_path)
    assert set(program.card["programs"]) == {"jax", "onnx"}
    # Another model replaces the card: its programs are not those of the first one.
    lab.export_onnx(tmp_path, model(nn.chain(nn.flatten(), nn.dense(4)), IMAGES), IMAGES)
    with pytest.raises(ConfigError, match=r"expected a folder with program.jax"):
        lab.load_export(tmp_path)


@needs_converter
def test_an_operation_that_the_converter_lacks_raises(tmp_path):
    volumes = np.zeros((4, 4, 4, 4, 1), np.uint8)
    with pytest.raises(ConfigError, match="expected operations that jax2onnx converts"):
        lab.export_onnx(tmp_path, model(nn.conv_3d(2), volumes), volumes)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(is_installed, reason="jax2onnx is installed")
def test_the_missing_converter_is_named(tmp_path):
    given = model(nn.chain(nn.flatten(), nn.dense(3)), IMAGES)
    with pytest.raises(ConfigError, match="export_onnx: expected jax2onnx and onnxruntime"):
        lab.export_onnx(tmp_path, given, IMAGES)
