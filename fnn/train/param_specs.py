"""Division of parameters: which axis of each is divided over which axis of a mesh.

A rule is a pattern of paths with a `PartitionSpec`. Its entries are aligned at the last axis of an
array, so that one rule fits a kernel (in, out), its bias (out,), and the stacked kernels
(depth, in, out) of repeated blocks.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.types import Shape

Rules = tuple[tuple[str, P], ...]
# Entries of a full specification: for each axis of an array, the axes of the mesh.
Entries = tuple[tuple[str, ...], ...]
Specs = dict[str, Entries]  # by path, of the arrays that are divided

RULE_ADVICE = 'as in {"*up/kernel": PartitionSpec(None, "model")}'


def transformer_rules(axis: str = "model", *, tables: Sequence[str] = ()) -> dict[str, P]:
    """Tensor parallelism of transformer blocks: whole heads and hidden units on each device.

    Query, key, value and the first layer of the MLP are divided by their outputs, the layers after
    them by their inputs. So a block needs two sums over devices in the forward pass and two in the
    backward pass [Shoeybi et al. 2019, Megatron-LM, arXiv:1909.08053]. The rules fit
    `nn.transformer_block`, and the networks `nn.gpt` and `nn.vit` that are made of it.

    Args:
        axis: Name of the mesh axis.
        tables: Patterns of embeddings whose rows are divided, such as ("shared",) for `nn.gpt`. The
            axis must divide the size of the vocabulary.

    Returns:
        PartitionSpecs by pattern of paths, for `train.layout`, to which others may be added.
    """
    columns = P(axis)  # of kernel and bias
    rows = P(axis, None)  # of the kernel alone: the bias is added to the sum
    rules = {f"*attention/{name}": columns for name in ("query", "key", "value")}
    rules["*mlp/up"] = columns
    rules["*attention/output/kernel"] = rows
    rules["*mlp/down/kernel"] = rows
    return rules | dict.fromkeys(tables, rows)


def as_rules(
    where: str,
    axes: Mapping[str, int],
    rules: Any,
) -> Rules:
    """Return rules as pairs; ConfigError unless they map patterns to specs of axes of the mesh.

    Args:
        where: Name of the rules in errors.
        axes: Sizes of the axes of the mesh by name.
        rules: PartitionSpecs by pattern, or None.
    """
    if rules is None:
        return ()
    if not isinstance(rules, Mapping):
        raise ConfigError(where, "a dict of PartitionSpec", checks.show(rules), RULE_ADVICE)
    for pattern, spec in rules.items():
        if not isinstance(pattern, str) or not isinstance(spec, P):
            pair = f"{checks.show(pattern)}: {checks.show(spec)}"
            raise ConfigError(where, "PartitionSpecs by pattern of paths", pair, RULE_ADVICE)
        named = [name for entry in entries_of(spec) for name in entry]
        for name in named:
            if name not in axes:
                names = ", ".join(axes)
                advice = "use these names, or a mesh with this axis"
                raise ConfigError(f"{where} {pattern!r}", f"axes among {names}", name, advice)
        if len(set(named)) < len(named):
            advice = "divide one axis of the array over it"
            raise ConfigError(f"{where} {pattern!r}", "each axis of the mesh once", spec, advice)
    return tuple(rules.items())


def entries_of(spec: P, rank: int | None = None) -> Entries:
    """Return the entries of a spec as tuples of names, aligned at the last axis of a rank.

    Args:
        spec: A PartitionSpec.
        rank: Number of axes of the array; None for one of the length of the spec.
    """
    entries = []
    for entry in spec:
        names = () if entry is None else entry
        entries.append((names,) if isinstance(names, str) else tuple(names))
    missing = 0 if rank is None else rank - len(entries)
    return ((),) * missing + tuple(entries)


def spec_of(entries: Entries) -> P:
    """Return the PartitionSpec of entries, in the form that JAX gives to arrays."""
    short = [None if not names else names[0] if len(names) == 1 else names for names in entries]
    while short and short[-1] is None:
        short.pop()
    return P(*short)


def param_specs(
    axes: tuple[tuple[str, int], ...],
    axis: str,
    is_fsdp: bool,
    rules: Rules,
    params: Any,
) -> Specs:
    """Return the entries of the parameters that are divided, by path.

    With FSDP each parameter is divided over the axis of the examples too: its largest axis that the
    devices divide, of the last two, so that stacks of repeated blocks are not cut between blocks.
    An axis that a rule divides is divided further.
    A parameter without such an axis is copied to all devices.

    Args:
        axes: Names and sizes of the axes of the mesh.
        axis: That over which examples are divided.
        is_fsdp: Whether the parameters are divided over it too.
        rules: From `as_rules`.
        params: Arrays or shapes.

    Raises:
        ConfigError: A pattern matches no parameter, two rules differ for one, or the devices do not
            divide it; with FSDP, they divide none.
    """
    leaves = trees.named_leaves(params)
    shapes = tuple((path, tuple(leaf.shape)) for path, leaf in leaves.items())
    return _param_specs(axes, axis, is_fsdp, rules, shapes)


@lru_cache(maxsize=64)
def _param_specs(
    axes: tuple[tuple[str, int], ...],
    axis: str,
    is_fsdp: bool,
    rules: Rules,
    shapes: tuple[tuple[str, Shape], ...],
) -> Specs:
    sizes = dict(axes)
    by_rule = _match(rules, [path for path, _ in shapes])
    specs = {}
    for path, shape in shapes:
        entries: Entries = ((),) * len(shape)
        if path in by_rule:
            entries = _fitted(path, shape, by_rule[path], sizes)
        named = {name for names in entries for name in names}
        if is_fsdp and axis not in named:
            entries = _with_examples_axis(shape, entries, axis, sizes)
        if any(entries):
            specs[path] = entries
    if is_fsdp and shapes and not any(axis in names for one in specs.values() for names in one):
        raise ConfigError(
            "layout fsdp",
            f"params with an axis that is a multiple of the {sizes[axis]} devices",
            ", ".join(f"{path} {shape}" for path, shape in shapes[:3]),
            "use fewer devices, or fsdp=False",
        )
    return specs


def _match(rules: Rules, paths: list[str]) -> dict[str, P]:
    """Return the spec of each path that a rule matches."""
    # Any tree with these paths as its keys.
    tree = dict.fromkeys(paths, 0)
    found: dict[str, tuple[str, P]] = {}
    for pattern, spec in rules:
        matched = trees.matching("layout rules", tree, [pattern])
        for path in [path for path, is_match in matched.items() if is_match]:
            other_pattern, other = found.setdefault(path, (pattern, spec))
            if other != spec:
                raise ConfigError(
                    "layout rules",
                    f"one division of {path}",
                    f"{other} by {other_pattern!r} and {spec} by {pattern!r}",
                    "make one of the patterns narrower",
                )
    return {path: spec for path, (_, spec) in found.items()}


def _fitted(
    path: str,
    shape: Shape,
    spec: P,
    sizes: Mapping[str, int],
) -> Entries:
    """Return the entries of a rule for a parameter; ConfigError if they do not fit it."""
    if len(spec) > len(shape):
        raise ConfigError(
            f"layout rules {path}",
            f"a spec of at most {len(shape)} axes, those of {shape}",
            spec,
            "narrow the pattern, as by /kernel at its end",
        )
    entries = entries_of(spec, len(shape))
    for size, names in zip(shape, entries, strict=True):
        parts = prod(sizes[name] for name in names)
        if size % parts:
            below = size // parts * parts
            near = [str(one) for one in (below, below + parts) if one]
            raise ConfigError(
                f"layout rules {path} {shape}",
                f"a multiple of the {parts} devices of the mesh axis {', '.join(names)}",
                size,
                f"use a layer of {' or '.join(near)}, or leave it out of the rules",
            )
    return entries


def _with_examples_axis(
    shape: Shape,
    entries: Entries,
    axis: str,
    sizes: Mapping[str, int],
) -> Entries:
    """Divide the largest of the last two axes over an axis of the mesh too, if one can be."""
    possible = []
    for index in range(max(0, len(shape) - 2), len(shape)):
        # An axis that a rule divides already may be divided further.
        own = prod(sizes[name] for name in entries[index])
        size = shape[index] // own
        if size and size % sizes[axis] == 0:
            possible.append((size, index))
    if not possible:
        return entries
    _, chosen = max(possible)
    return (*entries[:chosen], (*entries[chosen], axis), *entries[chosen + 1 :])


def tree_specs(
    specs: Specs,
    params: Any,
    tree: Any,
) -> list[P]:
    """Return the spec of each leaf of a train state: of a copy or slot that of its parameter.

    A leaf belongs to the parameter whose path ends its own, if its last axes have the shape of the
    parameter: moments, averages, snapshots, the best params so far. Others are not divided.

    Args:
        specs: Of the parameters, from `param_specs`.
        params: The parameters.
        tree: Arrays.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.named_leaves(params).items()}
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        found.append(_leaf_spec(specs, shapes, trees.path_name(path), tuple(leaf.shape)))
    return found


def _leaf_spec(
    specs: Specs,
    shapes: Mapping[str, Shape],
    path: str,
    shape: Shape,
) -> P:
    parts = path.split("/")
    for begin in range(len(parts)):
        end = "/".join(parts[begin:])
        if end not in shapes:
            continue
        own = shapes[end]
        leading = len(shape) - len(own)
        if end in specs and leading >= 0 and shape[leading:] == own:
            return spec_of(((),) * leading + specs[end])
        return P()
    return P()
