"""Event files of TensorBoard, read back by the protobuf description of their bytes."""

import io
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import full_disk
from log_calls import write_step
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from fnn import diagnose, lab, nn, optim, train
from fnn.errors import ConfigError, ShapeError, WriteError

IMAGES = np.arange(3 * 4 * 4).reshape(3, 4, 4, 1).astype(np.uint8)
SETTINGS = {"epochs": 2, "rate": 1e-3, "optimizer": "adam"}


def run_info(step=0, images=None):
    return lab.RunInfo(step, ("loss", "valid_loss"), SETTINGS, lambda: images)


def events(directory):
    """Every event of a directory. A record is (length, its checksum, data, its checksum)."""
    for path in sorted(directory.iterdir()):
        file = io.BytesIO(path.read_bytes())
        while head := file.read(12):
            (length,) = struct.unpack("<Q", head[:8])
            yield Event.FromString(file.read(length))
            file.read(4)


def values(directory, kind):
    """(tag, step, value) of each summary of a kind."""
    for event in events(directory):
        for value in event.summary.value:
            if value.WhichOneof("value") == kind:
                yield value.tag, event.step, getattr(value, kind)


def network_state(key):
    network = nn.chain(nn.flatten(), nn.dense(3), nn.batch_norm())
    return train.start(key, train.recipe(network, optim.sgd(0.1)), (4, 4, 1))


@pytest.mark.slow
def test_arrays_of_instruments_are_scalars_and_histograms_of_their_layers(tmp_path):
    network = nn.chain(nn.dense(4), nn.relu(), nn.dense(3))
    instruments = diagnose.instruments("full", every=3)
    recipe = train.recipe(network, optim.sgd(0.1), instruments=instruments)
    data = jnp.ones((8, 5)), jnp.arange(8) % 3
    log = lab.tensorboard_log(tmp_path / "run", histograms=False)
    lines = lab.jsonl_log(tmp_path / "run.jsonl")
    key = jax.random.key(0)
    result = lab.fit(key, recipe, data, epochs=2, batch_size=2, log=[log, lines], show=False)
    scalars = {value[:2]: value[2] for value in values(tmp_path / "run", "simple_value")}
    column = diagnose.layer_names(recipe, (5,)).index("relu_1")
    for step in (1, 4, 7):
        wanted = result.history.dead_share[step - 1, column]
        assert scalars["relu_1/dead_share", step] == wanted
    # Steps that were not measured, and values that are not finite, have no event.
    assert ("relu_1/dead_share", 2) not in scalars
    assert ("dense_0/dead_share", 1) not in scalars
    assert ("dense_0/kernel/update_ratio", 1) in scalars
    assert ("dense_0/activation_quantiles/0.95", 1) in scalars
    of_layer = [h for h in values(tmp_path / "run", "histo") if h[0].startswith("dense_2/")]
    assert [step for _, step, _ in of_layer] == [1, 4, 7]
    assert sum(of_layer[0][2].bucket) == pytest.approx(1)
    # Text logs have one number per figure.
    assert "dead_share" not in (tmp_path / "run.jsonl").read_text()


def test_findings_are_texts_at_the_step_by_which_they_were_found(tmp_path):
    finding = diagnose.Finding("T13", "no_progress", "error", "the loss is that of guessing")
    log = lab.tensorboard_log(tmp_path / "run")
    log.begin(run_info())
    log.on_findings(120, diagnose.Findings([finding]))
    log.close()
    ((tag, step, tensor),) = values(tmp_path / "run", "tensor")
    assert step == 120
    assert tag.startswith("findings/T13")
    assert tensor.string_val == [str(finding).encode()]


def test_figures_are_scalars_in_the_order_of_writing(tmp_path):
    log = lab.tensorboard_log(tmp_path / "run")
    log.begin(run_info())
    write_step(log, 1, {"loss": jnp.float32(0.5)})
    write_step(log, 2, {"loss": np.nan, "valid_loss": 2})
    log.close()
    first_event = next(iter(events(tmp_path / "run")))
    assert list(first_event.summary.value) == []
    scalars = list(values(tmp_path / "run", "simple_value"))
    assert scalars[0] == ("loss", 1, 0.5)
    assert scalars[1][:2] == ("loss", 2)
    assert np.isnan(scalars[1][2])
    assert scalars[2] == ("valid_loss", 2, 2)


def test_settings_are_in_the_table_of_hyperparameters(tmp_path):
    log = lab.tensorboard_log(tmp_path)
    log.begin(run_info())
    log.close()
    contents = []
    for event in events(tmp_path):
        for value in event.summary.value:
            contents.append(value.metadata.plugin_data.content)
    experiment, start, end = map(HParamsPluginData.FromString, contents)
    infos = experiment.experiment
    assert {info.name for info in infos.hparam_infos} == SETTINGS.keys()
    assert [info.name.tag for info in infos.metric_infos] == ["loss", "valid_loss"]
    settings = start.session_start_info.hparams
    assert settings["epochs"].number_value == 2
    assert settings["rate"].number_value == 1e-3
    assert settings["optimizer"].string_value == "adam"
    assert end.HasField("session_end_info")


