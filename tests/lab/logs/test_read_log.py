"""Reading of logs: the columns are those that were written, wherever the last line is truncated."""

import numpy as np
import pytest
from log_calls import write_step

from fnn import lab
from fnn.errors import ConfigError

MAKERS = {"run.jsonl": lab.jsonl_log, "run.csv": lab.csv_log}
RECORDS = [
    (1, {"loss": 0.5, "rate": 0.1}),
    (2, {"loss": np.nan, "rate": np.inf}),
    (3, {"loss": -np.inf, "rate": 1e-30, "valid_loss": 0.25}),
]
COLUMNS = {
    "step": [1, 2, 3],
    "loss": [0.5, np.nan, -np.inf],
    "rate": [0.1, np.inf, 1e-30],
    "valid_loss": [np.nan, np.nan, 0.25],
}


@pytest.fixture(params=MAKERS)
def path(request, tmp_path):
    log = MAKERS[request.param](tmp_path / request.param)
    log.begin(lab.RunInfo(0, ("loss", "rate", "valid_loss"), {}))
    for step, figures in RECORDS:
        write_step(log, step, figures)
    log.close()
    return tmp_path / request.param


def test_the_records_are_read_as_columns(path):
    columns = lab.read_log(path)
    assert list(columns) == list(COLUMNS)
    assert columns["step"].dtype == int
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(columns[name], values)


def test_a_log_truncated_at_any_byte_is_read_up_to_there(path):
    content = path.read_bytes()
    ends = [0, *(index + 1 for index, byte in enumerate(content) if byte == ord("\n"))]
    header_lines = path.suffix == ".csv"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole_lines = sum(end <= size for end in ends) - 1
        if size in ends:
            columns = lab.read_log(path)
        else:
            message = r"read_log: skipped the last line of .*, which is truncated: "
            with pytest.warns(UserWarning, match=message):
                columns = lab.read_log(path)
        records = max(0, whole_lines - header_lines)
        for name, values in columns.items():
            np.testing.assert_array_equal(values, COLUMNS[name][:records])


def test_a_figure_read_back_has_the_bits_that_were_written(tmp_path):
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**32, 300, np.uint32).view(np.float32)
    bits = bits[np.isfinite(bits)]
    for name, maker in MAKERS.items():
        log = maker(tmp_path / name)
        log.begin(lab.RunInfo(0, ("loss",), {}))
        for step, value in enumerate(bits):
            write_step(log, step, {"loss": value})
        log.close()
        losses = lab.read_log(tmp_path / name)["loss"]
        np.testing.assert_array_equal(losses.astype(np.float32), bits)


@pytest.mark.parametrize(
    "content",
    [
        "nothing of ours",
        "a,b\n1,2\n",
        "{}\n",
        "step,loss\n1,x\n",
        "step,loss\n-1,2\n",
        f"step,loss\n{2**63},2\n",
        f"step,loss\n{'1' * 5000},2\n",
        '{"step": 1, "a": []}\n',
        '{"step": 1.5, "a": 1}\n',
        '{"step": true, "a": 1}\n',
        f'{{"step": {10**30}, "a": 1}}\n',
        f'{{"step": {"[" * 100_000}\n',
    ],
    ids=range(12),
)
def test_a_file_that_is_not_a_log_raises(content, tmp_path):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(ConfigError, match="read_log path: expected a log of fnn"):
        lab.read_log(tmp_path / "a.txt")


def test_a_missing_file_raises(tmp_path):
    message = r"read_log path: expected a file that exists, got .*no.csv"
    with pytest.raises(ConfigError, match=message):
        lab.read_log(tmp_path / "no.csv")
