"""Rules on the activations of an untrained network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import nn
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.layer_statistics import dead_share, saturated_share
from fnn.diagnose.layers import LayerOutput, layer_outputs
from fnn.diagnose.structure_rules import SHIFTED, Leaf, drop_rate, misplaced, sequences
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.types import Layer, RandomKey, TrainState

INPUT = "input"  # place of the prepared inputs among the layers
# Share of dead units. Where a residual begins as its shortcut, and that is padded with zeros, three
# quarters of the units are 0 by design [He et al. 2015, arXiv:1512.03385, option A].
MOST = 0.9
HALF = 0.5  # share of saturated units
DRIFT = 1.5  # decades by which activations grow or shrink over the depth
SLOPE = 0.1  # decades for each layer
VARIANCE_RATIO = (0.8, 1.25)  # of the inputs of batch norm in inference and in training
MIN_DEPTH = 3  # layers from which on there is a profile
INPUT_SIZES = (0.05, 3.0)  # root mean square of normalized inputs

PROFILE = Rule(
    "P11",
    "init_profile",
    "TheDeepChecker; Glorot & Bengio 2010; He et al. 2015, arXiv:1502.01852",
    ("the scale of the initializer does not fit the activation", "no normalization"),
    ("use nn.he_normal() with relu, nn.xavier_normal() with tanh", "initialize by nn.lsuv"),
    "compare the deviation of the activations layer by layer",
)


class LayerFacts(NamedTuple):
    """Statistics of the output of a layer.

    Attributes:
        mean: Of all numbers.
        deviation: Of all numbers.
        variance: Within each unit, in the mean over units.
        dead: Share of dead units; NaN for layers that are no rectifiers.
        saturated: Share of saturated units; NaN for layers that are not bounded.
        finite: Whether all numbers are finite.
    """

    mean: Any
    deviation: Any
    variance: Any
    dead: Any
    saturated: Any
    finite: Any


def without_noise(recipe: Recipe) -> Recipe:
    """Return the recipe with every number named drop_rate set to 0."""

    def change(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")[2]
        return np.zeros_like(leaf) if name == "drop_rate" else leaf

    quiet: Recipe = jax.tree_util.tree_map_with_path(change, recipe)
    return quiet


@per_recipe()
def observe(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    key: RandomKey,
) -> tuple[Any, dict[str, LayerFacts]]:
    """Compute the outputs of a batch in training mode, and statistics of the leaf layers by path.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the first step.
        inputs: Arrays (n, ...), as they are stored.
        key: Of dropout and other noise.
    """
    params, state = train_state[:2]
    x = recipe.prepare(inputs)
    y, _ = recipe.network.apply(params, state, x, key=key, train=True)
    facts = {}
    if _is_float_array(x):
        facts[INPUT] = _layer_facts(LayerOutput(INPUT, "", x[None], ()))
    # The compiler finds that both passes are one.
    outputs = layer_outputs(recipe.network, params, state, x, key=key)
    for output in outputs:
        if _is_float_array(output.y):
            facts[output.path] = _layer_facts(output)
    return y, facts


def _is_float_array(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _layer_facts(output: LayerOutput) -> LayerFacts:
    """Return the statistics of a layer, over all its copies."""
    wide = output.y.astype(jnp.float32)
    units = wide.shape[-1] if wide.ndim > 2 else 1
    # (copies, batch, ..., units) -> (copies, rows, units)
    rows = wide.reshape(len(wide), -1, units)
    return LayerFacts(
        mean=rows.mean(),
        deviation=rows.std(),
        variance=rows.var(1).mean(),
        dead=dead_share(output).max(),
        saturated=saturated_share(output).max(),
        finite=jnp.isfinite(rows).all(),
    )


def profile_findings(
    sequence: Sequence[Leaf],
    facts: Mapping[str, LayerFacts],
) -> Iterator[Finding]:
    """Find activations that are dead, saturated, or change their scale with depth.

    Args:
        sequence: The layers of a network in order.
        facts: Statistics by path, without noise.
    """
    known = [leaf for leaf in sequence if leaf.path in facts]
    for leaf in known:
        yield from _unit_findings(leaf, facts[leaf.path])
    yield from _drift_findings(known, facts)


def _unit_findings(leaf: Leaf, found: LayerFacts) -> Iterator[Finding]:
    dead = float(found.dead)
    saturated = float(found.saturated)
    if dead > MOST:
        yield PROFILE.finding(
            ERROR if dead == 1 else WARNING,
            f"{dead:.0%} of the units of {leaf.path} are dead before training",
            {"dead_share": dead},
            f"dead share > {MOST}",
            layer=leaf.path,
            advice=("begin with biases of 0 and he_normal kernels", "center the inputs"),
        )
    if saturated > HALF:
        yield PROFILE.finding(
            WARNING,
            f"{saturated:.0%} of the units of {leaf.path} are saturated before training",
            {"saturated_share": saturated},
            f"saturated share > {HALF}",
            layer=leaf.path,
            advice=("use a smaller scale, as of nn.xavier_normal()", "scale the inputs"),
        )


def _drift_findings(known: list[Leaf], facts: Mapping[str, LayerFacts]) -> Iterator[Finding]:
    paths = [leaf.path for leaf in known if _is_activation(leaf)]
    # Inputs of another scale have a finding of their own.
    if INPUT in facts and INPUT_SIZES[0] <= _size(facts[INPUT]) <= INPUT_SIZES[1]:
        paths = [INPUT, *paths]
    sizes = [_size(facts[path]) for path in paths]
    # Units that are all dead have a finding of their own.
    if len(paths) < MIN_DEPTH or min(sizes) == 0:
        return
    last = paths[-1]
    decades = np.log10(sizes)
    change = float(decades[-1] - decades[0])
    slope = change / (len(decades) - 1)
    if abs(change) <= DRIFT or abs(slope) <= SLOPE:
        return
    verb = "shrink" if change < 0 else "grow"
    yield PROFILE.finding(
        WARNING,
        f"activations {verb} from {sizes[0]:.2g} in {paths[0]} to {sizes[-1]:.2g} in {last}",
        {"sizes": dict(zip(paths, sizes, strict=True))},
        f"by more than {DRIFT} decades, and {SLOPE} for each layer",
        layer=last,
    )


def _size(found: LayerFacts) -> float:
    """Return the root mean square."""
    return float(np.hypot(found.mean, found.deviation))


def _is_activation(leaf: Leaf) -> bool:
    function = getattr(nn, leaf.kind, None)
    module = getattr(function, "__module__", "")
    return module == nn.relu.__module__ and leaf.kind not in ("softmax", "log_softmax")


def variance_findings(
    network: Layer,
    quiet: Mapping[str, LayerFacts],
    noisy: Mapping[str, LayerFacts],
) -> Iterator[Finding]:
    """Find batch norms whose inputs have another variance with dropout than without.

    Args:
        network: The network.
        quiet: Statistics by path, without dropout.
        noisy: The same with it.
    """
    for sequence in sequences(network):
        places = {leaf.path: index for index, leaf in enumerate(sequence)}
        for dropout, norm in misplaced(sequence):
            # The nearest one whose output was measured.
            upstream = [leaf.path for leaf in sequence[: places[norm.path]] if leaf.path in noisy]
            if not upstream or upstream[-1] not in quiet:
                continue
            before = upstream[-1]
            ratio = float(quiet[before].variance) / max(float(noisy[before].variance), 1e-30)
            low, high = VARIANCE_RATIO
            if low <= ratio <= high:
                continue
            title = f"without {dropout.path} the inputs of {norm.path} have {ratio:.2f} times the"
            yield SHIFTED.finding(
                WARNING,
                f"{title} variance of training",
                {"ratio": ratio, "drop_rate": drop_rate(dropout)},
                f"ratio outside of [{low}, {high}]",
                layer=norm.path,
            )
