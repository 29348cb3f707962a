"""The golden files of the tests match the installed torch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "tests" / "golden"
spec = importlib.util.spec_from_file_location("golden", FOLDER / "make.py")
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)


@pytest.mark.parametrize("name", golden.FILES)
def test_golden_file_matches_torch(name):
    wanted = golden.FILES[name]()
    with np.load(FOLDER / f"{name}.npz") as file:
        assert set(file) == set(wanted)
        for array in wanted:
            assert file[array].dtype == wanted[array].dtype
            tolerance = 1e-6 if wanted[array].dtype == np.float32 else 1e-13
            np.testing.assert_allclose(file[array], wanted[array], rtol=tolerance, atol=tolerance)


def test_every_golden_file_has_a_maker():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(golden.FILES)
