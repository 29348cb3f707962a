"""Data larger than memory: a Grain loader reads images from a file on demand.

Run it with `python examples/04_stream.py`, after `pip install '.[stream]'`. It writes a file of
50,000 images of 32 x 32 pixels, made from the digits (51 MB; a file of 500 GB works the same way),
trains for three passes, stops in the middle of the second, and resumes from its checkpoint. Grain's
iterator is set back to its position, nothing is read twice, and the result equals that of an
uninterrupted run bit for bit.
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
    """Enlarge images by 4: (n, 8, 8, 1) -> (n, 32, 32, 1)."""
    return images.repeat(4, 1).repeat(4, 2)


def write(path):
    """Write the digits, repeated, into two files, piece by piece."""
    images, labels = digits.train
    sheet = np.lib.format.open_memmap(path / "images.npy", "w+", np.uint8, (IMAGES, 32, 32, 1))
    for first in range(0, IMAGES, len(images)):
        sheet[first : first + len(images)] = enlarged(images)[: IMAGES - first]
    sheet.flush()
    np.save(path / "labels.npy", np.resize(labels, IMAGES))


def loader(path):
    """Batches read from the files on demand, in a new order in each pass."""
    images = np.load(path / "images.npy", mmap_mode="r")
    labels = np.load(path / "labels.npy", mmap_mode="r")
    indices = grain.MapDataset.source(range(IMAGES)).seed(0).shuffle().repeat()
    pairs = indices.map(lambda index: (images[index], labels[index]))
    return pairs.batch(BATCH, drop_remainder=True).to_iter_dataset()


def fit(path, **options):
    """Train for a part of the run, or to its end."""
    steps = IMAGES // BATCH
    valid = enlarged(digits.test[0]), digits.test[1]
    optimizer = optim.adam(optim.cosine(1e-2, steps=EPOCHS * steps))
    recipe = train.recipe(network, optimizer, augment=policy)
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
    accuracy = resumed.history.valid_accuracy[-1]
    print(f"test accuracy {accuracy:.4f}; equal to the uninterrupted run: {same}")


if __name__ == "__main__":
    main()
