import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from fnn import nn, train, transfer
from fnn.data.split import whole_folds
from fnn.errors import ConfigError, LabelError, NonFiniteError, ShapeError
from fnn.types import Weights

draw = np.random.default_rng(0)
CENTERS = draw.normal(size=(3, 6))
LABELS = draw.integers(0, 3, 90)
# Features of other scales and means, and one that is constant.
SCALES = np.array([1, 10, 0.1, 3, 1, 0])
X = (CENTERS[LABELS] + draw.normal(size=(90, 6))) * SCALES + 2
L2 = 1e-2


@pytest.fixture
def probe(x64):
    return transfer.linear_probe(X, LABELS, l2=L2)


def test_labels_have_the_optimum_of_logistic_regression(probe):
    penalty = 1 / (len(X) * L2)
    peer = LogisticRegression(C=penalty, tol=1e-12, max_iter=100_000).fit(X, LABELS)
    np.testing.assert_allclose(probe.params["kernel"], peer.coef_.T, atol=1e-5)
    # The loss is the same for biases that differ by a constant.
    np.testing.assert_allclose(
        probe.predict(X),
        peer.decision_function(X)
        + np.mean(probe.predict(X) - peer.decision_function(X), 1, keepdims=True),
        atol=1e-4,
    )
    loss = -peer.predict_log_proba(X)[np.arange(90), LABELS].mean()
    np.testing.assert_allclose(probe.loss, loss, atol=1e-6)
    assert probe.gradient < 1e-8 and probe.steps < 100


def test_single_precision_reaches_the_same_loss(probe):
    with jax.enable_x64(False):
        single = transfer.linear_probe(X, LABELS, l2=L2)
    np.testing.assert_allclose(single.loss, probe.loss, rtol=1e-6)
    np.testing.assert_allclose(single.params["kernel"], probe.params["kernel"], atol=1e-4)


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_floats_have_the_closed_form_of_ridge_regression(x64, outputs):
    y = draw.normal(size=(90, *outputs))
    probe = transfer.linear_probe(X, y, l2=L2)
    peer = Ridge(alpha=len(X) * L2).fit(X, y)
    np.testing.assert_allclose(probe.predict(X).reshape(y.shape), peer.predict(X), atol=1e-9)
    np.testing.assert_allclose(probe.params["kernel"].T.squeeze(), peer.coef_, atol=1e-10)
    assert probe.gradient < 1e-10


@pytest.mark.slow
def test_the_penalty_has_the_least_loss_over_the_folds(x64, key):
    penalties = [1e-4, 1e-2, 1.0]
    probe = transfer.linear_probe(X, LABELS, l2=penalties, folds=3, key=key)
    losses = probe.path.losses
    assert losses.shape == (3, 3)
    assert probe.l2 == penalties[losses.mean(0).argmin()]
    fold_of, _ = whole_folds("test", jax.random.clone(key), (X, LABELS), folds=3, stratified=True)
    rest = fold_of != 1
    peer = LogisticRegression(C=1 / (rest.sum() * L2), tol=1e-10, max_iter=100_000)
    log_p = peer.fit(X[rest], LABELS[rest]).predict_log_proba(X[~rest])
    np.testing.assert_allclose(
        losses[1, 1], -log_p[np.arange(len(log_p)), LABELS[~rest]].mean(), rtol=1e-5
    )
    # The same fit by one penalty.
    assert probe.loss == transfer.linear_probe(X, LABELS, l2=float(probe.l2)).loss


def test_validation_examples_choose_the_penalty(x64):
    y = draw.normal(size=90)
    probe = transfer.linear_probe(X, y, l2=[1e-3, 1e3], valid=(X[:9], y[:9]))
    assert probe.path.losses.shape == (1, 2) and probe.l2 == 1e-3


