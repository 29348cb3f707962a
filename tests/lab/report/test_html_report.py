"""The report of a run: one file without scripts, with the sections whose inputs are given."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from full_disk import full_disk
from reports import (
    DATA,
    FINDINGS,
    HOSTILE,
    NAMES,
    RECIPE,
    VALID,
    Page,
    small_run,
    with_instruments,
)

from fnn import lab, nn, optim, train
from fnn.errors import ConfigError, FnnError, WriteError
from fnn.lab.report import html_report
from fnn.types import History, Result

OPTIONS = {"recipe": RECIPE, "data": DATA, "valid": VALID, "findings": FINDINGS, "names": NAMES}


@pytest.fixture(scope="module")
def result():
    return with_instruments(small_run())


@pytest.fixture(scope="module")
def plain(result):
    return Result(result.train_state, History({"loss": result.history.loss}))


@pytest.fixture(scope="module")
def full(result, tmp_path_factory):
    """A report with every section, and its content."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    content = lab.report(result, path, **OPTIONS, compare=result)
    return path, content


def test_the_page_has_every_section_in_order(full):
    page = Page(full[0].read_text())
    assert page.sections == [
        "findings", "run", "layers", "predictions", "inputs", "data", "comparison", "reproduction",
    ]  # fmt: skip
    assert page.text.index("1 error and 1 warning") < page.text.index("Next steps")
    assert page.text.index("Next steps") < page.text.index("Findings")


def test_no_script_runs_and_nothing_is_requested(full):
    text = full[0].read_text()
    page = Page(text)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "style2"}
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    addresses = page.attributes("src") + page.attributes("href") + page.attributes("xlink:href")
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in addresses)
    assert "url(" not in re.sub(r"url\(#", "", text) and "@import" not in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    (policy,) = [
        attributes["content"]
        for _, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ") and "script" not in policy
    # The policy holds for all that follows it.
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_names_are_text(full):
    page = Page(full[0].read_text())
    assert page.text.count(HOSTILE) > 3


def test_ids_occur_once_and_links_lead_to_them(full):
    page = Page(full[0].read_text())
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    links = [link[1:] for link in page.attributes("href") if link.startswith("#")]
    assert set(links) <= set(ids)


def test_the_content_is_read_back(full):
    path, content = full
    found = lab.read_report(path)
    assert found.as_dict() == content.as_dict()
    assert found.findings == FINDINGS.with_certainty("none", "likely")
    assert set(found.figures) == {
        "training", "valid", "before training", "training, evaluation mode",
        "valid, evaluation mode",
    }  # fmt: skip
    assert found.history["dead_share"].steps.tolist() == [1, 3, 5, 7, 9, 11]
    assert found.key == "jax.random.key(3)" and found.steps == 12
    assert eval(found.recipe, {"train": train, "nn": nn, "optim": optim}) == RECIPE


def test_figures_in_evaluation_mode_are_those_of_evaluate(full, result):
    figures = full[1].figures["valid, evaluation mode"]
    wanted = train.evaluate(RECIPE, result.train_state, VALID)
    assert figures == {name: pytest.approx(float(value)) for name, value in wanted.items()}


@pytest.mark.slow
def test_the_same_arguments_give_the_same_bytes(full, result, tmp_path):
    lab.report(result, tmp_path / "again.html", **OPTIONS, compare=result)
    assert (tmp_path / "again.html").read_bytes() == full[0].read_bytes()
    assert full[0].stat().st_size < 400_000


def test_sections_without_inputs_are_left_out(plain, tmp_path):
    content = lab.report(plain, tmp_path / "a.html")
    page = Page((tmp_path / "a.html").read_text())
    assert page.sections == ["run", "reproduction"]
    assert "Not examined" in page.text and content.recipe == ""


def test_sections_are_left_out_of_a_large_report(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, "MAX_BYTES", 60_000)
    lab.report(plain, tmp_path / "a.html", **OPTIONS)
    page = Page((tmp_path / "a.html").read_text())
    assert (tmp_path / "a.html").stat().st_size < 60_000
    assert "Left out, since a report holds at most 2 MB: inputs, predictions" in page.text
    assert page.sections[0] == "findings" and page.sections[-1] == "reproduction"


@pytest.mark.slow
def test_a_run_that_diverged_has_a_report(result, tmp_path):
    loss = jnp.where(jnp.arange(12) > 5, jnp.nan, result.history.loss)
    history = {"loss": loss, "valid_loss": jnp.full(3, jnp.inf), "finite": loss == loss}
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, result.train_state.params)
    lost = Result(result.train_state._replace(params=broken), History(history))
    lab.report(lost, tmp_path / "a.html", recipe=RECIPE, data=DATA, valid=VALID)
    page = Page((tmp_path / "a.html").read_text())
    assert "loss not finite" in page.text
    assert "The outputs of 12 of 12 examples are not finite." in page.text


def test_a_report_is_compared_with_the_file_of_another(full, plain, tmp_path):
    lab.report(plain, tmp_path / "b.html", compare=full[0])
    assert "T06 dead_units" in (tmp_path / "b.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result": RECIPE}, "report result: expected the result of a run, or the trials"),
        ({"path": "report.png"}, "report path: expected the suffix .html, got report.png"),
        ({"path": "none/report.html"}, "report path: expected a folder that exists"),
        (
            {"recipe": RECIPE.replace(optimizer=optim.sgd(0.1))},
            r"report result opt_state: expected the state of optim\.sgd",
        ),
        ({"recipe": nn.dense(3)}, "report recipe: expected a recipe from train.recipe"),
        ({"findings": []}, "report findings: expected Findings"),
        ({"names": "abc"}, "report names: expected a list of names"),
        ({"names": ["a"]}, "report names: expected one for each of the 3 classes"),
        ({"compare": 3}, "report compare: expected a Result, a Report or the file"),
        ({"compare": "none.html"}, "read_report path: expected a file that exists"),
        ({"data": IOError}, "data: expected a pair"),
    ],
)
def test_wrong_arguments_raise_an_error_and_no_file_is_written(
    plain, tmp_path, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    arguments = {"result": plain, "path": "report.html", "recipe": RECIPE, "data": DATA} | change
    with pytest.raises(FnnError, match=message):
        lab.report(arguments.pop("result"), arguments.pop("path"), **arguments)
    assert list(Path().iterdir()) == []


def test_a_folder_of_the_name_of_the_file_is_named(plain, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ConfigError, match=r"report path: expected a file, got .*, a folder"):
        lab.report(plain, tmp_path / "report.html")


def test_lanes_raise_an_error(result, tmp_path):
    lanes = jax.tree.map(lambda leaf: leaf[None], result)
    with pytest.raises(ConfigError, match="report result: expected the result of one run"):
        lab.report(lanes, tmp_path / "report.html")


def test_a_full_disk_leaves_the_old_report(plain, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with full_disk(1000), pytest.raises(WriteError, match=r"report report\.html"):
        lab.report(plain, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
