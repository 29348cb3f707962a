"""Pretrained weights of torchvision and timm, from safetensors files."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError
from fnn.types import Layer, Params, Shape, State

# The names in a file of each path of a network. `*` is the leaf in torch's word; `{}` is the index
# of a block whose arrays are stacked in fnn. Brackets name the part of an array that torch joins
# along the outputs, as query, key and value.
RESNET = {
    r"stem/conv": "conv1.*",
    r"stem/norm": "bn1.*",
    r"stage_(\d)/block_(\d+)/sum/body/conv_(\d)": r"layer\1.\2.conv\3.*",
    r"stage_(\d)/block_(\d+)/sum/body/norm_(\d)": r"layer\1.\2.bn\3.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/conv": r"layer\1.\2.downsample.0.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/norm": r"layer\1.\2.downsample.1.*",
    r"head": "fc.*",
}
VIT_BLOCK = "encoder.layers.encoder_layer_{}"
VIT = {
    r"tokens/token/value": "class_token",
    r"positions/table": "encoder.pos_embedding",
    r"patches": "conv_proj.*",
    r"blocks/body/attention_norm": f"{VIT_BLOCK}.ln_1.*",
    r"blocks/body/attention/(query|key|value)": rf"{VIT_BLOCK}.self_attention.in_proj_*[\1]",
    r"blocks/body/attention/output": f"{VIT_BLOCK}.self_attention.out_proj.*",
    r"blocks/body/mlp_norm": f"{VIT_BLOCK}.ln_2.*",
    r"blocks/body/mlp/up": f"{VIT_BLOCK}.mlp.0.*",
    r"blocks/body/mlp/down": f"{VIT_BLOCK}.mlp.3.*",
    r"norm": "encoder.ln.*",
    r"head": "heads.head.*",
}
TIMM_VIT = {
    r"tokens/token/value": "cls_token",
    r"positions/table": "pos_embed",
    r"patches": "patch_embed.proj.*",
    r"blocks/body/attention_norm": "blocks.{}.norm1.*",
    r"blocks/body/attention/(query|key|value)": r"blocks.{}.attn.qkv.*[\1]",
    r"blocks/body/attention/output": "blocks.{}.attn.proj.*",
    r"blocks/body/mlp_norm": "blocks.{}.norm2.*",
    r"blocks/body/mlp/up": "blocks.{}.mlp.fc1.*",
    r"blocks/body/mlp/down": "blocks.{}.mlp.fc2.*",
    r"norm": "norm.*",
    r"head": "head.*",
}
LAYOUTS = {
    "torchvision's and timm's ResNet": RESNET,
    "torchvision's ViT": VIT,
    "timm's ViT": TIMM_VIT,
}
# fnn's names of leaves, and torch's.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
JOINED = ("query", "key", "value")
# torch counts batches for a momentum of None, which fnn does not have.
COUNTER = "num_batches_tracked"
# torch.save writes a zip archive; older versions wrote the pickles alone.
PICKLED = (b"PK\x03\x04", b"\x80")
DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("float16"),
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
}


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
) -> tuple[Params, State]:
    """Load weights of torchvision or timm, for nn.pretrained(network, params, state).

    Strict: every tensor is used, every leaf is filled, and no number is rounded. Needs
    the extra `weights` of fnn.

    Args:
        path: A safetensors file, as from `safetensors.torch.save_file(model.state_dict(), path)`.
        network: An nn.resnet or nn.vit of the sizes in the file.
        shape: Shape of an example, (height, width, channels).

    Returns:
        The params and the state of the network.

    Raises:
        ConfigError: The file does not exist or is not a complete safetensors file, the network is
            of another kind, or the package safetensors is not installed.
        DTypeError: A tensor has a dtype that the leaf cannot hold.
        ShapeError: A tensor has another shape than the leaf.
        TreeMismatchError: A tensor is missing or superfluous.
    """
    # Abstract: only paths, shapes and dtypes are needed.
    params, state = jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0))
    with _open_safetensors(Path(path)) as file:
        names = {name for name in list(file.keys()) if not name.endswith(COUNTER)}
        leaves = trees.named_leaves(params) | trees.named_leaves(state)
        sources = _match_layout(leaves, names)
        loaded = {}
        for leaf_path, leaf in leaves.items():
            loaded[leaf_path] = _read_leaf(file, leaf_path, sources[leaf_path], leaf)
    return _fill(params, loaded), _fill(state, loaded)


def _fill(tree: Any, loaded: Mapping[str, jax.Array]) -> Any:
    leaves = [loaded[path] for path in trees.named_leaves(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _match_layout(leaves: Mapping[str, Any], names: set[str]) -> dict[str, Source]:
    """Return the source of each leaf, by path, in the layout that has most of the names.

    All names in the file have to be used.
    """
    layouts = {}
    names_of_layouts = {}
    for layout, rules in LAYOUTS.items():
        sources = {path: _find_source(rules, path, leaf) for path, leaf in leaves.items()}
        # A layout fits if its rules know every leaf of the network.
        if all(source.names for source in sources.values()):
            layouts[layout] = sources
            names_of_layouts[layout] = _all_names(sources)
    if not layouts:
        raise ConfigError(
            "load_weights network",
            "an nn.resnet or nn.vit",
            f"one with {next(iter(leaves), 'no leaf')}",
            "load into one of these, and take its parts",
        )
    # The two layouts of ViT have the same paths, so the names in the file decide.
    best = max(layouts, key=lambda layout: len(names & names_of_layouts[layout]))
    advice = f"the names are those of {best}: take the network of the file's kind and depth"
    for path, source in layouts[best].items():
        missing = [name for name in source.names if name not in names]
        if missing:
            raise TreeMismatchError(
                f"load_weights {path}",
                f"a tensor {missing[0]}",
                "no such tensor in the file",
                advice,
            )
    extra = sorted(names - names_of_layouts[best])
    if extra:
        raise TreeMismatchError(
            f"load_weights {extra[0]}",
            "a leaf for it in the network",
            "no such leaf",
            advice,
        )
    return layouts[best]


def _all_names(sources: Mapping[str, Source]) -> set[str]:
    return {name for source in sources.values() for name in source.names}


def _find_source(rules: Mapping[str, str], path: str, leaf: Any) -> Source:
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
        # A name without {} is one tensor, which format leaves as it is.
        blocks = leaf.shape[0] if stacked else 1
        names = [name.format(block) for block in range(blocks)]
        return Source(names, stacked, JOINED.index(part) if part else None)
    return Source([], False, None)


def _read_leaf(
    file: Any,
    path: str,
    source: Source,
    leaf: Any,
) -> jax.Array:
    """Return the array of a leaf, with torch's order of axes changed to that of fnn."""
    # Of a stack, each block is compared alone, so that the error names its tensor.
    expected = leaf.shape[1:] if source.stacked else leaf.shape
    arrays = []
    for name in source.names:
        tensor = _read_tensor(file, path, name, leaf.dtype)
        arrays.append(_to_layout(tensor, path, source.part))
    for name, array in zip(source.names, arrays, strict=True):
        if array.shape != expected:
            raise ShapeError(
                f"load_weights {path} from {name}",
                f"shape {expected}",
                array.shape,
                "take a network of the file's sizes; nn.replace gives it another head afterwards",
            )
    whole = np.stack(arrays) if source.stacked else arrays[0]
    return jnp.asarray(whole, leaf.dtype)


