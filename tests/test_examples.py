"""Each example runs, made small."""

import runpy
from pathlib import Path

import makers
import pytest

from fnn import augment

ROOT = Path(__file__).parent.parent
PICTURE = b"\x89PNG"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Runs an example in an empty folder, and gives back its names."""
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(ROOT / "examples" / name))


def make_small(names, **numbers):
    names["main"].__globals__.update(numbers)


def test_five_optimizers_go_down_the_valley(example):
    names = example("05_optimizer_paths.py")
    names["main"]()
    ends = {name: names["valley"](names["path"](optimizer)[-1]) for name, optimizer in names["OPTIMIZERS"].items()}
    assert max(ends.values()) < 0.7 < names["valley"](names["START"])
    assert Path("out/optimizer_paths.png").read_bytes().startswith(PICTURE)


def test_optimizers_are_compared(example, capsys):
    names = example("06_optimizers_compared.py")
    make_small(names, EPOCHS=1, RATES=2, TRIALS=1, KEYS=2)
    names["main"](["sgd"])
    assert "sgd: best rate" in capsys.readouterr().out
    assert Path("out/optimizers.png").read_bytes().startswith(PICTURE)


def test_augmentations_are_shown(example, capsys):
    names = example("07_augmentations.py")
    make_small(names, SIDE=24)
    names["main"](["hidden"])
    assert capsys.readouterr().out.split() == ["out/hidden.png"]
    assert Path("out/hidden.png").read_bytes().startswith(PICTURE)


def test_every_augmentation_is_on_a_sheet_of_the_documentation():
    source = (ROOT / "examples" / "07_augmentations.py").read_text()
    combined = {"augment.chain", "augment.maybe", "augment.one_of", "augment.some_of", "augment.normalize"}
    shown = {name for name in makers.CALLS if makers.kind(name) is augment.Policy} - combined
    assert len(shown) > 40
    assert {name for name in shown if name not in source} == set()
    pictures = {path.stem for path in (ROOT / "docs" / "augmentation").glob("*.png")}
    assert pictures == set(runpy.run_path(str(ROOT / "examples" / "07_augmentations.py"))["sheets"]())
