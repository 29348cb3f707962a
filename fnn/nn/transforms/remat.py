"""Rematerialization: less memory for more computation."""

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.core.composite import (
    change_at,
    expect_layer,
    is_under,
    layer_paths,
    map_parts,
    match_paths,
    matching_layers,
    wrap_layer,
)
from fnn.nn.flops import CONVOLUTIONS
from fnn.types import Layer, Params, State
from fnn.values import maker
from fnn.xla import recompute_late

Policy = Callable[..., Any]  # (primitive, *abstract arrays, **parameters) -> whether to keep it

EVERYTHING = "everything_saveable"
DOTS = "dots_saveable"
OFFLOADED_DOTS = "offload_dot_with_no_batch_dims"
# Those of JAX by these names, with the convolutions of fnn.
POLICIES = (
    "nothing_saveable",
    EVERYTHING,
    DOTS,
    "dots_with_no_batch_dims_saveable",
    OFFLOADED_DOTS,
)
NAME = "name"  # the primitive of jax.ad_checkpoint.checkpoint_name
# Kinds of memory: of the device, and that of the host from which a device can copy.
DEVICE = "device"
HOST = "pinned_host"


@maker
def remat(
    layer: Layer,
    *paths: str,
    policy: str = "nothing_saveable",
    save: Sequence[str] = (),
    offload: Sequence[str] = (),
) -> Layer:
    """Gradient checkpointing: the backward pass recomputes values that are not kept in memory.

    Of each chosen layer the input is kept and, of all that it computes, the part that the policy
    names. y, state, noise and gradients are those of the layer. remat(network, "blocks/body")
    recomputes the blocks of a vit one at a time: memory grows by one x a block, at about a third
    more computation [Chen et al. 2016, arXiv:1604.06174].

    | policy | kept |
    | --- | --- |
    | nothing_saveable | nothing |
    | dots_with_no_batch_dims_saveable | results of dense layers |
    | dots_saveable | results of all matrix products and convolutions |
    | offload_dot_with_no_batch_dims | results of dense layers, in the memory of the host |
    | everything_saveable | all, as without remat |

    Offloading saves memory where the host has another memory than the device, as with GPU and TPU.
    On CPU both are the same memory: results are the same, and offloaded values stay where they are.

    Args:
        layer: The layer. Its name, its parts, its params and its state stay the same.
        paths: Paths of the layers that are recomputed one at a time, such as "body/conv_0", or
            patterns with `*`, such as "stage_*/block_*". Without any, the whole layer is one.
        policy: A name in the table above, which is that of `jax.checkpoint_policies`.
        save: Paths or patterns of layers within these, whose outputs are kept as well.
        offload: Paths or patterns of layers within these, whose outputs are kept in the memory of
            the host.

    Raises:
        ConfigError: `layer` is not a Layer, the policy is unknown, or a path or a pattern matches
            no layer; or, in `apply`, the device has no memory of the host to offload to.
    """
    expect_layer("remat layer", layer)
    checks.choice("remat policy", policy, POLICIES)
    chosen = matching_layers("remat", layer, paths)
    inner = []
    for path in layer_paths(layer):
        if any(_is_within(path, outer) for outer in chosen):
            inner.append(path)
    saved = match_paths("remat save", inner, save)
    offloaded = match_paths("remat offload", inner, offload)
    both = saved & offloaded
    if both:
        expected = "layers that save does not name"
        raise ConfigError("remat offload", expected, min(both), "name it in one of them")
    keep = _policy(policy, saved, offloaded)
    offloads = bool(offloaded) or policy == OFFLOADED_DOTS

    def recompute(path: str, part: Layer) -> Layer:
        # Outputs are found by a name that they get in the program.
        named = _name_outputs(saved | offloaded, part, path)
        return _recompute(named, keep, offloads)

    def rewrap(other: Layer) -> Layer:
        return remat(other, *paths, policy=policy, save=save, offload=offload)

    # If all is kept, there is nothing to recompute.
    is_plain = policy == EVERYTHING and not offloaded
    changed = layer if is_plain else change_at(chosen, recompute, layer)
    # A decoder generates, without a backward pass.
    return replace(wrap_layer(layer, changed, rewrap), decoder=layer.decoder)


def _is_within(path: str, outer: str) -> bool:
    return path != outer and is_under(path, outer)


def _policy(
    policy: str,
    saved: Set[str],
    offloaded: Set[str],
) -> Policy:
    """Return a policy of JAX: that of a name, and for outputs of layers that of their paths."""
    names = saved | offloaded
    by_kind = getattr(jax.checkpoint_policies, policy)
    if policy == OFFLOADED_DOTS:
        by_kind = by_kind(DEVICE, HOST)
    by_name = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=list(saved),
        names_which_can_be_offloaded=list(offloaded),
        offload_src=DEVICE,
        offload_dst=HOST,
    )

    def keep(primitive: Any, *arrays: Any, **parameters: Any) -> Any:
        if primitive.name == NAME and parameters["name"] in names:
            return by_name(primitive, *arrays, **parameters)
        if policy == DOTS and primitive.name in CONVOLUTIONS:
            return True
        return by_kind(primitive, *arrays, **parameters)

    return keep


def _recompute(
    layer: Layer,
    keep: Policy,
    offloads: bool,
) -> Layer:
    """Make the backward pass recompute the values of a layer that the policy does not keep."""

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        if offloads:
            _expect_host_memory()

        # A function of the arrays alone, since jax.checkpoint would trace the flag `train`.
        def run(
            x: Any,
            params: Params,
            state: State,
            key: jax.Array | None,
        ) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=train)

        return recompute_late(run, keep, x, params, state, key)

    again = partial(_recompute, keep=keep, offloads=offloads)
    return wrap_layer(layer, Layer(layer.init, apply), again)


def _expect_host_memory() -> None:
    device = jax.devices()[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ConfigError(
            "remat offload",
            f"a device with the memory {HOST}",
            f"{device.platform} with {', '.join(kinds)}",
            'recompute instead, as with policy="nothing_saveable"',
        )


def _name_outputs(
    paths: Set[str],
    layer: Layer,
    prefix: str,
) -> Layer:
    """Name the outputs of the parts of a layer at some paths."""
    if not any(_is_within(path, prefix) for path in paths):
        return layer

    def change(name: str, part: Layer) -> Layer:
        path = f"{prefix}/{name}" if prefix else name
        inner = _name_outputs(paths, part, path)
        return _name_output(inner, path) if path in paths else inner

    return map_parts(layer, change)


def _name_output(layer: Layer, name: str) -> Layer:
    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        y, new_state = layer.apply(params, state, x, key=key, train=train)
        return jax.tree.map(partial(checkpoint_name, name=name), y), new_state

    again = partial(_name_output, name=name)
    return wrap_layer(layer, Layer(layer.init, apply), again)