def _read_tensor(
    file: Any,
    path: str,
    name: str,
    dtype: Any,
) -> np.ndarray:
    # The dtype is read without the data.
    stored = file.get_slice(name).get_dtype()
    # can_cast: float16 to float32 is exact, float64 to float32 is not.
    if stored not in DTYPES or not np.can_cast(DTYPES[stored], dtype):
        raise DTypeError(
            f"load_weights {path} from {name}",
            f"a dtype that {dtype} can hold",
            stored,
            "save it as that, e.g. model.float().state_dict()",
        )
    return file.get_tensor(name)


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


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    safetensors = safetensors_for("load_weights")
    if not path.is_file():
        raise ConfigError(
            "load_weights path",
            "a file that exists",
            path,
            "check the folder",
        )
    # A pickled file is recognized before a parser reads it.
    with path.open("rb") as file:
        first_bytes = file.read(4)
    if first_bytes.startswith(PICKLED):
        raise ConfigError(
            "load_weights path",
            "a safetensors file",
            f"{path.name}, pickled by torch.save",
            "convert it where it is trusted: safetensors.torch.save_file(model.state_dict(), path)",
        )
    try:
        file = safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise ConfigError(
            "load_weights path",
            "a complete safetensors file",
            error,
            "download it again",
        ) from None
    with file as opened:
        yield opened


def safetensors_for(where: str) -> Any:
    """Import the package safetensors; ConfigError if it is not installed."""
    try:
        import safetensors
    except ImportError:
        raise ConfigError(
            where,
            "safetensors to read and write with",
            "no such package",
            "pip install '.[weights]' in the checkout of fnn",
        ) from None
    return safetensors
