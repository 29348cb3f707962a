"""Generation of text by language models, with a cache of the earlier positions."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, DTypeError, NonFiniteError, RangeError, ShapeError
from fnn.nn.core.composite import expect_layer
from fnn.nn.core.decoder import decode, join_cache, split_cache
from fnn.nn.sampler import INVALID, Sampler, draw
from fnn.types import Layer, Number, RandomKey, Span, State, Weights
from fnn.values import Made


class Generated(NamedTuple):
    """Generated tokens.

    Attributes:
        tokens: int32 (batch, tokens), those after the prompts. Beyond a length they are 0.
        lengths: Number of tokens of each sequence up to its first stop token, which is included,
            int32 (batch,).
    """

    tokens: jax.Array
    lengths: jax.Array


class Progress(NamedTuple):
    """The state of a generation after some tokens.

    Attributes:
        step: Number of tokens of each sequence so far.
        token: The last one of each sequence, (batch,).
        tokens: All of them, (batch, tokens), 0 where they are still missing.
        lengths: Number of them up to the first stop token, (batch,).
        is_done: Whether the sequence has a stop token, (batch,).
        cache: The state of the decoder, without that of the network.
    """

    step: jax.Array
    token: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    is_done: jax.Array
    cache: State


def generate(
    key: RandomKey,
    network: Layer,
    weights: Weights | tuple[Any, Any],
    prompts: Any,
    *,
    tokens: int,
    temperature: Number = 1.0,
    top_k: int | None = None,
    top_p: Number | None = None,
    stop: int | Sequence[int] | jax.Array = (),
) -> Generated:
    """Generate text with a language model, token by token.

        text = nn.generate(key, network, weights, prompts, tokens=100, temperature=0.8)

    Token t is drawn from softmax(logits_(t-1) / temperature) by the Gumbel-max trick,
    argmax(logits + temperature g) [Maddison et al. 2014]. The prompts pass through the network at
    once. Each later token passes alone: attention keeps the keys and values of the earlier
    positions in a cache, and a recurrent layer its carry. The tokens are those of full passes over
    the whole sequence, to rounding.

    The network may be `nn.gpt`, or any chain of layers that treat each position alone, positions,
    causal attention and recurrent layers of one direction, also within `residual`, `repeat`,
    `shared`, `graph`, `parallel`, `remat`, `cast`, `freeze`. Dropout is off. A layer that needs the
    whole sequence, such as a convolution over time, raises ConfigError. All is one compiled
    program, also for other prompts of the same shape, temperatures, `top_p` and stop tokens. It
    ends as soon as all sequences have stopped.

    Args:
        key: Random key. Sequence i of a batch has the key fold_in(key, i), a single prompt the key
            itself. The token at position t is drawn by fold_in(sequence key, t), so that neither
            padding nor the other sequences change it, and a prompt that was generated with the same
            key is continued as without the break.
        network: Tokens (batch, time) -> logits (batch, time, vocabulary) of the next token.
        weights: Of the network: `Weights`, as from `train.weights`, or a pair (params, state).
        prompts: Integers (batch, time), each a prompt of at least one token, or (time,) for a
            single prompt. Prompts of different lengths are a pair (prompts, lengths) with lengths
            (batch,) in 1..time; tokens beyond a length do not matter.
        tokens: Largest number of tokens to generate after each prompt.
        temperature: >= 0. Below 1, likely tokens become more likely; at 0, the most likely token is
            always taken, which is greedy decoding.
        top_k: Number of tokens, the most likely ones, from which one is drawn; all if None, or if
            there are not more [Fan et al. 2018, arXiv:1805.04833]. Equal logits keep the order of
            the tokens.
        top_p: Tokens are drawn from the smallest set of the most likely ones whose probabilities
            sum to at least `top_p`, in (0, 1]; from all if None [Holtzman et al. 2020,
            arXiv:1904.09751]. Probabilities are those at this temperature, within `top_k`.
        stop: A token that ends a sequence, or several of them; none if empty.

    Returns:
        Tokens and lengths, without the batch axis for a single prompt. Under jit, tokens are -1
        from a position on whose logits are NaN, as after a prompt that is not in the vocabulary.

    Raises:
        ConfigError: An option is out of range, or a layer of the network needs the whole sequence.
        ShapeError: Prompts, lengths or logits have another shape, or the positions of the network
            are fewer than those of prompt and tokens.
        DTypeError: Prompts, lengths or stop tokens are not integers, or `key` is not a key.
        RangeError: A length is not in 1..time.
        NonFiniteError: Logits are NaN.
    """
    checks.key("generate key", key)
    expect_layer("generate network", network)
    params, state = _expect_weights(weights)
    prompts, lengths, is_batch = _expect_prompts(prompts)
    checks.whole("generate tokens", tokens)
    checks.number("generate temperature", temperature, "[0, inf)")
    if top_k is not None:
        checks.whole("generate top_k", top_k)
    if top_p is not None:
        checks.number("generate top_p", top_p, "(0, 1]")
    stops = _expect_stop(stop)
    fixed = None
    made = None
    if isinstance(network, Made):
        # Made layers are pytrees, so that their numbers are arguments of the program: arrays of one
        # dtype, so that a Python number and an array share the program.
        made = jax.tree.map(_float, network)
    else:
        fixed = network
    options = (temperature, top_p)
    numbers = jax.tree.map(_to_float, options)
    arrays = key, params, state, prompts, lengths, stops, numbers
    generated = _run(made, arrays, fixed, tokens, top_k, is_batch)
    _expect_valid(generated)
    if is_batch:
        return generated
    # A single prompt was a batch of one.
    own_tokens = generated.tokens[0]
    own_length = generated.lengths[0]
    return Generated(own_tokens, own_length)


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _run(
    made: Any,
    arrays: tuple[Any, ...],
    fixed: Layer | None,
    count: int,
    top_k: int | None,
    is_batch: bool,
) -> Generated:
    key, params, state, prompts, lengths, stops, numbers = arrays
    network = fixed or made
    if made is not None:
        # In this trace: layers that are built within the loop would hold tracers of the loop.
        _ = made.built
    batch, time = prompts.shape
    keys = key[None]
    if is_batch:
        # Each sequence has a key of its own, which the size of the batch does not change.
        key_of = partial(jax.random.fold_in, key)
        numbers_of_sequences = jnp.arange(batch)
        keys = jax.vmap(key_of)(numbers_of_sequences)
    temperature, top_p = numbers
    sampler = Sampler(temperature, top_p, top_k)
    # The last token is not an input, hence needs no position.
    capacity = time + count - 1

    def logits_of(
        x: jax.Array,
        span: Span,
        cache: State,
    ) -> tuple[jax.Array, State]:
        """Return the logits after the last position of a part, (batch, vocabulary)."""
        decoder = decode(network, span)
        whole_state = join_cache(state, cache)
        y, new_state = decoder.apply(params, whole_state, x, train=False)
        _expect_logits(y, x.shape)
        last = span.length - 1
        # (batch,) -> (batch, 1, 1), as the axes of y
        last = last[:, None, None]
        logits = jnp.take_along_axis(y, last, axis=1, mode="clip")
        new_cache = split_cache(new_state, state)
        # (batch, 1, vocabulary) -> (batch, vocabulary)
        return logits[:, 0], new_cache

    def append(
        progress: Progress,
        logits: jax.Array,
        cache: State,
    ) -> Progress:
        """Draw the next token of each sequence."""
        step = progress.step
        is_done = progress.is_done
        # The key follows from the position, so that a continued prompt draws the same tokens.
        positions = lengths + step
        position_keys = jax.vmap(jax.random.fold_in)(keys, positions)
        token = draw(position_keys, logits, sampler)
        kept = jnp.where(is_done, 0, token)
        # (batch, 1) == (1, stops)
        equals = token[:, None] == stops[None]
        is_stop = equals.any(1)
        tokens = jax.lax.dynamic_update_index_in_dim(progress.tokens, kept, step, axis=1)
        # A stop token counts, and those after it do not.
        added = (~is_done).astype(jnp.int32)
        return Progress(
            step=step + 1,
            token=token,
            tokens=tokens,
            lengths=progress.lengths + added,
            is_done=is_done | is_stop,
            cache=cache,
        )

    def is_unfinished(progress: Progress) -> jax.Array:
        has_room = progress.step < count
        all_done = progress.is_done.all()
        return has_room & ~all_done

    def advance(progress: Progress) -> Progress:
        # The last token is the input, at the position before the one that is drawn.
        start = lengths + progress.step - 1
        one_each = jnp.ones_like(start)
        span = Span(start, one_each, capacity, is_first=False)
        x = progress.token[:, None]  # (batch, 1)
        logits, cache = logits_of(x, span, progress.cache)
        return append(progress, logits, cache)

    zeros = jnp.zeros(batch, jnp.int32)
    no_tokens = jnp.zeros((batch, count), jnp.int32)
    begin = Progress(
        step=jnp.int32(0),
        token=zeros,
        tokens=no_tokens,
        lengths=zeros,
        is_done=zeros.astype(bool),
        cache={},
    )
    span = Span(zeros, lengths, capacity, is_first=True)
    # The prompts pass at once, and give the first token and the cache of the loop.
    logits, cache = logits_of(prompts, span, {})
    begin = append(begin, logits, cache)
    end = jax.lax.while_loop(is_unfinished, advance, begin)
    return Generated(end.tokens, end.lengths)


# Checks.


def _float(number: Any) -> Any:
    """Return a float as an array of JAX's default dtype, and anything else unchanged."""
    if isinstance(number, float):
        return _to_float(number)
    return number


