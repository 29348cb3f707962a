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
from fnn.types import Layer, Number, RandomKey, Span, State, Weights
from fnn.values import Made

INVALID = -1  # a token that was drawn from logits with NaN


class Generated(NamedTuple):
    """Generated tokens.

    Attributes:
        tokens: int32 (batch, tokens), those after the prompts. Beyond a length they are 0.
        lengths: Number of tokens of each sequence up to its first stop token, which is included,
            int32 (batch,).
    """

    tokens: jax.Array
    lengths: jax.Array


class Sampler(NamedTuple):
    """How a token is drawn from its logits.

    Attributes:
        temperature: Divisor of the logits.
        top_p: Share of probability from which tokens are drawn, or None.
        top_k: Number of tokens from which one is drawn, or None.
    """

    temperature: jax.Array
    top_p: jax.Array | None
    top_k: int | None


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
    # Made layers are pytrees, so that their numbers are arguments of the program.
    fixed = None if isinstance(network, Made) else network
    # Arrays of one dtype, so that a Python number and an array share the program.
    made = jax.tree.map(_float, network) if isinstance(network, Made) else None
    numbers = jax.tree.map(_to_float, (temperature, top_p))
    arrays = key, params, state, prompts, lengths, stops, numbers
    generated = _run(made, arrays, fixed, tokens, top_k, is_batch)
    _expect_valid(generated)
    if is_batch:
        return generated
    return Generated(generated.tokens[0], generated.lengths[0])


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
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(batch)) if is_batch else key[None]
    temperature, top_p = numbers
    sampler = Sampler(temperature, top_p, top_k)
    # The last token is not an input, hence needs no position.
    capacity = time + count - 1

    def logits_of(x: jax.Array, span: Span, cache: State) -> tuple[jax.Array, State]:
        """Return the logits after the last position of a part, (batch, vocabulary)."""
        decoder = decode(network, span)
        whole_state = join_cache(state, cache)
        y, new_state = decoder.apply(params, whole_state, x, train=False)
        _expect_logits(y, x.shape)
        last = (span.length - 1)[:, None, None]
        logits = jnp.take_along_axis(y, last, axis=1, mode="clip")[:, 0]
        return logits, split_cache(new_state, state)

    def append(progress: Progress, logits: jax.Array, cache: State) -> Progress:
        """Draw the next token of each sequence."""
        step = progress.step
        position_keys = jax.vmap(jax.random.fold_in)(keys, lengths + step)
        token = _draw(position_keys, logits, sampler)
        kept = jnp.where(progress.is_done, 0, token)
        is_stop = (token[:, None] == stops[None]).any(1)
        return Progress(
            step + 1,
            token,
            jax.lax.dynamic_update_index_in_dim(progress.tokens, kept, step, axis=1),
            progress.lengths + (~progress.is_done).astype(jnp.int32),
            progress.is_done | is_stop,
            cache,
        )

    def is_unfinished(progress: Progress) -> jax.Array:
        return (progress.step < count) & ~progress.is_done.all()

    def advance(progress: Progress) -> Progress:
        start = lengths + progress.step - 1
        span = Span(start, jnp.ones_like(start), capacity, is_first=False)
        logits, cache = logits_of(progress.token[:, None], span, progress.cache)
        return append(progress, logits, cache)

    zeros = jnp.zeros(batch, jnp.int32)
    no_tokens = jnp.zeros((batch, count), jnp.int32)
    begin = Progress(jnp.int32(0), zeros, no_tokens, zeros, zeros.astype(bool), {})
    span = Span(zeros, lengths, capacity, is_first=True)
    begin = append(begin, *logits_of(prompts, span, {}))
    end = jax.lax.while_loop(is_unfinished, advance, begin)
    return Generated(end.tokens, end.lengths)


def _draw(keys: jax.Array, logits: jax.Array, sampler: Sampler) -> jax.Array:
    """Draw a token for each row of logits (batch, vocabulary), by its key."""
    logits = logits.astype(trees.wide(logits))
    temperature = sampler.temperature.astype(logits.dtype)
    vocabulary = logits.shape[-1]
    # One draw for each token, so that top_k and top_p only leave out some of the tokens.
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (vocabulary,), logits.dtype))(keys)
    is_valid = ~jnp.isnan(logits).any(-1)
    if sampler.top_k is None and sampler.top_p is None:
        choice = jnp.argmax(logits + temperature * noise, axis=-1)
        return jnp.where(is_valid, choice, INVALID).astype(jnp.int32)
    best = min(sampler.top_k or vocabulary, vocabulary)
    # (batch, best), in descending order
    logits, order = jax.lax.top_k(logits, best)
    noise = jnp.take_along_axis(noise, order, axis=-1)
    scores = logits + temperature * noise
    if sampler.top_p is not None:
        scores = jnp.where(_in_nucleus(logits, temperature, sampler.top_p), scores, -jnp.inf)
    choice = jnp.argmax(scores, axis=-1, keepdims=True)
    token = jnp.take_along_axis(order, choice, axis=-1)[:, 0]
    return jnp.where(is_valid, token, INVALID).astype(jnp.int32)


