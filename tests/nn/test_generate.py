"""Generated tokens: those of full passes, drawn from the right distribution, in one program."""

from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import (
    ConfigError,
    DTypeError,
    NonFiniteError,
    RangeError,
    ShapeError,
)
from fnn.nn.sampler import Sampler

pytestmark = pytest.mark.slow

V, LENGTH = 7, 12
GPT = nn.gpt(V, length=LENGTH, width=8, depth=2, heads=2, drop_rate=0.1)
PROMPTS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [3, 0, 0, 0]])
LENGTHS = np.array([4, 2, 1])


def language_model(*layers):
    return nn.chain(nn.embed(V, 8), *layers, nn.dense(V))


def random_weights(network):
    """Weights whose next tokens vary."""
    params, state, _ = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (4,))
    draw = np.random.default_rng(0)

    def random(p):
        # Vectors stay as they are: large biases would decide the most likely token.
        return p if p.ndim == 1 else jnp.asarray(draw.normal(size=p.shape), p.dtype)

    params = jax.tree.map(random, params)
    return params, state


@partial(jax.jit, static_argnums=0)
def full_pass(network, params, state, tokens):
    """The logits of whole sequences."""
    return network.apply(params, state, tokens, train=False)[0]


def by_full_passes(network, weights, prompt, tokens):
    """Greedy tokens of passes over the whole sequence, padded at its end to one shape."""
    params, state = weights
    sequence = list(prompt)
    for _ in range(tokens):
        padded = np.zeros((1, LENGTH), np.int32)
        padded[0, : len(sequence)] = sequence
        logits = full_pass(network, params, state, padded)
        sequence.append(int(logits[0, len(sequence) - 1].argmax()))
    return sequence[len(prompt) :]


def decaying_residual(depth):
    body = nn.chain(nn.rms_norm(), nn.attention(2, causal=True, rotary=True))
    return nn.residual(nn.chain(body, nn.drop_path(0.1 * depth)))


