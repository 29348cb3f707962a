"""Summary of a network: output shape, parameters, FLOPs and bytes of every layer."""

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

HEADER = ("path", "layer", "output", "parameters", "trained", "FLOPs", "bytes")
TEXT_COLUMNS = 3  # the first columns are text, the others numbers
TABLE_WIDTH = 120  # characters
OUTPUT_WIDTH = 24  # characters of the column of shapes at most
PATH_WIDTH = 8  # characters of the column of paths at least
BETWEEN = "(between)"  # the row of combinators' own arithmetic, such as the sum of a residual


class Row(NamedTuple):
    """The figures of one layer, for one example.

    Attributes:
        path: Path of its params, such as "body/conv_0".
        layer: Name of its maker.
        output: Shape of its output, without the batch axis.
        parameters: Number of its parameters, with the frozen ones.
        trained: Number of its trained parameters.
        flops: Floating-point operations of its forward pass.
        bytes: Memory of its parameters.
    """

    path: str
    layer: str
    output: Any
    parameters: int
    trained: int
    flops: int
    bytes: int


class Summary(NamedTuple):
    """The rows of a network's layers and their sums; prints as a table, in a notebook as HTML.

    Attributes:
        rows: One row for each layer, in the order of the forward pass.
    """

    rows: tuple[Row, ...]

    @property
    def total(self) -> Row:
        """The sums: parameters, trained parameters, FLOPs for one example, bytes."""
        # Column by column, so that a network without layers has sums of 0.
        numbers = Row._fields[TEXT_COLUMNS:]
        sums = [sum(getattr(row, column) for row in self.rows) for column in numbers]
        return Row("total", "", None, *sums)

    def __repr__(self) -> str:
        """The table, at most 120 characters wide; paths that are too long lose their beginning."""
        body = [_cells(row) for row in self.rows]
        table = [list(HEADER), *body, _cells(self.total)]
        # Each column is as wide as its longest cell.
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        widths[2] = min(widths[2], OUTPUT_WIDTH)
        # The paths get the space that the other columns and the gaps of two between them leave.
        space = TABLE_WIDTH - sum(widths[1:]) - 2 * len(widths[1:])
        widths[0] = min(widths[0], max(PATH_WIDTH, space))
        lines = []
        for cells in table:
            columns = zip(range(len(cells)), cells, widths, strict=True)
            aligned = [_align(column, cell, width) for column, cell, width in columns]
            lines.append("  ".join(aligned))
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def _repr_html_(self) -> str:
        head = _html_row("th", HEADER)
        # Names of layers are text: `_html_row` escapes them.
        body = "".join(_html_row("td", _cells(row)) for row in self.rows)
        foot = _html_row("th", _cells(self.total))
        return f"<table><thead>{head}</thead><tbody>{body}</tbody><tfoot>{foot}</tfoot></table>"


def summary(
    network: Layer,
    shape: Any,
    *,
    dtype: Any = jnp.float32,
) -> Summary:
    """Summarize a network: output, parameters, FLOPs and bytes of every layer, for one example.

    Nothing is computed or allocated. The FLOPs are those of the forward pass with train=False, 2
    for each multiply-add. Arithmetic between layers has a row named "(between)". The sums are those
    of the params of the whole network, with the frozen ones.

    Args:
        network: The network.
        shape: Shape of one example, without the batch axis, or a tree of such shapes, as for init.
        dtype: Dtype of the input, one for all its arrays or one for each.

    Returns:
        The rows and sums; print it for a table.

    Raises:
        ConfigError: `network` is not a Layer.
        ShapeError: `shape` is not a shape or a tree of shapes.
    """
    expect_layer("summary network", network)
    if not all(trees.is_shape(leaf) for leaf in jax.tree.leaves(shape, is_leaf=trees.is_shape)):
        raise ShapeError(
            "summary shape",
            "whole numbers, without the batch axis",
            shape,
            "such as (28, 28, 1)",
        )
    # Both are filled by `_labeled`, by the path of the layer.
    makers: dict[str, str] = {}
    outputs: dict[str, Any] = {}
    labeled = map_leaves(lambda path, leaf: _labeled(path, leaf, makers, outputs), network)
    # Shapes without values: a network of any size is summarized at once.
    params, state = jax.eval_shape(lambda: network.init(jax.random.key(0), shape)[:2])

    def forward(params: Params, state: State, x: Any) -> Any:
        y, _ = labeled.apply(params, state, x, train=False)
        return y

    # Tracing fills `makers` and `outputs` by path; the program holds the operations by label.
    program = jax.make_jaxpr(forward)(params, state, _input(shape, dtype))
    operations = count(program, LABEL + BETWEEN)
    flops = {label.removeprefix(LABEL): number for label, number in operations.items()}
    trained = _by_layer(trees.named_leaves(params), makers)
    frozen = _by_layer(_frozen_leaves(state), makers)
    paths = [*makers, *trained, *frozen, *(path for path, number in flops.items() if number)]
    rows = []
    # Without duplicates, in the order of the forward pass.
    for path in dict.fromkeys(paths):
        trained_leaves = trained.get(path, [])
        leaves = [*trained_leaves, *frozen.get(path, [])]
        row = Row(
            path,
            makers.get(path, ""),
            outputs.get(path),
            sum(leaf.size for leaf in leaves),
            sum(leaf.size for leaf in trained_leaves),
            flops.get(path, 0),
            sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        )
        rows.append(row)
    return Summary(tuple(rows))


