"""A network at a glance: what every layer gives, holds and costs."""

import html
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.nn.core.composite import expect_layer, map_leaves, name_of
from fnn.nn.flops import LABEL, count
from fnn.types import FROZEN, Layer, Params, State

HEADS = ("path", "layer", "output", "parameters", "trained", "FLOPs", "bytes")
WIDTH = 120  # of the text, in characters
BETWEEN = "(between)"  # what combinators compute themselves, as the sum of a residual


class Row(NamedTuple):
    """A layer: where its params are, its maker, the shape of what it gives, and its figures for one example."""

    path: str
    layer: str
    output: Any
    parameters: int
    trained: int
    flops: int
    bytes: int


class Summary(NamedTuple):
    """The rows of a network's layers and their sums; as text it is a table, and in a notebook one in HTML."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> Row:
        """The sums: all parameters, those that are trained, the FLOPs of one example, and the parameters' bytes."""
        return Row(
            "total", "", None, *(sum(column) for column in list(zip(*self.rows, strict=True))[3:])
        )

    def __repr__(self) -> str:
        """The table, at most 120 characters wide; the paths too long for that lose their beginnings."""
        cells = [list(HEADS), *map(_cells, (*self.rows, self.total))]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        widths[2] = min(widths[2], 24)
        widths[0] = min(widths[0], max(8, WIDTH - sum(widths[1:]) - 2 * len(widths[1:])))
        lines = [
            "  ".join(_fitted(*place) for place in zip(range(7), row, widths, strict=True))
            for row in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def _repr_html_(self) -> str:
        rows = [_html_row("td", _cells(row)) for row in self.rows]
        head, foot = _html_row("th", HEADS), _html_row("th", _cells(self.total))
        return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody><tfoot>{foot}</tfoot></table>"


def summary(network: Layer, shape: Any, *, dtype: Any = jnp.float32) -> Summary:
    """What every layer of a network gives, holds and costs, for one example of that shape; nothing is run.

    shape: as for init, without the batch axis, and dtype that of the input, one for all its arrays or one for each.
    A row a layer: its output's shape, its parameters, how many of them are trained (frozen ones are not), the FLOPs of
    the forward pass with train=False (2 for a multiplication with its addition), and its parameters' bytes. The sums
    are those of the params of the whole network, with what is frozen. ShapeError for what is no shape.
    """
    expect_layer("summary network", network)
    shapes = jax.tree.leaves(shape, is_leaf=trees.is_shape)
    if not all(map(trees.is_shape, shapes)):
        raise ShapeError(
            "summary shape", "whole numbers, without the batch axis", shape, "such as (28, 28, 1)"
        )
    makers: dict[str, str] = {}
    outputs: dict[str, Any] = {}
    watched = map_leaves(lambda path, leaf: _watched(path, leaf, makers, outputs), network)
    params, state = jax.eval_shape(lambda: network.init(jax.random.key(0), shape)[:2])
    program = jax.make_jaxpr(lambda *given: watched.apply(*given, train=False)[0])(
        params, state, _input(shape, dtype)
    )
    flops = {
        label.removeprefix(LABEL): operations
        for label, operations in count(program, LABEL + BETWEEN).items()
    }
    trained = _by_owner(trees.named_leaves(params), makers)
    frozen = _by_owner(_frozen(state, makers), makers)
    rows = []
    for path in dict.fromkeys(
        [*makers, *trained, *frozen, *(place for place in flops if flops[place])]
    ):
        held = [*trained.get(path, []), *frozen.get(path, [])]
        sizes = sum(leaf.size for leaf in held), sum(leaf.size for leaf in trained.get(path, []))
        memory = sum(leaf.size * leaf.dtype.itemsize for leaf in held)
        rows.append(
            Row(path, makers.get(path, ""), outputs.get(path), *sizes, flops.get(path, 0), memory)
        )
    return Summary(tuple(rows))


def _watched(path: str, layer: Layer, makers: dict[str, str], outputs: dict[str, Any]) -> Layer:
    """The layer, telling the shape of what it gives, its part of the program being labeled with its path."""
    makers.setdefault(path, name_of(layer))

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        def labeled(params: Params, state: State, x: Any) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=train)

        labeled.__name__ = LABEL + path
        y, new_state = jax.jit(labeled)(params, state, x)
        outputs[path] = jax.tree.map(lambda leaf: leaf.shape[1:], y)
        return y, new_state

    return Layer(layer.init, apply, layer.name)


def _input(shape: Any, dtype: Any) -> Any:
    one_each = isinstance(dtype, tuple | list | dict)
    dtypes = dtype if one_each else jax.tree.map(lambda _: dtype, shape, is_leaf=trees.is_shape)
    return jax.tree.map(
        lambda own, dtype: jax.ShapeDtypeStruct((1, *own), dtype),
        shape,
        dtypes,
        is_leaf=trees.is_shape,
    )


def _by_owner(leaves: dict[str, Any], paths: Collection[str]) -> dict[str, list[Any]]:
    """The leaves by the path of the layer that holds them, or by their own where there is none."""
    owned: dict[str, list[Any]] = {}
    for place, leaf in leaves.items():
        owned.setdefault(
            max((path for path in paths if _is_under(place, path)), key=len, default=place), []
        ).append(leaf)
    return owned


def _frozen(state: State, paths: Collection[str]) -> dict[str, Any]:
    """The frozen leaves of the state, by the paths that they had as params: less "frozen", where it names no part."""
    found = {}
    for place, leaf in trees.named_leaves(state).items():
        names = place.split("/")
        for depth, name in enumerate(names):
            is_part = any(_is_under(path, "/".join(names[: depth + 1])) for path in paths)
            if name == FROZEN and not is_part:
                found["/".join(names[:depth] + names[depth + 1 :])] = leaf
    return found


def _is_under(place: str, path: str) -> bool:
    return not path or f"{place}/".startswith(f"{path}/")


def _cells(row: Row) -> list[str]:
    shape = "" if row.output is None else str(row.output)
    return [row.path, row.layer, shape, *(f"{figure:,}" for figure in row[3:])]


def _fitted(place: int, cell: str, width: int) -> str:
    """The cell in its column: text from the left, cut at its beginning, and numbers to the right."""
    return (
        cell.rjust(width)
        if place > 2
        else (cell if len(cell) <= width else f"…{cell[1 - width :]}").ljust(width)
    )


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