def _to_float(number: Any) -> jax.Array:
    dtype = jnp.result_type(float)
    return jnp.asarray(number, dtype)


def _expect_weights(weights: Any) -> tuple[Any, Any]:
    is_sequence = isinstance(weights, tuple | list)
    if not is_sequence or len(weights) != 2:
        expected = "Weights, or a pair (params, state)"
        got = type(weights).__name__
        advice = "give train.weights(recipe, train_state), or what init returned"
        raise ConfigError("generate weights", expected, got, advice)
    params, state = weights
    return params, state


def _expect_prompts(prompts: Any) -> tuple[jax.Array, jax.Array, bool]:
    """Return prompts (batch, time), lengths (batch,), and whether a batch was given."""
    lengths = None
    # A list is one array of prompts; only a tuple holds lengths too.
    if isinstance(prompts, tuple):
        if len(prompts) != 2:
            advice = "give integers (batch, time), or a pair of them and their lengths"
            got = f"a tuple of {len(prompts)}"
            raise ShapeError(
                "generate prompts",
                "(prompts, lengths)",
                got,
                advice,
            )
        prompts, lengths = prompts
    prompts = _expect_integers("generate prompts", prompts)
    has_rank = prompts.ndim in (1, 2)
    is_empty = 0 in prompts.shape
    if not has_rank or is_empty:
        expected = "a shape (batch, time) or (time,), none of them 0"
        advice = "begin with at least one token, such as a line break"
        raise ShapeError(
            "generate prompts",
            expected,
            prompts.shape,
            advice,
        )
    is_batch = prompts.ndim == 2
    if not is_batch:
        prompts = prompts[None]  # (1, time)
    batch, time = prompts.shape
    if lengths is None:
        full = jnp.full(batch, time, jnp.int32)
        return prompts, full, is_batch
    lengths = _expect_integers("generate lengths", lengths)
    expected_shape = (batch,) if is_batch else ()
    if lengths.shape != expected_shape:
        expected = f"one for each prompt, {expected_shape}"
        advice = "give one for each"
        raise ShapeError(
            "generate lengths",
            expected,
            lengths.shape,
            advice,
        )
    _expect_lengths(lengths, time)
    return prompts, lengths.reshape(batch), is_batch


