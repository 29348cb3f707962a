"""GPT has the number of parameters of GPT-2, is causal, and learns a sequence."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, initial_outputs, losses, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError, RangeError, ShapeError

TINY = {"length": 6, "width": 8, "depth": 2, "heads": 2}
GPT2 = {  # Radford et al. 2019, as the released weights count
    "small": ({"width": 768, "depth": 12, "heads": 12}, 124_439_808),
    "medium": ({"width": 1024, "depth": 24, "heads": 16}, 354_823_168),
}


def tokens(*shape, vocabulary=5):
    return jnp.asarray(np.random.default_rng(0).integers(0, vocabulary, shape), jnp.int32)


@pytest.mark.parametrize("size", GPT2)
def test_the_number_of_parameters_equals_gpt2(size):
    options, wanted = GPT2[size]
    assert parameters(nn.gpt(50257, length=1024, **options), (7,)) == wanted


@pytest.mark.parametrize("options", [{}, {"rotary": True}, {"kv_heads": 1}, {"drop_rate": 0.1}])
def test_the_shapes_agree(options):
    assert out_shapes(nn.gpt(5, **TINY, **options), (6,), jnp.int32) == ((6, 5), (6, 5))


@pytest.mark.slow
def test_logits_do_not_depend_on_later_tokens():
    x = tokens(1, 6)
    other = x.at[0, 3].set((x[0, 3] + 1) % 5)
    (before, after), _ = initial_outputs(nn.gpt(5, **TINY), jnp.concatenate([x, other]))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (np.abs(before - after).max(1) > 0)[3:].all()


def test_input_and_output_share_one_table():
    params, _ = arrays(nn.gpt(5, **TINY), (6,))
    assert params["shared"]["table"].shape == (5, 8)
    assert params["body"].keys() == {"positions", "blocks", "norm"}


@pytest.mark.slow
def test_gpt_learns():
    found = losses(nn.gpt(5, **TINY), tokens(8, 6), tokens(8, 7)[:, 1:], rate=3e-2)
    assert abs(found[0] - np.log(5)) < 0.1  # the initial predictions are uniform
    assert found[-1] < found[0] / 2


def test_a_token_out_of_range_raises():
    network = nn.gpt(5, **TINY)
    params, state = arrays(network, (6,))
    with pytest.raises(RangeError, match="embed x"):
        network.apply(params, state, jnp.full((1, 6), 5))


def test_a_sequence_above_the_length_raises(key):
    with pytest.raises(ShapeError, match="at most 6 positions"):
        nn.gpt(5, **TINY).init(key, (7,))


INVALID_OPTIONS = {
    "gpt width: expected a multiple of heads=2, got 9": {"width": 9},
    "gpt width: expected a multiple of heads=3, got 8": {"heads": 3},
    "gpt length: expected >= 1, got 0": {"length": 0},
    "gpt depth: expected >= 1, got 0": {"depth": 0},
    "attention kv_heads: expected a divisor of heads=2, got 3": {"kv_heads": 3},
}


@pytest.mark.parametrize("message", INVALID_OPTIONS)
def test_an_option_out_of_range_raises(message):
    with pytest.raises(ConfigError, match=message):
        nn.gpt(5, **TINY | INVALID_OPTIONS[message])
