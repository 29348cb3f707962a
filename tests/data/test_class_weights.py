"""Balanced weights of classes against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from fnn import data, objective
from fnn.errors import ConfigError, DTypeError, LabelError

LABELS = np.repeat([0, 1, 2], [70, 25, 5])


@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(">i8"), LABELS.tolist(), LABELS[None]])
def test_weights_are_those_of_scikit_learn(labels):
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(data.class_weights(labels), wanted, rtol=1e-6)


def test_classes_that_do_not_occur_have_the_weight_0():
    labels = LABELS[LABELS != 1]
    wanted = compute_class_weight("balanced", classes=np.array([0, 2]), y=labels)
    found = data.class_weights(labels, classes=4)
    np.testing.assert_allclose(found, [wanted[0], 0, wanted[1], 0], rtol=1e-6)


def test_labels_may_be_traced():
    found = jax.jit(lambda labels: data.class_weights(labels, classes=3))(LABELS)
    np.testing.assert_allclose(found, data.class_weights(LABELS), rtol=1e-6)
    with pytest.raises(ConfigError, match=r"class_weights classes: .*since the labels are traced"):
        jax.jit(data.class_weights)(LABELS)


def test_each_class_has_the_same_share_of_the_loss():
    loss = objective.class_weighted(objective.cross_entropy, data.class_weights(LABELS))
    weighted = loss(jnp.zeros((100, 3)), jnp.asarray(LABELS))
    shares = [float(weighted.weights[label == LABELS].sum()) for label in range(3)]
    np.testing.assert_allclose(shares, 100 / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        ([0, 3], 3, LabelError, "expected 0 <= label < 3, got 3"),
        ([0, -1], None, LabelError, "expected 0 <= label < 1, got -1"),
        ([0, 2**32], 2, LabelError, "got 4294967296"),
        (np.zeros(0, int), 2, ConfigError, "expected one label or more"),
        (np.zeros(3), 2, DTypeError, "expected integers, got float64"),
        (["a"], 2, DTypeError, "expected integers, got <U1"),
        (np.ma.masked_equal(LABELS, 1), None, DTypeError, "got a masked array"),
        ([0, 1], 1.5, ConfigError, "classes: expected a whole number"),
    ],
)
def test_wrong_labels_raise(labels, classes, error, message):
    with pytest.raises(error, match=f"class_weights .*{message}|class_weights {message}"):
        data.class_weights(labels, classes=classes)
