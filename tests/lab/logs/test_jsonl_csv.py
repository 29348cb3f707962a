"""Logs into text files: their content, resuming, and files that are refused."""

import csv
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import full_disk
from log_calls import write_step

from fnn import lab
from fnn.errors import ConfigError, ShapeError, WriteError

MAKERS = {"run.jsonl": lab.jsonl_log, "run.csv": lab.csv_log}
NAMES = ("loss", "rate", "valid, of all")
over_formats = pytest.mark.parametrize("name", MAKERS)


def run_info(step=0, names=NAMES):
    return lab.RunInfo(step, names, {"epochs": 2})


def figures(step):
    """Every third step is the end of an epoch."""
    of_step = {"loss": np.float32(1 / step), "rate": jnp.float32(0.1)}
    if step % 3:
        return of_step
    return of_step | {"valid, of all": 0.5}


def log_steps(log, first, last):
    """Log the steps after `first` up to `last`."""
    log.begin(run_info(first))
    for step in range(first + 1, last + 1):
        write_step(log, step, figures(step))
    log.close()


def test_json_lines_are_read_by_any_reader_of_json(tmp_path):
    log_steps(lab.jsonl_log(tmp_path / "run.jsonl"), 0, 3)
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert lines[0] == '{"step": 1, "loss": 1.0, "rate": 0.1}'
    third = json.loads(lines[2])
    assert third == {"step": 3, "loss": 0.33333334, "rate": 0.1, "valid, of all": 0.5}
    assert np.float32(third["loss"]) == np.float32(1 / 3)


def test_csv_has_a_column_per_figure_and_empty_cells(tmp_path):
    log_steps(lab.csv_log(tmp_path / "run.csv"), 0, 3)
    rows = list(csv.reader(io.StringIO((tmp_path / "run.csv").read_text())))
    assert rows[0] == ["step", *NAMES]
    assert rows[1:] == [
        ["1", "1.0", "0.1", ""],
        ["2", "0.5", "0.1", ""],
        ["3", "0.33333334", "0.1", "0.5"],
    ]


def test_nonfinite_numbers_are_written_as_other_readers_expect(tmp_path):
    nonfinite = {"loss": np.nan, "rate": -np.inf, "valid, of all": jnp.float32(jnp.inf)}
    for name, maker in MAKERS.items():
        log = maker(tmp_path / name)
        log.begin(run_info())
        write_step(log, 1, nonfinite)
        log.close()
    record = json.loads((tmp_path / "run.jsonl").read_text(), parse_constant=pytest.fail)
    assert record == {"step": 1, "loss": "NaN", "rate": "-Infinity", "valid, of all": "Infinity"}
    assert (tmp_path / "run.csv").read_text().splitlines()[1] == "1,nan,-inf,inf"


@over_formats
def test_one_write_of_several_steps_gives_the_lines_of_single_writes(name, tmp_path):
    columns = {
        '100 % "all"': np.array([0.1, 1e10, 1e-5, np.nan], np.float32),
        "count": np.array([3, 4, 5, 6]),
        "hit": np.array([True, False, True, True]),
        "half": jnp.array([0.1, -jnp.inf, 1.0, 3e38], jnp.bfloat16),
        "double": np.array([0.1, 1 / 3, 1e22, -0.0]),
    }
    together = MAKERS[name](tmp_path / f"together.{name}")
    together.begin(run_info(names=tuple(columns)))
    together.write(np.arange(4) + 1, columns)
    together.close()
    single = MAKERS[name](tmp_path / f"single.{name}")
    single.begin(run_info(names=tuple(columns)))
    for index in range(4):
        write_step(single, index + 1, {key: column[index] for key, column in columns.items()})
    single.close()
    content = (tmp_path / f"together.{name}").read_text()
    assert content == (tmp_path / f"single.{name}").read_text()
    back = lab.read_log(tmp_path / f"together.{name}")
    for key, column in columns.items():
        restored = back[key].astype(column.dtype)
        np.testing.assert_array_equal(restored, np.asarray(column), strict=True)


@over_formats
def test_a_line_is_in_the_file_once_it_is_written(name, tmp_path):
    log = MAKERS[name](tmp_path / name)
    log.begin(run_info())
    for step in (1, 2):
        write_step(log, step, figures(step))
        assert len(lab.read_log(tmp_path / name)["step"]) == step
    log.close()


@over_formats
@pytest.mark.parametrize("step", [3, 5, 7])
def test_the_log_of_a_resumed_run_is_that_of_the_whole_run_wherever_it_was_truncated(
    name, step, tmp_path
):
    whole = tmp_path / f"whole.{name}"
    path = tmp_path / name
    log_steps(MAKERS[name](whole), 0, 9)
    log_steps(MAKERS[name](path), 0, 7)
    content = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    # The lines that the resumed run does not write again: one more in CSV, for its header.
    needed = ends[step - (name == "run.jsonl")]
    for size in range(needed, len(content) + 1):
        path.write_bytes(content[:size])
        log_steps(MAKERS[name](path), step, 9)
        assert path.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, f"whole.{name}"])


