"""Weights that others trained."""

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

# What each path of a network is called in a file. `*` is the leaf in torch's word; `{}` the place of a stacked array
# in its stack; what is joined along the outputs, as query, key and value are, has its part in brackets.
RESNET = {
    r"stem/conv": "conv1.*",
    r"stem/norm": "bn1.*",
    r"stage_(\d)/block_(\d+)/sum/body/conv_(\d)": r"layer\1.\2.conv\3.*",
    r"stage_(\d)/block_(\d+)/sum/body/norm_(\d)": r"layer\1.\2.bn\3.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/conv": r"layer\1.\2.downsample.0.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/norm": r"layer\1.\2.downsample.1.*",
    r"head": "fc.*",
}
VIT = {
    r"tokens/token/value": "class_token",
    r"positions/table": "encoder.pos_embedding",
    r"patches": "conv_proj.*",
    r"blocks/body/attention_norm": "encoder.layers.encoder_layer_{}.ln_1.*",
    r"blocks/body/attention/(query|key|value)": r"encoder.layers.encoder_layer_{}.self_attention.in_proj_*[\1]",
    r"blocks/body/attention/output": "encoder.layers.encoder_layer_{}.self_attention.out_proj.*",
    r"blocks/body/mlp_norm": "encoder.layers.encoder_layer_{}.ln_2.*",
    r"blocks/body/mlp/up": "encoder.layers.encoder_layer_{}.mlp.0.*",
    r"blocks/body/mlp/down": "encoder.layers.encoder_layer_{}.mlp.3.*",
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
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
JOINED = ("query", "key", "value")
COUNTER = (
    "num_batches_tracked"  # torch counts batches where its momentum is None; fnn has no such thing
)
PICKLED = (b"PK\x03\x04", b"\x80")  # torch.save writes a zip archive, or long ago the pickles alone
DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("float16"),
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
}


class Source(NamedTuple):
    """Where in a file a leaf comes from: the names, several if it is a stack of arrays, and which of the joined."""

    names: list[str]
    stacked: bool
    part: int | None


def load_weights(
    path: str | os.PathLike[str], network: Layer, shape: Shape
) -> tuple[Params, State]:
    """Read weights of torchvision or timm into a network's params and state, for nn.pretrained(network, params, state).

    The file is one of safetensors, as `safetensors.torch.save_file(model.state_dict(), path)` writes it; the network an
    nn.resnet or nn.vit of the file's sizes, for examples of that shape (height, width, channels). Strict: every tensor
    is used, every leaf filled, no number rounded. ConfigError for another kind of file; TreeMismatchError for a tensor
    too many or too few; ShapeError or DTypeError for one that does not fit. Needs safetensors: fnn[weights].
    """
    params, state = jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0))
    with _opened(Path(path)) as file:
        names = {name for name in list(file.keys()) if not name.endswith(COUNTER)}
        leaves = trees.named_leaves(params) | trees.named_leaves(state)
        sources = _sources(leaves, names)
        found = {path: _read(file, path, sources[path], leaf) for path, leaf in leaves.items()}
    params, state = (_filled(tree, found) for tree in (params, state))
    return params, state


def _filled(tree: Any, found: Mapping[str, jax.Array]) -> Any:
    return jax.tree.unflatten(
        jax.tree.structure(tree), [found[path] for path in trees.named_leaves(tree)]
    )


def _sources(leaves: Mapping[str, Any], names: set[str]) -> dict[str, Source]:
    """For each leaf, by path, where it comes from, in the layout that most names are of; all names are used."""
    layouts = {
        name: {path: _source(rules, path, leaf) for path, leaf in leaves.items()}
        for name, rules in LAYOUTS.items()
    }
    known = {
        name: _used(sources)
        for name, sources in layouts.items()
        if all(source.names for source in sources.values())
    }
    if not known:
        advice = "load into one of these, and take its parts"
        raise ConfigError(
            "load_weights network",
            "an nn.resnet or nn.vit",
            f"one with {next(iter(leaves), 'no leaf')}",
            advice,
        )
    layout = max(known, key=lambda name: len(names & known[name]))
    advice = f"the names are those of {layout}: take the network of the file's kind and depth"
    for path, source in layouts[layout].items():
        if missing := [name for name in source.names if name not in names]:
            raise TreeMismatchError(
                f"load_weights {path}", f"a tensor {missing[0]}", "none in the file", advice
            )
    if extra := sorted(names - known[layout]):
        raise TreeMismatchError(
            f"load_weights {extra[0]}", "a leaf for it in the network", "none", advice
        )
    return layouts[layout]


