"""The rules that map paths of networks to names of tensors are complete."""

import re

import pytest

from fnn.lab.weight_names import LAYOUTS, OF_RESNET_D, OPTIONS, UNSUPPORTED


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_group_of_a_path_is_in_the_name(layout):
    for pattern, name in LAYOUTS[layout].items():
        used = {int(number) for number in re.findall(r"\\(\d)", name)}
        assert used == set(range(1, re.compile(pattern).groups + 1))
    assert "head" in LAYOUTS[layout]


@pytest.mark.parametrize(
    "name", ["conv1.0.weight", "model.conv1.4.bias", "layer2.0.downsample.2.bias"]
)
def test_tensors_of_resnet_d_are_recognized(name):
    assert re.fullmatch(OF_RESNET_D, name)
    assert not any(re.fullmatch(pattern, name) for pattern in OPTIONS | UNSUPPORTED)


@pytest.mark.parametrize(
    "name", ["conv1.weight", "layer1.0.conv1.weight", "layer2.0.downsample.1.bias"]
)
def test_tensors_of_a_plain_resnet_are_no_others(name):
    assert not re.fullmatch(OF_RESNET_D, name)
    assert not any(re.fullmatch(pattern, name) for pattern in OPTIONS | UNSUPPORTED)
