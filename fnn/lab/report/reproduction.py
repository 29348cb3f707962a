"""The code, the key and the versions that reproduce a run."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version

import jax

from fnn.lab.report.content import Report
from fnn.lab.report.markup import Markup, element, section, table
from fnn.train.recipe import Recipe
from fnn.types import RandomKey
from fnn.values.show import format_key

PACKAGES = ("fnn", "jax", "jaxlib", "numpy")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function without a public name


def describe_recipe(recipe: Recipe | None) -> str:
    """Return the code of a recipe, without addresses in memory; "" for none."""
    return "" if recipe is None else ADDRESS.sub("", repr(recipe))


def describe_key(key: RandomKey) -> str:
    """Return the code of a random key."""
    return format_key(key)


def describe_versions() -> dict[str, str]:
    """Return the versions of the packages, and the device."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    devices = jax.devices()
    first = devices[0]
    versions["device"] = f"{len(devices)} x {first.device_kind} ({first.platform})"
    return versions


def reproduction_section(report: Report) -> Markup:
    """Return the section with the code and the versions.

    Args:
        report: The content.
    """
    lines = []
    if report.key:
        lines.append(f"key = {report.key}")
    if report.recipe:
        lines.append(f"recipe = {report.recipe}")
    if report.key:
        lines.append(f"# {report.steps} steps")
    code = element("pre", element("code", "\n".join(lines)))
    rows = list(report.versions.items())
    return section(
        "reproduction",
        "Reproduction",
        code,
        table(("version of", ""), rows),
    )
