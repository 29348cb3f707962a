"""The recipe of a training: everything static about it, as one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment import BatchPolicy
from fnn.data import to_float
from fnn.errors import ConfigError, TreeMismatchError
from fnn.objective import cross_entropy
from fnn.objective.loss import as_loss
from fnn.train.early_stopping import EarlyStopping
from fnn.train.figures import FINITE, LOSS, OWN, RATE, VALID, is_validation, validation
from fnn.types import (
    PENALTY,
    Augmentation,
    Layer,
    Loss,
    LossFunction,
    Measure,
    Metric,
    Metrics,
    Optimizer,
    Prepare,
    Regularizer,
    Shape,
    TrainState,
)
from fnn.values import Made, expect_leaves, is_maker, maker, reference

ON_NONFINITE = ("raise", "skip", "ignore")


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything static about a training. Made by `train.recipe`, which describes the fields."""

    network: Layer
    optimizer: Optimizer | None
    loss: Loss
    metrics: dict[str, LossFunction | Metric]
    measures: dict[str, Measure]
    prepare: Prepare
    augment: Augmentation | BatchPolicy | None
    regularizer: Regularizer | None
    micro_batch_size: int | None
    on_nonfinite: str
    early_stopping: EarlyStopping | None

    @property
    def step_names(self) -> tuple[str, ...]:
        """What a step measures, in the order of history; penalty only where there is any."""
        return (LOSS, PENALTY, *self.metrics, *self.measures, RATE, FINITE)

    def in_order(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """The figures of steps, in the order of history."""
        return {name: measured[name] for name in self.step_names if name in measured}

    def is_over(self, train_state: TrainState) -> jax.Array:
        """Whether early stopping has ended the run."""
        return (
            jnp.array(False)
            if self.early_stopping is None
            else self.early_stopping.is_over(train_state)
        )


@maker
def recipe(
    network: Layer,
    optimizer: Optimizer | None = None,
    *,
    loss: LossFunction = cross_entropy,
    metrics: Metrics | None = None,
    measures: Mapping[str, Measure] | None = None,
    prepare: Prepare = to_float,
    augment: Augmentation | BatchPolicy | None = None,
    regularizer: Regularizer | None = None,
    micro_batch_size: int | None = None,
    on_nonfinite: str = "raise",
    early_stopping: EarlyStopping | None = None,
) -> Recipe:
    """Everything static about a training, as a value that all functions of training take.

    A recipe is a pytree whose leaves are the numbers that its parts were given. So `jax.vmap` over stacked recipes is a
    sweep, and `jax.grad` by a recipe gives a recipe of hypergradients. Recipes that differ in numbers alone share one
    compiled program. Replace a part with `recipe.replace(optimizer=optim.sgd(0.1))`.

    Args:
        network: What is trained.
        optimizer: What trains it, of fnn or of another library; None for a recipe that only evaluates and predicts.
        loss: (outputs, targets) -> one value an example, minimized in the mean.
        metrics: Functions like the loss, or `Metric`, by name. By default what the loss itself proposes: accuracy for
            losses of classes, none for others.
        measures: Figures of each step besides, by name: (StepRecord) -> a number, as in
            measures={"gradient_norm": lambda step: optim.global_norm(step.grads)}.
        prepare: From stored inputs to what the network takes, in training, validation and prediction alike. By default
            bytes become floats in [0, 1].
        augment: An augmentation of each input in training, before `prepare`.
        regularizer: (params) -> a number that is added to the loss.
        micro_batch_size: The most examples that go through the network at once. A larger batch goes in equal parts, one
            after another, and memory holds what the gradient needs of one part. But for rounding the step is the same.
            Each part draws its own noise, and batch norm takes the statistics of each part (ghost batch norm
            [Hoffer et al. 2017, arXiv:1705.08741]).
        on_nonfinite: "raise" NonFiniteError for a loss, gradient or state that is not finite, unless the run is traced;
            "skip" leaves such a step out; "ignore" goes on.
        early_stopping: From `train.early_stopping`.

    Raises:
        ConfigError: An argument is not what is described here.
    """
    if isinstance(network, Recipe):
        raise ConfigError("recipe network", "a Layer", "a recipe", "give recipe.network")
    if not isinstance(network, Layer):
        raise ConfigError(
            "recipe network", "a Layer", repr(network), "build one, as in nn.chain(nn.dense(10))"
        )
    if optimizer is not None:
        checks.optimizer("recipe optimizer", optimizer)
    known = as_loss("recipe loss", _expect_function("loss", loss))
    _expect_function("prepare", prepare)
    for name, function in {"augment": augment, "regularizer": regularizer}.items():
        if function is not None:
            _expect_function(name, function)
    if micro_batch_size is not None:
        checks.whole("recipe micro_batch_size", micro_batch_size)
    if metrics is None:
        metrics = {} if known.metric is None else dict([known.metric])
    built = Recipe(
        network=network,
        optimizer=optimizer,
        loss=known,
        metrics=_functions("metrics", metrics),
        measures=_functions("measures", measures or {}),
        prepare=prepare,
        augment=augment,
        regularizer=regularizer,
        micro_batch_size=micro_batch_size,
        on_nonfinite=checks.choice("recipe on_nonfinite", on_nonfinite, ON_NONFINITE),
        early_stopping=early_stopping,
    )
    names = [*built.metrics, *built.measures]
    if len(set(built.step_names)) < len(built.step_names) or any(map(is_validation, names)):
        expected = f"names other than {', '.join(OWN)}, each once, that do not begin with {VALID}"
        raise ConfigError("recipe metrics", expected, names, "rename one")
    _expect_stopping(built)
    return built


def _functions(where: str, functions: Any) -> dict[str, Callable[..., Any]]:
    if not isinstance(functions, Mapping):
        advice = 'name them, as in {"accuracy": accuracy}'
        raise ConfigError(f"recipe {where}", "functions by name", repr(functions), advice)
    for name, function in functions.items():
        _expect_function(f"{where} {name}", function)
    return dict(functions)


def _expect_function(name: str, function: Any) -> Any:
    """The function; ConfigError for what is none, and for a maker that was not called."""
    if not callable(function):
        raise ConfigError(
            f"recipe {name}", "a function", repr(function), "give the function itself"
        )
    if is_maker(function) and not isinstance(function, Loss):
        made = f"{reference(function)}(...)"
        raise ConfigError(f"recipe {name}", f"what {made} returns", "the maker itself", "call it")
    return function


def _expect_stopping(built: Recipe) -> None:
    stopping = built.early_stopping
    if stopping is None:
        return
    if not isinstance(stopping, EarlyStopping):
        advice = "call that with a patience"
        raise ConfigError(
            "recipe early_stopping", "what train.early_stopping gives", repr(stopping), advice
        )
    names = [validation(name) for name in (LOSS, *built.metrics)]
    if stopping.by not in names:
        raise ConfigError(
            "early_stopping by",
            f"one of {', '.join(names)}",
            repr(stopping.by),
            "choose one of them",
        )


def expect_recipe(where: str, value: Any, *, trains: bool = True) -> Recipe:
    """The value, if it is a recipe whose leaves are numbers, and with an optimizer where it is to train."""
    if not isinstance(value, Recipe):
        got = "a Layer" if isinstance(value, Layer) else repr(value)
        raise ConfigError(
            f"{where} recipe",
            "what train.recipe gives",
            got,
            "call train.recipe(network, optimizer)",
        )
    expect_leaves("", value)
    if trains and value.optimizer is None:
        raise ConfigError(
            "recipe optimizer",
            "an optimizer to train with",
            None,
            "as in train.recipe(network, adam)",
        )
    return value


def stack(recipes: Any) -> Any:
    """One recipe whose leaves are stacked along a new first axis, for `jax.vmap` over it.

    Args:
        recipes: Recipes, or any made values, that differ in numbers alone.

    Raises:
        ConfigError: There is none, or one is no made value.
        TreeMismatchError: Two of them differ in structure, or in the shape of a leaf.
    """
    given = [] if isinstance(recipes, Made) else list(recipes)
    if not given or not all(isinstance(one, Made) for one in given):
        raise ConfigError(
            "stack recipes", "at least one recipe", recipes or "none", "give a list of recipes"
        )
    first, *others = given
    for place, other in enumerate(others, 1):
        if _form(other) != _form(first):
            advice = "only numbers may differ; stack recipes of one structure"
            raise TreeMismatchError(
                f"stack recipes {place}", f"the structure of the first, {first}", other, advice
            )
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *given)


def _form(recipe: Made) -> tuple[Any, list[Shape]]:
    """The structure, and the shape of each leaf."""
    leaves, structure = jax.tree.flatten(recipe)
    return structure, list(map(jnp.shape, leaves))
