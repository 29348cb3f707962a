"""Array types of types.py match the arrays of functions; History is a mapping and a pytree."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeException
from jaxtyping import TypeCheckError, jaxtyped

from fnn import augment, objective
from fnn.types import History, Images, Labels, Logits, PerExample

LOGITS, LABELS = jnp.zeros((5, 3)), jnp.zeros(5, jnp.int32)
IMAGE = jnp.zeros((4, 6, 3), jnp.uint8)
USES = {
    "labels": (objective.cross_entropy.function, LOGITS, LABELS),
    "probabilities": (objective.cross_entropy.function, LOGITS, jax.nn.softmax(LOGITS)),
    "sequences": (
        objective.cross_entropy.function,
        jnp.zeros((5, 7, 3)),
        jnp.zeros((5, 7), jnp.int32),
    ),
    "accuracy": (objective.accuracy.function, LOGITS, LABELS),
    "squared error": (objective.squared_error.function, LOGITS, LOGITS),
    "one image": (augment.flip_lr().__call__, jax.random.key(0), IMAGE),
    "cutout": (augment.cutout(2).__call__, jax.random.key(0), IMAGE.astype(jnp.float32)),
    "crop": (augment.random_crop(padding=1).__call__, jax.random.key(0), IMAGE),
    "images": (
        augment.per_image(augment.flip_lr()).built,
        jax.random.key(0),
        jnp.stack([IMAGE, IMAGE]),
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_functions_accept_and_return_the_annotated_arrays(use):
    function, *arguments = use
    jaxtyped(typechecker=beartype)(function)(*arguments)


def test_wrong_shapes_fail_the_annotations():
    @jaxtyped(typechecker=beartype)
    def broken(logits: Logits, labels: Labels, images: Images) -> PerExample:
        return logits

    with pytest.raises((TypeCheckError, BeartypeException)):
        broken(LOGITS, LABELS, jnp.zeros((5, 4, 4, 1)))
    with pytest.raises((TypeCheckError, BeartypeException)):
        broken(LOGITS, LABELS[:4], jnp.zeros((5, 4, 4, 1)))


def test_history_is_a_mapping_and_a_pytree_in_insertion_order():
    history = History({"loss": jnp.arange(3.0), "accuracy": jnp.ones(3)})
    assert list(history) == ["loss", "accuracy"] and len(history) == 2
    assert set(dir(history)) >= {"loss", "accuracy"}
    assert repr(history) == "History(loss (3,), accuracy (3,))"

    def scaled(scale):
        return jax.tree.map(lambda x: scale * x, history)

    doubled = jax.jit(jax.vmap(scaled))(jnp.array([1.0, 2.0]))
    assert isinstance(doubled, History) and list(doubled) == ["loss", "accuracy"]
    np.testing.assert_array_equal(doubled.loss, [[0, 1, 2], [0, 2, 4]])
    leaves_with_paths, _ = jax.tree_util.tree_flatten_with_path(history)
    paths = [jax.tree_util.keystr(path) for path, _ in leaves_with_paths]
    assert paths == [".loss", ".accuracy"]
    message = "history: expected one of loss, accuracy, got valid_loss"
    with pytest.raises(AttributeError, match=message):
        _ = history.valid_loss


def test_history_can_be_pickled_and_copied():
    history = History({"loss": jnp.arange(3.0)})
    for other in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history), copy.copy(history)):
        assert isinstance(other, History)
        np.testing.assert_array_equal(other.loss, history.loss)
