"""Pretrained weights of torchvision and timm, from safetensors files."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import (
    CheckpointCorruptError,
    ConfigError,
    DTypeError,
    ShapeError,
    TreeMismatchError,
)
from fnn.lab.checkpoints.manifest import DTYPES
from fnn.lab.checkpoints.reader import FOREIGN
from fnn.lab.checkpoints.safetensors import (
    NAMES,
    StoredTensor,
    find_tensors,
    read_tensor,
    safetensors_for,
)
from fnn.lab.weight_names import LAYOUTS, OF_RESNET_D, OPTIONS, UNSUPPORTED
from fnn.types import Layer, Params, RandomKey, Shape, State

# fnn's names of leaves, and torch's.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
JOINED = ("query", "key", "value")
# torch counts batches for a momentum of None, which fnn does not have; a token in the place of
# patches that are hidden is used in pretraining alone.
IGNORED = ("num_batches_tracked", "mask_token")
# torch.save writes a zip archive; older versions wrote the pickles alone.
PICKLED = (b"PK\x03\x04", b"\x80")
# Path of the vectors of positions. Next to tokens of this name, timm has none for the class token.
POSITIONS = "positions/table"
WITHOUT_CLASS = "reg_token"
# Path of the classifier in the networks, whose size differs from task to task.
HEAD = "head/"


class Source(NamedTuple):
    """The tensors in a file that a leaf is made of.

    Attributes:
        names: Their names: one, or one a block if the leaf is a stack; none if no rule matches.
        stacked: Whether the leaf is a stack of them, (blocks, ...).
        part: Index of the leaf in a tensor of query, key and value; None for the whole tensor.
    """

    names: list[str]
    stacked: bool
    part: int | None


def load_weights(
    path: str | os.PathLike[str],
    network: Layer,
    shape: Shape,
    *,
    prefix: str | None = None,
    head_key: RandomKey | None = None,
) -> tuple[Params, State]:
    """Load weights of torchvision or timm, for nn.pretrained(network, params, state).

    Strict: every tensor is used, every leaf is filled, and no number is rounded. Files of DeiT and
    DINOv2 have names of timm, and fit nn.vit with distilled=True, or registers= and layer_scale=.
    Where timm has no vector of position for the class token, which contains it, that is 0. Needs
    the extra `weights` of fnn.

    Args:
        path: A safetensors file, as from `safetensors.torch.save_file(model.state_dict(), path)`,
            or the index of the shards of a large one, as `model.safetensors.index.json`.
        network: An nn.resnet or nn.vit of the sizes in the file.
        shape: Shape of an example, (height, width, channels).
        prefix: Beginning of the names of the model's tensors, such as "backbone."; tensors of other
            names are left out. If None, a beginning that all names share, as the "module." of
            DistributedDataParallel, is skipped.
        head_key: Random key of a head that is initialized as by network.init; a head in the file is
            left out. For files without a head, another number of classes, or a head of other
            layers. If None, the head is read as well.

    Returns:
        The params and the state of the network.

    Raises:
        ConfigError: The file does not exist or is not a complete safetensors file, no name begins
            with `prefix`, the network is of another kind, or the package safetensors is not
            installed.
        DTypeError: A tensor has a dtype that the leaf cannot hold, or `head_key` is not a key.
        ShapeError: A tensor has another shape than the leaf.
        TreeMismatchError: A tensor is missing or superfluous.
    """
    safetensors_for("load_weights")
    if head_key is not None:
        checks.key("load_weights head_key", head_key)
    tensors = _find_weights(Path(path))
    # Abstract: only paths, shapes and dtypes are needed.
    params, state = jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0))
    leaves = trees.named_leaves(params) | trees.named_leaves(state)
    is_headless = head_key is not None
    if is_headless:
        leaves = {name: leaf for name, leaf in leaves.items() if not name.startswith(HEAD)}
    sources = _match_layout(leaves, set(tensors), prefix, is_headless)
    loaded: dict[str, jax.Array] = {}
    if head_key is not None:
        drawn_params, drawn_state, _ = network.init(head_key, shape)
        drawn = trees.named_leaves(drawn_params) | trees.named_leaves(drawn_state)
        loaded |= {name: leaf for name, leaf in drawn.items() if name.startswith(HEAD)}
    for leaf_path, source in sources.items():
        loaded[leaf_path] = _read_leaf(tensors, leaf_path, source, leaves[leaf_path])
    return _fill(params, loaded), _fill(state, loaded)


def _find_weights(path: Path) -> dict[str, StoredTensor]:
    """Find the tensors of a file; ConfigError if torch.save pickled it, or it is not complete."""
    try:
        tensors = find_tensors("load_weights path", path)
    except CheckpointCorruptError as error:
        _, expected, got, _ = error.args
        if got in [FOREIGN[magic] for magic in PICKLED]:
            raise ConfigError(
                "load_weights path",
                "a safetensors file",
                f"{path.name}, pickled by torch.save",
                "convert it where it is trusted: "
                "safetensors.torch.save_file(model.state_dict(), path)",
            ) from None
        raise ConfigError(
            "load_weights path",
            expected,
            got,
            "download it again",
        ) from None
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(IGNORED)}


def _fill(tree: Any, loaded: Mapping[str, jax.Array]) -> Any:
    leaves = [loaded[path] for path in trees.named_leaves(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _match_layout(
    leaves: Mapping[str, Any],
    names: set[str],
    prefix: str | None,
    is_headless: bool,
) -> dict[str, Source]:
    """Return the source of each leaf, by path, in the layout that has most of the names.

    All names in the file have to be used, except those of a head if the leaves have none.
    """
    begins = _beginnings(names, prefix)
    layouts = {}
    names_of_layouts = {}
    for layout, rules in LAYOUTS.items():
        for begin in begins:
            sources = {}
            for path, leaf in leaves.items():
                sources[path] = _find_source(rules, begin, path, leaf)
            # A layout fits if its rules know every leaf of the network.
            if all(source.names for source in sources.values()):
                layouts[layout, begin] = sources
                names_of_layouts[layout, begin] = _all_names(sources)
                if is_headless:
                    names_of_layouts[layout, begin] |= _head_names(rules, begin)
    if not layouts:
        raise ConfigError(
            "load_weights network",
            "an nn.resnet or nn.vit",
            f"one with {next(iter(leaves), 'no leaf')}",
            "load into one of these, and take its parts",
        )
    # The two layouts of ViT have the same paths, so the names in the file decide.
    best = max(layouts, key=lambda layout: len(names & names_of_layouts[layout]))
    sources = layouts[best]
    unused = names - names_of_layouts[best]
    if prefix is not None:
        unused = {name for name in unused if name.startswith(prefix)}
    advice = f"the names are those of {best[0]}: take the network of the file's kind and depth"
    _expect_supported(unused)
    for path, source in sources.items():
        missing = [name for name in source.names if name not in names]
        if missing:
            if path.startswith(HEAD):
                advice += ", or give head_key= for a new head"
            raise TreeMismatchError(
                f"load_weights {path}",
                f"a tensor {missing[0]}",
                "no such tensor in the file",
                _suggest_prefix(missing[0], names, names_of_layouts[best]) or advice,
            )
    if unused:
        raise TreeMismatchError(
            f"load_weights {min(unused)}",
            "a leaf for it in the network",
            "no such leaf",
            advice,
        )
    return sources


def _beginnings(names: set[str], prefix: str | None) -> list[str]:
    """Return what the names of the model may begin with: the prefix, else "" and a common one."""
    if prefix is None:
        return ["", _common_beginning(names)]
    if not any(name.startswith(prefix) for name in names):
        first_parts = sorted({name.partition(".")[0] for name in names})
        raise ConfigError(
            "load_weights prefix",
            f"the beginning of a name in the file, as of {', '.join(first_parts[:5])}",
            repr(prefix),
            "choose another one",
        )
    return [prefix]


def _common_beginning(names: set[str]) -> str:
    """Return the parts that all names begin with, up to and with a dot."""
    # Of all names, the first and the last in sorted order have the least in common.
    first = min(names, default="").split(".")
    last = max(names, default="").split(".")
    shared = 0
    # The last part is the name of a tensor.
    while shared < min(len(first), len(last)) - 1 and first[shared] == last[shared]:
        shared += 1
    return "".join(f"{part}." for part in first[:shared])


def _suggest_prefix(
    missing: str,
    names: set[str],
    wanted: set[str],
) -> str | None:
    """Return the advice to give a prefix, if with it most of the wanted names are in the file."""
    for name in sorted(names):
        prefix = name.removesuffix(missing)
        is_longer = name.endswith(f".{missing}")
        if is_longer and 2 * sum(f"{prefix}{one}" in names for one in wanted) > len(wanted):
            return f'give prefix="{prefix}"'
    return None


def _expect_supported(unused: set[str]) -> None:
    for name in sorted(unused):
        if re.fullmatch(OF_RESNET_D, name):
            raise TreeMismatchError(
                f"load_weights {name}",
                "a tensor of the network",
                "one of the stem or a shortcut of ResNet-D",
                'give nn.resnet(depth, classes, variant="D")',
            )
        for pattern, (part, option) in OPTIONS.items():
            if re.fullmatch(pattern, name):
                raise TreeMismatchError(
                    f"load_weights {name}",
                    "a tensor of the network",
                    f"one of {part}",
                    f"give {option} to nn.vit",
                )
        for pattern, part in UNSUPPORTED.items():
            if re.fullmatch(pattern, name):
                raise TreeMismatchError(
                    f"load_weights {name}",
                    "a tensor of a plain ResNet or ViT",
                    f"one of {part}",
                    "fnn has no such network: take weights of a plain one",
                )


def _all_names(sources: Mapping[str, Source]) -> set[str]:
    return {name for source in sources.values() for name in source.names}


def _head_names(rules: Mapping[str, str], begin: str) -> set[str]:
    heads = [name for path, name in rules.items() if path == "head" or path.startswith(HEAD)]
    return {begin + name.replace("*", leaf) for name in heads for leaf in ("weight", "bias")}


def _find_source(
    rules: Mapping[str, str],
    begin: str,
    path: str,
    leaf: Any,
) -> Source:
    """Return the source of a leaf by the first rule that matches; without names if none does."""
    leaf_names = "|".join(LEAVES)
    for pattern, template in rules.items():
        match = re.fullmatch(f"{pattern}(?:/({leaf_names}))?", path)
        if match is None:
            continue
        # "a.{}.b.*[query]" is the name a.{}.b.* and the part query.
        name, _, part = match.expand(template).removesuffix("]").partition("[")
        # The last group is the name of the leaf; a path such as positions/table has none.
        leaf_name = match[match.re.groups] or ""
        name = name.replace("*", LEAVES.get(leaf_name, ""))
        stacked = "{}" in name
        # A name without {} is one tensor, which replace leaves as it is.
        blocks = leaf.shape[0] if stacked else 1
        names = [begin + name.replace("{}", str(block)) for block in range(blocks)]
        return Source(names, stacked, JOINED.index(part) if part else None)
    return Source([], False, None)


def _read_leaf(
    tensors: Mapping[str, StoredTensor],
    path: str,
    source: Source,
    leaf: Any,
) -> jax.Array:
    """Return the array of a leaf, with torch's order of axes changed to that of fnn."""
    # Of a stack, each block is compared alone, so that the error names its tensor.
    expected = leaf.shape[1:] if source.stacked else leaf.shape
    arrays = []
    for name in source.names:
        tensor = _read_exactly(tensors[name], path, name, leaf.dtype)
        array = _to_layout(tensor, path, source.part)
        has_no_class = tensors.keys() & {name.replace("pos_embed", WITHOUT_CLASS)}
        if path == POSITIONS and has_no_class and len(array) + 1 == len(leaf):
            array = np.pad(array, ((1, 0), (0, 0)))
        arrays.append(array)
    for name, array in zip(source.names, arrays, strict=True):
        if array.shape != expected:
            raise ShapeError(
                f"load_weights {path} from {name}",
                f"shape {expected}",
                array.shape,
                "take a network of the file's sizes; nn.replace gives it another head afterwards",
            )
    whole = np.stack(arrays) if source.stacked else arrays[0]
    # Conversion copies, so that the array is not memory that NumPy owns.
    return jnp.array(whole, leaf.dtype)


