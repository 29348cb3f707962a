"""One layout of a call: that of the data, that of the params, and that of an argument `mesh`."""

from typing import Any

from fnn.errors import ConfigError
from fnn.train.devices import layout_of
from fnn.train.layout import Layout, show_mesh
from fnn.train.param_specs import spec_of


def common_layout(
    where: str,
    by_data: Layout | None,
    by_params: Layout | None,
) -> Layout | None:
    """Return the layout of examples and of parameters, each of which may be on a mesh already.

    Args:
        where: Name of the data in errors.
        by_data: From `layout_of_data`.
        by_params: From `layout_of` or `layout_of_state`.

    Raises:
        ConfigError: The parameters are divided over another mesh.
    """
    if by_data is None or by_params is None or not by_params.divides_params:
        return by_data or by_params
    if by_data.mesh != by_params.mesh:
        raise ConfigError(
            where,
            f"data on the devices of the params, {show_mesh(by_params.mesh)}",
            f"data divided over {show_mesh(by_data.mesh)}",
            "divide it over an axis of that mesh, or give arrays of the host",
        )
    return by_params._replace(axis=by_data.axis)


def expect_same_division(
    where: str,
    layout: Layout | None,
    params: Any,
) -> None:
    """Raise ConfigError if params are divided already, but not as by the layout of an argument.

    Args:
        where: Name of the argument in errors.
        layout: That of the argument.
        params: Arrays of a train state.
    """
    current = layout_of(params)
    if layout is None or current is None or not current.divides_params:
        return
    is_same = layout.mesh == current.mesh
    if is_same and layout.specs(params) == current.specs(params):
        return
    present = current.specs(params)
    wanted = layout.specs(params)
    differing = [path for path in present if not is_same or present[path] != wanted.get(path)]
    path = (differing or list(wanted.keys() - present.keys()))[0]
    is_now = f"{path} as {spec_of(present.get(path, ()))} of {show_mesh(current.mesh)}"
    raise ConfigError(
        where,
        f"the layout of the train state, {is_now}",
        f"{spec_of(wanted.get(path, ()))} of {show_mesh(layout.mesh)}",
        "leave mesh out, or bring the train state to the host first, by jax.device_get",
    )
