"""Plots of the most confident mistakes: their order, titles and caption."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab
from fnn.errors import ConfigError, LabelError, NonFiniteError, ShapeError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)
PROBABILITIES = jnp.array(
    [[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8], [0.55, 0.45], [0.95, 0.05]]
)
LABELS = np.array([1, 0, 1, 0, 0, 1])  # 2 and 4 are right
LOGITS = jnp.log(PROBABILITIES) + 3


def test_the_most_confident_mistakes_come_first():
    figure = lab.plot_mistakes(IMAGES, LOGITS, LABELS, count=3, names=["cat", "dog"])
    assert [axes.get_title() for axes in figure.axes] == [
        "says cat, 95%\nis dog",
        "says dog, 90%\nis cat",
        "says dog, 80%\nis cat",
    ]
    for axes, index in zip(figure.axes, (5, 1, 3), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), IMAGES[index])
    assert figure.get_suptitle() == "4 of 6 are wrong; the 3 surest"


def test_all_mistakes_are_shown_if_there_are_fewer_than_count():
    figure = lab.plot_mistakes(IMAGES, LOGITS, LABELS)
    assert len(figure.axes) == 4 and figure.axes[3].get_title() == "says 0, 60%\nis 1"


def test_the_caption_without_mistakes(tmp_path):
    for logits in (LOGITS, LOGITS[:, :1]):
        figure = lab.plot_mistakes(IMAGES, logits, np.asarray(logits.argmax(-1)))
        assert figure.get_suptitle() == "no mistakes among 6 images" and figure.axes == []
    lab.plot_mistakes(IMAGES, logits, np.zeros(6, int), tmp_path / "none.png")
    assert (tmp_path / "none.png").read_bytes().startswith(b"\x89PNG")


def test_standardized_images_are_stretched_all_alike():
    images = IMAGES.astype(np.float32) - 100
    figure = lab.plot_mistakes(images, LOGITS, LABELS, count=2)
    pair = images[[5, 1]]
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    low, high = np.percentile(pair, [1, 99])
    np.testing.assert_allclose(shown, np.clip((pair - low) / (high - low), 0, 1), atol=1e-6)


def test_a_long_name_is_shortened():
    figure = lab.plot_mistakes(
        IMAGES, LOGITS, LABELS, count=1, names=["great spotted woodpecker", "dog"]
    )
    assert figure.axes[0].get_title() == "says great s…pecker, 95%\nis dog"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"images": IMAGES[0]},
            ShapeError,
            r"plot_mistakes images: expected \(n, height, width, channels\)",
        ),
        (
            {"images": IMAGES[:4]},
            ShapeError,
            r"plot_mistakes logits: expected \(n, classes\), n = 4, got \(6, 2\)",
        ),
        (
            {"logits": LOGITS.at[0, 0].set(jnp.nan)},
            NonFiniteError,
            "plot_mistakes logits: expected finite numbers",
        ),
        (
            {"labels": LABELS + 1},
            LabelError,
            "plot_mistakes labels: expected 0 <= label < 2, got 2 at index 0",
        ),
        ({"labels": LABELS[:3]}, ShapeError, "labels: expected one a row of logits"),
        (
            {"names": ["a"]},
            ConfigError,
            "plot_mistakes names: expected one for each of the 2 classes",
        ),
        ({"count": 0}, ConfigError, "plot_mistakes count: expected >= 1, got 0"),
    ],
)
def test_wrong_arguments_raise_and_nothing_is_written(change, error, message, tmp_path):
    with pytest.raises(error, match=message):
        lab.plot_mistakes(
            **{
                "images": IMAGES,
                "logits": LOGITS,
                "labels": LABELS,
                "path": tmp_path / "mistakes.png",
            }
            | change
        )
    assert list(tmp_path.iterdir()) == []


def test_long_titles_do_not_run_into_each_other():
    names = ["Tomato___Late_blight_on_leaves", "Tomato___Late_blight_on_fruits"]
    figure = lab.plot_mistakes(IMAGES, LOGITS, LABELS, names=names)
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0 or left.y0 != right.y0
    titles = {axes.get_title().split("is ")[-1] for axes in figure.axes}
    assert len(titles) == len(set(LABELS[np.asarray(LOGITS).argmax(-1) != LABELS].tolist()))