def _in_nucleus(logits: jax.Array, temperature: jax.Array, top_p: jax.Array) -> jax.Array:
    """Return which of the logits (batch, tokens), in descending order, are within top_p."""
    # At temperature 0 the first is taken from any set.
    divisor = jnp.where(temperature > 0, temperature, 1)
    probabilities = jax.nn.softmax(logits / divisor)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    # A sum may round to 1 before the last token.
    is_within = (before < top_p) | (top_p >= 1)
    return is_within.at[:, 0].set(True)


# Checks.


def _float(number: Any) -> Any:
    """Return a float as an array of JAX's default dtype, and anything else unchanged."""
    return _to_float(number) if isinstance(number, float) else number


def _to_float(number: Any) -> jax.Array:
    return jnp.asarray(number, jnp.result_type(float))


def _expect_weights(weights: Any) -> tuple[Any, Any]:
    if not isinstance(weights, tuple | list) or len(weights) != 2:
        expected = "Weights, or a pair (params, state)"
        advice = "give train.weights(recipe, train_state), or what init returned"
        raise ConfigError("generate weights", expected, type(weights).__name__, advice)
    params, state = weights
    return params, state


def _expect_prompts(prompts: Any) -> tuple[jax.Array, jax.Array, bool]:
    """Return prompts (batch, time), lengths (batch,), and whether a batch was given."""
    lengths = None
    if isinstance(prompts, tuple):
        if len(prompts) != 2:
            advice = "give integers (batch, time), or a pair of them and their lengths"
            got = f"a tuple of {len(prompts)}"
            raise ShapeError("generate prompts", "(prompts, lengths)", got, advice)
        prompts, lengths = prompts
    prompts = _expect_integers("generate prompts", prompts)
    if prompts.ndim not in (1, 2) or 0 in prompts.shape:
        expected = "a shape (batch, time) or (time,), none of them 0"
        advice = "begin with at least one token, such as a line break"
        raise ShapeError("generate prompts", expected, prompts.shape, advice)
    is_batch = prompts.ndim == 2
    if not is_batch:
        prompts = prompts[None]
    batch, time = prompts.shape
    if lengths is None:
        return prompts, jnp.full(batch, time, jnp.int32), is_batch
    lengths = _expect_integers("generate lengths", lengths)
    expected_shape = (batch,) if is_batch else ()
    if lengths.shape != expected_shape:
        expected = f"one for each prompt, {expected_shape}"
        raise ShapeError("generate lengths", expected, lengths.shape, "give one for each")
    if checks.is_concrete(lengths):
        wrong = np.extract((lengths < 1) | (lengths > time), lengths)
        if wrong.size:
            expected = f"1 <= length <= {time}"
            advice = "give the number of tokens of each prompt"
            raise RangeError("generate lengths", expected, wrong[0], advice)
    return prompts, lengths.reshape(batch), is_batch


def _expect_stop(stop: Any) -> jax.Array:
    """Return the stop tokens, int32 (number,)."""
    if isinstance(stop, Sequence) and not len(stop):
        return jnp.zeros(0, jnp.int32)
    stops = _expect_integers("generate stop", stop)
    if stops.ndim > 1:
        raise ShapeError("generate stop", "one token or a list", stops.shape, "give a flat list")
    return stops.reshape(-1)


def _expect_integers(where: str, value: Any) -> jax.Array:
    """Return integers as an int32 array."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        advice = "encode text first, and pad prompts of different lengths"
        raise DTypeError(where, "an array of integers", repr(value), advice) from None
    if not jnp.issubdtype(array.dtype, jnp.integer):
        advice = "encode text first, as by data.characters(text).encode"
        raise DTypeError(where, "an integer dtype", array.dtype, advice)
    return array.astype(jnp.int32)


def _expect_logits(y: Any, shape: tuple[int, ...]) -> None:
    got = jax.tree.map(jnp.shape, y)
    if not trees.is_shape(got) or len(got) != 3 or got[:2] != shape:
        expected = f"logits {(*shape, 'vocabulary')}".replace("'", "")
        advice = "let the last layer give one score for each token, as nn.dense(vocabulary)"
        raise ShapeError("generate network", expected, got, advice)


def _expect_valid(generated: Generated) -> None:
    """Raise NonFiniteError if a known token was drawn from NaN."""
    tokens = generated.tokens
    if not checks.is_concrete(tokens):
        return
    wrong = np.argwhere(np.asarray(tokens) == INVALID)
    if len(wrong):
        sequence, position = wrong[0].tolist()
        got = f"NaN for token {position} of sequence {sequence}"
        advice = "check that the prompts are in the vocabulary, and that the weights are finite"
        raise NonFiniteError("generate logits", "numbers", got, advice)
