"""Programs of JAX: equal to fnn in another process, for any batch size, with a card."""

import json
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from registry import REGISTRY

from fnn import data, ensemble, lab, nn, objective, optim, train
from fnn.errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    ConfigError,
    DTypeError,
    ShapeError,
)
from fnn.lab.exports.function import expect_source, make_function
from fnn.types import Weights
from fnn.xla import portable_kernels

pytest.importorskip("flatbuffers")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 8, 8, 3), np.uint8)
# Runs programs as a process without fnn does: inputs and outputs are files of NumPy.
ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from jax import export
for folder in map(Path, sys.argv[1:]):
    program = export.deserialize(bytearray((folder / "program.jax").read_bytes()))
    inputs = np.load(folder / "inputs.npy")
    np.save(folder / "outputs.npy", np.asarray(program.call(inputs)))
assert "fnn" not in sys.modules
"""


def run_elsewhere(*folders):
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, folders)], check=True)


def randomized(network, shape):
    """Weights of a network without zeros, which the last layers of some networks begin with."""
    params, state, _ = network.init(jax.random.key(0), shape)
    rng = np.random.default_rng(1)

    def disturb(leaf):
        return leaf + jnp.asarray(0.05 * rng.standard_normal(leaf.shape), leaf.dtype)

    return Weights(jax.tree.map(disturb, params), state)


@pytest.fixture(scope="module")
def model():
    network = nn.chain(
        nn.conv(4), nn.batch_norm(), nn.relu(), nn.max_pool(), nn.flatten(), nn.dense(3)
    )
    recipe = train.recipe(network, prepare=data.normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)))
    return recipe, randomized(network, IMAGES.shape[1:])


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "images"
    return lab.export(path, model, IMAGES, classes=("a", "b", "c"), metrics={"accuracy": 0.5})


def test_a_program_equals_prediction_for_every_batch_size(model, folder):
    program = lab.load_export(folder)
    wanted = train.predict(*model, IMAGES)
    for count in (1, 7, 20):
        np.testing.assert_allclose(program(IMAGES[:count]), wanted[:count], rtol=1e-5, atol=1e-5)


def test_a_process_without_fnn_runs_the_program(model, folder):
    np.save(folder / "inputs.npy", IMAGES)
    run_elsewhere(folder)
    found = np.load(folder / "outputs.npy")
    np.testing.assert_allclose(found, train.predict(*model, IMAGES), rtol=1e-5, atol=1e-5)


def test_a_program_is_for_all_platforms(folder):
    assert lab.load_export(folder).exported.platforms == ("cpu", "cuda", "tpu")


def test_a_program_has_operations_of_jax_alone(model):
    """So none of fnn's kernels, and no choice between two by the platform."""
    function = make_function(expect_source("export", model))
    with portable_kernels():
        text = str(jax.make_jaxpr(function)(IMAGES))
    assert "conv_general_dilated" in text
    assert "platform_index" not in text
    assert "geometry=" not in text


def test_the_card_describes_the_program(model, folder):
    card = json.loads((folder / "card.json").read_text())
    assert card["inputs"] == [
        {"name": "inputs", "shape": ["batch", 8, 8, 3], "dtype": "uint8"},
    ]
    assert card["outputs"] == [{"name": "outputs", "shape": ["batch", 3], "dtype": "float32"}]
    assert card["preprocessing"].startswith("data.normalize(")
    assert card["classes"] == ["a", "b", "c"]
    assert card["metrics"] == {"accuracy": 0.5}
    assert card["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(model[1].params))
    assert card["versions"]["jax"] == jax.__version__
    text = (folder / "card.md").read_text()
    assert "| inputs | (batch, 8, 8, 3) | uint8 |" in text
    assert "export.deserialize" in text


@pytest.mark.slow
def test_a_predictor_is_exported_with_its_combination_calibration_and_classes(tmp_path):
    network = nn.chain(nn.flatten(), nn.dense(3))
    recipe = train.recipe(network, loss=objective.cross_entropy)
    weights = [Weights(*network.init(jax.random.key(i), (8, 8, 3))[:2]) for i in range(2)]
    members = ensemble.collect(recipe, weights)
    logits = ensemble.average_probabilities(ensemble.predict(members, IMAGES))
    # Two of them are wrong.
    labels = np.asarray(logits.argmax(-1)).copy()
    labels[:2] = (labels[:2] + 1) % 3
    calibration = ensemble.fit_temperature(logits, labels)
    predictor = ensemble.predictor(members, calibration=calibration, classes=["a", "b", "c"])
    with pytest.raises(ShapeError, match="export classes: expected one logit for each of 4"):
        lab.export(tmp_path / "model", predictor, IMAGES, classes=["a", "b", "c", "d"])
    program = lab.load_export(lab.export(tmp_path / "model", predictor, IMAGES))
    np.testing.assert_allclose(
        program(IMAGES[:5]), predictor.predict(IMAGES[:5]), rtol=1e-5, atol=1e-6
    )
    assert program.card["classes"] == ["a", "b", "c"]


def test_inputs_of_several_arrays_and_weights_of_a_train_state_are_exported(tmp_path):
    network = nn.chain(nn.concat(axis=-1), nn.dense(2))
    recipe = train.recipe(network, optim.ema(optim.sgd(0.1)), loss=objective.squared_error)
    inputs = (np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32))
    targets = np.ones((4, 2), np.float32)
    result = train.run(jax.random.key(0), recipe, (inputs, targets), epochs=2, batch_size=2)
    path = lab.export(tmp_path, (recipe, result.train_state), inputs, batch=4, platforms=["cpu"])
    program = lab.load_export(path)
    wanted = train.predict(recipe, result.train_state, inputs)
    np.testing.assert_allclose(program(inputs), wanted, rtol=1e-6)
    assert program.card["inputs"][0]["shape"] == [4, 2]
    with pytest.raises(ShapeError, match=r"inputs: expected \(4, 2\), got \(3, 2\)"):
        program(jax.tree.map(lambda leaf: leaf[:3], inputs))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (IMAGES.astype(np.float32), DTypeError, "expected dtype uint8, as in training, got float"),
        (IMAGES[:, :4], ShapeError, r"inputs: expected \(batch, 8, 8, 3\), got \(20, 4, 8, 3\)"),
        ([IMAGES, IMAGES], ShapeError, "inputs: expected the structure"),
    ],
)
def test_inputs_that_do_not_fit_a_program_raise(folder, inputs, error, message):
    with pytest.raises(error, match=message):
        lab.load_export(folder)(inputs)


