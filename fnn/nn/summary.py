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
from fnn.types import FROZEN, Layer, Params, Shape, State

HEADER = (
    "path",
    "layer",
    "output",
    "parameters",
    "trained",
    "FLOPs",
    "bytes",
)
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
        names = Row._fields[TEXT_COLUMNS:]
        sums = []
        for name in names:
            column = [getattr(row, name) for row in self.rows]
            sums.append(sum(column))
        return Row("total", "", None, *sums)

    def __repr__(self) -> str:
        """The table, at most 120 characters wide; paths that are too long lose their beginning."""
        body = [_cells(row) for row in self.rows]
        foot = _cells(self.total)
        table = [list(HEADER), *body, foot]
        # Each column is as wide as its longest cell.
        widths = []
        for column in zip(*table, strict=True):
            lengths = [len(cell) for cell in column]
            widths.append(max(lengths))
        widths[2] = min(widths[2], OUTPUT_WIDTH)
        # The paths get the space that the other columns and the gaps of two between them leave.
        other_widths = widths[1:]
        gaps = 2 * len(other_widths)
        space = TABLE_WIDTH - sum(other_widths) - gaps
        path_width = max(PATH_WIDTH, space)
        widths[0] = min(widths[0], path_width)
        lines = []
        for cells in table:
            aligned = []
            for index, cell in enumerate(cells):
                aligned.append(_align(index, cell, widths[index]))
            lines.append("  ".join(aligned))
        head, *rows, last = lines
        rule = "-" * len(head)
        return "\n".join([head, rule, *rows, rule, last])

    def _repr_html_(self) -> str:
        head = _html_row("th", HEADER)
        # Names of layers are text: `_html_row` escapes them.
        rows = []
        for row in self.rows:
            cells = _cells(row)
            rows.append(_html_row("td", cells))
        body = "".join(rows)
        sums = _cells(self.total)
        foot = _html_row("th", sums)
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
    shapes = jax.tree.leaves(shape, is_leaf=trees.is_shape)
    if not all(trees.is_shape(leaf) for leaf in shapes):
        raise ShapeError(
            "summary shape",
            "whole numbers, without the batch axis",
            shape,
            "such as (28, 28, 1)",
        )
    # Both are filled by `_labeled`, by the path of the layer.
    makers: dict[str, str] = {}
    outputs: dict[str, Any] = {}

    def label(path: str, leaf: Layer) -> Layer:
        return _labeled(path, leaf, makers, outputs)

    labeled = map_leaves(label, network)

    def init() -> tuple[Params, State]:
        key = jax.random.key(0)
        params, state, _ = network.init(key, shape)
        return params, state

    def forward(params: Params, state: State, x: Any) -> Any:
        y, _ = labeled.apply(params, state, x, train=False)
        return y

    # Shapes without values: a network of any size is summarized at once.
    params, state = jax.eval_shape(init)
    x = _input(shape, dtype)
    # Tracing fills `makers` and `outputs` by path; the program holds the operations by label.
    program = jax.make_jaxpr(forward)(params, state, x)
    operations = count(program, LABEL + BETWEEN)
    flops = {}
    for name, number in operations.items():
        path = name.removeprefix(LABEL)
        flops[path] = number
    trained = _by_layer(trees.named_leaves(params), makers)
    frozen = _by_layer(_frozen_leaves(state), makers)
    computing = [path for path, number in flops.items() if number]
    paths = [*makers, *trained, *frozen, *computing]
    rows = []
    # Without duplicates, in the order of the forward pass.
    for path in dict.fromkeys(paths):
        trained_leaves = trained.get(path, [])
        frozen_leaves = frozen.get(path, [])
        leaves = [*trained_leaves, *frozen_leaves]
        row = Row(
            path=path,
            layer=makers.get(path, ""),
            output=outputs.get(path),
            parameters=sum(leaf.size for leaf in leaves),
            trained=sum(leaf.size for leaf in trained_leaves),
            flops=flops.get(path, 0),
            bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        )
        rows.append(row)
    return Summary(tuple(rows))


def _labeled(
    path: str,
    layer: Layer,
    makers: dict[str, str],
    outputs: dict[str, Any],
) -> Layer:
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
        def labeled(
            params: Params,
            state: State,
            x: Any,
        ) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=train)

        def shape_of_example(leaf: jax.Array) -> Shape:
            return leaf.shape[1:]

        # The name of a jitted function stays in the jaxpr, where `count` finds it.
        labeled.__name__ = LABEL + path
        program_part = jax.jit(labeled)
        y, new_state = program_part(params, state, x)
        outputs[path] = jax.tree.map(shape_of_example, y)
        return y, new_state

    return Layer(layer.init, apply, layer.name)


def _input(shape: Any, dtype: Any) -> Any:
    """Return a batch of one example, without values."""

    def one_example(size: Shape, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *size), dtype)

    dtypes = dtype
    # One dtype holds for all arrays.
    if not isinstance(dtype, tuple | list | dict):
        dtypes = jax.tree.map(lambda _: dtype, shape, is_leaf=trees.is_shape)
    return jax.tree.map(one_example, shape, dtypes, is_leaf=trees.is_shape)


def _by_layer(
    leaves: dict[str, Any],
    layer_paths: Collection[str],
) -> dict[str, list[Any]]:
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
    # The path of the whole network is empty. With the slash, "conv_1" is not above "conv_10".
    if not prefix:
        return True
    folder = f"{prefix}/"
    return f"{path}/".startswith(folder)


def _cells(row: Row) -> list[str]:
    # A layer that is never applied has no output.
    shape = "" if row.output is None else str(row.output)
    figures = row[TEXT_COLUMNS:]
    numbers = [f"{number:,}" for number in figures]
    return [row.path, row.layer, shape, *numbers]


def _align(
    column: int,
    cell: str,
    width: int,
) -> str:
    """Pad a cell to its width: numbers on the right; text on the left, cut at its beginning."""
    if column >= TEXT_COLUMNS:
        return cell.rjust(width)
    if len(cell) > width:
        # The ellipsis takes one of the characters.
        end = cell[1 - width :]
        cell = f"…{end}"
    return cell.ljust(width)


def _html_row(tag: str, cells: Iterable[str]) -> str:
    columns = []
    for cell in cells:
        text = html.escape(cell)
        columns.append(f"<{tag}>{text}</{tag}>")
    joined = "".join(columns)
    return f"<tr>{joined}</tr>"
