"""The content of a report survives the page; other files raise an error."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from reports import FINDINGS, HOSTILE

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab.report.content import (
    MAX_NUMBERS,
    MAX_ROWS,
    START,
    embed,
    final_figures,
    sample_history,
)

HISTORY = {
    "loss": jnp.array([2.0, jnp.inf, 0.1, jnp.nan, 0.3, 0.2], jnp.float32),
    "finite": jnp.ones(6, bool),
    "valid_loss": jnp.array([0.5, 0.4, 0.3]),
}
REPORT = lab.Report(
    findings=FINDINGS,
    figures={"valid": {"loss": 0.3, "nan": float("nan")}},
    history=sample_history(HISTORY),
    columns={"dead_share": ("a", HOSTILE)},
    steps=6,
    recipe=f"recipe({HOSTILE!r})",
    key="jax.random.key(0)",
    versions={"fnn": "1"},
)


def write(tmp_path, text):
    path = tmp_path / "report.html"
    path.write_text(text)
    return path


def test_all_values_are_read_back(tmp_path):
    found = lab.read_report(write(tmp_path, f"<html>{embed(REPORT)}</html>"))
    assert found.as_dict() == REPORT.as_dict()
    assert found.findings.ids == ("T06", "P03")
    assert found.findings[0].steps == (3, 6)
    loss = found.history["loss"]
    assert loss.values.dtype == np.float32
    np.testing.assert_array_equal(loss.values, HISTORY["loss"])
    np.testing.assert_array_equal(loss.steps, [1, 2, 3, 4, 5, 6])


def test_the_text_is_json_without_a_character_of_html():
    text = embed(REPORT)[len(START) : -len("</template>")]
    assert not set("<>&") & set(text)
    assert json.loads(text)["recipe"] == REPORT.recipe


def test_long_histories_keep_evenly_spaced_steps_with_their_ends():
    history = {"loss": np.arange(50_000.0), "grad_rms": np.ones((50_000, 30))}
    sampled = sample_history(history)
    assert len(sampled["loss"].steps) == MAX_ROWS
    np.testing.assert_array_equal(sampled["loss"].values, sampled["loss"].steps - 1)
    assert sampled["loss"].steps[[0, -1]].tolist() == [1, 50_000]
    assert sampled["grad_rms"].values.size <= MAX_NUMBERS


def test_steps_that_were_not_measured_are_left_out():
    values = np.full((6, 2), np.nan)
    values[[0, 3]] = 1
    values[3, 1] = np.nan
    series = sample_history({"dead_share": values, "confusion": np.ones((6, 2, 2))})
    assert list(series) == ["dead_share"]
    assert series["dead_share"].steps.tolist() == [1, 4]


def test_final_figures_are_of_the_last_epoch():
    figures = final_figures(HISTORY | {"accuracy": np.array([0, 0, 0, 0, 0.5, 1])})
    assert figures["training"] == {"loss": pytest.approx(0.25), "accuracy": 0.75}
    assert figures["valid"] == {"loss": pytest.approx(0.3)}


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "''"),
        ("<html></html>", "<html>"),
        (f"{START}{{}}</template>", "findings"),
        (f"{START}[]</template>", "report"),
        (f"{START}{{</template>", "report"),
        (f"{START}{'[' * 100_000}</template>", "report"),
        (f"{START}{{}}", "html"),
    ],
)
def test_other_files_raise_an_error(tmp_path, text, got):
    with pytest.raises(ConfigError, match=rf"read_report path: expected .*{got}"):
        lab.read_report(write(tmp_path, text))


def test_missing_and_huge_files_raise_an_error(tmp_path):
    with pytest.raises(ConfigError, match="expected a file that exists"):
        lab.read_report(tmp_path / "none.html")
    with pytest.raises(ConfigError, match="at most 4000000 bytes, got 5000000 bytes"):
        lab.read_report(write(tmp_path, " " * 5_000_000))
