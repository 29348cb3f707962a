"""Distance of the gradients of every layer and loss from finite differences of 6th order.

Float64, every number of params and inputs, three random shapes each, relative to the largest
gradient of the leaf: the figures that tests/test_gradients.py checks. Then the number of errors
planted in gradients that the check finds. Run `python benchmarks/gradients.py`.
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


def module_of(name: str) -> str:
    """The folder of nn, or the file of objective, that defines a maker."""
    return "/".join(inspect.getmodule(makers.public()[name]).__name__.split(".")[1:3])


def errors() -> dict[str, float]:
    layers = {name: gradient_checks.layer_error(name) for name in gradient_checks.LAYERS}
    return layers | {name: gradient_checks.loss_error(name) for name in makers.LOSSES}


def rows(error_of: dict[str, float]) -> list[dict[str, str]]:
    """One row per module, with its largest error."""
    modules: dict[str, list[str]] = {}
    for name in error_of:
        modules.setdefault(module_of(name), []).append(name)
    table = []
    for module, names in sorted(modules.items()):
        worst = max(names, key=error_of.__getitem__)
        row = {"in": module, "checked": str(len(names))}
        row["largest error"] = f"{error_of[worst]:.1e}"
        row["of"] = worst.partition(".")[2]
        table.append(row)
    return table


def main() -> None:
    with jax.enable_x64(True):
        error_of = errors()
        mutant_errors = [planted.error(mutant) for mutant in planted.MUTANTS]
    detected = sum(error > planted.GOAL for error in mutant_errors)
    worst = max(error_of.values())
    method = f"{len(error_of)} layers and losses, three random shapes each, float64, h = 0.01."
    goal = judge("largest error", worst, planted.GOAL, form=".1e")
    count = len(mutant_errors)
    label = f"of {count} planted errors found"
    mutants = judge(label, detected, count, at_least=True, form=".0f")
    show(__doc__, method, rows(error_of), goal, mutants)


if __name__ == "__main__":
    main()
