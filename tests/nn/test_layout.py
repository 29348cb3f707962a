"""Images with channels first are refused, and nothing that is valid."""

import numpy as np
import pytest

from fnn import nn
from fnn.errors import ShapeError
from fnn.nn.layout import expect_channels_last

CNN = nn.chain(nn.batch_norm(), nn.relu(), nn.conv(8), nn.max_pool(), nn.flatten(), nn.dense(4))
TRANSPOSED = nn.chain(nn.transpose((1, 2, 0)), nn.conv(8))
NETWORKS = {
    "conv": nn.conv(4),
    "cnn": CNN,
    "cast": nn.cast(nn.conv(4)),
    "frozen": nn.freeze(CNN),
    "resnet": nn.resnet(18, classes=2, width=4),
    "vit": nn.vit(4, classes=2, size=32, width=8, depth=1, heads=2),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32), (4, 32, 32)])
@pytest.mark.parametrize("dtype", ["uint8", np.float32])
def test_images_with_channels_first_are_refused(name, shape, dtype):
    network = NETWORKS[name]
    if name == "vit":
        # It has a size of its own, so that its init raises.
        network = nn.chain(nn.conv(8, 4, stride=4))
    message = r"inputs: expected images with channels last, .*, got \(.*, 32, 32\); move them last"
    with pytest.raises(ShapeError, match=message):
        expect_channels_last("inputs", network, shape, dtype)


def test_bytes_of_any_sides_and_volumes_and_parts_of_dicts_are_refused():
    with pytest.raises(ShapeError, match=r"x.transpose\(0, 2, 3, 1\).*in_channels=640"):
        expect_channels_last("inputs", nn.conv(4), (3, 480, 640), np.uint8)
    with pytest.raises(ShapeError, match=r"x.transpose\(0, 2, 3, 4, 1\)"):
        expect_channels_last("inputs", nn.conv_3d(4), (1, 16, 16, 16), np.float32)
    both = nn.graph(a=(nn.conv(4), "x/image"), y=(nn.chain(), "a", "x/length"))
    dtypes = {"image": np.uint8, "length": np.int32}
    with pytest.raises(ShapeError, match="channels last"):
        expect_channels_last("inputs", both, {"image": (3, 9, 16), "length": ()}, dtypes)


VALID = {
    "channels last": (CNN, (32, 32, 3), np.uint8),
    "square and equal": (CNN, (3, 3, 3), np.uint8),
    "a board of planes": (nn.conv(4), (4, 4, 16), np.uint8),
    "a row of sensors": (nn.conv(4), (4, 100, 64), np.float32),
    "a line of text": (nn.conv(4), (32, 256, 1), np.uint8),
    "declared": (nn.conv(4, in_channels=32), (3, 32, 32), np.float32),
    "transposed in the network": (TRANSPOSED, (3, 32, 32), np.uint8),
    "no convolution": (nn.chain(nn.flatten(), nn.dense(2)), (3, 32, 32), np.uint8),
    "a vector": (nn.dense(2), (3,), np.float32),
    "a later feature map": (
        nn.chain(nn.conv(32, stride=8), nn.conv(4)),
        (32, 256, 1),
        np.float32,
    ),
    "several inputs": (nn.add(), ((3, 32, 32), (3, 32, 32)), np.float32),
}


@pytest.mark.parametrize("case", VALID)
def test_valid_images_pass(case):
    expect_channels_last("inputs", *VALID[case])