@over_formats
def test_a_new_run_does_not_overwrite_a_log(name, tmp_path):
    path = tmp_path / name
    log_steps(MAKERS[name](path), 0, 3)
    before = path.read_bytes()
    message = rf"_log path: expected an empty or new file when .* log .*{name}; move it away"
    for content in (before, before[:-3], before[:12]):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            MAKERS[name](path).begin(run_info())
        assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [name]


@over_formats
def test_a_log_without_steps_may_begin_again(name, tmp_path):
    for _ in range(2):
        log_steps(MAKERS[name](tmp_path / name), 0, 0)
    assert lab.read_log(tmp_path / name)["step"].shape == (0,)


@over_formats
@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("content", ["something of mine\n", "something", "{}\n", "step\n"])
def test_another_file_is_not_changed(name, step, content, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"_log path: expected .*log.* file"):
        MAKERS[name](path).begin(run_info(step))
    assert path.read_text() == content


@over_formats
def test_an_invalid_line_raises_with_its_number(name, tmp_path):
    path = tmp_path / name
    log_steps(MAKERS[name](path), 0, 3)
    path.write_text(path.read_text().replace("0.5", "half"))
    line = 2 if name == "run.jsonl" else 3
    message = f"_log path: expected a log of fnn, got .*half.* in line {line} of"
    with pytest.raises(ConfigError, match=message):
        MAKERS[name](path).begin(run_info(3))


def test_the_columns_of_csv_are_fixed(tmp_path):
    log = lab.csv_log(tmp_path / "run.csv")
    log_steps(log, 0, 3)
    message = "csv_log path: expected a log with the columns step,loss,new, got step,loss"
    with pytest.raises(ConfigError, match=message):
        log.begin(run_info(2, ("loss", "new")))
    log.begin(run_info(3))
    message = r"csv_log figures: expected a column among loss, rate, .*, got new"
    with pytest.raises(ConfigError, match=message):
        write_step(log, 4, {"new": 1.0})
    log.close()


@over_formats
def test_wrong_paths_names_and_shapes_raise(name, tmp_path):
    maker = MAKERS[name]
    with pytest.raises(ConfigError, match="_log path: expected a folder that exists"):
        maker(tmp_path / "no" / name)
    with pytest.raises(ConfigError, match=r"_log path: expected a file, got .*, a folder"):
        maker(tmp_path)
    log = maker(tmp_path / name)
    message = "_log: expected a call of begin before figures, got figures of step 1; call its"
    with pytest.raises(ConfigError, match=message):
        write_step(log, 1, figures(1))
    message = "_log names: expected names other than step, got loss, step; rename"
    with pytest.raises(ConfigError, match=message):
        log.begin(run_info(names=("loss", "step")))
    assert list(tmp_path.iterdir()) == []
    log.begin(run_info())
    message = r"log loss: expected one number per step, \(1,\), got \(1, 3\)"
    with pytest.raises(ShapeError, match=message):
        write_step(log, 1, {"loss": np.ones(3)})
    log.close()


@pytest.mark.parametrize("make", [lab.jsonl_log, lab.csv_log])
def test_a_full_disk_raises_and_the_log_goes_on_when_there_is_room(make, tmp_path):
    path, whole = tmp_path / "log", tmp_path / "whole"
    steps = np.arange(1, 101)
    figures = {"loss": np.arange(100, dtype=np.float32) / 8}

    def past(after):
        yield steps[after:60], {"loss": figures["loss"][after:60]}

    log = make(path)
    log.begin(lab.RunInfo(0, ("loss",), {}))
    with full_disk(300), pytest.raises(WriteError, match=r"log log in .*: expected a directory"):
        log.write(steps, figures)
    log.close()
    assert path.stat().st_size == 300
    log.begin(lab.RunInfo(60, ("loss",), {}, past=past, resumes=True))
    log.write(steps[60:], {"loss": figures["loss"][60:]})
    log.close()
    log = make(whole)
    log.begin(lab.RunInfo(0, ("loss",), {}))
    log.write(steps, figures)
    log.close()
    assert path.read_bytes() == whole.read_bytes()
    before = path.read_bytes()
    with full_disk(100), pytest.raises(WriteError):
        log = make(path)
        log.begin(lab.RunInfo(60, ("loss",), {}, past=past, resumes=True))
    # The log that was there is whole, and there is no partial file.
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, whole]
