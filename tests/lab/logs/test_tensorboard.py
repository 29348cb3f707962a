"""Event files: what stands in them, read back by the description of their bytes alone."""

import io
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from telling import tell
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from fnn import lab, nn, optim, train
from fnn.errors import ConfigError, ShapeError

IMAGES = np.arange(3 * 4 * 4).reshape(3, 4, 4, 1).astype(np.uint8)
SETTINGS = {"epochs": 2, "rate": 1e-3, "optimizer": "adam"}


def begun(step=0, images=None):
    return lab.Begun(step, ("loss", "valid_loss"), SETTINGS, lambda: images)


def events(directory):
    """Every event of the directory, a record being (length, its checksum, data, its checksum)."""
    for path in sorted(directory.iterdir()):
        file = io.BytesIO(path.read_bytes())
        while head := file.read(12):
            yield Event.FromString(file.read(struct.unpack("<Q", head[:8])[0]))
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


def test_figures_are_scalars_in_the_order_they_were_told(tmp_path):
    log = lab.tensorboard_log(tmp_path / "run")
    log.begin(begun())
    tell(log, 1, {"loss": jnp.float32(0.5)})
    tell(log, 2, {"loss": np.nan, "valid_loss": 2})
    log.close()
    assert [
        value.simple_value for value in next(iter(events(tmp_path / "run"))).summary.value
    ] == []
    told = list(values(tmp_path / "run", "simple_value"))
    assert told[0] == ("loss", 1, 0.5) and told[2] == ("valid_loss", 2, 2)
    assert told[1][:2] == ("loss", 2) and np.isnan(told[1][2])


def test_settings_stand_in_the_table_of_hyperparameters(tmp_path):
    log = lab.tensorboard_log(tmp_path)
    log.begin(begun())
    log.close()
    plugin = [
        value.metadata.plugin_data.content
        for event in events(tmp_path)
        for value in event.summary.value
    ]
    experiment, start, end = map(HParamsPluginData.FromString, plugin)
    assert {one.name for one in experiment.experiment.hparam_infos} == SETTINGS.keys()
    assert [one.name.tag for one in experiment.experiment.metric_infos] == ["loss", "valid_loss"]
    told = start.session_start_info.hparams
    assert (told["epochs"].number_value, told["rate"].number_value) == (2, 1e-3)
    assert told["optimizer"].string_value == "adam"
    assert end.HasField("session_end_info")


def test_the_first_batch_is_an_image(tmp_path):
    log = lab.tensorboard_log(tmp_path)
    log.begin(begun(images=IMAGES))
    log.close()
    ((tag, step, image),) = values(tmp_path, "image")
    shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert (tag, step, shown.shape) == ("first_batch", 0, (66, 198, 3))
    for place, image in enumerate(IMAGES):
        np.testing.assert_array_equal(
            shown[1:65:16, 66 * place + 1 : 66 * place + 65 : 16, 0], image[..., 0]
        )


@pytest.mark.parametrize("wanted", [True, False])
def test_histograms_tell_of_all_params_and_of_the_state(wanted, key, tmp_path):
    train_state = network_state(key)
    log = lab.tensorboard_log(tmp_path, histograms=wanted)
    log.begin(begun())
    log.look(4, train_state)
    log.close()
    told = {tag: (step, histogram) for tag, step, histogram in values(tmp_path, "histo")}
    if not wanted:
        assert told == {}
        return
    assert {
        "params/dense_1/kernel",
        "params/dense_1/bias",
        "state/batch_norm_2/mean",
    } <= told.keys()
    kernel = np.asarray(train_state.params["dense_1"]["kernel"], float)
    step, histogram = told["params/dense_1/kernel"]
    assert (step, histogram.num, histogram.min, histogram.max) == (
        4,
        kernel.size,
        kernel.min(),
        kernel.max(),
    )
    counts = [np.sum(kernel < limit) for limit in histogram.bucket_limit[:-1]]
    np.testing.assert_array_equal(np.cumsum(histogram.bucket)[:-1], counts)


def test_a_lost_run_is_looked_at_as_well(key, tmp_path):
    train_state = network_state(key)
    bad = {
        "all": jnp.full(3, jnp.nan),
        "one": jnp.array([1.0, jnp.inf]),
        "huge": jnp.array([-3e38, 3e38]),
    }
    log = lab.tensorboard_log(tmp_path)
    log.begin(begun())
    log.look(
        1,
        train_state._replace(
            params=bad | {"none": jnp.zeros(0), "key": jax.random.key(0)}, state={}
        ),
    )
    log.close()
    told = {tag: histogram.num for tag, _, histogram in values(tmp_path, "histo")}
    assert told == {"params/one": 1, "params/huge": 2}


def test_a_resumed_run_purges_what_was_told_of_later_steps(tmp_path):
    for first in (0, 3, 3):  # within one second
        log = lab.tensorboard_log(tmp_path)
        log.begin(begun(first))
        for step in range(first + 1, 6):
            tell(log, step, {"loss": first})
        log.close()
    assert len(list(tmp_path.iterdir())) == 3
    purges = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert purges == [1, 4, 4]  # TensorBoard takes the first for the beginning
    assert [step for _, step, _ in values(tmp_path, "simple_value")] == [1, 2, 3, 4, 5, 4, 5, 4, 5]


def test_mistakes_are_told(tmp_path, monkeypatch):
    log = lab.tensorboard_log(tmp_path / "run")
    with pytest.raises(ConfigError, match="tensorboard_log: expected a run that has begun"):
        tell(log, 1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()
    log.begin(begun())
    with pytest.raises(ShapeError, match="log loss: expected one number"):
        tell(log, 1, {"loss": np.ones(2)})
    log.close()
    with pytest.raises(
        ConfigError,
        match=r"tensorboard_log directory: expected no events yet.*run; name a directory",
    ):
        lab.tensorboard_log(tmp_path / "run").begin(begun())
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="tensorboard_log directory: expected a folder"):
        lab.tensorboard_log(tmp_path / "file")
    with pytest.raises(ConfigError, match="tensorboard_log histograms: expected True or False"):
        lab.tensorboard_log(tmp_path, histograms="no")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        ConfigError, match=r"expected tensorboardX and pillow .*pip install 'fnn\[tensorboard\]'"
    ):
        lab.tensorboard_log(tmp_path / "new")
