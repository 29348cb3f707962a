"""Vocabularies decode their encodings, and windows are slices of the text."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.errors import ConfigError, DTypeError, RangeError, ShapeError

TEXT = "a quick\nbrown fox; über 日本 🦊, a\u0301 \x00"


@pytest.mark.parametrize("vocabulary", [data.characters(TEXT), data.utf8()])
def test_decoder_inverts_encoding(vocabulary):
    for text in (TEXT, "fox", ""):
        tokens = vocabulary.encode(text)
        assert tokens.dtype == np.int32
        assert vocabulary.decode(tokens) == text
        assert vocabulary.decode(jnp.asarray(tokens)) == text
        assert not tokens.size or 0 <= tokens.min() <= tokens.max() < vocabulary.size


def test_tokens_are_the_ranks_of_characters_and_the_bytes():
    vocabulary = data.characters("banana")
    assert (vocabulary.size, vocabulary.symbols) == (3, "abn")
    assert vocabulary.encode("banana").tolist() == [1, 0, 2, 0, 2, 0]
    assert data.utf8().encode("aé").tolist() == list("aé".encode())
    assert data.utf8().size == 256


@pytest.mark.parametrize("vocabulary", [data.characters("ab?", unknown="?"), data.utf8()])
def test_a_vocabulary_is_a_value(vocabulary):
    for other in (pickle.loads(pickle.dumps(vocabulary)), copy.deepcopy(vocabulary)):
        assert other == vocabulary and hash(other) == hash(vocabulary)
    assert eval(repr(vocabulary), vars(data)) == vocabulary
    assert data.characters("ab") != data.characters("ac")


def test_unknown_characters_raise_or_become_one():
    with pytest.raises(RangeError, match=r"one of the 2 characters, got 'c' at index 1 \(2 of 4\)"):
        data.characters("ab").encode("acbz")
    mapped = data.characters("ab", unknown="?")
    assert mapped.decode(mapped.encode("acbz日")) == "a?b??"
    assert data.characters("ab", unknown="a").size == 2


def test_half_of_a_surrogate_pair_round_trips():
    vocabulary = data.characters("a\ud800")
    assert vocabulary.decode(vocabulary.encode("\ud800a")) == "\ud800a"


def test_bytes_that_are_no_text_are_replaced():
    assert data.utf8().decode([255, 97]) == "\ufffda"


@pytest.mark.parametrize(
    ("n", "length", "stride"), [(11, 3, None), (10, 3, 1), (7, 6, 2), (20, 4, 7)]
)
def test_windows_are_slices_of_the_text(n, length, stride):
    tokens = np.random.default_rng(0).integers(0, 200, n)
    inputs, targets = data.windows(tokens.astype(np.uint8), length, stride=stride)
    starts = range(0, n - length, stride or length)
    assert inputs.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(inputs, [tokens[s : s + length] for s in starts])
    np.testing.assert_array_equal(targets, [tokens[s + 1 : s + 1 + length] for s in starts])


def test_windows_of_masked_tokens_raise():
    tokens = np.ma.masked_equal(np.arange(20), 3)
    with pytest.raises(DTypeError, match=r"windows tokens: .*, got 1 masked of 20"):
        data.windows(tokens, 4)


def test_windows_share_the_memory_of_one_array():
    tokens = np.arange(1000, dtype=np.int32)
    inputs, targets = data.windows(jnp.asarray(tokens), 100, stride=1)
    assert np.shares_memory(inputs, targets) and inputs.shape == (900, 100)
    assert inputs.base is not None and not inputs.flags.writeable


def test_a_network_trains_on_windows_with_the_default_prepare(key):
    vocabulary = data.characters("ab")
    examples = data.windows(vocabulary.encode("ab" * 40), 4)
    network = nn.chain(nn.embed(2, 4), nn.dense(2))
    result = train.run(
        key,
        train.recipe(network, optim.adam(0.1)),
        examples,
        epochs=8,
        batch_size=5,
    )
    assert result.history.loss[-1] < 0.1


@pytest.mark.slow
def test_uint8_tokens_are_refused_and_pass_as_advised(key):
    tokens = np.zeros((4, 3), np.uint8)
    network = nn.chain(nn.embed(2, 4), nn.dense(2))
    recipe = train.recipe(network, optim.adam(0.1))
    with pytest.raises(DTypeError, match=r"embed x: .*got float32; give tokens as int32.*prepare"):
        train.run(key, recipe, (tokens, tokens.astype(int)), epochs=1, batch_size=2)
    for changed, inputs in (
        (recipe, tokens.astype(np.int32)),
        (recipe.replace(prepare=lambda x: x), tokens),
    ):
        result = train.run(key, changed, (inputs, tokens.astype(int)), epochs=1, batch_size=2)
        assert np.isfinite(result.history.loss).all()


WRONG = {
    "no text": (lambda: data.characters(""), ConfigError, "characters text"),
    "bytes": (lambda: data.characters(b"ab"), DTypeError, "expected a str, got bytes; decode"),
    "two characters": (lambda: data.characters("a", unknown="??"), ConfigError, "one character"),
    "unsorted": (lambda: data.Characters("ba"), ConfigError, "sorted"),
    "not one of them": (lambda: data.Characters("ab", "c"), ConfigError, "one of them, got 'c'"),
    "encode tokens": (lambda: data.utf8().encode([1]), DTypeError, "expected a str, got list"),
    "token": (
        lambda: data.characters("ab").decode([0, 2]),
        RangeError,
        r"0 <= token < 2, got 2 at index 1 \(1 of 2\)",
    ),
    "negative": (lambda: data.utf8().decode([-1]), RangeError, "got -1"),
    "batch": (lambda: data.utf8().decode([[1]]), ShapeError, r"one sequence \(n,\), got \(1, 1\)"),
    "floats": (lambda: data.utf8().decode([0.5]), DTypeError, "integers, got float64"),
    "short": (lambda: data.windows([1, 2, 3], 3), ShapeError, r"at least 4 tokens, got \(3,\)"),
    "rank": (lambda: data.windows([[1, 2]], 1), ShapeError, r"got \(1, 2\)"),
    "length": (lambda: data.windows([1, 2], 0), ConfigError, "windows length"),
    "stride": (lambda: data.windows([1, 2], 1, stride=0), ConfigError, "windows stride"),
    "text": (lambda: data.windows("ab", 1), DTypeError, "encode text first"),
    "traced": (lambda: jax.jit(lambda x: data.windows(x, 1))(jnp.arange(3)), DTypeError, "traced"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_raise(case):
    make, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        make()
