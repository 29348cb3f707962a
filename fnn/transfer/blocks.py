"""The blocks of a network from input to output, as units of fine-tuning."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

from fnn import checks, trees
from fnn.errors import ConfigError, TreeMismatchError
from fnn.nn import repeat
from fnn.nn.core.composite import parts
from fnn.transfer.head import MAX_LISTED, expect_plain, last_part
from fnn.types import KERNEL, Layer, Weights
from fnn.values import Made


class Block(NamedTuple):
    """A block of a network.

    Attributes:
        paths: Paths of its layers with params: one with a kernel, and the norms that follow it.
        copies: Number of layers in a stack of `nn.repeat`; 1 for other blocks.
    """

    paths: tuple[str, ...]
    copies: int = 1


def blocks(network: Layer, weights: Weights) -> tuple[Block, ...]:
    """Return the blocks of a network from input to output, the units of fine-tuning.

        [block.paths for block in transfer.blocks(network, weights)]
        [('conv_0', 'batch_norm_1'), ('conv_4', 'batch_norm_5'), ('dense_9',)]

    A block is a layer with a kernel, such as a convolution or a residual connection, and the layers
    without one that follow it, such as norms. Chains of several such layers are divided into them.
    An `nn.repeat` is one block of several layers.

    Args:
        network: The network, without `nn.freeze`.
        weights: Its weights.

    Raises:
        ConfigError: An argument is not of the type described here.
        TreeMismatchError: The weights have no params of the network's layers.
    """
    given = expect_plain("blocks", network, weights)
    leaves = trees.named_leaves(given.params)
    found: list[Block] = []
    # Norms behind a stack, which begin the next block.
    waiting: tuple[str, ...] = ()
    for path, layer in units(network, given):
        own = leaves_below(leaves, path)
        # Activations and other layers without params are in no block.
        if not own:
            continue
        has_kernel = any(is_kernel(name) for name in own)
        # Nothing joins a stack, whose copies are several layers: the norm of a transformer belongs
        # to its head.
        is_joined = found and found[-1].copies == 1
        if has_kernel or not found:
            # All params of a stack have a first axis of its copies.
            copies = next(iter(own.values())).shape[0] if is_stack(layer) else 1
            own_paths = (*waiting, path)
            # A stack has a rate for each copy, so that other layers cannot share its block.
            if copies > 1 and waiting:
                found.append(Block(waiting))
                own_paths = (path,)
            found.append(Block(own_paths, copies))
            waiting = ()
        elif is_joined and not waiting:
            found[-1] = found[-1]._replace(paths=(*found[-1].paths, path))
        else:
            waiting += (path,)
    # Norms behind the last stack, of a network without a head.
    if waiting:
        found.append(Block(waiting))
    if not found:
        known = ", ".join(given.params) or "none"
        expected = f"the params of its layers, of {', '.join(parts(network)) or 'none'}"
        raise TreeMismatchError(
            "blocks weights",
            expected,
            f"params of {known}",
            "give the weights that this network was trained to",
        )
    return tuple(found)


def units(
    network: Layer,
    given: Weights,
    prefix: str = "",
) -> Iterator[tuple[str, Layer]]:
    """Yield path and layer of the parts of a network from input to output.

    Chains of several layers with a kernel are divided into their parts.

    Args:
        network: The network.
        given: Its weights, without frozen params.
        prefix: Beginning of all paths.
    """
    leaves = trees.named_leaves(given.params)
    for name, part in parts(network).items():
        path = f"{prefix}{name}"
        # The parts of this part that hold a kernel somewhere below.
        with_kernel = [
            inner
            for inner in part.parts
            if any(is_kernel(leaf) for leaf in leaves_below(leaves, f"{path}/{inner}"))
        ]
        # A residual connection, whose output is that of no part, stays a whole.
        if len(with_kernel) > 1 and last_part(part) is not None:
            yield from units(part, given, f"{path}/")
        else:
            yield path, part


def is_stack(layer: Layer) -> bool:
    """Return whether a layer is an `nn.repeat`, whose params are those of several layers."""
    value: Any = layer
    # A maker of the user may return one.
    while isinstance(value, Made):
        if value.maker is repeat:
            return True
        value = value.built
    return False


def leaves_below(leaves: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the leaves at a path or below it."""
    return {name: leaf for name, leaf in leaves.items() if is_below(name, path)}


def is_below(name: str, path: str) -> bool:
    """Return whether a path is another one, or begins with it."""
    # With the slash, conv_10 is not below conv_1.
    return f"{name}/".startswith(f"{path}/")


def is_kernel(name: str) -> bool:
    """Return whether the path of a leaf is that of a kernel."""
    return name.rpartition("/")[2] == KERNEL


def last_blocks_from(
    where: str,
    found: tuple[Block, ...],
    last: int | str,
) -> tuple[Block, ...]:
    """Return the last blocks, by their number or from a path on.

    Raises:
        ConfigError: There are fewer blocks, or none at the path; the message lists close ones.
    """
    if isinstance(last, str):
        # The path may be that of a layer around several blocks, of which the first counts.
        for index, block in enumerate(found):
            if any(is_below(path, last) for path in block.paths):
                return found[index:]
        known = [path for block in found for path in block.paths]
        # At a ratio of 0.5, half of the letters agree; else the first blocks serve as examples.
        close = get_close_matches(last, known, MAX_LISTED, 0.5) or known[:MAX_LISTED]
        expected = f"a number of blocks, or the path of one, such as {', '.join(close)}"
        raise ConfigError(
            where,
            expected,
            repr(last),
            "transfer.blocks lists them",
        )
    if checks.whole(where, last) > len(found):
        expected = f"at most the {len(found)} blocks"
        raise ConfigError(
            where,
            expected,
            last,
            "transfer.blocks lists them",
        )
    return found[len(found) - last :]
