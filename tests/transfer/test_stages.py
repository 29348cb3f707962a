import jax
import numpy as np
import pytest

from fnn import nn, optim, train, transfer, trees
from fnn.errors import ConfigError, TreeMismatchError
from fnn.types import Weights

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
DATA = draw.normal(size=(16, 4)).astype(np.float32), (np.arange(16) % 3).astype(np.int32)
network = nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dense(4), nn.relu(), nn.dense(3))
recipe = train.recipe(network, optim.sgd(0.1))


@pytest.fixture(scope="module")
def weights():
    return Weights(*network.init(jax.random.key(0), (4,))[:2])


def plain(result):
    state = result.train_state
    return trees.named_leaves(Weights(*nn.unfreeze(state.params, state.state)))


def test_each_stage_trains_one_block_more_and_begins_with_the_weights_of_the_last(weights):
    stages = transfer.gradual_unfreezing(recipe, weights)
    assert [epochs for epochs, _ in stages] == [1, 1, 1]
    results = transfer.run_stages(jax.random.key(1), stages, DATA, batch_size=8)
    before = trees.named_leaves(weights)
    trained = []
    for result in results:
        after = plain(result)
        trained.append(
            {path.split("/")[1] for path in before if (before[path] != after[path]).any()}
        )
        before = after
    assert trained == [
        {"dense_5"},
        {"dense_3", "dense_5"},
        {"dense_0", "batch_norm_1", "dense_3", "dense_5"},
    ]
    figures = train.evaluate(stages[-1].recipe, results[-1].train_state, DATA)
    assert np.isfinite(figures["loss"])


def test_the_stages_of_a_new_head_keep_it(weights):
    stages = [
        transfer.Stage(2, transfer.head_only(recipe, weights, classes=5)),
        transfer.Stage(
            1, transfer.fine_tune(recipe.replace(optimizer=optim.sgd(0.0)), weights, classes=5)
        ),
    ]
    probe, tuned = map(plain, transfer.run_stages(jax.random.key(1), stages, DATA, batch_size=8))
    assert probe["params/dense_5/kernel"].shape == (4, 5)
    # The second stage has a rate of 0.
    for path, leaf in probe.items():
        assert path.startswith("state") or (leaf == tuned[path]).all()


def test_a_stage_is_a_run(weights):
    stages = transfer.gradual_unfreezing(recipe, weights, epochs=[2])
    (result,) = transfer.run_stages(jax.random.key(1), stages, DATA, batch_size=8, valid=DATA)
    key = jax.random.fold_in(jax.random.key(1), 0)
    single = train.run(
        key, transfer.fine_tune(recipe, weights), DATA, valid=DATA, epochs=2, batch_size=8
    )
    np.testing.assert_array_equal(result.history.valid_loss, single.history.valid_loss)


def test_wrong_stages_raise_errors(weights):
    with pytest.raises(ConfigError, match=r"epochs: expected from 1 to 3 numbers.*got 4 numbers"):
        transfer.gradual_unfreezing(recipe, weights, epochs=[1, 1, 1, 1])
    with pytest.raises(ConfigError, match="gradual_unfreezing epochs: expected >= 1, got 0"):
        transfer.gradual_unfreezing(recipe, weights, epochs=0)
    for stages in ([], recipe, [recipe], [(1,)]):
        with pytest.raises(
            ConfigError, match="run_stages stages: expected pairs of epochs and a recipe"
        ):
            transfer.run_stages(jax.random.key(0), stages, DATA, batch_size=8)
    other = recipe.replace(network=nn.chain(nn.dense(3)))
    with pytest.raises(TreeMismatchError):
        transfer.run_stages(jax.random.key(0), [(1, recipe), (1, other)], DATA, batch_size=8)
