"""Text as data: vocabularies of characters and bytes, and windows of a long text."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, RangeError, ShapeError

BYTES = 256


@dataclass(frozen=True)
class Characters:
    """A vocabulary of characters: token i is the character symbols[i].

    It is a value: it compares by its characters, can be pickled, and prints as the call that makes
    it.

    Attributes:
        symbols: The characters, in ascending order, each once.
        unknown: The character that takes the place of all others; None to raise an error.
    """

    symbols: str
    unknown: str | None = None

    def __post_init__(self) -> None:
        if not self.symbols or list(self.symbols) != sorted(set(self.symbols)):
            expected = "each character once, sorted"
            advice = "make it by data.characters(text)"
            raise ConfigError(
                "characters",
                expected,
                self.symbols,
                advice,
            )
        # The unknown character takes the place of others, so that it needs a token too.
        if self.unknown is not None and self.unknown not in list(self.symbols):
            got = repr(self.unknown)
            advice = "choose one of the characters"
            raise ConfigError(
                "characters unknown",
                "one of them",
                got,
                advice,
            )

    @property
    def size(self) -> int:
        """Number of tokens: `vocabulary` of `nn.gpt` and `nn.embed`."""
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of a text, int32 (characters,).

        Args:
            text: The text.

        Raises:
            RangeError: A character is not in the vocabulary, and there is no `unknown`.
        """
        known = _code_points(self.symbols)
        checked = _expect_text("characters encode text", text)
        points = _code_points(checked)
        # The place of a code point in the order is its token; one above all others has none.
        places = np.searchsorted(known, points)
        tokens = places.clip(max=self.size - 1)
        is_unknown = known[tokens] != points
        if is_unknown.any():
            if self.unknown is None:
                index = int(is_unknown.argmax())
                count = is_unknown.sum()
                got = f"{text[index]!r} at index {index} ({count} of {len(text)})"
                expected = f"one of the {self.size} characters"
                advice = 'map the others to one, as by data.characters(text, unknown="?")'
                raise RangeError("characters encode text", expected, got, advice)
            unknown_token = self.symbols.index(self.unknown)
            tokens[is_unknown] = unknown_token
        return tokens.astype(np.int32)

    def decode(self, tokens: Any) -> str:
        """Return the text of tokens.

        Args:
            tokens: Integers (characters,), 0 <= token < size.

        Raises:
            RangeError: A token is out of range.
        """
        checked = _expect_tokens("characters decode tokens", tokens, self.size)
        symbols = self.symbols
        return "".join(symbols[token] for token in checked)


@dataclass(frozen=True)
class Utf8:
    """The vocabulary of the 256 bytes: a text is its bytes in UTF-8.

    It encodes any text. A character outside of ASCII is 2 to 4 tokens.
    """

    @property
    def size(self) -> int:
        """Number of tokens: `vocabulary` of `nn.gpt` and `nn.embed`."""
        return BYTES

    def encode(self, text: str) -> np.ndarray:
        """Return the bytes of a text, int32 (bytes,).

        Args:
            text: The text.
        """
        checked = _expect_text("utf8 encode text", text)
        stored = checked.encode()
        # uint8 would be scaled as the levels of an image.
        tokens = np.frombuffer(stored, np.uint8)
        return tokens.astype(np.int32)

    def decode(self, tokens: Any) -> str:
        """Return the text of bytes. Bytes that are no text, as a model may draw, become U+FFFD.

        Args:
            tokens: Integers (bytes,), 0 <= token < 256.

        Raises:
            RangeError: A token is out of range.
        """
        checked = _expect_tokens("utf8 decode tokens", tokens, BYTES)
        stored = checked.astype(np.uint8).tobytes()
        return stored.decode(errors="replace")


def characters(text: str, *, unknown: str | None = None) -> Characters:
    """Make the vocabulary of the characters of a text.

        vocabulary = data.characters(text)
        tokens = vocabulary.encode(text)  # int32 (characters,)
        assert vocabulary.decode(tokens) == text
        network = nn.gpt(vocabulary.size)

    The tokens are numbered in the order of the characters, so that the same characters always give
    the same vocabulary.

    Args:
        text: The text, such as that for training.
        unknown: A character that takes the place of all that are not in the text, and is added to
            the vocabulary; if None, `encode` raises RangeError for them.

    Returns:
        The vocabulary, with `size`, `encode` and `decode`.

    Raises:
        ConfigError: The text is empty, or `unknown` is not one character.
        DTypeError: The text is not a str.
    """
    checked = _expect_text("characters text", text)
    found = set(checked)
    if unknown is not None:
        is_text = isinstance(unknown, str)
        if not is_text or len(unknown) != 1:
            got = repr(unknown)
            advice = 'choose one, such as "?"'
            raise ConfigError(
                "characters unknown",
                "one character",
                got,
                advice,
            )
        found.add(unknown)
    if not found:
        expected = "one character or more"
        advice = "give the text"
        raise ConfigError(
            "characters text",
            expected,
            "''",
            advice,
        )
    # Sorted, since the order of a set differs from one process to the next.
    symbols = "".join(sorted(found))
    return Characters(symbols, unknown)