def test_the_first_batch_is_an_image(tmp_path):
    log = lab.tensorboard_log(tmp_path)
    log.begin(run_info(images=IMAGES))
    log.close()
    ((tag, step, summary),) = values(tmp_path, "image")
    grid = np.asarray(Image.open(io.BytesIO(summary.encoded_image_string)))
    assert (tag, step) == ("first_batch", 0)
    assert grid.shape == (66, 198, 3)
    # Each pixel is repeated 16 times, and each image has a border of one pixel.
    for index, image in enumerate(IMAGES):
        left = 66 * index + 1
        pixels = grid[1:65:16, left : left + 64 : 16, 0]
        np.testing.assert_array_equal(pixels, image[..., 0])


@pytest.mark.parametrize("histograms", [True, False])
def test_histograms_are_of_all_params_and_of_the_state(histograms, key, tmp_path):
    train_state = network_state(key)
    log = lab.tensorboard_log(tmp_path, histograms=histograms)
    log.begin(run_info())
    log.on_state(4, train_state)
    log.close()
    written = {tag: (step, histogram) for tag, step, histogram in values(tmp_path, "histo")}
    if not histograms:
        assert written == {}
        return
    expected = {"params/dense_1/kernel", "params/dense_1/bias", "state/batch_norm_2/mean"}
    assert expected <= written.keys()
    kernel = np.asarray(train_state.params["dense_1"]["kernel"], float)
    step, histogram = written["params/dense_1/kernel"]
    assert step == 4
    assert histogram.num == kernel.size
    assert histogram.min == kernel.min()
    assert histogram.max == kernel.max()
    counts = [np.sum(kernel < limit) for limit in histogram.bucket_limit[:-1]]
    np.testing.assert_array_equal(np.cumsum(histogram.bucket)[:-1], counts)


def test_histograms_leave_out_nonfinite_values(key, tmp_path):
    params = {
        "all": jnp.full(3, jnp.nan),
        "one": jnp.array([1.0, jnp.inf]),
        "huge": jnp.array([-3e38, 3e38]),
        "none": jnp.zeros(0),
        "key": jax.random.key(0),
    }
    train_state = network_state(key)._replace(params=params, state={})
    log = lab.tensorboard_log(tmp_path)
    log.begin(run_info())
    log.on_state(1, train_state)
    log.close()
    counts = {tag: histogram.num for tag, _, histogram in values(tmp_path, "histo")}
    assert counts == {"params/one": 1, "params/huge": 2}


def test_a_resumed_run_purges_the_events_of_later_steps(tmp_path):
    for first in (0, 3, 3):  # within one second
        log = lab.tensorboard_log(tmp_path)
        log.begin(run_info(first))
        for step in range(first + 1, 6):
            write_step(log, step, {"loss": first})
        log.close()
    assert len(list(tmp_path.iterdir())) == 3
    purges = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert purges == [1, 4, 4]  # TensorBoard takes the first one for the beginning
    steps = [step for _, step, _ in values(tmp_path, "simple_value")]
    assert steps == [1, 2, 3, 4, 5, 4, 5, 4, 5]


def test_wrong_directories_shapes_and_missing_packages_raise(tmp_path, monkeypatch):
    log = lab.tensorboard_log(tmp_path / "run")
    with pytest.raises(ConfigError, match="tensorboard_log: expected a call of begin before"):
        write_step(log, 1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()
    log.begin(run_info())
    with pytest.raises(ShapeError, match="log loss: expected one number"):
        write_step(log, 1, {"loss": np.ones(2)})
    log.close()
    message = r"tensorboard_log directory: expected a folder without events.*run; name a new"
    with pytest.raises(ConfigError, match=message):
        lab.tensorboard_log(tmp_path / "run").begin(run_info())
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="tensorboard_log directory: expected a folder"):
        lab.tensorboard_log(tmp_path / "file")
    with pytest.raises(ConfigError, match="tensorboard_log histograms: expected True or False"):
        lab.tensorboard_log(tmp_path, histograms="no")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = r"expected the packages tensorboardX and pillow.*pip install '\.\[tensorboard\]'"
    with pytest.raises(ConfigError, match=message):
        lab.tensorboard_log(tmp_path / "new")


def test_a_full_disk_raises(tmp_path):
    log = lab.tensorboard_log(tmp_path)
    log.begin(run_info())
    steps = np.arange(1000)
    with full_disk(4000), pytest.raises(WriteError, match=r"events in .*: expected a directory"):
        log.write(steps, {"loss": steps / 2})
    with full_disk(4000), pytest.raises(WriteError):
        log.close()
    log.close()  # the file is closed already
