import jax
import pytest

from fnn import nn, optim, train, transfer
from fnn.errors import ConfigError, TreeMismatchError
from fnn.transfer.blocks import is_stack, last_blocks_from
from fnn.types import Weights


def paths(network, shape):
    given = Weights(*jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0)))
    return [(*block.paths, block.copies) for block in transfer.blocks(network, given)]


def test_norms_join_the_layer_before_them_and_chains_are_divided():
    network = nn.chain(
        nn.conv(2), nn.batch_norm(), nn.relu(), nn.dropout(0.1),
        body=nn.chain(nn.conv(2), nn.residual(nn.conv(2))), norm=nn.batch_norm(),
        flat=nn.flatten(), head=nn.dense(3),
    )  # fmt: skip
    assert paths(network, (4, 4, 1)) == [
        ("conv_0", "batch_norm_1", 1),
        ("body/conv_0", 1),
        ("body/residual_1", "norm", 1),
        ("head", 1),
    ]


def test_the_blocks_of_a_resnet_are_its_stem_residual_blocks_and_head():
    found = paths(nn.resnet(18, 3, width=2), (32, 32, 3))
    blocks = [(f"stage_{stage}/block_{block}", 1) for stage in range(1, 5) for block in range(2)]
    assert found == [("stem", 1), *blocks, ("head", 1)]


def test_a_repeat_is_a_stack_of_layers_and_a_norm_behind_it_joins_the_head():
    network = nn.vit(4, 3, width=4, depth=3, heads=2, size=8)
    assert paths(network, (8, 8, 3)) == [
        ("patches", "tokens", "positions", 1),
        ("blocks", 3),
        ("norm", "head", 1),
    ]
    texts = nn.chain(nn.embed(5, 4), nn.learned_positions(7), nn.repeat(nn.dense(4), 2))
    assert paths(texts, (7,)) == [("embed_0", "learned_positions_1", 1), ("repeat_2", 2)]
    assert is_stack(texts.parts["repeat_2"]) and not is_stack(network)


def test_blocks_are_taken_by_number_or_by_path():
    found = tuple(transfer.Block((path,)) for path in ("stem", "stage_1/a", "stage_1/b", "head"))
    assert last_blocks_from("where", found, 2) == found[2:]
    assert last_blocks_from("where", found, "stage_1") == found[1:]
    with pytest.raises(ConfigError, match="where: expected at most the 4 blocks, got 5"):
        last_blocks_from("where", found, 5)
    with pytest.raises(ConfigError, match=r"the path of one, such as stage_1/.*got 'stage_2'"):
        last_blocks_from("where", found, "stage_2")
    with pytest.raises(ConfigError, match="where: expected >= 1, got 0"):
        last_blocks_from("where", found, 0)


@pytest.mark.parametrize("params", [{}, {"block_1": {"kernel": jax.numpy.ones((3, 2))}}])
def test_weights_of_another_network_raise(params):
    message = "weights: expected the params of its layers, of dense_0, dense_1, got params of"
    network = nn.chain(nn.dense(2), nn.dense(2))
    recipe = train.recipe(network, optim.sgd(0.1))
    given = Weights(params, {})
    calls = (
        lambda: transfer.blocks(network, given),
        lambda: transfer.fine_tune(recipe, given),
        lambda: transfer.last_blocks(recipe, given, 1),
        lambda: transfer.gradual_unfreezing(recipe, given),
    )
    for call in calls:
        with pytest.raises(TreeMismatchError, match=message):
            call()