def utf8() -> Utf8:
    """Make the vocabulary of the 256 bytes, which encodes any text as UTF-8.

    Returns:
        The vocabulary, with `size`, `encode` and `decode`.
    """
    return Utf8()


def windows(
    tokens: Any,
    length: int,
    *,
    stride: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a long text into examples of a language model: inputs, and targets one token later.

        examples = data.windows(vocabulary.encode(text), 256)
        result = train.run(key, recipe, examples, epochs=10, batch_size=32)

    inputs[i] = tokens[i stride : i stride + length] and targets[i] = tokens[i stride + 1 :
    i stride + 1 + length].

    Args:
        tokens: Integers (n,) of any dtype, not traced.
        length: Number of tokens of an example, the context of the network.
        stride: Tokens from the start of one example to the next; `length` if None, so that each
            token is a target once. A smaller stride gives more examples, which overlap.

    Returns:
        Inputs and targets, int32 (examples, length), with (n - 1 - length) // stride + 1 examples.
        The last tokens that fill no example are left out. Both are read-only views of one array of
        n tokens, so that they need its memory only, for any stride. `train.run` copies them to the
        device, where a stride below `length` takes length / stride times the memory of the text. A
        stream of batches does not: lab.fit(key, recipe, batches(), ...), where batches() yields
        (inputs[chosen], targets[chosen]) for some indices `chosen`.

    Raises:
        ConfigError: `length` or `stride` is not a whole number >= 1.
        ShapeError: The tokens are not (n,) with n > length.
        DTypeError: The tokens are not integers, or are traced.
    """
    checks.whole("windows length", length)
    stride = length if stride is None else checks.whole("windows stride", stride)
    stored = _expect_integers("windows tokens", tokens)
    if stored.ndim != 1 or len(stored) <= length:
        # The targets end one token after the inputs.
        needed = length + 1
        expected = f"(n,) with at least {needed} tokens"
        advice = "give one text, longer than an example"
        raise ShapeError(
            "windows tokens",
            expected,
            stored.shape,
            advice,
        )
    # int32, since uint8 would be scaled as the levels of an image by the default `prepare`.
    integers = stored.astype(np.int32)
    # (examples, length + 1), a view
    overlapping = np.lib.stride_tricks.sliding_window_view(integers, length + 1)
    chosen = overlapping[::stride]
    inputs = chosen[:, :-1]
    targets = chosen[:, 1:]
    return inputs, targets


def _code_points(text: str) -> np.ndarray:
    """Return the code points of a text, uint32 (characters,)."""
    # A str may hold half of a surrogate pair, as from a truncated file.
    stored = text.encode("utf-32-le", errors="surrogatepass")
    return np.frombuffer(stored, np.uint32)


def _expect_text(where: str, text: Any) -> str:
    if not isinstance(text, str):
        got = type(text).__name__
        advice = "decode bytes first, as in text.decode()"
        raise DTypeError(
            where,
            "a str",
            got,
            advice,
        )
    return text


def _expect_integers(where: str, tokens: Any) -> np.ndarray:
    if not checks.is_concrete(tokens):
        expected = "known numbers"
        advice = "call it outside of jax.jit"
        raise DTypeError(
            where,
            expected,
            "a traced array",
            advice,
        )
    # NumPy would drop the mask.
    if isinstance(tokens, np.ma.MaskedArray):
        tokens = checks.unmasked(where, tokens)
    stored = np.asarray(checks.as_array(where, tokens))
    # An empty list has the dtype float64.
    if stored.size and not jnp.issubdtype(stored.dtype, jnp.integer):
        advice = "encode text first, as by data.characters(text).encode"
        raise DTypeError(
            where,
            "integers",
            stored.dtype,
            advice,
        )
    return stored


def _expect_tokens(
    where: str,
    tokens: Any,
    size: int,
) -> np.ndarray:
    """Return tokens (n,) as integers, after a check of their range."""
    stored = _expect_integers(where, tokens)
    if stored.ndim != 1:
        expected = "one sequence (n,)"
        advice = "decode one sequence at a time, up to its length"
        raise ShapeError(
            where,
            expected,
            stored.shape,
            advice,
        )
    # Checked before it is narrowed: a negative token would wrap around.
    is_wrong = (stored < 0) | (stored >= size)
    wrong = np.flatnonzero(is_wrong)
    if len(wrong):
        index = int(wrong[0])
        token = stored[index]
        expected = f"0 <= token < {size}"
        got = f"{token} at index {index} ({len(wrong)} of {len(stored)})"
        advice = "decode with the vocabulary that encoded the text"
        raise RangeError(where, expected, got, advice)
    return stored.astype(np.int64)
