"""Rules on parameters: their initial values, gradients and changes in the first steps."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.diagnose.activation_rules import MIN_DEPTH, PROFILE
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule
from fnn.nn.core.composite import layer_paths
from fnn.optim.transform import frozen_paths
from fnn.train.figures import FINITE, RATE
from fnn.train.programs import per_recipe
from fnn.train.step import prepare_batch, train_step
from fnn.types import Layer, StepRecord, TrainState

GRADIENT_RATIO = 1e-3  # of the gradients of the first and the last kernel
SMALL_GRADIENT = 1e-5  # of the first kernel

DEAD = Rule(
    "P09",
    "dead_parameters",
    "SageMaker Debugger, unchanged tensor; DLCheck",
    (
        "a stop_gradient, or a branch that the output does not depend on",
        "units that are inactive for all inputs",
        "the layer is frozen by mistake",
    ),
    (
        "remove the stop_gradient, or connect the branch",
        "give the parameter to the optimizer, or freeze it by nn.freeze",
    ),
    "take the gradient of the loss by the parameter: it must not be 0",
)
SYMMETRIC = Rule(
    "P10",
    "symmetric_init",
    "TheDeepChecker [Ben Braiek & Khomh 2023]",
    ("a constant initializer",),
    ("draw the kernels, as by nn.he_normal()",),
    "compare the units of each layer after the run: they must not be equal",
)


class StepFacts(NamedTuple):
    """Figures of the first steps, arrays (steps,) by path of a parameter.

    Attributes:
        largest: Largest absolute gradient.
        rms: Root mean square of the gradient.
        change: Largest absolute change by the step.
        rate: Learning rate of each step (steps,).
        finite: Whether each step was finite (steps,).
    """

    largest: dict[str, Any]
    rms: dict[str, Any]
    change: dict[str, Any]
    rate: Any
    finite: Any


@per_recipe()
def first_steps(recipe: Any, train_state: TrainState, batches: Any) -> StepFacts:
    """Take some steps, and measure gradients and changes of each parameter.

    Args:
        recipe: From `train.recipe`, without augmentation.
        train_state: Before the first step.
        batches: (inputs, targets) of the steps, arrays (steps, batch, ...).
    """
    records: list[StepRecord] = []

    def keep(record: StepRecord) -> jax.Array:
        records.append(record)
        return jnp.zeros(())

    recording = recipe.replace(measures={"record": keep})

    def step(train_state: TrainState, batch: Any) -> tuple[TrainState, StepFacts]:
        prepared = prepare_batch(recording, train_state, train_state.step, *batch)
        after, figures = train_step(recording, train_state, *prepared)
        record = records.pop()
        grads = trees.named_leaves(record.grads)
        largest = {path: jnp.abs(leaf).max(initial=0) for path, leaf in grads.items()}
        # In float32, where no square of a small number is 0.
        wide = {path: leaf.astype(jnp.float32) for path, leaf in grads.items()}
        rms = {path: jnp.sqrt(jnp.square(leaf).mean()) for path, leaf in wide.items()}
        moved = jax.tree.map(
            lambda new, old: jnp.abs(new - old).max(initial=0), after.params, train_state.params
        )
        facts = StepFacts(
            largest,
            rms,
            trees.named_leaves(moved),
            figures[RATE],
            figures[FINITE],
        )
        return after, facts

    _, facts = jax.lax.scan(step, train_state, batches)
    return facts


def gradient_findings(
    train_state: TrainState,
    facts: StepFacts,
    kernels: Sequence[str],
) -> Iterator[Finding]:
    """Find parameters without gradient or change, and gradients that vanish with depth.

    Args:
        train_state: Before the first step.
        facts: Of some steps.
        kernels: Paths of the kernels of the network in order.
    """
    # Which layer it is, `localize` finds.
    if not facts.finite.all():
        return
    frozen = frozen_paths(train_state.opt_state)
    dead = []
    for path, largest in facts.largest.items():
        # A layer after one that begins at 0 has no gradient in the first step.
        if path not in frozen and len(largest) > 1 and not largest[1:].any():
            dead.append(path)
    yield from _dead_findings(dead, len(facts.largest))
    if not dead:
        yield from _fixed_findings(facts, frozen)
        yield from _vanishing_findings(facts, [path for path in kernels if path not in frozen])


def _dead_findings(dead: list[str], count: int) -> Iterator[Finding]:
    # A kernel without gradient is a fault; a bias may be without effect by design.
    serious = [path for path in dead if not path.endswith("bias")]
    if serious:
        shown = ", ".join(serious[:3])
        if len(serious) > 3:
            shown += ", ..."
        is_all = len(dead) == count
        title = "no parameter has a gradient" if is_all else f"no gradient reaches {shown}"
        measured = {"parameters": dead}
        severity = ERROR if is_all else WARNING
        yield DEAD.finding(severity, title, measured, "0 in each step", layer=serious[0])
    elif dead:
        # A normalization that follows removes a bias, and softmax one that all classes share.
        title = f"no gradient reaches {dead[0]}: a layer that follows removes it"
        yield DEAD.finding(INFO, title, {"parameters": dead}, "0 in each step", layer=dead[0])


def _fixed_findings(facts: StepFacts, frozen: frozenset[str]) -> Iterator[Finding]:
    # The rate of an optimizer without one is NaN: it is taken to move.
    moving = np.nan_to_num(facts.rate, nan=1.0) > 0
    if not moving.any():
        return
    fixed = []
    for path, change in facts.change.items():
        # A step without a gradient may leave a parameter as it is.
        has_gradient = facts.largest[path] > 0
        if path not in frozen and (moving & has_gradient).any() and not change.any():
            fixed.append(path)
    if fixed:
        title = f"steps do not change {fixed[0]}, which has a gradient"
        yield DEAD.finding(
            WARNING,
            title,
            {"parameters": fixed},
            "no change in any step",
            layer=fixed[0],
            advice=("raise the rate, or correct the mask of the optimizer",),
        )


def _vanishing_findings(facts: StepFacts, kernels: list[str]) -> Iterator[Finding]:
    if len(kernels) < MIN_DEPTH:
        return
    firsts, lasts = facts.rms[kernels[0]], facts.rms[kernels[-1]]
    # Layers after one of zeros have a gradient from the second step on; after further steps, it is
    # the rate that decides.
    usable = np.flatnonzero((firsts > 0) & (lasts > 0))
    if not usable.size:
        return
    first = float(firsts[usable[0]])
    last = float(lasts[usable[0]])
    ratio = first / last
    measured = {"first": first, "last": last, "ratio": ratio}
    if ratio < GRADIENT_RATIO and first < SMALL_GRADIENT:
        verb, condition = "vanishes", f"ratio < {GRADIENT_RATIO:g} and first < {SMALL_GRADIENT:g}"
    elif ratio > 1 / GRADIENT_RATIO:
        verb, condition = "explodes", f"ratio > {1 / GRADIENT_RATIO:g}"
    else:
        return
    yield PROFILE.finding(
        WARNING,
        f"the gradient {verb}: {first:.2g} at {kernels[0]}, {last:.2g} at {kernels[-1]}",
        measured,
        condition,
        layer=kernels[0],
    )


def symmetry_findings(params: Any, order: Sequence[str]) -> Iterator[Finding]:
    """Find kernels whose units are all alike.

    Args:
        params: Untrained parameters.
        order: Paths of the kernels of the network in order.
    """
    leaves = trees.named_leaves(params)
    alike = [path for path in order if _has_equal_units(np.asarray(leaves[path]))]
    # A kernel of zeros begins a branch as the identity, and the last layer at equal odds.
    drawn = [path for path in alike if np.asarray(leaves[path]).any()]
    hidden = [path for path in drawn if path != order[-1]]
    is_whole = len(order) > 1 and len(alike) == len(order)
    if not hidden and not is_whole:
        return
    severity = ERROR if is_whole else WARNING
    first = (hidden or alike)[0]
    title = f"all units of {first} are alike"
    if is_whole:
        title = "all units of each layer are alike, and get the same gradient for ever"
    yield SYMMETRIC.finding(
        severity,
        title,
        {"parameters": alike},
        "equal columns",
        layer=first,
    )


def _has_equal_units(kernel: np.ndarray) -> bool:
    if kernel.ndim < 2 or kernel.shape[-1] < 2:
        return False
    # The first two decide in nearly all cases.
    if not np.array_equal(kernel[..., 0], kernel[..., 1]):
        return False
    return bool((kernel == kernel[..., :1]).all())


def kernel_paths(network: Layer, params: Any) -> list[str]:
    """Return the paths of the kernels of a network, in the order of its layers."""
    names = [path for path in trees.named_leaves(params) if path.endswith("kernel")]
    layers = ["", *layer_paths(network)]
    places = {layer: index for index, layer in enumerate(layers)}

    def place(path: str) -> int:
        return places.get(path.rpartition("/")[0], len(places))

    return sorted(names, key=place)
