"""lab.fit trains on the batches of a loader of torch."""

import chex
import jax
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from fnn import data, lab, nn, optim, train

images, labels = data.digits().train
network = nn.chain(nn.flatten(), nn.dense(16), nn.relu(), nn.dense(10))
recipe = train.recipe(network, optim.adam(1e-2))


def loader(seed):
    pairs = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels).long())
    draw = torch.Generator().manual_seed(seed)
    return DataLoader(pairs, 64, shuffle=True, drop_last=True, generator=draw)


def test_fit_takes_one_step_per_batch_of_a_torch_loader(tmp_path):
    key = jax.random.key(0)
    options = {"epochs": 3, "show": False}
    by_hand = train.start(key, recipe, (8, 8, 1))
    batches = loader(0)
    for _ in range(3):
        for batch in batches:
            by_hand, _ = train.step(recipe, by_hand, batch)
    result = lab.fit(key, recipe, loader(0), **options)
    assert result.history.loss.size == 3 * 22
    chex.assert_trees_all_equal(result.train_state.params, by_hand.params)
    lab.fit(key, recipe, loader(0), checkpoints=tmp_path / "run", max_steps=30, **options)
    resumed = lab.fit(key, recipe, loader(0), checkpoints=tmp_path / "run", resume=True, **options)
    np.testing.assert_array_equal(resumed.history.loss, result.history.loss)
