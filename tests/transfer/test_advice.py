import pytest

from fnn import transfer
from fnn.errors import ConfigError


@pytest.mark.parametrize(
    ("examples", "similarity", "regime", "words"),
    [
        (100, "high", "linear_probe", "input of the head"),
        (100, "low", "linear_probe", "earlier layer"),
        (100_000, "high", "fine_tune", "all layers"),
        (100_000, "low", "fine_tune", "from scratch"),
    ],
)
def test_the_advice_is_that_of_the_textbook(examples, similarity, regime, words):
    advice = transfer.advise(examples=examples, similarity=similarity)
    assert advice.regime == regime and words in advice.reason
    assert str(advice).startswith(f"{regime}: ")


def test_wrong_arguments_raise_errors():
    with pytest.raises(ConfigError, match="advise examples: expected >= 1, got 0"):
        transfer.advise(examples=0, similarity="high")
    with pytest.raises(ConfigError, match="advise similarity: expected one of high, low"):
        transfer.advise(examples=10, similarity="medium")
