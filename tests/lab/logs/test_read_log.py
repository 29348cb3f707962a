"""Logs read back: the columns as they were told, whatever is left of the last line."""

import numpy as np
import pytest
from telling import tell

from fnn import lab
from fnn.errors import ConfigError

MAKERS = {"run.jsonl": lab.jsonl_log, "run.csv": lab.csv_log}
TOLD = [
    (1, {"loss": 0.5, "rate": 0.1}),
    (2, {"loss": np.nan, "rate": np.inf}),
    (3, {"loss": -np.inf, "rate": 1e-30, "valid_loss": 0.25}),
]
WANTED = {
    "step": [1, 2, 3],
    "loss": [0.5, np.nan, -np.inf],
    "rate": [0.1, np.inf, 1e-30],
    "valid_loss": [np.nan, np.nan, 0.25],
}


@pytest.fixture(params=MAKERS)
def path(request, tmp_path):
    log = MAKERS[request.param](tmp_path / request.param)
    log.begin(lab.Begun(0, ("loss", "rate", "valid_loss"), {}))
    for step, figures in TOLD:
        tell(log, step, figures)
    log.close()
    return tmp_path / request.param


def test_what_was_told_is_read_as_columns(path):
    columns = lab.read_log(path)
    assert list(columns) == list(WANTED) and columns["step"].dtype == int
    for name, values in WANTED.items():
        np.testing.assert_array_equal(columns[name], values)


def test_a_log_that_was_cut_at_any_byte_is_read_up_to_there(path):
    content = path.read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    heads = path.suffix == ".csv"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends) - 1
        if size in ends:
            columns = lab.read_log(path)
        else:
            with pytest.warns(
                UserWarning, match=r"read_log: the last line of .* was cut, and is left out: "
            ):
                columns = lab.read_log(path)
        for name, values in columns.items():
            np.testing.assert_array_equal(values, WANTED[name][: max(0, whole - heads)])


def test_a_figure_read_back_has_the_bits_that_were_told(tmp_path):
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**32, 300, np.uint32).view(np.float32)
    bits = bits[np.isfinite(bits)]
    for name, maker in MAKERS.items():
        log = maker(tmp_path / name)
        log.begin(lab.Begun(0, ("loss",), {}))
        for step, value in enumerate(bits):
            tell(log, step, {"loss": value})
        log.close()
        np.testing.assert_array_equal(
            lab.read_log(tmp_path / name)["loss"].astype(np.float32), bits
        )


@pytest.mark.parametrize(
    "content",
    ["nothing of ours", "a,b\n1,2\n", "{}\n", "step,loss\n1,x\n", '{"step": 1, "a": []}\n'],
)
def test_another_file_is_told(content, tmp_path):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(ConfigError, match="read_log path: expected a log of fnn"):
        lab.read_log(tmp_path / "a.txt")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        ConfigError, match=r"read_log path: expected a file that exists, got .*no.csv"
    ):
        lab.read_log(tmp_path / "no.csv")
