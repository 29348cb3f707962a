"""A first network: train it on real images, look at it, then train 8 as an ensemble and 16 as a search.

Run it with `make demo`. It takes half a minute on two CPU cores and reaches 0.994 test accuracy (mean of 5 keys).
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fnn import augment, data, lab, nn, objective, optim, train

PEAK, DECAY, EPOCHS, BATCH = 2e-2, 3e-2, 20, 64
PICTURE = Path("out/digits.png")
digits = data.digits()

network = nn.chain(
    nn.conv(24), nn.batch_norm(), nn.relu(),
    nn.conv(24), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.residual(nn.chain(nn.conv(24), nn.batch_norm(), nn.relu())),
    nn.flatten(), nn.dropout(0.4), nn.dense(10),
)  # fmt: skip


def recipe(peak, decay, examples=digits.train, epochs=EPOCHS):
    """AdamW under a one-cycle schedule, which needs to know how long the run is."""
    steps = train.num_steps(examples, epochs=epochs, batch_size=BATCH)
    return train.recipe(
        network,
        optim.adamw(optim.one_cycle(peak, steps=steps), weight_decay=decay),
        loss=objective.cross_entropy(label_smoothing=0.1),
        augment=augment.random_crop(
            padding=1, mode="constant"
        ),  # a digit moved by a pixel is the same digit
    )


def run(key, recipe, examples=digits.train, valid=digits.test, epochs=EPOCHS):
    """A whole run as a pure function of its key and of all numbers of its recipe."""
    return train.run(key, recipe, examples, valid=valid, epochs=epochs, batch_size=BATCH)


def predict(recipe, train_state):
    return train.predict(recipe, train_state, digits.test[0])


def accuracy(logits):
    """The mean over the test images."""
    return objective.accuracy(logits, digits.test[1]).mean()


def one():
    """One run, with a bar while it goes and a picture when it is done."""
    result = lab.fit(
        jax.random.key(0),
        recipe(PEAK, DECAY),
        digits.train,
        valid=digits.test,
        epochs=EPOCHS,
        batch_size=BATCH,
    )
    PICTURE.parent.mkdir(exist_ok=True)
    lab.plot_curves(result, PICTURE)
    print(f"test accuracy {result.history.valid_accuracy[-1]:.4f}; its curves are in {PICTURE}")


def ensemble():
    """Eight runs from eight keys, side by side in one program; their probabilities are averaged."""
    keys = jax.random.split(jax.random.key(1), 8)
    own = recipe(PEAK, DECAY)
    members = timed("8 runs", jax.vmap(run, (0, None)), keys, own)
    logits = jax.vmap(predict, (None, 0))(own, members.train_state)  # (members, images, classes)
    alone, together = jax.vmap(accuracy)(logits).mean(), accuracy(jax.nn.softmax(logits).mean(0))
    print(f"an ensemble of 8: {alone:.4f} alone on average, {together:.4f} together")


def search():
    """Sixteen short runs, each by a recipe of its own, judged on images that none of them is tested on."""
    images, labels = digits.train
    held = jnp.arange(len(labels)) % 5 == 0
    options = {"examples": (images[~held], labels[~held]), "epochs": 5}
    exponents = jax.random.uniform(jax.random.key(2), (2, 16), minval=-4, maxval=0)
    peaks, decays = 10**exponents  # log-uniform in [1e-4, 1]
    recipes = jax.vmap(partial(recipe, **options))(
        peaks, decays
    )  # one recipe, whose numbers are arrays of 16
    keys = jax.random.split(jax.random.key(3), 16)
    trial = partial(run, valid=(images[held], labels[held]), **options)
    trials = timed("16 runs", jax.vmap(trial), keys, recipes)
    best = jnp.nanargmin(
        trials.history.valid_loss[:, -1]
    )  # the loss of a trial that diverged is NaN: argmin takes it
    scores = jax.vmap(accuracy)(jax.vmap(predict)(recipes, trials.train_state))
    print(
        f"a search over 16: {jnp.median(scores):.4f} for the median trial, {scores[best]:.4f} for the chosen one,"
    )
    print(f"which held-out images chose: {jax.tree.map(lambda numbers: numbers[best], recipes)}")


def timed(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, as one compiled program; tells how long compiling and running took."""
    began = time.monotonic()
    program = jax.jit(function).lower(*arguments).compile()
    compiled = time.monotonic()
    result = jax.block_until_ready(program(*arguments))
    print(
        f"{what}: compiled in {compiled - began:.1f} s, trained in {time.monotonic() - compiled:.1f} s"
    )
    return result


if __name__ == "__main__":
    one()
    ensemble()
    search()