NETWORKS = {
    "gpt": GPT,
    "rotary": nn.gpt(V, width=8, depth=2, heads=2, kv_heads=1, rotary=True),
    "recurrent": language_model(nn.lstm(5), nn.gru(6), nn.rnn(4)),
    "combined": nn.remat(
        language_model(
            nn.sinusoidal_positions(),
            nn.repeat(decaying_residual, 2),
            nn.graph(
                a=(nn.attention(2, causal=True), "x"), b=(nn.gru(8), "x"), y=(nn.add(), "a", "b")
            ),
            nn.batch_norm(),
            nn.parallel(nn.dense(4), nn.maxout(4)),
            nn.prelu(),
        )
    ),
    "changed": nn.freeze(
        nn.spectral_norm(language_model(nn.attention(2, causal=True), nn.lstm(4))), "lstm_2/*"
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_greedy_tokens_are_those_of_full_passes(name, key):
    network = NETWORKS[name]
    weights = random_weights(network)
    made = nn.generate(key, network, weights, (PROMPTS, LENGTHS), tokens=8, temperature=0.0)
    for prompt, length, tokens in zip(PROMPTS, LENGTHS, made.tokens, strict=True):
        wanted = by_full_passes(network, weights, prompt[:length], 8)
        assert tokens.tolist() == wanted
    assert made.lengths.tolist() == [8, 8, 8]
    assert len(np.unique(np.asarray(made.tokens))) > 1


def test_a_network_in_bfloat16_generates(key):
    network = nn.cast(GPT)
    made = nn.generate(key, network, random_weights(network), PROMPTS, tokens=3)
    assert ((made.tokens >= 0) & (made.tokens < V)).all()


def test_pretrained_and_replaced_parts_generate(key):
    params, state = random_weights(GPT)
    network = nn.freeze(nn.pretrained(nn.replace(GPT, "body/norm", nn.layer_norm()), params, state))
    weights = network.init(key, (4,))[:2]
    made = nn.generate(key, network, weights, PROMPTS, tokens=5)
    wanted = nn.generate(key, GPT, (params, state), PROMPTS, tokens=5)
    np.testing.assert_array_equal(made.tokens, wanted.tokens)


OPTIONS = {"tokens": 8, "temperature": 0.9, "top_k": 5, "top_p": 0.9}


def test_a_sequence_of_a_batch_equals_its_prompt_alone(key):
    weights = random_weights(GPT)
    together = nn.generate(key, GPT, weights, (PROMPTS, LENGTHS), **OPTIONS)
    for index, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
        own_key = jax.random.fold_in(key, index)
        alone = nn.generate(own_key, GPT, weights, prompt[:length], **OPTIONS)
        np.testing.assert_array_equal(alone.tokens, together.tokens[index])
        assert alone.lengths == 8


def test_equal_prompts_have_different_continuations(key):
    made = nn.generate(key, GPT, random_weights(GPT), np.ones((2, 3), int), tokens=8)
    assert (made.tokens[0] != made.tokens[1]).any()


def test_a_continued_text_equals_the_uninterrupted_one(key):
    weights = random_weights(GPT)
    whole = nn.generate(key, GPT, weights, [1, 2], tokens=8).tokens
    begin = nn.generate(key, GPT, weights, [1, 2], tokens=3).tokens
    end = nn.generate(key, GPT, weights, [1, 2, *begin.tolist()], tokens=5).tokens
    np.testing.assert_array_equal(jnp.concatenate([begin, end]), whole)


def test_stop_tokens_end_a_sequence(key):
    weights = random_weights(GPT)
    free = np.asarray(nn.generate(key, GPT, weights, (PROMPTS, LENGTHS), tokens=8).tokens)
    stop = [int(free[0, 2]), int(free[1, 5])]
    made = nn.generate(key, GPT, weights, (PROMPTS, LENGTHS), tokens=8, stop=stop)
    for tokens, length, all_tokens in zip(made.tokens, made.lengths, free, strict=True):
        hits = np.flatnonzero(np.isin(all_tokens, stop))
        wanted = hits[0] + 1 if len(hits) else 8
        assert length == wanted
        np.testing.assert_array_equal(tokens[:wanted], all_tokens[:wanted])
        assert (tokens[wanted:] == 0).all()
    single = nn.generate(key, GPT, weights, [1], tokens=8, stop=jnp.arange(V))
    assert single.lengths == 1


def test_other_numbers_and_prompts_share_one_program(key, monkeypatch):
    weights = random_weights(GPT)
    traced = []

    def sampler(*numbers):
        traced.append(numbers)
        return Sampler(*numbers)

    # Made once in each trace of the program.
    module = import_module("fnn.nn.generate")
    monkeypatch.setattr(module, "Sampler", sampler)
    top_k = 4  # of no other test, which would have traced the program before
    for temperature in (0, 0.5, jnp.float32(2)):
        again = nn.gpt(V, length=LENGTH, width=8, depth=2, heads=2, drop_rate=0.1 + temperature / 9)
        prompt = np.full(5, temperature, int)
        options = {"top_k": top_k, "top_p": 0.5 + temperature / 8, "stop": [int(temperature)]}
        nn.generate(key, again, weights, prompt, tokens=7, temperature=temperature, **options)
    assert len(traced) == 1


def test_lanes_over_temperatures_equal_single_calls(key):
    weights = random_weights(GPT)
    temperatures = jnp.array([0.0, 1.0, 3.0])

    def generated(temperature):
        return nn.generate(key, GPT, weights, [1, 2], tokens=6, temperature=temperature, stop=3)

    lanes = jax.jit(jax.vmap(generated))(temperatures)
    for index, temperature in enumerate(temperatures):
        single = generated(temperature)
        np.testing.assert_array_equal(lanes.tokens[index], single.tokens)
        assert lanes.lengths[index] == single.lengths


def test_restrictions_that_leave_out_nothing_change_no_draw(key):
    weights = random_weights(GPT)
    free = nn.generate(key, GPT, weights, PROMPTS, tokens=5).tokens
    for options in ({"top_p": 1.0}, {"top_k": 100}):
        made = nn.generate(key, GPT, weights, PROMPTS, tokens=5, **options)
        np.testing.assert_array_equal(made.tokens, free)


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 0, "top_p": 0.9}]
)
def test_restrictions_to_one_token_are_greedy(options, key):
    weights = random_weights(GPT)
    greedy = nn.generate(key, GPT, weights, PROMPTS, tokens=5, temperature=0).tokens
    made = nn.generate(key, GPT, weights, PROMPTS, tokens=5, **options)
    np.testing.assert_array_equal(made.tokens, greedy)


