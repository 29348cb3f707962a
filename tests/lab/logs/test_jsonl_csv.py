"""Logs into files: what stands in them, what a resumed run makes of them, and what is refused."""

import csv
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from telling import tell

from fnn import lab
from fnn.errors import ConfigError, ShapeError

MAKERS = {"run.jsonl": lab.jsonl_log, "run.csv": lab.csv_log}
NAMES = ("loss", "rate", "valid, of all")
over_formats = pytest.mark.parametrize("name", MAKERS)


def begun(step=0, names=NAMES):
    return lab.Begun(step, names, {"epochs": 2})


def figures(step):
    """Every third step is the end of an epoch."""
    told = {"loss": np.float32(1 / step), "rate": jnp.float32(0.1)}
    return told if step % 3 else told | {"valid, of all": 0.5}


def told(log, first, last):
    log.begin(begun(first))
    for step in range(first + 1, last + 1):
        tell(log, step, figures(step))
    log.close()


def test_json_lines_are_read_by_any_reader_of_json(tmp_path):
    told(lab.jsonl_log(tmp_path / "run.jsonl"), 0, 3)
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert lines[0] == '{"step": 1, "loss": 1.0, "rate": 0.1}'
    third = json.loads(lines[2])
    assert third == {"step": 3, "loss": 0.33333334, "rate": 0.1, "valid, of all": 0.5}
    assert np.float32(third["loss"]) == np.float32(1 / 3)


def test_a_table_has_a_column_a_figure_and_empty_cells(tmp_path):
    told(lab.csv_log(tmp_path / "run.csv"), 0, 3)
    rows = list(csv.reader(io.StringIO((tmp_path / "run.csv").read_text())))
    assert rows[0] == ["step", *NAMES]
    assert rows[1:] == [
        ["1", "1.0", "0.1", ""],
        ["2", "0.5", "0.1", ""],
        ["3", "0.33333334", "0.1", "0.5"],
    ]


def test_what_is_not_finite_is_written_as_others_read_it(tmp_path):
    wild = {"loss": np.nan, "rate": -np.inf, "valid, of all": jnp.float32(jnp.inf)}
    for name, maker in MAKERS.items():
        log = maker(tmp_path / name)
        log.begin(begun())
        tell(log, 1, wild)
        log.close()
    strict = json.loads((tmp_path / "run.jsonl").read_text(), parse_constant=pytest.fail)
    assert strict == {"step": 1, "loss": "NaN", "rate": "-Infinity", "valid, of all": "Infinity"}
    assert (tmp_path / "run.csv").read_text().splitlines()[1] == "1,nan,-inf,inf"


@over_formats
def test_steps_told_at_once_are_the_lines_of_steps_told_one_by_one(name, tmp_path):
    names = ('100 % "all"', "count", "hit", "half", "double")
    columns = [
        np.array([0.1, 1e10, 1e-5, np.nan], np.float32),
        np.array([3, 4, 5, 6]),
        np.array([True, False, True, True]),
        jnp.array([0.1, -jnp.inf, 1.0, 3e38], jnp.bfloat16),
        np.array([0.1, 1 / 3, 1e22, -0.0]),
    ]
    texts = []
    for together in (True, False):
        log = MAKERS[name](tmp_path / f"{together}.{name}")
        log.begin(begun(names=names))
        if together:
            log.write(np.arange(4) + 1, dict(zip(names, columns, strict=True)))
        for place in range(0 if together else 4):
            tell(
                log,
                place + 1,
                {key: column[place] for key, column in zip(names, columns, strict=True)},
            )
        log.close()
        texts.append((tmp_path / f"{together}.{name}").read_text())
    assert texts[0] == texts[1]
    back = lab.read_log(tmp_path / f"True.{name}")
    for key, column in zip(names, columns, strict=True):
        np.testing.assert_array_equal(
            back[key].astype(column.dtype), np.asarray(column), strict=True
        )


