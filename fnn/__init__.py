"""fnn: a functional neural network library in JAX. A whole training run is a pure function."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fnn.values.decorator import maker as maker

if TYPE_CHECKING:
    from fnn import augment as augment
    from fnn import data as data
    from fnn import diagnose as diagnose
    from fnn import ensemble as ensemble
    from fnn import errors as errors
    from fnn import lab as lab
    from fnn import nn as nn
    from fnn import objective as objective
    from fnn import optim as optim
    from fnn import search as search
    from fnn import train as train
    from fnn import transfer as transfer
    from fnn import types as types

    __version__: str

_PACKAGES = (
    "augment",
    "data",
    "diagnose",
    "ensemble",
    "errors",
    "lab",
    "nn",
    "objective",
    "optim",
    "search",
    "train",
    "transfer",
    "types",
)


def __getattr__(name: str) -> Any:
    """Import a package on first use, so that a script imports only those that it uses."""
    if name in _PACKAGES:
        return import_module(f"fnn.{name}")
    if name == "__version__":
        return version("fnn")
    raise AttributeError(f"module 'fnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_PACKAGES, "maker", "__version__"]
