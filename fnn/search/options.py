"""The options of searches: the types of the keyword arguments, and their defaults."""

from dataclasses import dataclass, fields
from typing import Any, TypedDict

from jax.sharding import Mesh

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.monitor import Monitor
from fnn.search.samplers import SAMPLERS
from fnn.train.figures import VALID_LOSS
from fnn.types import RandomKey
from fnn.values import expect_arguments, signature_of


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


@dataclass(frozen=True)
class FoldSettings(CommonSettings):
    """The options of cross-validation with their defaults.

    Attributes:
        stratified: Whether each part has the shares of the classes of all data.
    """

    stratified: bool = False


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


def expect_settings(options: Any, *, unused: tuple[str, ...] = ()) -> Settings:
    """Return the options with defaults; an FnnError if one is not known or not valid.

    Args:
        options: By name, as `Options`.
        unused: Names of the options that this search does not have.
    """
    # A misspelled option is named as by a function with these parameters.
    expect_arguments("search", signature_of(Settings), (), options)
    for name in unused:
        if name in options:
            # Ignored, it would seem to have an effect.
            known = [one.name for one in fields(Settings) if one.name not in unused]
            expected = f"one of {', '.join(known)}, which this search has"
            raise ConfigError(
                f"search {name}",
                expected,
                repr(name),
                "leave it out",
            )
    settings = Settings(**options)
    checks.choice("sampler", settings.sampler, SAMPLERS)
    checks.whole("seeds", settings.seeds)
    checks.whole("keep", settings.keep, 0)
    if settings.lanes != "auto":
        checks.whole("lanes", settings.lanes)
    return settings


def expect_lane_settings(where: str, options: Any) -> LaneSettings:
    """Return the options with defaults; an ArgumentError if one is not known.

    Args:
        where: Name of the function in errors.
        options: By name, as `LaneOptions`.
    """
    expect_arguments(where, signature_of(LaneSettings), (), options)
    return LaneSettings(**options)


def expect_fold_settings(where: str, options: Any) -> FoldSettings:
    """Return the options with defaults; an ArgumentError if one is not known.

    Args:
        where: Name of the function in errors.
        options: By name, as `FoldOptions`.
    """
    expect_arguments(where, signature_of(FoldSettings), (), options)
    return FoldSettings(**options)