def _read_exactly(
    tensor: StoredTensor,
    path: str,
    name: str,
    dtype: Any,
) -> np.ndarray:
    """Read a tensor whose dtype the leaf can hold; DTypeError otherwise."""
    stored = DTYPES.get(NAMES.get(tensor.dtype, ""), np.dtype(object))
    is_float = jnp.issubdtype(stored, jnp.floating)
    # can_cast: bfloat16 to float32 is exact, float64 to float32 is not.
    if not is_float or not np.can_cast(stored, dtype):
        raise DTypeError(
            f"load_weights {path} from {name}",
            f"a dtype that {dtype} can hold",
            tensor.dtype,
            "save it as that, e.g. model.float().state_dict()",
        )
    return read_tensor(name, tensor)


def _to_layout(array: np.ndarray, path: str, part: int | None) -> np.ndarray:
    """Change a tensor from the layout of torch to that of fnn."""
    if part is not None:
        # torch joins query, key and value along the outputs, its first axis.
        array = np.array_split(array, len(JOINED))[part]
    if path.endswith("/kernel") and array.ndim > 1:
        # (outputs, inputs, *window) -> (*window, inputs, outputs)
        return np.moveaxis(array, (0, 1), (-1, -2))
    # Of a token or of position embeddings: (1, tokens, width) -> (tokens, width)
    return array[0] if array.ndim > 1 else array