def _used(sources: Mapping[str, Source]) -> set[str]:
    return {name for source in sources.values() for name in source.names}


def _source(rules: Mapping[str, str], path: str, leaf: Any) -> Source:
    """Where a leaf comes from by these rules; no names if none of them tells."""
    for pattern, name in rules.items():
        if found := re.fullmatch(f"{pattern}(?:/({'|'.join(LEAVES)}))?", path):
            name, _, part = found.expand(name).removesuffix("]").partition("[")
            name = name.replace("*", LEAVES.get(found[found.re.groups] or "", ""))
            stack = (
                [name.format(place) for place in range(leaf.shape[0])] if "{}" in name else [name]
            )
            return Source(stack, "{}" in name, JOINED.index(part) if part else None)
    return Source([], False, None)


def _read(file: Any, path: str, source: Source, leaf: Any) -> jax.Array:
    """The array of a leaf, brought from the order of torch's axes to that of fnn's."""
    wanted = leaf.shape[1:] if source.stacked else leaf.shape
    arrays = [
        _brought(_tensor(file, path, name, leaf.dtype), path, source.part) for name in source.names
    ]
    for name, array in zip(source.names, arrays, strict=True):
        if array.shape != wanted:
            advice = (
                "take a network of the file's sizes; nn.replace gives it another head afterwards"
            )
            raise ShapeError(
                f"load_weights {path} from {name}", f"shape {wanted}", array.shape, advice
            )
    return jnp.asarray(np.stack(arrays) if source.stacked else arrays[0], leaf.dtype)


def _tensor(file: Any, path: str, name: str, dtype: Any) -> np.ndarray:
    stored = file.get_slice(name).get_dtype()
    if stored not in DTYPES or not np.can_cast(DTYPES[stored], dtype):
        advice = "save it as that, e.g. model.float().state_dict()"
        raise DTypeError(
            f"load_weights {path} from {name}", f"what {dtype} can hold", stored, advice
        )
    return file.get_tensor(name)


def _brought(array: np.ndarray, path: str, part: int | None) -> np.ndarray:
    if part is not None:
        array = np.array_split(array, len(JOINED))[part]
    if path.endswith("/kernel") and array.ndim > 1:
        return np.moveaxis(
            array, (0, 1), (-1, -2)
        )  # (outputs, inputs, *window) -> (*window, inputs, outputs)
    return array[0] if array.ndim > 1 else array  # (1, tokens, width) -> (tokens, width)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    safetensors = safetensors_for("load_weights")
    if not path.is_file():
        raise ConfigError("load_weights path", "a file that exists", path, "check the folder")
    with path.open("rb") as file:
        begins = file.read(4)
    if begins.startswith(PICKLED):
        advice = (
            "convert it where it is trusted: safetensors.torch.save_file(model.state_dict(), path)"
        )
        raise ConfigError(
            "load_weights path",
            "a file of safetensors",
            f"{path.name}, pickled by torch.save",
            advice,
        )
    try:
        file = safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise ConfigError(
            "load_weights path", "a whole file of safetensors", error, "download it again"
        ) from None
    with file as opened:
        yield opened


def safetensors_for(where: str) -> Any:
    """The package safetensors; ConfigError where it is not installed."""
    try:
        import safetensors
    except ImportError:
        raise ConfigError(
            where,
            "safetensors to read and write with",
            "no such package",
            "pip install 'fnn[weights]'",
        ) from None
    return safetensors
