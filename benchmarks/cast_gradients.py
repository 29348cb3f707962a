"""Errors of the gradients of every layer under `nn.cast`, which computes in bfloat16.

Batches of 4,096 examples, each gradient against that in float32, relative to its norm: the figures
that tests/test_layers.py checks. Sums over the batch in bfloat16 would be wrong by 68 % and more.
Run `python benchmarks/cast_gradients.py`.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import domains
import gradient_checks
import jax
from gradients import module_of
from measure import judge, show

EXAMPLES = 4096
GOAL = 0.02


def main() -> None:
    domains.BATCH = EXAMPLES
    by_module: dict[str, dict[str, float]] = {}
    # The derivative of JAX's own attention promotes bfloat16 to float32.
    with jax.numpy_dtype_promotion("standard"):
        for name in gradient_checks.LAYERS:
            for path, error in gradient_checks.cast_errors(name).items():
                found = by_module.setdefault(module_of(name), {})
                found[f"{name.partition('.')[2]} {path}"] = error
    rows = []
    for module, errors in sorted(by_module.items()):
        worst = max(errors, key=errors.__getitem__)
        rows.append(
            {
                "in": module,
                "gradients": str(len(errors)),
                "largest error": f"{errors[worst]:.1e}",
                "of": worst,
            }
        )
    largest = max(max(errors.values()) for errors in by_module.values())
    count = sum(map(len, by_module.values()))
    method = f"{count} gradients by params, batches of {EXAMPLES:,}, bfloat16."
    show(__doc__, method, rows, judge("largest error", largest, GOAL))


if __name__ == "__main__":
    main()
