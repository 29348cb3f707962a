"""Search spaces: recipes with distributions in the place of numbers and choices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fnn.errors import ConfigError
from fnn.search.distributions import Distribution
from fnn.train.recipe import Recipe
from fnn.values import Variable, assign, is_open, shown, variables_of


@dataclass(frozen=True, eq=False)
class Space:
    """A set of recipes, and the distribution from which they are drawn.

    Attributes:
        distributions: The hyperparameters by path, such as optimizer.rate.peak. One that is in
            several places has its first path.
        fill: From a function (distribution) -> value to a recipe.
        text: The space as an expression.
    """

    distributions: dict[str, Distribution]
    fill: Callable[[Callable[[Variable], Any]], Recipe]
    text: str

    def __repr__(self) -> str:
        return self.text

    def draw(self, point: np.ndarray) -> tuple[Recipe, dict[str, Any]]:
        """Return the recipe at a point of the unit cube, and its hyperparameters by path.

        Args:
            point: Probabilities in [0, 1), one for each hyperparameter.

        Returns:
            The recipe, and the values. Hyperparameters of options that were not chosen are None.
        """
        return self.choose(
            {
                path: distribution.quantile(float(u))
                for (path, distribution), u in zip(self.distributions.items(), point, strict=True)
            }
        )

    def choose(self, values: dict[str, Any]) -> tuple[Recipe, dict[str, Any]]:
        """Return the recipe with these values, and the values that it uses.

        Args:
            values: One for each hyperparameter, by path.
        """
        # By identity, since equal distributions in two places are two hyperparameters.
        paths = {id(distribution): path for path, distribution in self.distributions.items()}
        # None for those of options that are not chosen.
        used: dict[str, Any] = dict.fromkeys(self.distributions)

        def value(variable: Variable) -> Any:
            # Only the distributions of the chosen options are asked for.
            path = paths[id(variable)]
            used[path] = values[path]
            return values[path]

        return self.fill(value), used


def space(function: Callable[..., Recipe], **distributions: Distribution) -> Space:
    """Search space of a function from hyperparameters to a recipe, where some are coupled.

        def make(width, rate):
            return train.recipe(network(width), optim.sgd(rate / width))

        search.space(make, width=search.integer(16, 64), rate=search.log_uniform(1e-2, 10))

    Args:
        function: (**hyperparameters) -> recipe. It is called once for each trial.
        distributions: The hyperparameters by name.

    Raises:
        ConfigError: An argument is not a distribution, or the function returns no recipe.
    """
    for name, distribution in distributions.items():
        if not isinstance(distribution, Distribution):
            advice = "give one, as in search.uniform(0, 1); bind constants in the function"
            raise ConfigError(
                f"space {name}",
                "a distribution",
                distribution,
                advice,
            )
    _expect_hyperparameters(distributions, function)

    def fill(choose: Callable[[Variable], Any]) -> Recipe:
        # An option of a choice may hold distributions too.
        recipe = function(**{name: assign(one, choose) for name, one in distributions.items()})
        if not isinstance(recipe, Recipe):
            advice = "return train.recipe(...)"
            raise ConfigError(
                "space function",
                "a function that returns a recipe",
                recipe,
                advice,
            )
        return recipe

    # An invalid value raises here, before anything is trained.
    # Each distribution takes its examples in turn.
    for index in range(max(len(one.examples) for one in distributions.values())):
        fill(partial(_example, index))
    arguments = "".join(f", {name}={shown(one)}" for name, one in distributions.items())
    named = dict(_own_and_inner(distributions))
    return Space(named, fill, f"search.space({shown(function)}{arguments})")


def as_space(where: str, value: Any) -> Space:
    """Return a recipe with distributions as a space; ConfigError if it has none.

    Args:
        where: Name of the function in errors.
        value: A recipe, or a space.
    """
    if isinstance(value, Space):
        return value
    if not isinstance(value, Recipe):
        advice = "give train.recipe(...) with distributions in the place of numbers"
        raise ConfigError(
            f"{where} space",
            "a recipe or a search.space",
            value,
            advice,
        )
    _expect_hyperparameters(is_open(value), value)
    return Space(dict(_own_and_inner(value)), lambda choose: assign(value, choose), shown(value))


def _example(index: int, variable: Variable) -> Any:
    # Shorter lists begin again.
    return variable.examples[index % len(variable.examples)]


def _own_and_inner(value: Any) -> Iterator[tuple[str, Distribution]]:
    """Iterate over the distributions of a value, each once, with its first path."""
    # By id: equal distributions in two places are two hyperparameters.
    found = set()
    for path, variable in variables_of(value):
        if id(variable) not in found and isinstance(variable, Distribution):
            found.add(id(variable))
            yield path, variable


def _expect_hyperparameters(has_some: Any, got: Any) -> None:
    if not has_some:
        advice = "replace a number by a distribution, as in optim.adam(search.log_uniform(1e-4, 1))"
        raise ConfigError(
            "search space",
            "at least one distribution",
            got,
            advice,
        )
