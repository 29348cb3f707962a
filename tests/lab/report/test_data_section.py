"""The sections of the data and of the inputs of the network."""

import jax
import numpy as np
import pytest
from reports import DATA, HOSTILE, NAMES, RECIPE, VALID, Page

from fnn import augment
from fnn.lab.report.data_section import data_section, input_section


def test_ranges_and_classes_are_those_of_the_arrays():
    page = Page(data_section(DATA, VALID, NAMES))
    images = DATA[0]
    row = f"training inputs484×4×1uint8{images.min()}{images.mean():.4g}{images.max()}"
    assert row in page.text and HOSTILE in page.text
    assert page.text.count("164") >= 1  # of each class: 16 for training, 4 for validation


def test_equal_inputs_are_counted():
    images = np.zeros((4, 2), np.float32)
    images[0] = 1
    page = Page(data_section((images, np.zeros(4)), (images[:2] + 1, np.zeros(2)), None))
    assert "training: 2 inputs (50.0%) are equal to an earlier one" in page.text
    # 0 + 1 equals the first one.
    assert "validation: 1 inputs (50.0%) are in the training set too" in page.text


def test_values_that_are_not_finite_are_counted_and_left_out():
    images = np.array([[np.nan, 1], [3, np.inf]], np.float32)
    page = Page(data_section((images, np.zeros(2)), None, None))
    assert "training inputs22float321232" not in page.text
    assert "123" in page.text.replace(" ", "")


def test_several_inputs_and_targets_have_a_row_each():
    tree = {"image": np.ones((3, 2)), HOSTILE: np.zeros(3)}
    page = Page(data_section((tree, {"y": np.ones(3)}), None, None))
    for name in ("training inputs image", f"training inputs {HOSTILE}", "training targets y"):
        assert name in page.text


def test_many_classes_are_the_rarest_and_the_most_frequent():
    labels = np.repeat(np.arange(100), np.arange(1, 101))
    page = Page(data_section((labels[:, None] * 1.0, labels), None, None))
    assert "The 20 rarest and the 20 most frequent of 100 classes." in page.text


def test_inputs_are_those_of_training():
    recipe = RECIPE.replace(augment=augment.invert())
    page = Page(input_section(jax.random.key(0), recipe, DATA, NAMES))
    mean = 1 - DATA[0].mean() / 255
    assert f"{mean:.4g}" in page.text
    assert len(page.attributes("src")) == 12 and HOSTILE in page.attributes("alt")


@pytest.mark.slow
def test_mixed_targets_have_their_main_classes():
    recipe = RECIPE.replace(augment=augment.mixup(1.0))
    soft = np.eye(3, dtype=np.float32)[DATA[1]]
    titles = Page(input_section(jax.random.key(0), recipe, (DATA[0], soft), None)).attributes("alt")
    assert all(title.endswith("%") for title in titles)