def _expect_lengths(lengths: jax.Array, time: int) -> None:
    """Raise RangeError for a known length that is not in 1..time."""
    if not checks.is_concrete(lengths):
        return
    is_wrong = (lengths < 1) | (lengths > time)
    wrong = np.extract(is_wrong, lengths)
    if wrong.size:
        expected = f"1 <= length <= {time}"
        advice = "give the number of tokens of each prompt"
        raise RangeError(
            "generate lengths",
            expected,
            wrong[0],
            advice,
        )


def _expect_stop(stop: Any) -> jax.Array:
    """Return the stop tokens, int32 (number,)."""
    # An empty list would be an array of floats.
    if isinstance(stop, Sequence) and not len(stop):
        return jnp.zeros(0, jnp.int32)
    stops = _expect_integers("generate stop", stop)
    if stops.ndim > 1:
        expected = "one token or a list"
        advice = "give a flat list"
        raise ShapeError(
            "generate stop",
            expected,
            stops.shape,
            advice,
        )
    # () -> (1,)
    return stops.reshape(-1)


def _expect_integers(where: str, value: Any) -> jax.Array:
    """Return integers as an int32 array."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        expected = "an array of integers"
        got = repr(value)
        advice = "encode text first, and pad prompts of different lengths"
        raise DTypeError(where, expected, got, advice) from None
    if not jnp.issubdtype(array.dtype, jnp.integer):
        advice = "encode text first, as by data.characters(text).encode"
        raise DTypeError(
            where,
            "an integer dtype",
            array.dtype,
            advice,
        )
    return array.astype(jnp.int32)


def _expect_logits(y: Any, shape: tuple[int, ...]) -> None:
    got = jax.tree.map(jnp.shape, y)
    is_array = trees.is_shape(got)
    if not is_array or len(got) != 3 or got[:2] != shape:
        axes = (*shape, "vocabulary")
        # The name of the axis without its quotes.
        shown = f"logits {axes}"
        expected = shown.replace("'", "")
        advice = "let the last layer give one score for each token, as nn.dense(vocabulary)"
        raise ShapeError("generate network", expected, got, advice)


def _expect_valid(generated: Generated) -> None:
    """Raise NonFiniteError if a known token was drawn from NaN."""
    tokens = generated.tokens
    # Under jit, the caller finds the token -1 in the results.
    if not checks.is_concrete(tokens):
        return
    host = np.asarray(tokens)
    wrong = np.argwhere(host == INVALID)
    if len(wrong):
        first = wrong[0].tolist()
        sequence, position = first
        got = f"NaN for token {position} of sequence {sequence}"
        advice = "check that the prompts are in the vocabulary, and that the weights are finite"
        raise NonFiniteError(
            "generate logits",
            "numbers",
            got,
            advice,
        )
