"""The recipe of a training run: its whole static configuration as one value."""

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
from fnn.objective.heads import default_metrics
from fnn.objective.loss import as_loss
from fnn.train.early_stopping import EarlyStopping
from fnn.train.figures import FINITE, LOSS, OWN, RATE, VALID, is_validation, validation_name
from fnn.types import (
    PENALTY,
    Augmentation,
    Instruments,
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
    """The static configuration of a training run, made by `train.recipe`.

    Attributes:
        network: The network to train.
        optimizer: Its optimizer; None for evaluation only.
        loss: Minimized in the mean over examples.
        metrics: Figures of outputs and targets, by name.
        measures: Figures of training steps, by name.
        prepare: From stored inputs to inputs of the network.
        augment: Augmentation in training; None for none.
        regularizer: Penalty of the parameters; None for none.
        micro_batch_size: Maximum number of examples in a forward pass; None for the whole batch.
        on_nonfinite: "raise", "skip" or "ignore".
        early_stopping: Condition under which a run ends early; None for none.
        instruments: Statistics of layers and parameters to record; None for none.
    """

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
    instruments: Instruments | None

    @property
    def step_names(self) -> tuple[str, ...]:
        """Names of the figures of a step, in the order of the history."""
        # The history omits names without a figure, such as penalty in most runs.
        own = (LOSS, PENALTY, *self.metrics, *self.measures, RATE, FINITE)
        return (*own, *self.instrument_names)

    @property
    def instrument_names(self) -> tuple[str, ...]:
        """Names of the arrays of the instruments, which are NaN at most steps."""
        return () if self.instruments is None else self.instruments.names

    @property
    def couples_examples(self) -> bool | None:
        """Whether the loss or a metric of an example depends on the others of its batch.

        None if it is not known, since one of them is a plain function.
        """
        functions = [self.loss, *self.metrics.values()]
        known = []
        for function in functions:
            # A metric of the whole data set gets the statistics of each example.
            if not isinstance(function, Metric):
                known.append(as_loss("recipe metrics", function).couples_examples)
        return True if True in known else None if None in known else False

    def in_order(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Sort figures of steps into the order of the history; there may be no penalty."""
        return {name: figures[name] for name in self.step_names if name in figures}

    @property
    def stopping_sign(self) -> int:
        """1 if a lower figure of early stopping is better, -1 if a higher one is."""
        assert self.early_stopping is not None
        mode = self.early_stopping.mode or self.known_mode(self.early_stopping.by)
        return -1 if mode == "max" else 1

    def known_mode(self, name: str) -> str | None:
        """Return "min" or "max" for a figure of training or validation, or None if not known."""
        figure = name.removeprefix(VALID)
        if figure == LOSS:
            return "min"
        function = self.metrics[figure]
        # A partial application of a declared metric has the properties of the metric.
        metric = function if isinstance(function, Metric) else as_loss(figure, function)
        return metric.mode

    def is_over(self, train_state: TrainState) -> jax.Array:
        """Return whether early stopping has ended the run."""
        if self.early_stopping is None:
            return jnp.array(False)
        return self.early_stopping.is_over(train_state)


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
    instruments: Instruments | None = None,
) -> Recipe:
    """Combine everything static about training into one value, which all functions of it take.

    A recipe is a pytree whose leaves are the numbers that its parts were given. So `jax.vmap` over
    stacked recipes is a sweep, and `jax.grad` by a recipe returns a recipe of hypergradients.
    Recipes that differ in numbers alone share one compiled program. Replace a part with
    `recipe.replace(optimizer=optim.sgd(0.1))`.

    Functions of your own, such as a loss or `prepare`, are compared by identity. Define them once,
    outside of a loop: a lambda that is made in each call is another program each time.

    Args:
        network: The network to train.
        optimizer: Its optimizer, of fnn or of another library with the same signature; None for a
            recipe that only evaluates and predicts.
        loss: (outputs, targets) -> one value per example. The mean is minimized.
        metrics: By name, functions like the loss or `Metric`, of outputs and targets. Figures of
            parameters and gradients are `measures`. By default the metric that the loss proposes:
            accuracy for losses of classes, none for others; for `multi_task` also the loss of each
            head, as `loss_digit` and `accuracy_digit` for a head `digit`.
        measures: Further figures of each step by name, (StepRecord) -> a number, as in
            measures={"gradient_norm": lambda step: optim.global_norm(step.grads)}.
        prepare: From stored inputs to inputs of the network, in training, validation and
            prediction. By default bytes become floats in [0, 1], also within inputs of several
            arrays. What is done to every image, such as normalization, belongs here.
        augment: Augmentation of the inputs in training, before `prepare`.
        regularizer: (params) -> a number that is added to the loss.
        micro_batch_size: Maximum number of examples in a forward pass. A larger batch is split into
            equal micro-batches, computed one after another, and memory holds the intermediate
            values of one of them. The step is the same, up to rounding. Each micro-batch draws
            different noise, and batch norm uses the statistics of each (ghost batch norm
            [Hoffer et al. 2017, arXiv:1705.08741]). A loss that couples the examples of a batch,
            such as `nt_xent`, cannot be split.
        on_nonfinite: At a loss, gradient or state that is not finite, "raise" raises
            NonFiniteError, unless the run is traced; "skip" leaves the step out; "ignore"
            continues.
        early_stopping: From `train.early_stopping`.
        instruments: From `diagnose.instruments`: statistics of each layer and parameter, recorded
            every few steps as arrays of the history.

    Raises:
        ConfigError: An argument is not of the type described here, or a name of a metric or
            measure is reserved or used twice.
    """
    # All checks are made here, once: functions that take a recipe rely on them.
    if not isinstance(network, Layer):
        got, advice = checks.show(network), "build one, as in nn.chain(nn.dense(10))"
        if isinstance(network, Recipe):
            got, advice = "a recipe", "give recipe.network"
        raise ConfigError(
            "recipe network",
            "a Layer",
            got,
            advice,
        )
    if optimizer is not None:
        checks.optimizer("recipe optimizer", optimizer)
    # A plain function becomes a Loss with no known properties.
    known_loss = as_loss("recipe loss", _expect_function("loss", loss))
    if known_loss.mode == "max":
        raise ConfigError(
            "recipe loss",
            "a function that is minimized",
            f"{checks.show(loss)}, of which a higher value is better",
            "give it as one of the metrics",
        )
    if known_loss.aggregator is not None and known_loss.heads is None:
        raise ConfigError(
            "recipe loss",
            "a loss with several heads, for its aggregator",
            checks.show(loss),
            "make it by objective.multi_task(losses, aggregator=...)",
        )
    _expect_function("prepare", prepare)
    for name, function in {"augment": augment, "regularizer": regularizer}.items():
        if function is not None:
            _expect_function(name, function)
    if micro_batch_size is not None:
        checks.whole("recipe micro_batch_size", micro_batch_size)
    if metrics is None:
        metrics = default_metrics(known_loss)
    built = Recipe(
        network=network,
        optimizer=optimizer,
        loss=known_loss,
        metrics=_expect_functions("metrics", metrics),
        measures=_expect_functions("measures", measures or {}),
        prepare=prepare,
        augment=augment,
        regularizer=regularizer,
        micro_batch_size=micro_batch_size,
        on_nonfinite=checks.choice("recipe on_nonfinite", on_nonfinite, ON_NONFINITE),
        early_stopping=early_stopping,
        instruments=_expect_instruments(instruments),
    )
    _expect_names(built)
    _expect_separate_examples(built)
    _expect_early_stopping(built)
    return built


def _expect_functions(where: str, functions: Any) -> dict[str, Callable[..., Any]]:
    if not isinstance(functions, Mapping):
        raise ConfigError(
            f"recipe {where}",
            "functions by name",
            checks.show(functions),
            'name them, as in {"accuracy": accuracy}',
        )
    for name, function in functions.items():
        _expect_function(f"{where} {name}", function)
    return dict(functions)


def _expect_function(name: str, function: Any) -> Any:
    """Return the function; ConfigError unless it is one, and for a maker that was not called."""
    where = f"recipe {name}"
    if not callable(function):
        raise ConfigError(
            where,
            "a function",
            checks.show(function),
            "give one function; combine several, such as augmentations, by a chain",
        )
    # A declared loss is a maker too: without options it is used without a call.
    if is_maker(function) and not isinstance(function, Loss):
        raise ConfigError(
            where,
            f"the value that {reference(function)}(...) returns",
            "the maker itself",
            "call it",
        )
    return function


def _expect_instruments(instruments: Any) -> Instruments | None:
    """Return the instruments; ConfigError unless they are a value of their maker, or None."""
    if instruments is None or isinstance(instruments, Instruments):
        return instruments
    raise ConfigError(
        "recipe instruments",
        "a value from diagnose.instruments",
        checks.show(instruments),
        'call that, as in diagnose.instruments("economy")',
    )


def _expect_names(built: Recipe) -> None:
    """Raise ConfigError if a name of a metric or measure is reserved or used twice."""
    # These are keys of one history, next to the reserved names.
    names = [*built.metrics, *built.measures]
    is_unique = len(set(built.step_names)) == len(built.step_names)
    if not is_unique or any(map(is_validation, names)):
        reserved = ", ".join((*OWN, *built.instrument_names))
        raise ConfigError(
            "recipe metrics",
            f"names other than {reserved}, each once, that do not begin with {VALID}",
            names,
            "rename one",
        )


def _expect_separate_examples(built: Recipe) -> None:
    """Raise ConfigError for micro-batches with a loss that compares the examples of a batch."""
    if built.micro_batch_size is not None and built.couples_examples:
        raise coupled_examples(built)


def coupled_examples(recipe: Recipe) -> ConfigError:
    """Return the error of micro-batches of coupled examples."""
    return ConfigError(
        "recipe micro_batch_size",
        "None for a loss or metric that couples the examples of a batch",
        recipe.micro_batch_size,
        "train on whole batches; nn.remat saves memory too",
    )


def _expect_early_stopping(built: Recipe) -> None:
    """Raise ConfigError unless early stopping monitors a figure of validation."""
    stopping = built.early_stopping
    if stopping is None:
        return
    if not isinstance(stopping, EarlyStopping):
        raise ConfigError(
            "recipe early_stopping",
            "a value from train.early_stopping",
            checks.show(stopping),
            "call that with a patience",
        )
    # Validation measures the loss and the metrics, but no step figures such as the rate.
    names = [validation_name(name) for name in (LOSS, *built.metrics)]
    if stopping.by not in names:
        raise ConfigError(
            "early_stopping by",
            f"one of {', '.join(names)}",
            repr(stopping.by),
            "choose one of them",
        )
    if stopping.mode is None and built.known_mode(stopping.by) is None:
        raise ConfigError(
            "early_stopping mode",
            f"min or max for {stopping.by}, a metric of your own",
            None,
            'give mode="max" if a higher one is better',
        )


def expect_recipe(where: str, value: Any, *, trains: bool = True) -> Recipe:
    """Return the value if it is a recipe whose leaves are numbers; ConfigError otherwise.

    Args:
        where: Name of the function in errors.
        value: The argument to check.
        trains: Whether the recipe must have an optimizer.
    """
    if not isinstance(value, Recipe):
        raise ConfigError(
            f"{where} recipe",
            "a recipe from train.recipe",
            "a Layer" if isinstance(value, Layer) else checks.show(value),
            "call train.recipe(network, optimizer)",
        )
    # jax.tree.map may have replaced leaves by values of any type.
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
    """Stack recipes into one whose leaves have a new first axis, for `jax.vmap` over it.

    Args:
        recipes: Recipes, or any made values, that differ in numbers alone.

    Returns:
        One recipe of the same structure.

    Raises:
        ConfigError: There are no recipes, or one of them is not a made value.
        TreeMismatchError: Two of them differ in structure, or in the shape of a leaf.
    """
    # A single recipe cannot be iterated over.
    given = [] if isinstance(recipes, Made) else list(recipes)
    if not given or not all(isinstance(one, Made) for one in given):
        raise ConfigError(
            "stack recipes",
            "at least one recipe",
            recipes or "none",
            "give a list of recipes",
        )
    first, *others = given
    for index, other in enumerate(others, 1):
        if _structure_and_shapes(other) != _structure_and_shapes(first):
            raise TreeMismatchError(
                f"stack recipes {index}",
                f"the structure of the first, {first}",
                other,
                "only numbers may differ; stack recipes of one structure",
            )

    def stack_leaves(*leaves: Any) -> jax.Array:
        return jnp.stack([jnp.asarray(leaf) for leaf in leaves])

    return jax.tree.map(stack_leaves, *given)


def _structure_and_shapes(recipe: Made) -> tuple[Any, list[Shape]]:
    leaves, structure = jax.tree.flatten(recipe)
    return structure, list(map(jnp.shape, leaves))
