"""The live comparison is as strict as the tests; torch has one thread, for every worker has its own."""

import importlib.util
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
import torch

spec = importlib.util.spec_from_file_location(
    "strictness", Path(__file__).parents[1] / "tests" / "conftest.py"
)
strictness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(strictness)
key, x64 = strictness.key, strictness.x64

torch.set_num_threads(1)


@pytest.fixture
def peer():
    """A context for peers that promote dtypes and ranks."""

    @contextmanager
    def lenient():
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield

    return lenient
