"""Runs in stages that train more and more of a network, each with the weights of the last."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn import pretrained, unfreeze
from fnn.train.arrays import validate_data
from fnn.train.evaluate import weights as weights_of
from fnn.train.inputs import example_shapes
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.run import run
from fnn.transfer.blocks import blocks
from fnn.transfer.head import expect_plain
from fnn.transfer.regimes import changed, fine_tune, last_blocks
from fnn.types import FROZEN, Data, Number, Params, RandomKey, Result, State, Weights


class Stage(NamedTuple):
    """A part of a training.

    Attributes:
        epochs: Number of epochs.
        recipe: Its network is that of all stages, with other parts frozen.
    """

    epochs: int
    recipe: Recipe


def gradual_unfreezing(
    recipe: Recipe,
    weights: Weights,
    *,
    epochs: int | Sequence[int] = 1,
    decay: Number | None = None,
    classes: int | None = None,
    head: str | None = None,
    fixed_norms: str = "none",
) -> tuple[Stage, ...]:
    """Return the stages of gradual unfreezing, for `run_stages`.

    The first stage trains the last block, the next one the last two, and so on; the last stage
    trains all blocks [Howard & Ruder 2018, arXiv:1801.06146, who take decay=1 / 2.6].

    Args:
        recipe: As for `head_only`. Its schedule begins again in each stage.
        weights: As for `head_only`.
        epochs: Number of epochs of every stage, with a stage for each block; or that of each stage,
            from 1 to the number of blocks of them.
        decay: As for `fine_tune`.
        classes: As for `head_only`.
        head: As for `head_only`.
        fixed_norms: As for `fine_tune`.

    Raises:
        ConfigError: An argument is not of the type described here, or there are more stages than
            blocks.
    """
    where = "gradual_unfreezing"
    network = expect_recipe(where, recipe).network
    count = len(blocks(network, expect_plain(where, network, weights)))
    # A single number is that of each stage, and there is one for each block.
    lengths = list(epochs) if isinstance(epochs, Sequence) else [epochs] * count
    if not 1 <= len(lengths) <= count:
        expected = f"from 1 to {count} numbers, that of the blocks"
        raise ConfigError(
            f"{where} epochs",
            expected,
            f"{len(lengths)} numbers",
            "give fewer",
        )
    options: dict[str, Any] = {"decay": decay, "classes": classes, "head": head}
    options["fixed_norms"] = fixed_norms
    stages = []
    for index, length in enumerate(lengths, 1):
        checks.whole(f"{where} epochs", length)
        # The last stage trains all blocks, also where there are fewer stages than blocks.
        is_last = index == len(lengths)
        own = (
            fine_tune(recipe, weights, **options)
            if is_last
            else last_blocks(recipe, weights, index, **options)
        )
        stages.append(Stage(length, own))
    return tuple(stages)


def run_stages(
    key: RandomKey,
    stages: Sequence[Stage],
    data: Data,
    *,
    batch_size: int,
    valid: Data | None = None,
) -> tuple[Result, ...]:
    """Train in stages: each begins with the weights of the last one, and with a new optimizer.

    Linear probing, then fine-tuning, is two stages:

        probe, tuned = transfer.run_stages(
            key,
            [
                transfer.Stage(10, transfer.head_only(recipe, weights, classes=5)),
                transfer.Stage(20, transfer.fine_tune(recipe, weights, classes=5)),
            ],
            data,
            batch_size=32,
        )

    Args:
        key: From `jax.random.key`. The run of stage i has the key fold_in(key, i).
        stages: Numbers of epochs and recipes of one network, from `head_only`, `last_blocks` and
            `fine_tune`, or from `gradual_unfreezing`.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples per step.
        valid: (inputs, targets) to evaluate after each epoch; None for no validation.

    Returns:
        The result of each stage. The last one is evaluated with the recipe of the last stage.

    Raises:
        ConfigError: There are no stages, or one of them is not (epochs, recipe).
        TreeMismatchError: The networks of two stages have different leaves.
        FnnError: As `train.run`.
    """
    checks.key("key", key)
    given = list(stages) if isinstance(stages, Sequence) else []
    if not given or not all(isinstance(one, tuple) and len(one) == 2 for one in given):
        got = checks.show(stages)
        advice = "as in [transfer.Stage(5, recipe)]"
        raise ConfigError(
            "run_stages stages",
            "pairs of epochs and a recipe",
            got,
            advice,
        )
    for epochs, recipe in given:
        checks.whole("run_stages epochs", epochs)
        expect_recipe("run_stages", recipe)
    # Once for all stages.
    data = validate_data("data", data)
    results: list[Result] = []
    last: Weights | None = None
    for index, (epochs, recipe) in enumerate(given):
        # The recipe of the first stage has pretrained weights of its own.
        started = recipe if last is None else _with_weights(recipe, last, data)
        # Stages with one key would repeat order, augmentation and noise.
        stage_key = jax.random.fold_in(key, index)
        result = run(
            stage_key,
            started,
            data,
            epochs=epochs,
            batch_size=batch_size,
            valid=valid,
        )
        results.append(result)
        # The stages freeze different layers: weights pass between them without frozen ones.
        last = Weights(*unfreeze(*weights_of(started, result.train_state)))
    return tuple(results)


def _with_weights(
    recipe: Recipe,
    given: Weights,
    data: Data,
) -> Recipe:
    """Return a recipe whose network begins with the weights of another stage."""
    shape = example_shapes(recipe, data[0])
    # Abstractly, and without the output shape, which is no array. The structure shows which params
    # are frozen in this stage.
    params, state = jax.eval_shape(
        lambda key: recipe.network.init(key, shape)[:2], jax.random.key(0)
    )
    started = pretrained(recipe.network, *_divide(given, params, state))
    return changed(recipe, network=started)


def _divide(
    given: Weights,
    params: Params,
    state: State,
) -> tuple[Params, State]:
    """Divide all params into those that are trained and those in the state.

    Args:
        given: Weights without frozen params.
        params: The trained params of a network, as shapes.
        state: Its state, with the frozen params.
    """
    all_params = trees.named_leaves(given.params)
    all_state = trees.named_leaves(given.state)

    def take(path: str, leaf: Any) -> Any:
        # The first part of each path is the name of the tree.
        _, *names = path.split("/")
        # The path that the leaf has where nothing is frozen.
        plain = "/".join(name for name in names if name != FROZEN)
        # Frozen params are leaves of the state.
        is_param = FROZEN in names or path.startswith("params/")
        # A leaf that is missing stays a shape, which nn.pretrained reports.
        return (all_params if is_param else all_state).get(plain, leaf)

    return trees.map_named(take, "params", params), trees.map_named(take, "state", state)
