"""The options of searches: the types of the keyword arguments, and their defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from inspect import Parameter, Signature, signature
from typing import Any, TypedDict, TypeVar

from jax.sharding import Mesh

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.monitor import Monitor
from fnn.search.samplers import SAMPLERS
from fnn.train.figures import VALID_LOSS
from fnn.types import RandomKey
from fnn.values import expect_arguments


class LaneOptions(TypedDict, total=False):
    """The options of everything that trains several runs."""

    lanes: int | str
    mesh: Mesh | None


class CommonOptions(LaneOptions, total=False):
    """The options of everything that compares runs by a figure of validation."""

    score: str
    mode: str | None


class Options(CommonOptions, total=False):
    """The options that all searches have in common; see `search.random`."""

    sampler: str
    seeds: int
    keep: int
    monitor: Monitor | None


class FoldOptions(CommonOptions, total=False):
    """The options of `search.cross_validate` and `search.learning_curve` that seldom change."""

    stratified: bool


@dataclass(frozen=True)
class LaneSettings:
    """The options of several runs with their defaults.

    Attributes:
        lanes: Number of runs at a time on a device, or "auto".
        mesh: The devices over which runs are divided; None for the default device.
    """

    lanes: int | str = "auto"
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        if self.lanes != "auto":
            checks.whole("lanes", self.lanes)


@dataclass(frozen=True)
class CommonSettings(LaneSettings):
    """The common options with their defaults.

    Attributes:
        score: Name of the figure by which runs are compared.
        mode: "min" or "max"; None for the direction of the figure.
    """

    score: str = VALID_LOSS
    mode: str | None = None


@dataclass(frozen=True)
class Settings(CommonSettings):
    """The options of a search with their defaults.

    Attributes:
        sampler: Of the points of the space.
        seeds: Runs of each trial.
        keep: Number of the best trials whose train states are kept.
        monitor: Receiver of the results so far, as of `lab.search`; None for none.
    """

    sampler: str = SAMPLERS[0]
    seeds: int = 1
    # Enough for a small ensemble.
    keep: int = 3
    monitor: Monitor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("sampler", self.sampler, SAMPLERS)
        checks.whole("seeds", self.seeds)
        checks.whole("keep", self.keep, 0)


@dataclass(frozen=True)
class FoldSettings(CommonSettings):
    """The options of cross-validation with their defaults.

    Attributes:
        stratified: Whether each part has the shares of the classes of all data.
    """

    stratified: bool = False


_REST = Parameter.VAR_KEYWORD
AnySettings = TypeVar("AnySettings", bound=LaneSettings)


def expect_key(key: Any) -> RandomKey:
    """Return the key of a search; an FnnError unless it is one key with known numbers."""
    checks.key("key", key)
    if not checks.is_concrete(key):
        # The trials are drawn, batched and ranked on the host.
        advice = "call the search outside of jit and vmap; for repeated runs give seeds="
        raise ConfigError(
            "search key",
            "a key with known numbers",
            "a traced key",
            advice,
        )
    return key


def read_options(
    function: Callable[..., Any],
    kind: type[AnySettings],
    options: Mapping[str, Any],
    *,
    unused: tuple[str, ...] = (),
) -> AnySettings:
    """Return the options of a call with their defaults; an FnnError if one is not valid.

    Args:
        function: The function that was called, whose parameters an error lists too.
        kind: The type of its options.
        options: Those that were given, by name.
        unused: Names of options that this function does not have: ignored, they would seem to have
            an effect.
    """
    own = [one.name for one in signature(function).parameters.values() if one.kind != _REST]
    names = [*own, *(field.name for field in fields(kind) if field.name not in unused)]
    # The call has its own parameters already, so that none is missing here.
    known = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in names]
    expect_arguments(function.__name__, Signature(known), (), options)
    return kind(**options)
