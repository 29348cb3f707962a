"""Models as one checkpoint: recipes, weights and members, loaded without the code of training."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from fnn.errors import CheckpointMismatchError
from fnn.lab.checkpoints.reader import read
from fnn.lab.checkpoints.recorded import decode, encode
from fnn.lab.checkpoints.store import checkpoint_store

NOTE = "model"


def save_model(directory: str | os.PathLike[str], model: Any, *, step: int = 0) -> None:
    """Save a model with all that it needs to predict; `load_model` reads it in another process.

        recipe = train.recipe(network, prepare=data.standardize(inputs))
        lab.save_model("digits", (recipe, train.weights(recipe, train_state)))

        recipe, weights = lab.load_model("digits")
        outputs = train.predict(recipe, weights, inputs)

    Layers and other values of makers are saved as the calls that made them, with their numbers and
    arrays. So the code that built and trained the network is not needed to load it.

    Args:
        directory: A directory of checkpoints; it is made if it does not exist.
        model: Recipes, layers and other values of makers, `Weights`, `Members`, calibrations and
            predictors, arrays, numbers and texts, in tuples, lists and dicts.
        step: Its step; a checkpoint of the same step is replaced.

    Raises:
        CheckpointLockedError: Another process writes there.
        ConfigError: A part cannot be recorded, such as a layer that no maker made or a lambda; the
            error names its path.
        WriteError: The disk refused it; the directory is as before.
    """
    # Before the directory is opened, so that an error leaves it as it is.
    plain, arrays = encode("model", model)
    # Checkpoints of other steps stay.
    with checkpoint_store(directory, keep=None) as store:
        store.save(step, {NOTE: arrays}, notes={NOTE: plain})


def load_model(
    directory: str | os.PathLike[str],
    *,
    makers: Iterable[Callable[..., Any]] = (),
    step: int | str | None = None,
    sha256: str | None = None,
) -> Any:
    """Load a model that `save_model` saved.

    Names of functions are looked up in fnn, in `jax.nn` and among `makers`; no other code runs.

    Args:
        directory: Where it was saved.
        makers: Functions outside of fnn that the model names, such as makers of its layers and its
            `prepare`. They are found by their names.
        step: A step, "best", or None for the latest, as for `lab.read`.
        sha256: SHA-256 of manifest.json to verify, as for `lab.read`.

    Raises:
        CheckpointCorruptError: The checkpoint is not as it was written.
        CheckpointMismatchError: The checkpoint holds no model.
        CheckpointVersionError: It has a newer format, or names a function that this version of fnn
            does not have.
        ConfigError: There is no such checkpoint, or a function is missing among `makers`.
    """
    checkpoint = read(directory, step=step, sha256=sha256)
    notes = checkpoint.notes
    if not isinstance(notes, dict) or notes.keys() != {NOTE}:
        raise CheckpointMismatchError(
            f"load_model {directory}",
            "a model",
            "a checkpoint without one",
            "save it with lab.save_model; lab.load reads weights, lab.restore a train state",
        )
    # Paths of leaves begin with the name of their tree.
    prefix = f"{NOTE}/"
    arrays = {path.removeprefix(prefix): leaf for path, leaf in checkpoint.leaves.items()}
    return decode("model", notes[NOTE], arrays, makers)