def test_nan_in_a_traced_generation_gives_minus_one(key):
    weights = random_weights(GPT)
    made = jax.jit(lambda x: nn.generate(key, GPT, weights, x, tokens=4))(jnp.array([[1], [V]]))
    assert (made.tokens[1] == -1).all() and (made.tokens[0] >= 0).all()


REFUSED = {
    "attention": (nn.attention(2), "nn.attention; use layers"),
    "convolution": (nn.conv_1d(8), "nn.conv_1d"),
    "bidirectional": (nn.gru(4, bidirectional=True), "nn.gru"),
    "norm over time": (nn.layer_norm(axes=2), "nn.layer_norm"),
    "own": (nn.repeat(nn.chain(nn.remat(nn.transformer_block(2))), 2), "nn.attention"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_need_the_whole_sequence_are_refused(name, key):
    layer, got = REFUSED[name]
    network = language_model(layer)
    with pytest.raises(ConfigError, match=got) as caught:
        nn.generate(key, network, ({}, {}), [1], tokens=2)
    assert any(note.startswith("in layer ") for note in caught.value.__notes__)


WRONG = {
    "key": ({"key": 0}, DTypeError, "generate key"),
    "network": ({"network": nn.gpt}, ConfigError, "generate network: expected a Layer"),
    "weights": ({"weights": {}}, ConfigError, "generate weights: .*got dict"),
    "positions": ({"tokens": LENGTH}, ShapeError, f"at most length={LENGTH} positions, got 13"),
    "text": ({"prompts": "ab"}, DTypeError, "encode text first"),
    "floats": ({"prompts": [1.0]}, DTypeError, "an integer dtype, got float32"),
    "ragged": ({"prompts": [[1], [1, 2]]}, DTypeError, "pad prompts of different lengths"),
    "empty": ({"prompts": np.zeros(0, int)}, ShapeError, "at least one token"),
    "rank": ({"prompts": np.zeros((1, 1, 1), int)}, ShapeError, r"got \(1, 1, 1\)"),
    "three": ({"prompts": ([1], [1], [1])}, ShapeError, "got a tuple of 3"),
    "length": ({"prompts": ([[1, 2]], [3])}, RangeError, "1 <= length <= 2, got 3"),
    "lengths": ({"prompts": ([[1, 2]], [1, 1])}, ShapeError, r"\(1,\), got \(2,\)"),
    "token": ({"prompts": [1, V]}, NonFiniteError, "token 0 of sequence 0"),
    "tokens": ({"tokens": 0}, ConfigError, "generate tokens"),
    "temperature": ({"temperature": -1.0}, ConfigError, "generate temperature"),
    "top_k": ({"top_k": 0}, ConfigError, "generate top_k"),
    "top_p": ({"top_p": 1.5}, ConfigError, "generate top_p"),
    "stop": ({"stop": [0.5]}, DTypeError, "generate stop"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_raise(case, key):
    changes, error, message = WRONG[case]
    given = {"key": key, "network": GPT, "weights": random_weights(GPT), "prompts": [1, 2]}
    arguments = given | {"tokens": 2} | changes
    with pytest.raises(error, match=message):
        nn.generate(**arguments)


def test_a_network_without_a_score_for_each_token_is_refused(key):
    network = nn.chain(nn.embed(V, 2), nn.parallel(nn.dense(V), nn.dense(V), join="tuple"))
    with pytest.raises(ShapeError, match=r"logits \(1, 2, vocabulary\)"):
        nn.generate(key, network, random_weights(network), [1, 2], tokens=2)
