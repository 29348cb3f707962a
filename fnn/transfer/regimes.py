"""Fine-tuning: recipes that train the head, the last blocks or all of a pretrained network."""

from typing import Any, NamedTuple

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn import dense, freeze, inference, pretrained, replace
from fnn.nn.core.composite import parts
from fnn.optim import scale_by_depth
from fnn.train.recipe import Recipe, expect_recipe
from fnn.transfer.blocks import (
    Block,
    blocks,
    is_below,
    last_blocks_from,
    leaves_below,
    units,
)
from fnn.transfer.head import expect_head, expect_plain
from fnn.types import Layer, Number, Weights
from fnn.values import Made

FIXED_NORMS = ("none", "params", "statistics", "both")
MOMENTS = ("mean", "var")  # the state of batch norm


class Start(NamedTuple):
    """A pretrained network before parts of it are frozen.

    Attributes:
        network: It begins with the weights; a new head is drawn.
        weights: Of the original, without frozen params.
        head: Path of the head, or None where it is not needed.
    """

    network: Layer
    weights: Weights
    head: str | None


def head_only(
    recipe: Recipe,
    weights: Weights,
    *,
    classes: int | None = None,
    head: str | None = None,
) -> Recipe:
    """Return a recipe that trains the head of a pretrained network alone.

        recipe = transfer.head_only(train.recipe(network, optim.adam(1e-2)), weights, classes=5)
        result = train.run(key, recipe, data, epochs=20, batch_size=64)

    All other layers are in evaluation mode: their params and their statistics are fixed, and
    dropout drops nothing. The optimum is that of `linear_probe` without a penalty.

    Args:
        recipe: Network, optimizer, loss and all else of the new task, from `train.recipe`.
        weights: Of the network, such as train.weights(recipe, train_state) or
            Weights(*lab.load_weights(...)). Frozen params become params again, as by `nn.unfreeze`.
        classes: Number of classes of a new head, drawn from the key of the run; None to begin with
            the head of the weights.
        head: Path of the head; by default the dense layer in which the network ends.

    Raises:
        ConfigError: An argument is not of the type described here, or there is no head.
        TreeMismatchError: In the run, the weights are those of another network.
    """
    start = begin(
        "head_only",
        recipe,
        weights,
        classes,
        head,
        needs_head=True,
    )
    assert start.head is not None
    # Everything but the head, so that it alone is trained.
    others = _siblings(start.network, start.head)
    return changed(recipe, network=inference(start.network, *others))


def last_blocks(
    recipe: Recipe,
    weights: Weights,
    blocks: int | str = 2,
    *,
    decay: Number | None = None,
    classes: int | None = None,
    head: str | None = None,
    fixed_norms: str = "none",
) -> Recipe:
    """Return a recipe that trains the last blocks of a pretrained network.

    All layers before them are in evaluation mode, as in `head_only`.

    Args:
        recipe: As for `head_only`.
        weights: As for `head_only`.
        blocks: Number of blocks with that of the head, or the path of the first one, such as
            "stage_4"; see `transfer.blocks`.
        decay: As for `fine_tune`.
        classes: As for `head_only`.
        head: As for `head_only`.
        fixed_norms: As for `fine_tune`.

    Raises:
        ConfigError: An argument is not of the type described here, or there are fewer blocks or
            none at the path.
        TreeMismatchError: In the run, the weights are those of another network.
    """
    where = "last_blocks"
    start = begin(
        where,
        recipe,
        weights,
        classes,
        head,
    )
    found = _blocks_of(recipe, start)
    trained = last_blocks_from(f"{where} blocks", found, blocks)
    # No smallest scale: the blocks with small rates are cut off already.
    return _with_blocks(
        where,
        recipe,
        start,
        trained,
        decay,
        0.0,
        fixed_norms,
    )