@over_formats
def test_a_line_is_there_as_soon_as_it_is_told(name, tmp_path):
    log = MAKERS[name](tmp_path / name)
    log.begin(begun())
    for step in (1, 2):
        tell(log, step, figures(step))
        assert len(lab.read_log(tmp_path / name)["step"]) == step
    log.close()


@over_formats
@pytest.mark.parametrize("step", [3, 5, 7])
def test_the_log_of_a_resumed_run_is_that_of_the_whole_run_wherever_it_broke_off(
    name, step, tmp_path
):
    whole, path = tmp_path / f"whole.{name}", tmp_path / name
    told(MAKERS[name](whole), 0, 9)
    told(MAKERS[name](path), 0, 7)
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    enough = ends[
        step - (name == "run.jsonl")
    ]  # the lines that the resumed run does not write again
    for size in range(enough, len(content) + 1):
        path.write_bytes(content[:size])
        told(MAKERS[name](path), step, 9)
        assert path.read_bytes() == whole.read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([name, f"whole.{name}"])


@over_formats
def test_no_log_is_written_over(name, tmp_path):
    path = tmp_path / name
    told(MAKERS[name](path), 0, 3)
    before = path.read_bytes()
    for content in (before, before[:-3], before[:12]):
        path.write_bytes(content)
        with pytest.raises(
            ConfigError, match=rf"_log path: expected no log yet, .*{name}; move it away"
        ):
            MAKERS[name](path).begin(begun())
        assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [name]


@over_formats
def test_a_log_of_no_step_may_begin_again(name, tmp_path):
    for _ in range(2):
        told(MAKERS[name](tmp_path / name), 0, 0)
    assert lab.read_log(tmp_path / name)["step"].shape == (0,)


@over_formats
@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("content", ["something of mine\n", "something", "{}\n", "step\n"])
def test_another_file_is_left_alone(name, step, content, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"_log path: expected .*log.* file"):
        MAKERS[name](path).begin(begun(step))
    assert path.read_text() == content


@over_formats
def test_a_line_that_is_no_record_is_told_with_its_number(name, tmp_path):
    path = tmp_path / name
    told(MAKERS[name](path), 0, 3)
    path.write_text(path.read_text().replace("0.5", "half"))
    line = 2 if name == "run.jsonl" else 3
    with pytest.raises(
        ConfigError, match=f"_log path: expected a log of fnn, got .*half.* in line {line} of"
    ):
        MAKERS[name](path).begin(begun(3))


def test_a_table_keeps_its_columns(tmp_path):
    log = lab.csv_log(tmp_path / "run.csv")
    told(log, 0, 3)
    with pytest.raises(
        ConfigError,
        match="csv_log path: expected a log with the columns step,loss,new, got step,loss",
    ):
        log.begin(begun(2, ("loss", "new")))
    log.begin(begun(3))
    with pytest.raises(
        ConfigError, match=r"csv_log figures: expected a column among loss, rate, .*, got new"
    ):
        tell(log, 4, {"new": 1.0})
    log.close()


@over_formats
def test_mistakes_are_told(name, tmp_path):
    maker = MAKERS[name]
    with pytest.raises(ConfigError, match="_log path: expected a folder that exists"):
        maker(tmp_path / "no" / name)
    with pytest.raises(ConfigError, match=r"_log path: expected a file, got .*, a folder"):
        maker(tmp_path)
    log = maker(tmp_path / name)
    with pytest.raises(
        ConfigError, match="_log: expected a run that has begun, got figures of step 1 before"
    ):
        tell(log, 1, figures(1))
    with pytest.raises(
        ConfigError, match="_log names: expected names other than step, got loss, step; rename"
    ):
        log.begin(begun(names=("loss", "step")))
    assert list(tmp_path.iterdir()) == []
    log.begin(begun())
    with pytest.raises(
        ShapeError, match=r"log loss: expected one number a step, \(1,\), got \(1, 3\)"
    ):
        tell(log, 1, {"loss": np.ones(3)})
    log.close()
