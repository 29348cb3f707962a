"""The settings of the tests for the comparison with peers; one thread of torch per worker."""

import importlib.util
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
import torch

PATH = Path(__file__).parents[1] / "tests" / "conftest.py"
spec = importlib.util.spec_from_file_location("tests_conftest", PATH)
tests_conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests_conftest)
key, x64 = tests_conftest.key, tests_conftest.x64

torch.set_num_threads(1)


@pytest.fixture
def peer():
    """A context for peers that promote dtypes and ranks."""

    @contextmanager
    def lenient():
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield

    return lenient