def fine_tune(
    recipe: Recipe,
    weights: Weights,
    *,
    decay: Number | None = None,
    min_scale: Number = 0.0,
    no_opt_scale: float | None = None,
    classes: int | None = None,
    head: str | None = None,
    fixed_norms: str = "none",
) -> Recipe:
    """Return a recipe that trains all of a pretrained network, with rates by depth if asked.

    The rate of the block i of 0 to last is multiplied by max(min_scale, decay^(last - i)). decay =
    0.65 to 0.75 is usual for vision transformers [Bao et al. 2022, arXiv:2106.08254], 1 / 2.6 for
    discriminative fine-tuning [Howard & Ruder 2018, arXiv:1801.06146].

    Args:
        recipe: As for `head_only`.
        weights: As for `head_only`.
        decay: Ratio of the rates of neighboring blocks, in [0, 1]; None for one rate.
        min_scale: Smallest factor of a rate, >= 0.
        no_opt_scale: Blocks whose factor is smaller are not trained, and are in evaluation mode;
            None for none.
        classes: As for `head_only`.
        head: As for `head_only`.
        fixed_norms: Parts of batch norm that are fixed in the trained blocks: "params"; its
            "statistics", which are then those of the weights and are used as in evaluation; "both";
            or "none".

    Raises:
        ConfigError: An argument is not of the type described here.
        TreeMismatchError: In the run, the weights are those of another network.
    """
    where = "fine_tune"
    start = begin(
        where,
        recipe,
        weights,
        classes,
        head,
    )
    found = _blocks_of(recipe, start)
    if decay is not None:
        checks.number(f"{where} decay", decay, "[0, 1]")
    # Blocks with a rate near 0 are frozen, which saves the time of their gradients.
    if no_opt_scale is not None:
        found = _above(
            where,
            found,
            decay,
            min_scale,
            no_opt_scale,
        )
    return _with_blocks(
        where,
        recipe,
        start,
        found,
        decay,
        min_scale,
        fixed_norms,
    )


def scratch(
    recipe: Recipe,
    weights: Weights,
    *,
    classes: int | None = None,
    head: str | None = None,
) -> Recipe:
    """Return a recipe that trains all of the network from random weights, for comparison.

    Args:
        recipe: As for `head_only`.
        weights: As for `head_only`; they name the head alone.
        classes: As for `head_only`.
        head: As for `head_only`.

    Raises:
        ConfigError: An argument is not of the type described here.
    """
    # Weights that are not valid are an error here as in all other regimes.
    if classes is None:
        expect_plain("scratch", expect_recipe("scratch", recipe).network, weights)
        return recipe
    start = begin(
        "scratch",
        recipe,
        weights,
        classes,
        head,
    )
    assert start.head is not None
    # From the network of the recipe, without the pretrained weights of `start`.
    return changed(recipe, network=replace(recipe.network, start.head, dense(classes)))


def begin(
    where: str,
    recipe: Recipe,
    weights: Weights,
    classes: int | None,
    head: str | None,
    *,
    needs_head: bool = False,
) -> Start:
    """Return the pretrained network, with a new head where `classes` are given."""
    network = expect_recipe(where, recipe).network
    # The frozen layers would stay frozen in every regime.
    if isinstance(network, Made) and network.maker in (freeze, inference):
        expected = "one whose network is not frozen"
        advice = "give the recipe that the frozen one was made of"
        raise ConfigError(
            f"{where} recipe",
            expected,
            "a frozen network",
            advice,
        )
    given = expect_plain(where, network, weights)
    started = pretrained(network, given.params, given.state)
    # Without a use for a head, the network may have none.
    if classes is None and head is None and not needs_head:
        return Start(started, given, None)
    path = expect_head(where, network, given, head)
    if classes is not None:
        # The new layer is outside of the pretrained weights: the run draws its params.
        started = replace(started, path, dense(checks.whole(f"{where} classes", classes)))
    return Start(started, given, path)


def changed(recipe: Any, **changes: Any) -> Recipe:
    """Return a recipe with some parts replaced, checked as a new one."""
    return recipe.replace(**changes)


def _blocks_of(recipe: Recipe, start: Start) -> tuple[Block, ...]:
    return blocks(recipe.network, start.weights)


def _siblings(network: Layer, path: str) -> list[str]:
    """Return the paths of all layers next to the one at a path, and next to those around it."""
    found, layer, prefix = [], network, ""
    # One level deeper with each name of the path.
    for name in path.split("/"):
        inner = parts(layer)
        found += [f"{prefix}{other}" for other in inner if other != name]
        layer, prefix = inner[name], f"{prefix}{name}/"
    return found


