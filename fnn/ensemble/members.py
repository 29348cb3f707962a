"""Members: trained networks as one value, and their predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.search.execution import group_by_structure
from fnn.train.evaluate import expect_weights, forward_pass, map_batches
from fnn.train.inputs import validate_inputs
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe, stack
from fnn.types import RandomKey, Result, Step, TrainState, Weights


class Member(NamedTuple):
    """One trained network, in the order of the arguments of `train.predict`.

    Attributes:
        recipe: Its recipe.
        weights: Its parameters and state.
    """

    recipe: Recipe
    weights: Weights


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Part:
    """Members whose recipes differ in numbers alone.

    Attributes:
        recipe: Their recipe; its leaves have a first axis of members if `is_stacked`.
        weights: Their weights, each leaf with a first axis of members.
        indices: Their indices among all members, in rising order.
        is_stacked: Whether each member has a recipe of its own.
    """

    recipe: Recipe
    weights: Weights
    indices: tuple[int, ...] = field(metadata={"static": True})
    is_stacked: bool = field(metadata={"static": True})

    def member(self, place: int) -> Member:
        """Return one member.

        Args:
            place: Its place within the part.
        """
        return Member(self.recipe_of(place), jax.tree.map(lambda leaf: leaf[place], self.weights))

    def recipe_of(self, place: int) -> Recipe:
        """Return the recipe of one member.

        Args:
            place: Its place within the part.
        """
        if not self.is_stacked:
            return self.recipe
        return jax.tree.map(lambda leaf: leaf[place], self.recipe)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Members:
    """Trained networks as one value: a pytree whose leaves are their stacked weights.

        members = ensemble.collect(recipe, [first.train_state, second.train_state])
        recipe, weights = members[0]
        outputs = ensemble.predict(members, inputs)  # (members, examples, ...)

    Members may have different recipes. Those that differ in numbers alone are one part, whose
    weights are stacked; most ensembles are one part.

    Attributes:
        parts: The members of each structure.
    """

    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(len(part.indices) for part in self.parts)

    def __iter__(self) -> Iterator[Member]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """Return one member, or the members of a slice, a sequence of indices or a mask.

        Args:
            index: An int for a `Member`, which is the pair (recipe, weights); as for an array of
                NumPy, a slice, a sequence of ints or a mask for `Members`.

        Raises:
            IndexError: There is no member of this index.
            ConfigError: The selection is empty or has several axes.
        """
        # NumPy would read a tuple as one index for each axis.
        if isinstance(index, tuple):
            index = list(index)
        # By NumPy, so that negative indices and masks have their usual meaning.
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self._member(int(chosen))
        if chosen.ndim > 1:
            raise ConfigError(
                "members index",
                "an int, a slice, a sequence of ints or a mask",
                checks.show(index),
                "give one of them",
            )
        if not chosen.size:
            advice = f"choose some of the {len(self)}"
            raise ConfigError(
                "members index",
                "at least one member",
                "none",
                advice,
            )
        taken = [self._member(place) for place in chosen]
        # Grouped again: a selection may leave out a whole part, or repeat a member.
        return collect([member.recipe for member in taken], [member.weights for member in taken])

    def _member(self, index: int) -> Member:
        # Each index occurs in exactly one part.
        part = next(part for part in self.parts if index in part.indices)
        trees.expect_not_donated("members", part.weights)
        return part.member(part.indices.index(index))

    @property
    def recipe(self) -> Recipe:
        """The recipe of all members; if they have different numbers, these are stacked.

        Raises:
            ConfigError: The members have several structures; use `parts`.
        """
        return self._only_part("recipe").recipe

    @property
    def weights(self) -> Weights:
        """The stacked weights, each leaf with a first axis of members.

        Raises:
            ConfigError: The members have several structures; use `parts`.
        """
        return self._only_part("weights").weights

    def _only_part(self, name: str) -> Part:
        if len(self.parts) > 1:
            raise ConfigError(
                f"members {name}",
                "members of one structure",
                f"{len(self.parts)} structures",
                "use those of each part in members.parts, or of one member, members[i]",
            )
        return self.parts[0]

    def __repr__(self) -> str:
        sizes = []
        for part in self.parts:
            # jax.tree.map may replace an array by any value, which may have no size.
            total = sum(getattr(leaf, "size", 0) for leaf in jax.tree.leaves(part.weights.params))
            # `total` counts the numbers of all members of the part.
            count = len(part.indices)
            sizes.append(f"{count} of {total // count:,} parameters")
        return f"Members({', '.join(sizes)})"


def collect(
    recipe: Recipe | Sequence[Recipe],
    weights: Sequence[TrainState | Weights] | TrainState | Weights,
) -> Members:
    """Collect trained networks into members of an ensemble.

        members = ensemble.collect(recipe, [one.train_state for one in results])
        members = ensemble.collect(recipe, jax.vmap(run)(keys).train_state)

    Parameters are averaged where an optimizer keeps an average, as in `train.weights`.

    Args:
        recipe: The recipe of all members, or one for each. It needs no optimizer.
        weights: Train states or `Weights`, one for each member; or stacked ones, whose leaves have
            a first axis of members.

    Raises:
        ConfigError: There are no members, or not one recipe for each, or an argument is not of the
            type described here.
        ShapeError: Leaves of stacked weights differ in the length of the first axis.
        TreeMismatchError: Recipes of one structure have weights of different structures or shapes.
    """
    # An empty sequence counts as one value, which `expect_recipe` refuses.
    is_several = isinstance(recipe, list | tuple) and bool(recipe)
    recipes: Any = list(cast(Sequence[Recipe], recipe)) if is_several else [recipe]
    for one in recipes:
        expect_recipe("collect", one, trains=False)
    if isinstance(weights, TrainState | Weights):
        count = _expect_stacked(weights)
        averages = partial(expect_weights, "collect weights", recipes[0])
        # Where an optimizer keeps an average, that of each member is computed.
        given: Weights | list[Weights] = jax.vmap(averages)(weights)
    else:
        count = _expect_several(weights)
        # The recipe is only checked here: the state of the optimizer holds the average.
        given = [
            expect_weights(f"collect weights {index}", recipes[0], one)
            for index, one in enumerate(weights)
        ]
    if not is_several:
        # One recipe for all members, so that they form a single part.
        recipes *= count
    if len(recipes) != count:
        raise ConfigError(
            "collect recipe",
            f"one recipe, or one for each of {count} members",
            f"{len(recipes)} recipes",
            "give the recipe that each member was trained with",
        )
    return Members(tuple(_part(recipes, given, group) for group in group_by_structure(recipes)))


def _expect_stacked(weights: TrainState | Weights) -> int:
    """Return the number of members of stacked weights; ShapeError unless all leaves have one."""
    trees.expect_not_donated("collect weights", weights)
    leaves = trees.named_leaves(weights)
    # The leaf with which all others are compared.
    first = next(iter(leaves), "")
    for path, leaf in leaves.items():
        # Empty for a scalar, which has no axis of members.
        length = jnp.shape(leaf)[:1]
        if not length or length != jnp.shape(leaves[first])[:1]:
            raise ShapeError(
                f"collect weights {path}",
                "stacked weights, whose leaves have a first axis of members",
                f"{checks.describe(leaf)}, and {checks.describe(leaves[first])} in {first}",
                "give a list for weights that are not stacked, as in [result.train_state]",
            )
    # Without any leaf there is no axis that gives the number of members.
    if not leaves or not jnp.shape(leaves[first])[0]:
        raise _no_members("none")
    return jnp.shape(leaves[first])[0]


def _expect_several(weights: Any) -> int:
    """Return the number of weights in a list; ConfigError unless it is a list of some."""
    # A Result is a tuple.
    if not isinstance(weights, list | tuple) or isinstance(weights, Result):
        raise _no_members(checks.show(weights))
    if not weights:
        raise _no_members("none")
    return len(weights)


def _no_members(got: str) -> ConfigError:
    return ConfigError(
        "collect weights",
        "train states or Weights of at least one member, in a list or stacked",
        got,
        "as in [one.train_state for one in results]",
    )


def _part(recipes: Sequence[Recipe], given: Weights | list[Weights], group: np.ndarray) -> Part:
    """Return the members of these indices, whose recipes differ in numbers alone."""
    if isinstance(given, list):
        # Recipes of one structure may have weights for inputs of different shapes.
        for index in group:
            trees.expect_like(f"collect weights {index}", given[index], given[group[0]])
        # leaves (...) of each member -> (members, ...)
        weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[given[i] for i in group])
    elif len(group) == len(recipes):
        # A single part takes the given stack without a copy.
        weights = given
    else:
        # leaves (all members, ...) -> (members of the part, ...)
        weights = jax.tree.map(lambda leaf: leaf[group], given)
    return make_part([recipes[index] for index in group], weights, group)


def make_part(recipes: Sequence[Recipe], weights: Weights, indices: np.ndarray) -> Part:
    """Return a part of some members.

    Args:
        recipes: Of each, of one structure.
        weights: Stacked.
        indices: Their indices among all members.
    """
    # Equal recipes are kept once: their numbers need no axis of members.
    is_stacked = any(one != recipes[0] for one in recipes)
    joined = stack(recipes) if is_stacked else recipes[0]
    # Static fields of a pytree must be hashable, as a tuple of Python ints is.
    return Part(joined, weights, tuple(map(int, indices)), is_stacked)


def expect_members(where: str, value: Any) -> Members:
    """Return the value if it is `Members`; ConfigError otherwise.

    Args:
        where: Name of the function in errors.
        value: The argument to check.
    """
    if not isinstance(value, Members):
        raise ConfigError(
            f"{where} members",
            "Members from ensemble.train or ensemble.collect",
            checks.show(value),
            "collect them, as in ensemble.collect(recipe, [result.train_state])",
        )
    for part in value.parts:
        trees.expect_not_donated(f"{where} members", part.weights)
    return value


def predict(
    members: Members,
    inputs: Any,
    *,
    batch_size: int = 256,
    key: RandomKey | None = None,
) -> Any:
    """Compute the outputs (members, n, ...) of each member for inputs (n, ...), in inference mode.

    Member i's outputs are those of `train.predict` with its recipe and weights, and with the key
    fold_in(key, i) if there is one. Functions of combination, uncertainty and calibration take the
    outputs. Members of one structure share a program: mapped on an accelerator, one after another
    on CPU, where this takes the same time and less memory.

    Args:
        members: From `ensemble.train` or `ensemble.collect`.
        inputs: Arrays whose first axis is the example.
        batch_size: Examples that pass through a network at once.
        key: Key of layers that sample at train=False; None for none.

    Raises:
        ConfigError: An argument is not of the type described here.
        TreeMismatchError: Members of different structures have different outputs.
        FnnError: The inputs do not fit a recipe, as for `train.predict`.
    """
    expect_members("predict", members)
    checks.whole("predict batch_size", batch_size)
    if key is not None:
        checks.key("predict key", key)
    outputs: list[Any] = []
    for part in members.parts:
        # The recipes of a part differ in numbers alone, so the first one checks the inputs for all.
        recipe = part.recipe_of(0)
        inputs = validate_inputs("inputs", recipe, inputs)
        # The numbers of each recipe, (members of the part, ...); None if all have the same.
        leaves = jax.tree.leaves(part.recipe) if part.is_stacked else None
        # The key of a member follows from its index among all members.
        indices = np.array(part.indices, np.int32)
        found = _predict(
            recipe,
            leaves,
            part.weights,
            inputs,
            indices,
            key,
            batch_size,
        )
        # Parts are joined along the axis of members, so all other axes must agree.
        if outputs:
            _expect_outputs(f"predict member {part.indices[0]}", found, outputs[0])
        outputs.append(found)
    if len(outputs) == 1:
        return outputs[0]
    # Parts follow one another; the members are in another order.
    order = np.argsort(np.concatenate([part.indices for part in members.parts]))
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays)[order], *outputs)


def _expect_outputs(where: str, outputs: Any, first: Any) -> None:
    """Raise TreeMismatchError unless two parts have outputs of one structure and shape."""

    def one(tree: Any) -> Any:
        # Without the axis of members.
        shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)
        return {"outputs": shape}

    trees.expect_like(where, one(outputs), one(first))


@per_recipe(static=(6,))
def _predict(
    recipe: Recipe,
    leaves: list[Any] | None,
    weights: Weights,
    inputs: Any,
    indices: np.ndarray,
    key: RandomKey | None,
    batch_size: int,
) -> Any:
    def predict_one(own: Any) -> Any:
        own_leaves, given, member = own
        one = recipe
        if own_leaves is not None:
            # The structure is common to the part, the numbers are those of this member.
            one = jax.tree.unflatten(jax.tree.structure(recipe), own_leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = one.built
        # With one key for all, members would draw the same noise.
        own_key = None if key is None else jax.random.fold_in(key, member)

        def predict_batch(index: Step, batch: Any) -> Any:
            return forward_pass(
                one,
                given,
                batch,
                own_key,
                index,
            )

        return map_batches(predict_batch, (inputs,), batch_size)

    # Members that are computed one after another share the memory of temporary values.
    if jax.default_backend() == "cpu":
        return jax.lax.map(predict_one, (leaves, weights, indices))
    return jax.vmap(predict_one)((leaves, weights, indices))