@pytest.mark.slow
def test_a_probe_is_a_value_under_jit_and_vmap(x64, probe):
    compiled = jax.jit(lambda x: transfer.linear_probe(x, LABELS, l2=L2))(X)
    np.testing.assert_allclose(compiled.params["kernel"], probe.params["kernel"], atol=1e-8)
    assert compiled.layer == probe.layer

    def loss(l2):
        return transfer.linear_probe(X, LABELS, l2=l2).loss

    losses = jax.vmap(loss)(jnp.array([L2, 10 * L2]))
    np.testing.assert_allclose(losses[0], probe.loss, rtol=1e-8)
    assert losses[1] > losses[0]


network = nn.chain(nn.dense(4), nn.relu(), head=nn.dense(7))


def weights_of(network, shape=(6,)):
    return Weights(*network.init(jax.random.key(0), shape)[:2])


@pytest.mark.parametrize("layer", [network, nn.chain(nn.dense(4), nn.relu())])
def test_an_attached_probe_gives_the_outputs_of_the_whole_network(layer):
    given = weights_of(layer)
    x = transfer.features(layer, given, X.astype(np.float32))
    probe = transfer.linear_probe(x, LABELS)
    whole, weights = transfer.attach(layer, given, probe)
    y = train.predict(train.recipe(whole), weights, X.astype(np.float32))
    np.testing.assert_allclose(y, probe.predict(x), rtol=1e-5, atol=1e-5)
    # The given weights are as before.
    assert jax.tree.structure(given) == jax.tree.structure(weights_of(layer))


def test_a_probe_of_frozen_weights_is_attached_to_the_plain_network():
    frozen = nn.freeze(network)
    plain = weights_of(network)
    x = transfer.features(frozen, weights_of(frozen), X.astype(np.float32))
    probe = transfer.linear_probe(x, LABELS, steps=2)
    _, weights = transfer.attach(network, weights_of(frozen), probe)
    assert (weights.params["dense_0"]["kernel"] == plain.params["dense_0"]["kernel"]).all()
    assert weights.params["head"]["kernel"].shape == (4, 3)


@pytest.mark.slow
def test_wrong_arguments_raise_errors(key):
    small = transfer.linear_probe(X, LABELS, steps=1)
    with pytest.raises(LabelError, match=r"linear_probe labels: expected 0 <= label < 2, got 2"):
        transfer.linear_probe(X, np.sort(LABELS), classes=2)
    with pytest.raises(
        ConfigError, match=r"linear_probe l2: expected a number in \(0, inf\), got 0"
    ):
        transfer.linear_probe(X, LABELS, l2=0.0)
    with pytest.raises(ConfigError, match=r"linear_probe l2: .*got -1"):
        transfer.linear_probe(X, LABELS, l2=[1.0, -1.0], key=key)
    with pytest.raises(ConfigError, match="linear_probe key"):
        transfer.linear_probe(X, LABELS, l2=[1.0, 2.0])
    with pytest.raises(ConfigError, match=r"valid: expected a pair"):
        transfer.linear_probe(X, LABELS, l2=[1.0, 2.0], valid=X)
    with pytest.raises(
        ShapeError, match=r"features: expected \(n, width\), got \(90, 3, 2\); flatten"
    ):
        transfer.linear_probe(X.reshape(90, 3, 2), LABELS)
    with pytest.raises(ShapeError, match="of one length"):
        transfer.linear_probe(X, LABELS[:5])
    with pytest.raises(NonFiniteError):
        transfer.linear_probe(X * np.nan, LABELS)
    with pytest.raises(ShapeError, match=r"features: expected \(n, 6\), got \(2, 5\)"):
        small.predict(jnp.ones((2, 5)))
    with pytest.raises(
        ShapeError, match="attach probe: expected features of width 4, the input of head"
    ):
        transfer.attach(network, weights_of(network), small)
    with pytest.raises(ConfigError, match="attach probe: expected a LinearProbe"):
        transfer.attach(network, weights_of(network), small.params)
    with pytest.raises(ConfigError, match=r"attach head: .*such as head.*got 'heat'"):
        transfer.attach(network, weights_of(network), small, head="heat")
    with pytest.raises(ConfigError, match="attach weights: expected Weights, got dict"):
        transfer.attach(network, {}, small)