def _above(
    where: str,
    found: tuple[Block, ...],
    decay: Number | None,
    min_scale: Number,
    no_opt_scale: float,
) -> tuple[Block, ...]:
    """Return the blocks whose factor of the rate is at least a number."""
    # Frozen layers change the program, so the rates must be known before it is traced.
    if decay is None or not (checks.is_concrete(decay) and checks.is_concrete(min_scale)):
        got = "None" if decay is None else "a traced number"
        advice = "give both, or leave no_opt_scale out"
        raise ConfigError(
            f"{where} decay",
            "a known number for no_opt_scale",
            got,
            advice,
        )
    checks.number(f"{where} no_opt_scale", no_opt_scale, "[0, 1]")
    kept: list[Block] = []
    depth = 0
    # From the head down: rates fall with the depth, so the first one below the limit is the end.
    for block in reversed(found):
        # The last copy of a stack has the smallest depth; a stack is trained as a whole.
        if max(float(min_scale), float(decay) ** depth) < no_opt_scale:
            break
        kept.insert(0, block)
        depth += block.copies
    return tuple(kept)


def _with_blocks(
    where: str,
    recipe: Recipe,
    start: Start,
    trained: tuple[Block, ...],
    decay: Number | None,
    min_scale: Number,
    fixed_norms: str,
) -> Recipe:
    """Return the recipe that trains some blocks, with rates by depth."""
    checks.choice(f"{where} fixed_norms", fixed_norms, FIXED_NORMS)
    network = start.network
    # Layers before the first trained block are fixed functions: no gradient passes them.
    frozen = _before(recipe.network, start.weights, trained)
    if frozen:
        network = inference(network, *frozen)
    fixed: list[str] = []
    if fixed_norms != "none":
        norms = _batch_norms(start.weights)
        if not norms:
            expected = "none for a network without batch norm"
            advice = "leave it out"
            raise ConfigError(
                f"{where} fixed_norms",
                expected,
                fixed_norms,
                advice,
            )
        # Norms of frozen layers are fixed already.
        fixed = [path for path in norms if not any(is_below(path, other) for other in frozen)]
    if fixed:
        params = fixed_norms != "statistics"
        statistics = fixed_norms != "params"
        # With noise=False the dropout of trained blocks stays on.
        network = inference(
            network,
            *fixed,
            params=params,
            statistics=statistics,
            noise=False,
        )
    changes: dict[str, Any] = {"network": network}
    if decay is not None:
        # The optimizer has no updates for params that are fixed.
        held = fixed if fixed_norms in ("params", "both") else []
        # Rates by depth need a pattern for each block, from input to output.
        layers, stacks = _patterns(start.weights, trained, held)
        assert recipe.optimizer is not None  # expect_recipe has checked this
        changes["optimizer"] = scale_by_depth(
            recipe.optimizer,
            decay,
            paths=layers,
            stacked=stacks,
            min_scale=min_scale,
        )
    return changed(recipe, **changes)


def _before(
    network: Layer,
    given: Weights,
    trained: tuple[Block, ...],
) -> list[str]:
    """Return the paths of all layers before the first of some blocks, also those without params."""
    # Blocks lack layers without params, such as dropout, which `units` has.
    first = trained[0].paths[0]
    order = [path for path, _ in units(network, given)]
    return order[: order.index(first)]


def _batch_norms(given: Weights) -> list[str]:
    """Return the paths of the layers that keep running moments."""
    leaves = trees.named_leaves(given.state)
    # Found by the names of their state, so also within wrappers and stacks.
    owners = [name.rpartition("/")[0] for name in leaves if name.rpartition("/")[2] == MOMENTS[0]]
    return [owner for owner in owners if f"{owner}/{MOMENTS[1]}" in leaves]


def _patterns(
    given: Weights,
    trained: tuple[Block, ...],
    held: list[str],
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Return the patterns of each block for `scale_by_depth`, and those of stacks.

    Args:
        given: The weights.
        trained: The blocks.
        held: Paths whose params are not trained, which no pattern may name.
    """
    leaves = trees.named_leaves(given.params)

    def is_trained(path: str) -> bool:
        own = leaves_below(leaves, path)
        return any(not any(is_below(name, other) for other in held) for name in own)

    # `scale_by_depth` refuses a pattern that matches no leaf.
    layers = [tuple(filter(is_trained, block.paths)) for block in trained]
    stacks = [block.paths[0] for block in trained if block.copies > 1]
    # A block that is held stays as a layer of depth, so that the rates below it do not change.
    return tuple(layers), tuple(stacks)
