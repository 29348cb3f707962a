"""The style of docstrings and pages: documented parameters, and words that plain English avoids."""

import ast
import inspect
import re
from pathlib import Path

import makers
import pytest

import fnn
from fnn import data, diagnose, lab, train

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "fnn").rglob("*.py"))
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"]
# Words of indirect or vague sentences: "what is told" instead of "the message".
WORDS = re.compile(
    r"\b(what|told|tells?|seen|so (many|much|long|few)|gone on|goes on with|anew|by itself"
    r"|by themselves|is held to|doors?|nobody|whoever|looked at|stands? in|beside)\b",
    re.IGNORECASE,
)
BUDGET = 1.0  # such words per 1,000 words
ROOMS = makers.ROOMS | {"data": data, "data.synthetic": data.synthetic, "diagnose": diagnose}
FUNCTIONS = makers.public(ROOMS | {"lab": lab, "train": train})


def docstrings():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def assert_within_budget(texts):
    words = sum(len(text.split()) for text in texts)
    found = [match.group() for text in texts for match in WORDS.finditer(text)]
    assert words > 1000
    assert len(found) <= BUDGET * words / 1000, sorted(found)


def test_docstrings_use_plain_words():
    assert_within_budget(list(docstrings()))


def test_pages_use_plain_words():
    assert_within_budget([page.read_text() for page in PAGES])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_public_function_is_documented(name):
    function = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    section = (inspect.getdoc(function) or "").partition("Args:")[2]
    missing = [p for p in parameters if not re.search(rf"^\s*\*{{0,2}}{p}:", section, re.MULTILINE)]
    assert missing == []


def test_public_classes_and_modules_have_docstrings():
    for module in (getattr(fnn, name) for name in dir(fnn)):
        if inspect.ismodule(module):
            assert module.__doc__
            classes = [value for value in vars(module).values() if inspect.isclass(value)]
            for cls in classes:
                if cls.__module__.startswith("fnn."):
                    assert cls.__doc__, cls
