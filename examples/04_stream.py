"""Data that need not fit into memory: a Grain loader reads images from a file as they are needed.

Run it with `python examples/04_stream.py`, after `pip install '.[stream]'`. It makes a file of 50,000 images of 32 x 32
pixels from the digits (51 MB here; of a file of 500 GB nothing else would be read into memory than here), trains for
three passes, is stopped in the midst of the second and goes on from its checkpoint: Grain's iterator is put back to its
place, nothing is read again, and the end is bit for bit that of a run that nothing stopped.
"""

import shutil
from pathlib import Path

import grain
import jax
import numpy as np

from fnn import augment, data, lab, nn, optim, train

IMAGES, BATCH, EPOCHS = 50_000, 128, 3
FOLDER = Path("out/stream")
digits = data.digits()

network = nn.chain(
    nn.conv(16, stride=2), nn.batch_norm(), nn.relu(),
    nn.conv(32, stride=2), nn.batch_norm(), nn.relu(),
    nn.global_avg_pool(), nn.dense(10),
)  # fmt: skip
policy = augment.random_crop(padding=2, mode="constant")


def enlarged(images):
    """Four times as high and wide: (n, 8, 8, 1) -> (n, 32, 32, 1)."""
    return images.repeat(4, 1).repeat(4, 2)


def write(path):
    """The digits over and over, in two files that are filled piece by piece."""
    images, labels = digits.train
    sheet = np.lib.format.open_memmap(path / "images.npy", "w+", np.uint8, (IMAGES, 32, 32, 1))
    for first in range(0, IMAGES, len(images)):
        sheet[first : first + len(images)] = enlarged(images)[: IMAGES - first]
    sheet.flush()
    np.save(path / "labels.npy", np.resize(labels, IMAGES))


def loader(path):
    """Batches in an order of each pass's own, read from the files as they come."""
    images, labels = (
        np.load(path / "images.npy", mmap_mode="r"),
        np.load(path / "labels.npy", mmap_mode="r"),
    )
    numbers = grain.MapDataset.source(range(IMAGES)).seed(0).shuffle().repeat()
    pairs = numbers.map(lambda number: (images[number], labels[number]))
    return pairs.batch(BATCH, drop_remainder=True).to_iter_dataset()


def fit(path, **options):
    """The run, or a part of it."""
    steps = IMAGES // BATCH
    valid = enlarged(digits.test[0]), digits.test[1]
    recipe = train.recipe(
        network, optim.adam(optim.cosine(1e-2, steps=EPOCHS * steps)), augment=policy
    )
    return lab.fit(
        jax.random.key(0),
        recipe,
        loader(path),
        epochs=EPOCHS,
        steps_per_epoch=steps,
        valid=valid,
        **options,
    )


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    write(FOLDER)
    half = EPOCHS * (IMAGES // BATCH) // 2
    fit(FOLDER, checkpoints=FOLDER / "run", max_steps=half)
    resumed = fit(FOLDER, checkpoints=FOLDER / "run", resume=True)
    whole = fit(FOLDER, show=False)
    same = all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (resumed, whole)), strict=True))
    print(
        f"test accuracy {resumed.history.valid_accuracy[-1]:.4f}; as if nothing had stopped it: {same}"
    )


if __name__ == "__main__":
    main()
