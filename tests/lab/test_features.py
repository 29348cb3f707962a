"""Features on disk: equal to those in memory, written completely or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import full_disk

from fnn import lab, nn, transfer
from fnn.errors import ConfigError, NonFiniteError, ShapeError, WriteError
from fnn.types import Weights

draw = np.random.default_rng(0)
X = draw.normal(size=(10, 4)).astype(np.float32)
Y = np.arange(10)
network = nn.chain(nn.dense(3), nn.relu(), nn.dense(2))


@pytest.fixture(scope="module")
def weights():
    return Weights(*network.init(jax.random.key(0), (4,))[:2])


def test_features_of_arrays_are_those_in_memory(weights, tmp_path):
    np.save(tmp_path / "inputs.npy", X)
    mapped = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    found = lab.save_features(tmp_path / "x.npy", network, weights, mapped, batch_size=4)
    expected = transfer.features(network, weights, X)
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), found)
    again = lab.save_features(tmp_path / "x.npy", network, weights, X[:3], layer="dense_0")
    np.testing.assert_allclose(again, transfer.features(network, weights, X[:3], layer="dense_0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs.npy", "x.npy"]


def test_a_stream_is_written_with_its_targets(weights, tmp_path):
    batches = ((X[i : i + 3], Y[i : i + 3]) for i in range(0, 10, 3))
    found = lab.save_features(
        tmp_path / "x.npy", network, weights, batches, targets=tmp_path / "y.npy", batch_size=2
    )
    np.testing.assert_allclose(found, transfer.features(network, weights, X), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), Y)


def test_an_error_within_a_stream_leaves_the_earlier_file(weights, tmp_path):
    path = tmp_path / "x.npy"
    lab.save_features(path, network, weights, X)
    before = path.read_bytes()

    def batches():
        yield X[:4], Y[:4]
        yield X[4:] * np.nan, Y[4:]

    with pytest.raises(NonFiniteError, match="inputs"):
        lab.save_features(path, network, weights, batches())
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_raises_and_leaves_the_earlier_file(weights, tmp_path):
    path = tmp_path / "x.npy"
    lab.save_features(path, network, weights, X[:2])
    before = path.read_bytes()
    with full_disk(200), pytest.raises(WriteError, match=r"features x\.npy in "):
        lab.save_features(path, network, weights, X)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_features_in_half_precision_are_written_in_single(weights, tmp_path):
    half = nn.cast(network, jnp.bfloat16)
    found = lab.save_features(tmp_path / "x.npy", half, weights, X, layer="dense_0")
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, transfer.features(network, weights, X, layer="dense_0"), atol=0.05
    )


def test_wrong_arguments_raise_errors(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"save_features path: expected .*\.npy, got x.bin"):
        lab.save_features(tmp_path / "x.bin", network, weights, X)
    with pytest.raises(ConfigError, match="save_features targets: expected None for arrays"):
        lab.save_features(tmp_path / "x.npy", network, weights, X, targets=tmp_path / "y.npy")
    with pytest.raises(ConfigError, match="save_features inputs: expected at least one batch"):
        lab.save_features(tmp_path / "x.npy", network, weights, iter([]))
    with pytest.raises(ConfigError, match=r"save_features layer: .*dense_0.*got 'dense0'"):
        lab.save_features(tmp_path / "x.npy", network, weights, X, layer="dense0")
    with pytest.raises(ShapeError, match="at least one example"):
        lab.save_features(tmp_path / "x.npy", network, weights, X[:0])
    with pytest.raises(WriteError, match=r"features x.npy"):
        lab.save_features(tmp_path / "missing" / "x.npy", network, weights, X)
    assert list(tmp_path.iterdir()) == []
