import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from fnn import transfer
from fnn.errors import ConfigError, LabelError, ShapeError

draw = np.random.default_rng(0)
BANK = draw.normal(size=(95, 7)).astype(np.float32)
LABELS = draw.integers(0, 4, 95)
QUERIES = draw.normal(size=(33, 7)).astype(np.float32)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_euclidean_neighbors_are_those_of_scikit_learn(weights):
    options = {"k": 7, "metric": "euclidean", "weights": weights, "batch_size": 16}
    found = transfer.nearest_neighbors(BANK, LABELS, QUERIES, **options)
    peer = KNeighborsClassifier(7, weights=weights, algorithm="brute").fit(BANK, LABELS)
    distances, indices = peer.kneighbors(QUERIES)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(-found.similarities, distances, rtol=1e-5)
    np.testing.assert_allclose(found.outputs, peer.predict_proba(QUERIES), atol=1e-6)
    np.testing.assert_array_equal(found.labels, peer.predict(QUERIES))
    y = draw.normal(size=(95, 2)).astype(np.float32)
    means = transfer.nearest_neighbors(BANK, y, QUERIES, **options)
    peer = KNeighborsRegressor(7, weights=weights, algorithm="brute").fit(BANK, y)
    np.testing.assert_allclose(means.outputs, peer.predict(QUERIES), atol=1e-5)


@pytest.mark.parametrize("batch_size", [5, 1000])
def test_cosine_neighbors_are_weighted_by_their_similarity(batch_size):
    found = transfer.nearest_neighbors(BANK, LABELS, QUERIES, k=6, batch_size=batch_size)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERIES, BANK)]
    similarities = unit[0] @ unit[1].T
    order = np.argsort(-similarities, 1, kind="stable")[:, :6]
    np.testing.assert_array_equal(found.indices, order)
    top = np.take_along_axis(similarities, order, 1)
    np.testing.assert_allclose(found.similarities, top, atol=1e-6)
    votes = np.exp(top / 0.07)[..., None] * np.eye(4)[LABELS[order]]
    expected = votes.sum(1) / votes.sum((1, 2))[:, None]
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_neighbor_of_a_training_example_is_itself(metric):
    far = BANK + 100 * (metric == "euclidean")
    found = transfer.nearest_neighbors(far, LABELS, far, k=1, metric=metric)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(95))
    assert (found.labels == LABELS).all()


@pytest.mark.parametrize("queries", [1, 3, 99])
def test_any_number_of_queries_and_of_neighbors_is_possible(queries):
    x = np.resize(QUERIES, (queries, 7))
    found = transfer.nearest_neighbors(BANK, LABELS, x, k=2, batch_size=2)
    assert found.outputs.shape == (queries, 4) and found.indices.shape == (queries, 2)
    everything = transfer.nearest_neighbors(BANK, LABELS, x[:1], k=95, weights="uniform")
    np.testing.assert_allclose(everything.outputs[0], np.bincount(LABELS) / 95, rtol=1e-5)
    assert set(np.asarray(everything.indices[0])) == set(range(95))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_lower_index_wins_a_tie(metric):
    bank = np.tile(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), (4, 1))
    found = transfer.retrieve(bank[:2], bank, k=5, metric=metric, batch_size=3)
    np.testing.assert_array_equal(found.indices, [[0, 2, 4, 6, 1], [1, 3, 5, 7, 0]])
    # Two votes each: the first class wins.
    tied = transfer.nearest_neighbors(bank, np.array([1, 0] * 4), bank[:1], k=8, weights="uniform")
    assert tied.labels[0] == 0


def test_zeros_and_equal_examples_have_finite_votes():
    bank = np.zeros((3, 2), np.float32)
    for metric in ("cosine", "euclidean"):
        for weights in ("similarity", "distance", "uniform"):
            found = transfer.nearest_neighbors(
                bank, np.array([0, 1, 1]), bank, k=3, metric=metric, weights=weights
            )
            np.testing.assert_allclose(found.outputs, [[1 / 3, 2 / 3]] * 3, rtol=1e-5)


def test_traced_labels_and_temperatures_are_possible():
    def share(labels, temperature):
        found = transfer.nearest_neighbors(
            BANK, labels, QUERIES, k=3, temperature=temperature, classes=4
        )
        return found.outputs

    expected = transfer.nearest_neighbors(BANK, LABELS, QUERIES, k=3, temperature=0.5).outputs
    np.testing.assert_allclose(jax.jit(share)(jnp.asarray(LABELS), 0.5), expected, rtol=1e-6)


def test_errors_name_the_function_and_the_argument():
    wrong = {"k": 3, "metric": "l1"}
    with pytest.raises(ConfigError, match="nearest_neighbors metric: expected one of cosine"):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES, **wrong)
    with pytest.raises(ConfigError, match="retrieve metric: expected one of cosine"):
        transfer.retrieve(QUERIES, BANK, **wrong)
    with pytest.raises(ShapeError, match="nearest_neighbors queries: expected the width of the fe"):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES[:, :3])
    with pytest.raises(ShapeError, match=r"nearest_neighbors queries: expected \(n, width\), got"):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES[0])
    with pytest.raises(ShapeError, match="retrieve queries: expected the width of the bank, 7"):
        transfer.retrieve(QUERIES[:, :3], BANK, k=3)


def test_wrong_arguments_raise_errors():
    with pytest.raises(
        ConfigError, match="nearest_neighbors k: expected at most the 95 examples, got 96"
    ):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES, k=96)
    with pytest.raises(ConfigError, match="retrieve k: expected >= 1, got 0"):
        transfer.retrieve(QUERIES, BANK, k=0)
    with pytest.raises(ConfigError, match="retrieve metric: expected one of cosine, euclidean"):
        transfer.retrieve(QUERIES, BANK, k=1, metric="manhattan")
    with pytest.raises(ConfigError, match="weights: expected one of similarity, distance, uniform"):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES, weights="softmax")
    with pytest.raises(ConfigError, match=r"temperature: expected a number in \(0, inf\), got 0"):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES, temperature=0)
    with pytest.raises(
        ShapeError, match="retrieve queries: expected the width of the bank, 7, got 6"
    ):
        transfer.retrieve(QUERIES[:, :6], BANK, k=1)
    with pytest.raises(ShapeError, match=r"retrieve bank: expected \(n, width\)"):
        transfer.retrieve(QUERIES, BANK[..., None], k=1)
    with pytest.raises(LabelError, match="labels: expected 0 <= label < 2"):
        transfer.nearest_neighbors(BANK, LABELS, QUERIES, classes=2)
    with pytest.raises(ShapeError, match="of one length"):
        transfer.nearest_neighbors(BANK, LABELS[:3], QUERIES)