def test_a_modified_program_raises(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    program = tmp_path / "program.jax"
    raw = bytearray(program.read_bytes())
    raw[len(raw) // 2] ^= 1
    program.write_bytes(raw)
    with pytest.raises(CheckpointCorruptError, match=r"load_export program.jax: expected SHA-256"):
        lab.load_export(tmp_path)
    card = tmp_path / "card.json"
    card.write_text(card.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointVersionError, match="expected format 1 or older, got format 2"):
        lab.load_export(tmp_path)
    card.write_text("[]")
    with pytest.raises(CheckpointCorruptError, match="expected a model card"):
        lab.load_export(tmp_path)
    card.unlink()
    with pytest.raises(ConfigError, match=r"expected a folder with a card\.json"):
        lab.load_export(tmp_path)


def test_a_program_for_another_platform_raises(model, tmp_path):
    program = lab.load_export(lab.export(tmp_path, model, IMAGES, platforms=("tpu",)))
    with pytest.raises(ConfigError, match="load_export: expected one of the platforms tpu"):
        program(IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"platforms": "cpu"}, "export platforms: expected a sequence of names"),
        ({"platforms": ("gpu",)}, "export platforms: expected one of"),
        ({"batch": 0}, "export batch: expected >= 1, got 0"),
        ({"metrics": {"loss": float("nan")}}, "export metrics loss: expected a finite number"),
        ({"metrics": 0.5}, "export metrics: expected a dict of numbers"),
        ({"classes": "abc"}, "export classes: expected a sequence of names"),
    ],
)
def test_wrong_options_raise_before_anything_is_written(model, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        lab.export(tmp_path / "model", model, IMAGES, **options)
    assert not (tmp_path / "model").exists()


def test_inputs_with_targets_raise(model, tmp_path):
    message = r"export inputs: expected inputs alone, got a pair \(inputs, targets\)"
    with pytest.raises(ConfigError, match=message):
        lab.export(tmp_path / "model", model, (IMAGES, np.zeros(len(IMAGES), np.int32)))


def test_a_model_that_is_no_pair_raises(model, tmp_path):
    with pytest.raises(ConfigError, match="export model: expected a pair"):
        lab.export(tmp_path, model[0], IMAGES)


def test_a_network_that_needs_the_batch_size_raises_without_it(tmp_path):
    def branch(x):
        return x if int(x.shape[0]) > 3 else 2 * x

    network = nn.chain(nn.elementwise(branch), nn.dense(2))
    recipe = train.recipe(network)
    inputs = np.ones((4, 3), np.float32)
    given = recipe, Weights(*network.init(jax.random.key(0), (3,))[:2])
    with pytest.raises(ConfigError, match="export batch: expected a network that takes a batch"):
        lab.export(tmp_path, given, inputs)
    lab.export(tmp_path, given, inputs, batch=4)


@pytest.mark.slow
def test_every_model_runs_in_a_process_without_fnn(tmp_path):
    """With a symbolic batch, to 1e-5 of the largest output."""
    wanted = {}
    for name, call in makers.NETWORKS.items():
        if name == "nn.adversarial":
            continue  # its outputs are those of two networks in training
        entry = REGISTRY[name]
        shape, x = entry.domain.draw(entry.seed)
        inputs = np.resize(np.asarray(x), (20, *shape))
        network = makers.public()[name](**call)
        weights = randomized(network, shape)
        recipe = train.recipe(network)
        folder = lab.export(tmp_path / name, (recipe, weights), inputs)
        np.save(folder / "inputs.npy", inputs)
        apply = jax.jit(partial(network.apply, train=False))
        wanted[folder] = apply(*weights, recipe.prepare(inputs))[0]
    run_elsewhere(*wanted)
    for folder, outputs in wanted.items():
        atol = 1e-5 * float(jnp.abs(outputs).max())
        np.testing.assert_allclose(np.load(folder / "outputs.npy"), outputs, atol=atol)


def test_an_empty_path_is_refused():
    with pytest.raises(ConfigError, match="path: expected a path, got empty text"):
        lab.load_export("")
