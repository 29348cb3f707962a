"""The division of a run among devices: `train.layout`, and the shardings that follow from it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import checks
from fnn.errors import ConfigError
from fnn.train.param_specs import Rules, Specs, as_rules, param_specs, tree_specs
from fnn.types import TrainState, Weights

ADVICE = 'as in jax.make_mesh((8,), ("data",))'
EXAMPLES = "data"  # the axis over which examples are divided, of a mesh of several axes


class Layout(NamedTuple):
    """The division of examples, and of parameters, among devices. Made by `train.layout`.

    Attributes:
        mesh: The devices. All axes are Auto: XLA derives the shardings within a program.
        axis: The axis of the mesh over which examples are divided.
        fsdp: Whether parameters, gradients and optimizer state are divided over it as well.
        rules: PartitionSpecs of parameters by pattern of paths.
        regather: Whether the backward pass gathers parameters again.
    """

    mesh: Mesh
    axis: str
    fsdp: bool = False
    rules: Rules = ()
    regather: bool = True

    @property
    def parts(self) -> int:
        """The number of parts of a batch."""
        return self.mesh.shape[self.axis]

    @property
    def divides_params(self) -> bool:
        """Whether parameters are divided. Otherwise each device has all of them."""
        return self.fsdp or bool(self.rules)

    @property
    def divided(self) -> NamedSharding:
        """The sharding of arrays whose first axis is the example."""
        return NamedSharding(self.mesh, P(self.axis))

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of arrays that each device has."""
        return NamedSharding(self.mesh, P())

    def specs(self, params: Any) -> Specs:
        """Return the entries of the parameters that are divided, by path; see `param_specs`."""
        axes = tuple(self.mesh.shape.items())
        return param_specs(axes, self.axis, self.fsdp, self.rules, params)


# The argument `mesh` of the functions that train and evaluate.
Devices = Mesh | NamedSharding | Layout


def layout(
    mesh: Mesh | AbstractMesh,
    *,
    axis: str | None = None,
    fsdp: bool = False,
    rules: Mapping[str, P] | None = None,
    regather: bool = True,
) -> Layout:
    """Describe how a run is divided among devices: its examples, and its parameters if wanted.

    It is an argument `mesh` of `train.run`, `lab.fit`, `train.evaluate`, `train.predict` and
    `train.start`. Results do not depend on it, up to rounding.

    Fully sharded data parallelism (FSDP) divides each parameter over the devices that the examples
    are divided over, with its gradient and its optimizer state. A layer gathers its parameters when
    it computes, and its gradients are summed and divided [Rajbhandari et al. 2020, ZeRO,
    arXiv:1910.02054]. Tensor parallelism divides the computation of layers too, by `rules`.

        mesh = jax.make_mesh((4, 2), ("data", "model"))
        train.layout(mesh, fsdp=True, rules=train.transformer_rules("model"))

    Args:
        mesh: The devices, with one axis or more. An AbstractMesh has none: it is for plans alone.
        axis: Name of the axis over which examples are divided; by default the only axis, or that
            named "data".
        fsdp: Whether parameters are divided over `axis`: each on its largest axis that the devices
            divide, of the last two; one without such an axis is copied.
        rules: PartitionSpecs by pattern of the paths of parameters, as in {"*up/kernel":
            PartitionSpec(None, "model")}; a pattern is a path or the beginning of one, in which `*`
            matches any text. Specs are aligned at the last axis of an array.
        regather: Whether the backward pass gathers the parameters again, so that no device ever
            has all of them. False gathers them once a step and keeps them until its end.

    Raises:
        ConfigError: An argument is not of the type described here, an axis does not exist, or a
            rule names one twice. Rules are matched with the parameters when a run begins.
    """
    if not isinstance(mesh, Mesh | AbstractMesh):
        raise ConfigError("layout mesh", "a jax.sharding.Mesh", checks.show(mesh), ADVICE)
    names = ", ".join(map(str, mesh.axis_names))
    if axis is None:
        is_single = len(mesh.axis_names) == 1
        axis = mesh.axis_names[0] if is_single else EXAMPLES
    if axis not in mesh.axis_names:
        raise ConfigError(
            "layout axis",
            f"an axis among {names or 'none'}",
            axis,
            "name the one over which examples are divided",
        )
    return Layout(
        automatic(mesh),
        axis,
        checks.flag("layout fsdp", fsdp),
        as_rules("layout rules", mesh.shape, rules),
        checks.flag("layout regather", regather),
    )


def automatic(mesh: Any) -> Mesh:
    """Return the mesh with axes of type Auto.

    With the explicit axes of jax.make_mesh each operation would have to name its sharding.
    """
    types = (AxisType.Auto,) * len(mesh.axis_names)
    if isinstance(mesh, AbstractMesh):
        # It has sizes only, which is all that a plan needs.
        abstract: Any = AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=types)
        return abstract
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def show_mesh(mesh: Mesh) -> str:
    """Return the names and sizes of the axes of a mesh as text."""
    sizes = [f"{name} {size}" for name, size in mesh.shape.items()]
    return f"Mesh({', '.join(sizes)})"


def state_shardings(layout: Layout, tree: Any) -> Any:
    """Return the sharding of each array of a tree, in which train states and weights are nodes.

    Args:
        layout: The layout.
        tree: Arrays, or shapes.
    """

    def of_node(node: Any) -> Any:
        if not has_params(node):
            return layout.replicated
        leaves, structure = jax.tree.flatten(node)
        shapes = tuple(jax.typeof(leaf).shape for leaf in leaves)
        return jax.tree.unflatten(structure, _state_shardings(layout, structure, shapes))

    return jax.tree.map(of_node, tree, is_leaf=has_params)


def has_params(node: Any) -> bool:
    """Return whether a value is a train state or weights, with parameters."""
    # A train state of key and step alone has none.
    return isinstance(node, TrainState | Weights) and bool(jax.tree.leaves(node.params))


@lru_cache(maxsize=64)
def _state_shardings(
    layout: Layout,
    structure: Any,
    shapes: tuple[Any, ...],
) -> list[NamedSharding]:
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    node = jax.tree.unflatten(structure, leaves)
    specs = layout.specs(node.params)
    return [NamedSharding(layout.mesh, spec) for spec in tree_specs(specs, node.params, node)]