def _labeled(path: str, layer: Layer, makers: dict[str, str], outputs: dict[str, Any]) -> Layer:
    """Label a layer's part of the program with its path, and record its maker and output shape."""
    makers.setdefault(path, name_of(layer))

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        def labeled(params: Params, state: State, x: Any) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=train)

        # The name of a jitted function stays in the jaxpr, where `count` finds it.
        labeled.__name__ = LABEL + path
        y, new_state = jax.jit(labeled)(params, state, x)
        outputs[path] = jax.tree.map(lambda leaf: leaf.shape[1:], y)
        return y, new_state

    return Layer(layer.init, apply, layer.name)


def _input(shape: Any, dtype: Any) -> Any:
    """Return a batch of one example, without values."""
    dtypes = dtype
    if not isinstance(dtype, tuple | list | dict):
        dtypes = jax.tree.map(lambda _: dtype, shape, is_leaf=trees.is_shape)
    return jax.tree.map(
        lambda size, dtype: jax.ShapeDtypeStruct((1, *size), dtype),
        shape,
        dtypes,
        is_leaf=trees.is_shape,
    )


def _by_layer(leaves: dict[str, Any], layer_paths: Collection[str]) -> dict[str, list[Any]]:
    """Group leaves by the path of their layer; a leaf outside of all layers by its path."""
    groups: dict[str, list[Any]] = {}
    for leaf_path, leaf in leaves.items():
        candidates = [path for path in layer_paths if _is_under(leaf_path, path)]
        # The innermost layer has the longest path.
        layer_path = max(candidates, key=len, default=leaf_path)
        groups.setdefault(layer_path, []).append(leaf)
    return groups


def _frozen_leaves(state: State) -> dict[str, Any]:
    """Return the frozen leaves of the state by the paths that they have as params."""
    found = {}
    for leaf_path, leaf in trees.named_leaves(state).items():
        names = leaf_path.split("/")
        if FROZEN in names:
            names.remove(FROZEN)
            found["/".join(names)] = leaf
    return found


def _is_under(path: str, prefix: str) -> bool:
    return not prefix or f"{path}/".startswith(f"{prefix}/")


def _cells(row: Row) -> list[str]:
    shape = "" if row.output is None else str(row.output)
    numbers = [f"{number:,}" for number in row[TEXT_COLUMNS:]]
    return [row.path, row.layer, shape, *numbers]


def _align(column: int, cell: str, width: int) -> str:
    """Pad a cell to its width: numbers on the right; text on the left, cut at its beginning."""
    if column >= TEXT_COLUMNS:
        return cell.rjust(width)
    if len(cell) > width:
        cell = f"…{cell[1 - width :]}"
    return cell.ljust(width)


def _html_row(tag: str, cells: Iterable[str]) -> str:
    columns = [f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells]
    return f"<tr>{''.join(columns)}</tr>"
