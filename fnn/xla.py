"""Control over fusion and memory of XLA on CPU, and functions of batches under `vmap`.

XLA:CPU fuses loops as far as it can. Inside a fused loop, an intermediate value is computed again
for every element that reads it: the indices of a gather for every byte, the random numbers of an
image for every pixel, an activation for every tap of a convolution. A conditional that XLA cannot
decide stops this, because its operands and results are in memory. Everything here that forces a
value into memory is built on such a conditional. On other platforms it is decided at compile time
and disappears.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from fnn import trees
from fnn.types import Step

Function = Callable[..., Any]
Arrays = tuple[Array, ...]

# Elements. Smaller arrays stay in the cache, where a conditional costs more than it saves.
LARGE = 1 << 16

_is_portable: ContextVar[bool] = ContextVar("is_portable", default=False)
_is_whole: ContextVar[bool] = ContextVar("is_whole", default=False)


@contextmanager
def portable_kernels() -> Iterator[None]:
    """Trace programs without forms for one platform, as a program for other machines needs.

    JAX's cache of traces does not know of this. So trace a function that has not been traced
    before, not one of `fnn.train`, whose programs are kept.
    """
    token = _is_portable.set(True)
    try:
        yield
    finally:
        _is_portable.reset(token)


@contextmanager
def whole_batches() -> Iterator[None]:
    """Trace and lower programs that compute a batch as a whole, not in tiles one after another.

    A batch that is divided among devices would have to be gathered for tiles.
    """
    token = _is_whole.set(True)
    try:
        yield
    finally:
        _is_whole.reset(token)


def is_whole() -> bool:
    """Return whether batches are computed as a whole in the program that is being made."""
    return _is_whole.get()


def is_portable() -> bool:
    """Return whether the program that is being traced is for other machines."""
    return _is_portable.get()


def on_cpu_else(cpu: Function, default: Function) -> Function:
    """Choose between two functions by the platform that the program is compiled for.

    Args:
        cpu: The function on CPU.
        default: The function elsewhere, with results of the same shapes and dtypes.
    """
    if is_portable():
        return default

    def chosen(*arrays: Any) -> Any:
        return jax.lax.platform_dependent(*arrays, cpu=cpu, default=default)

    return chosen


def opaque_true(number: Array) -> Array:
    """True, computed such that XLA cannot know it: no float is less than -inf, nor is NaN."""
    is_below = number < -jnp.inf
    return ~is_below


def fusion_barrier(function: Function, *arrays: Array) -> Any:
    """Compute function(*arrays) in separate loops on CPU, not fused with other operations.

    What it does. It puts the function into a conditional that XLA cannot decide.
    What it saves. benchmarks/augmentation.py: a crop takes a tenth of the time;
    benchmarks/cnn_step.py.
    When it can go. When XLA:CPU repeats no more work than it saves.

    Args:
        function: A pure function. It must not close over traced arrays that `vmap` maps.
        arrays: Its arguments, at least one.
    """
    if is_portable():
        return function(*arrays)
    flat = arrays[0].reshape(-1)
    # One number, or none of an empty array, whose sum is 0.
    first = flat[:1].sum()
    number = first.astype(jnp.float32)

    condition = on_cpu_else(opaque_true, _certain_true)
    always = condition(number)

    def never(*operands: Array) -> Any:
        # Zeros like the results, not constants: within a shard_map they must vary over devices as
        # the results do.
        results = function(*operands)
        return jax.tree.map(jnp.zeros_like, results)

    return jax.lax.cond(always, function, never, *arrays)


def recompute_late(
    function: Function,
    policy: Function,
    *arguments: Any,
) -> Any:
    """Call a function of which reverse mode recomputes values, once it needs them.

    What it does. It is `jax.checkpoint`, on CPU within a conditional that XLA cannot decide.
    What it saves. benchmarks/remat.py: XLA:CPU drops the barriers of `jax.checkpoint`, and computes
    a value as soon as its operands are there. Outside of a loop it therefore recomputes all layers
    before the backward pass begins, in more memory than without `jax.checkpoint`. A conditional
    waits for all its operands, among them the gradient by the results.
    When it can go. When XLA:CPU keeps the barriers until operations are in order.

    Args:
        function: A pure function of pytrees of arrays.
        policy: Which values are kept, as for `jax.checkpoint`.
        arguments: Its arguments, at least one array.
    """
    # Keys pass as their bits: where a conditional is differentiated, JAX 0.8 takes them for floats.
    bits, restore = trees.split_keys(arguments)

    def of_bits(bits: list[Any]) -> Any:
        return function(*restore(bits))

    checkpointed = jax.checkpoint(of_bits, policy=policy)
    # Of arrays that are divided among devices, one number would have to be sent to all of them.
    is_divided = is_whole() or not jax.sharding.get_abstract_mesh().empty
    if is_portable() or is_divided:
        return checkpointed(bits)
    first = jnp.asarray(bits[0])
    # One number, or none of an empty array, whose sum is 0.
    one = first.reshape(-1)[:1].sum()
    number = jax.lax.stop_gradient(one).astype(jnp.float32)
    # One trace serves the shapes and the conditional.
    traced = jax.jit(checkpointed)
    shapes = jax.eval_shape(traced, bits)

    def never(bits: list[Any]) -> Any:
        return jax.tree.map(lambda result: jnp.zeros(result.shape, result.dtype), shapes)

    return jax.lax.cond(_always(number), traced, never, bits)


@custom_vmap
def _always(number: Array) -> Array:
    """True on all platforms, which XLA knows on all but CPU."""
    return on_cpu_else(opaque_true, _certain_true)(number)


@_always.def_vmap
def _always_vmapped(size: int, batched: Sequence[bool], number: Array) -> tuple[Array, bool]:
    # The same for all lanes, so that the conditional stays one.
    return _always(number[0]), False


def _certain_true(number: Array) -> Array:
    # A constant, by which other platforms remove the conditional.
    return jnp.ones_like(number, bool)


def fused_alone(function: Function) -> Function:
    """Put a function of an image behind a `fusion_barrier`, once for the whole batch under `vmap`.

    There is a barrier only where the first array holds integers. Where it holds floats the function
    is returned as it is, so that it can be differentiated.

    Args:
        function: A pure function of arrays. Everything that it needs must be an argument.
    """
    # A separate jit keeps its constants inside: as operands of a conditional they could not be
    # mapped.
    function = jax.jit(function)

    @custom_vmap
    def integers(*arrays: Array) -> Any:
        return fusion_barrier(function, *arrays)

    @integers.def_vmap
    def batch_of_integers(
        size: int,
        batched: Sequence[bool],
        *arrays: Array,
    ) -> tuple[Any, Any]:
        axes = [0 if is_batched else None for is_batched in batched]
        batch_function = jax.vmap(function, axes)
        # Once more, so that a further vmap has one barrier too.
        alone = fused_alone(batch_function)
        result = alone(*arrays)
        out_batched = jax.tree.map(lambda _: True, result)
        return result, out_batched

    def call(first: Array, *others: Array) -> Any:
        if jnp.issubdtype(first.dtype, jnp.floating):
            return function(first, *others)
        # An image of integers has no derivative, so that the others need none.
        constants = [jax.lax.stop_gradient(other) for other in others]
        return integers(first, *constants)

    return call


def materialize(tree: Any) -> Any:
    """The arrays of a pytree, on CPU written to memory before anything reads them.

    It can be mapped and differentiated.
    """
    leaves, structure = jax.tree.flatten(tree)
    # A barrier needs at least one array.
    if not leaves:
        return tree
    written = _materialize(*leaves)
    return jax.tree.unflatten(structure, written)


@custom_vmap
def _materialize_batch(*arrays: Array) -> Arrays:
    def identity(*operands: Array) -> Arrays:
        return operands

    return fusion_barrier(identity, *arrays)


@_materialize_batch.def_vmap
def _materialize_vmapped(
    size: int,
    batched: Sequence[bool],
    *arrays: Array,
) -> tuple[Arrays, tuple[bool, ...]]:
    results = _materialize_batch(*arrays)
    # Each result is mapped as its operand.
    out_batched = tuple(batched)
    return results, out_batched


@jax.custom_jvp
def _materialize(*arrays: Array) -> Arrays:
    return _materialize_batch(*arrays)


@_materialize.defjvp
def _materialize_jvp(arrays: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
    results = _materialize(*arrays)
    # The derivative of the identity: tangents are passed on as they are.
    return results, tangents


def rounded(x: Array) -> Array:
    """A float that is rounded to its dtype before it is used, such as the product in a b + c.

    What it does. XLA contracts a * b + c to a fused multiply-add, which rounds once instead of
    twice, in some programs and not in others, and simplifies (x + 128) - 128 to x. A comparison
    with a number that x does not reach keeps the operations apart.
    What it saves. Eager mode, jit and vmap give the same bits. So a number that is rounded to a
    whole one afterwards, such as a coordinate or a level, is the same in all of them.
    When it can go. When XLA lets a program forbid the contraction.
    """
    # This order of the operands is one instruction on CPU, and keeps NaN.
    largest = float(jnp.finfo(x.dtype).max)
    limit = largest / 2
    is_above = x > limit
    return jnp.where(is_above, limit, x)


def rounded_product(a: Array, b: Array) -> Array:
    """The product of two floats, rounded before anything is added to it; see `rounded`."""
    product = a * b
    return rounded(product)


def in_sequence(function: Function) -> Function:
    """Return a function of one matrix whose lanes under `vmap` are computed in sequence on CPU.

    What it does. On CPU, a loop over the lanes takes the place of a batch.
    What it saves. A deadlock: jaxlib divides a batch of LAPACK over XLA's pool of threads, and
    waits for the parts on a thread of that pool. If a program has as many batches as threads, as
    vmapped optimizers and initializers have, all threads may wait for each other, for ever.
    When it can go. When jaxlib waits for a batch outside of the pool (0.10.2 does not).

    Args:
        function: A function of LAPACK, such as `jnp.linalg.eigh`. Its derivative is computed with
            batches.
    """

    @custom_vmap
    def one(matrix: Array) -> Any:
        return function(matrix)

    @one.def_vmap
    def lanes(size: int, batched: Sequence[bool], matrices: Array) -> tuple[Any, Any]:
        loop = partial(jax.lax.map, one)
        results = on_cpu_else(loop, jax.vmap(function))(matrices)
        return results, jax.tree.map(lambda _: True, results)

    @jax.custom_jvp
    def differentiable(matrix: Array) -> Any:
        return one(matrix)

    @differentiable.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        return jax.jvp(function, primals, tangents)

    return differentiable


def update_in_place(
    function: Function,
    count: Step,
    kept: tuple[Any, ...],
    *others: Any,
) -> tuple[Any, ...]:
    """Compute function(kept, *others) and write the result over `kept`.

    What it does. On CPU, XLA gives the result of an elementwise update a buffer of its own and
    copies it back. In a conditional whose other branch returns `kept` unchanged, XLA writes into
    the buffer of `kept`.
    What it saves. benchmarks/optimizers.py, benchmarks/memory.py: a temporary of the size of the
    parameters.
    When it can go. When XLA:CPU updates the carry of a loop in place.

    Args:
        function: A pure function whose result has the structure, shapes and dtypes of `kept`.
        count: Any traced integer, from which the condition is computed.
        kept: Pytrees of arrays, such as parameters and optimizer slots.
        others: Further arguments, such as gradients.
    """
    leaves = jax.tree.leaves(kept)
    largest = max(array.size for array in leaves)
    # Small parameters would take longer with a conditional.
    if largest < LARGE:
        return function(kept, *others)

    def unchanged(kept: tuple[Any, ...], *others: Any) -> tuple[Any, ...]:
        return kept

    def on_cpu(kept: tuple[Any, ...], *others: Any) -> tuple[Any, ...]:
        number = jnp.asarray(count, jnp.float32)
        always = opaque_true(number)
        return jax.lax.cond(always, function, unchanged, kept, *others)

    update = on_cpu_else(on_cpu, function)
    return update(kept, *others)


def from_batched(batched: Callable[..., Array]) -> Callable[..., Array]:
    """A function of one image, computed by a function of a batch of images.

    Under `vmap`, however deep, all images of integers reach `batched` as one batch. Integers have
    no derivative, so nothing is lost. Images of floats are mapped one by one, so that they can be
    differentiated.

    Args:
        batched: function(images, *arrays), each with a leading batch axis, to an array with a
            leading batch axis.
    """
    gathered = custom_vmap(batched)

    @gathered.def_vmap
    def fold(
        size: int,
        is_batched: list[bool],
        *arrays: Array,
    ) -> tuple[Array, bool]:
        folded = []
        for array, has_axis in zip(arrays, is_batched, strict=True):
            if not has_axis:
                # The same for all images of the mapped axis.
                full_shape = (size, *array.shape)
                array = jnp.broadcast_to(array, full_shape)
            # (size, batch, ...) -> (size * batch, ...)
            rest = array.shape[2:]
            folded.append(array.reshape(-1, *rest))
        result = gathered(*folded)
        # (size * batch, ...) -> (size, batch, ...)
        result_rest = result.shape[1:]
        unfolded = result.reshape(size, -1, *result_rest)
        return unfolded, True

    def one(image: Array, *others: Array) -> Array:
        batch = image[None]  # (1, height, width, channels)
        if jnp.issubdtype(image.dtype, jnp.floating):
            arguments = [other[None] for other in others]
            results = batched(batch, *arguments)
            return results[0]
        # An image of integers has no derivative, so that the others need none.
        arguments = []
        for other in others:
            constant = jax.lax.stop_gradient(other)
            arguments.append(constant[None])
        results = gathered(batch, *arguments)
        return results[0]

    return one


def subjaxprs(equation: Any) -> Iterator[Any]:
    """Yield the programs within an equation of a jaxpr, such as the body of a loop."""
    for value in equation.params.values():
        candidates = value if isinstance(value, tuple | list) else (value,)
        for candidate in candidates:
            if hasattr(getattr(candidate, "jaxpr", candidate), "eqns"):
                yield candidate
