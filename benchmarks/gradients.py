"""How far the gradients of every layer and loss are from differences of 6th order.

Float64, every number of params and inputs, three random shapes each, relative to the largest gradient of the leaf: the
figures that tests/test_gradients.py judges. Then the errors planted in gradients, and how many of them are found.
Run `python benchmarks/gradients.py`.
"""

import inspect
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import gradient_checks
import jax
import makers
import planted
from measure import judge, show


def place(name: str) -> str:
    """The folder of nn, or the file of objective, that a maker stands in."""
    return "/".join(inspect.getmodule(makers.public()[name]).__name__.split(".")[1:3])


def errors() -> dict[str, float]:
    layers = {name: gradient_checks.layer_error(name) for name in gradient_checks.LAYERS}
    return layers | {name: gradient_checks.loss_error(name) for name in makers.LOSSES}


def rows(found: dict[str, float]) -> list[dict[str, str]]:
    """A row a place, with its worst."""
    places: dict[str, list[str]] = {}
    for name in found:
        places.setdefault(place(name), []).append(name)
    worst = {where: max(names, key=found.__getitem__) for where, names in sorted(places.items())}
    return [
        {
            "in": where,
            "checked": str(len(places[where])),
            "largest error": f"{found[name]:.1e}",
            "of": name.partition(".")[2],
        }
        for where, name in worst.items()
    ]


def main() -> None:
    with jax.enable_x64(True):
        found = errors()
        seen = [mutant for mutant in planted.MUTANTS if planted.error(mutant) > planted.GOAL]
    worst = max(found.values())
    method = f"{len(found)} layers and losses, three random shapes each, float64, h = 0.01."
    goal = judge("largest error", worst, planted.GOAL, form=".1e")
    mutants = judge(
        f"of {len(planted.MUTANTS)} planted errors found",
        len(seen),
        len(planted.MUTANTS),
        at_least=True,
        form=".0f",
    )
    show(__doc__, method, rows(found), goal, mutants)


if __name__ == "__main__":
    main()
