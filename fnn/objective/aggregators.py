"""Aggregators: how the gradients of several tasks become one.

The gradient of a step is Σ_k c_k g_k, where g_k is the gradient of w_k L_k. An aggregator computes
the coefficients c from the Gramian, the inner products g_i · g_j, so it neither depends on the
layout of the parameters nor needs their gradients a second time. Its memory is part of the state
of the optimizer, so it is saved, resumed, mapped over and restored with that.

It is an option of the loss `multi_task`, which knows the tasks. A transform of the optimizer would
not know how many there are when its state is made.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.types import Aggregator, Number, Params, RandomKey
from fnn.values import maker

MGDA_STEPS = 100  # of exact line searches; two tasks have a closed form
SMALLEST_WEIGHT = 1e-4  # of gradnorm: a step of an absolute value may pass 0


@maker
def pcgrad(shared: Sequence[str] | None = None) -> Aggregator:
    """PCGrad: the sum of the tasks' gradients, each without its conflicts with the others.

    For each i, over j ≠ i in random order: if g_i · g_j < 0, then g_i <- g_i - (g_i · g_j / ‖g_j‖²)
    g_j, with the original g_j. Without conflicts it is the sum. Of two tasks there is one order
    [Yu et al. 2020, arXiv:2001.06782].

    Args:
        shared: Patterns of the shared parameters, such as ("body",). Conflicts are those of their
            gradients, and the other parameters get the sum of the gradients, which for a head is
            that of its task. None for all parameters: a head adds 0 to each g_i · g_j and more to
            ‖g_j‖², so that less is subtracted.

    Raises:
        ConfigError: `shared` is not a sequence of strings; in training, a pattern matches nothing.
    """
    patterns = _expect_patterns("pcgrad shared", shared)

    def coefficients(memory: Any, gramian: jax.Array, key: RandomKey) -> jax.Array:
        tasks = len(gramian)
        own = jnp.arange(tasks)
        # (tasks, tasks - 1)
        orders = _orders(tasks, key)

        def project(i: jax.Array, order: jax.Array) -> jax.Array:
            """Return g_i without its conflicts, as coefficients of all gradients (tasks,)."""
            # As a combination of all gradients: the Gramian then gives every product.
            c = jax.nn.one_hot(i, tasks, dtype=gramian.dtype)
            for j in order:
                # The product g_i · g_j, with the original g_j.
                product = c @ gramian[:, j]
                # A product above 0 is no conflict.
                share = _divide(jnp.minimum(product, 0), gramian[j, j], 0)
                c = c.at[j].add(-share)
            return c

        # (tasks, tasks) -> (tasks,)
        return jax.vmap(project)(own, orders).sum(0)

    return Aggregator(
        _no_memory,
        coefficients,
        _keep,
        patterns,
        everywhere=False,
    )


def _orders(tasks: int, key: RandomKey) -> jax.Array:
    """Draw for each task an order of the others (tasks, tasks - 1)."""
    if tasks <= 2:
        # Two tasks have one order, so that no key is needed.
        return jnp.array([[1], [0]])[:tasks, : tasks - 1]

    def draw(key: RandomKey, own: jax.Array) -> jax.Array:
        others = jax.random.permutation(key, tasks - 1)
        # Indices from the own one on move up by 1, which leaves it out.
        return others + (others >= own).astype(others.dtype)

    keys = jax.random.split(checks.key("pcgrad key", key), tasks)
    return jax.vmap(draw)(keys, jnp.arange(tasks))


@maker
def mgda(shared: Sequence[str] | None = None) -> Aggregator:
    """MGDA: the shortest gradient Σ_k c_k g_k with c_k >= 0 and Σ_k c_k = 1.

    It lowers all losses, or none can be lowered without raising another. For two tasks
    c_1 = clip((g_2 - g_1) · g_2 / ‖g_1 - g_2‖², 0, 1); for more, 100 pairwise Frank-Wolfe steps.
    It is of the size of a mean, not of a sum [Sener & Koltun 2018, arXiv:1810.04650;
    Lacoste-Julien & Jaggi 2015, arXiv:1511.05932].

    Args:
        shared: Patterns of the shared parameters, as for `pcgrad`: only their gradients are
            weighed. None for all parameters.

    Raises:
        ConfigError: `shared` is not a sequence of strings; in training, a pattern matches nothing.
    """
    patterns = _expect_patterns("mgda shared", shared)

    def coefficients(memory: Any, gramian: jax.Array, key: RandomKey) -> jax.Array:
        if len(gramian) == 2:
            # The square ‖g_1 - g_2‖².
            distance = gramian[0, 0] - 2 * gramian[0, 1] + gramian[1, 1]
            # Equal gradients give the same sum for all weights.
            first = _divide(gramian[1, 1] - gramian[0, 1], distance, 0.5).clip(0, 1)
            return jnp.stack([first, 1 - first])
        return _shortest(gramian)

    return Aggregator(
        _no_memory,
        coefficients,
        _keep,
        patterns,
        everywhere=False,
    )


def _shortest(gramian: jax.Array) -> jax.Array:
    """Minimize c' G c over the simplex by pairwise Frank-Wolfe steps."""
    tasks = len(gramian)
    each = jnp.arange(tasks)

    def step(c: jax.Array, _: None) -> tuple[jax.Array, None]:
        # Half of the gradient of c' G c.
        slope = gramian @ c
        # Move weight from the worst task that has some to the best one.
        to = slope.argmin()
        source = jnp.where(c > 0, slope, -jnp.inf).argmax()
        direction = (each == to).astype(c.dtype) - (each == source).astype(c.dtype)
        # The exact minimum along the direction.
        length = _divide(-(direction @ slope), direction @ gramian @ direction, 0)
        # No weight becomes negative.
        return c + length.clip(0, c[source]) * direction, None

    start = jnp.full(tasks, 1 / tasks, gramian.dtype)
    # A scan and not a while_loop, so that a run can be differentiated.
    c, _ = jax.lax.scan(step, start, length=MGDA_STEPS)
    return c


@maker
def gradnorm(
    layer: str | Sequence[str], *, alpha: Number = 1.5, rate: Number = 0.025
) -> Aggregator:
    """GradNorm: weights w_k, Σ_k w_k = T, that bring the norms of w_k g_k towards common targets.

    With n_k = ‖g_k‖ over one layer, G_k = w_k n_k, and the relative speed r_k = (L_k / L_k(0)) /
    mean_j(L_j / L_j(0)), each step makes one of gradient descent by w on
    Σ_k |G_k - mean(G) r_k^alpha| / mean(n), where targets and mean(n) are constants; then w is
    divided by its mean. L_k(0) is that of the first batch with a label for the task. Losses have to
    be above 0. [Chen et al. 2018, arXiv:1711.02257; the division by mean(n) makes `rate` a number
    without a unit.]

    Args:
        layer: Pattern of the last shared layer, such as "body/conv_6", or several.
        alpha: Strength of the balance, >= 0; the paper's value. At 0 all norms become equal.
        rate: Rate of the descent by the weights, >= 0; the paper's value.

    Raises:
        ConfigError: A number is out of range, or `layer` is not a pattern; in training, it matches
            nothing.
    """
    checks.number("gradnorm alpha", alpha, "[0, inf)")
    checks.number("gradnorm rate", rate, "[0, inf)")
    patterns = _expect_patterns("gradnorm layer", (layer,) if isinstance(layer, str) else layer)
    if patterns is None:
        advice = 'give the last shared layer, as in "body/dense_2"'
        raise ConfigError(
            "gradnorm layer",
            "a pattern of paths",
            None,
            advice,
        )

    def init(tasks: int) -> dict[str, jax.Array]:
        # 0 is no loss so far.
        return {"weights": jnp.ones(tasks), "first_losses": jnp.zeros(tasks)}

    def coefficients(memory: Any, gramian: jax.Array, key: RandomKey) -> jax.Array:
        return memory["weights"]

    def update(memory: Any, gramian: jax.Array, losses: jax.Array) -> dict[str, jax.Array]:
        weights, first = memory["weights"], memory["first_losses"]
        dtype = weights.dtype
        losses = losses.astype(dtype)
        first = jnp.where(first > 0, first, losses)
        squares = jnp.diagonal(gramian).astype(dtype)
        # The root of 0 has an infinite slope.
        norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
        # A task without labels in this batch has no gradient, and does not count.
        counts = norms > 0
        # The mean of G_k.
        mean = _mean_where(counts, weights * norms)
        # L_k / L_k(0), the inverse training rate of the paper.
        ratio = _divide(losses, first, 1)
        speed = _divide(ratio, _mean_where(counts, ratio), 1)
        # A power of 0 has an infinite slope for alpha < 1.
        power = jnp.where(speed > 0, speed, 1) ** trees.knob(alpha, speed)
        target = mean * jnp.where(speed > 0, power, 0)
        # The derivative of |G_k - target| by w_k is sign(G_k - target) n_k.
        slope = jnp.sign(weights * norms - target) * _divide(norms, _mean_where(counts, norms), 0)
        moved = jnp.maximum(weights - trees.knob(rate, slope) * slope, SMALLEST_WEIGHT)
        # The weights sum up to T.
        return {"weights": moved / moved.mean(), "first_losses": first}

    return Aggregator(init, coefficients, update, patterns)


@maker
def dwa(steps: Number, *, temperature: Number = 2.0) -> Aggregator:
    """Dynamic weight average: weights by the speed of the losses, w = T softmax(r / temperature).

    r_k = L_k(e - 1) / L_k(e - 2), the means of the losses over the last two epochs; all w_k are 1
    in the first two. A step needs one backward pass. Losses have to be above 0 [Liu, Johns &
    Davison 2019, arXiv:1803.10704].

    Args:
        steps: Steps of an epoch, >= 1: train.num_steps(data, epochs=1, batch_size=...).
        temperature: > 0; the paper's value. The larger, the more equal the weights.

    Raises:
        ConfigError: A number is out of range.
    """
    checks.number("dwa steps", steps, "[1, inf)")
    checks.number("dwa temperature", temperature, "(0, inf)")

    def init(tasks: int) -> dict[str, jax.Array]:
        zeros = {name: jnp.zeros(tasks) for name in ("sums", "counts", "last", "before")}
        return zeros | {"step": jnp.zeros((), jnp.int32), "epochs": jnp.zeros((), jnp.int32)}

    def coefficients(memory: Any, gramian: None, key: None) -> jax.Array:
        ratio = _divide(memory["last"], memory["before"], 1)
        # Equal ratios make all weights 1.
        ratio = jnp.where(memory["epochs"] >= 2, ratio, 1)
        # A softmax sums up to 1, these weights to T.
        return len(ratio) * jax.nn.softmax(ratio / trees.knob(temperature, ratio))

    def update(memory: Any, gramian: None, losses: jax.Array) -> dict[str, jax.Array]:
        step = memory["step"] + 1
        sums = memory["sums"] + losses.astype(memory["sums"].dtype)
        # A loss of 0 is one of a batch without labels.
        counts = memory["counts"] + (losses != 0).astype(sums.dtype)
        is_end = step.astype(sums.dtype) >= trees.knob(steps, sums)
        # A task without labels in the epoch has a mean of 0.
        means = _divide(sums, counts, 0)
        ended = {
            "sums": jnp.zeros_like(sums),
            "counts": jnp.zeros_like(counts),
            "last": means,
            "before": memory["last"],
            "step": jnp.zeros_like(step),
            "epochs": memory["epochs"] + 1,
        }
        return trees.select(is_end, ended, memory | {"sums": sums, "counts": counts, "step": step})

    return Aggregator(init, coefficients, update, uses_gramian=False)


def aggregate(
    aggregator: Aggregator,
    gradients: Params,
    *,
    losses: jax.Array | None = None,
    memory: Any = None,
    key: RandomKey | None = None,
) -> tuple[Params, Any]:
    """Combine the gradients of several tasks into one, as a step of training does.

        gradient, _ = objective.aggregate(objective.pcgrad(), jnp.array([[1.0, 0.0], [-1.0, 1.0]]))

    Args:
        aggregator: Such as `pcgrad()`.
        gradients: A Jacobian (tasks, n), or a pytree of arrays (tasks, ...).
        losses: (tasks,), for `gradnorm` and `dwa`; None without them.
        memory: That of the last call; None for the first.
        key: For the random order of `pcgrad` with three tasks or more.

    Returns:
        (gradient, memory): the gradient without the axis of tasks, and the memory for the next
        call.

    Raises:
        ConfigError: `aggregator` is not one, or its pattern matches no path.
        DTypeError: A gradient does not hold floats; or `pcgrad` has three tasks or more, and `key`
            is not a key.
        ShapeError: The arrays are not of one number of tasks.
    """
    if not isinstance(aggregator, Aggregator):
        got = checks.show(aggregator)
        advice = "call one, as in objective.pcgrad()"
        raise ConfigError("aggregate aggregator", "an Aggregator", got, advice)
    # The number of tasks of each array; () of a scalar.
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(gradients)}
    if losses is not None:
        lengths.add(jnp.shape(losses))
    if len(lengths) != 1 or () in lengths or (0,) in lengths:
        expected = "arrays (tasks, ...) of one number of tasks"
        got = sorted(lengths)
        raise ShapeError(
            "aggregate gradients",
            expected,
            got,
            "stack the tasks' gradients",
        )
    for path, leaf in trees.named_leaves(gradients).items():
        checks.floating(f"aggregate gradients {path}".rstrip(), leaf)
    tasks = lengths.pop()[0]
    if memory is None:
        memory = aggregator.init(tasks)
    if losses is None:
        losses = jnp.ones(tasks)
    # (tasks, ...) -> tasks of (...)
    rows = [jax.tree.map(lambda leaf, k=k: leaf[k], gradients) for k in range(tasks)]
    gramian = None
    if aggregator.uses_gramian:
        gramian = gramian_of(aggregator, rows)
    weights = aggregator.coefficients(memory, gramian, key)
    return combine(aggregator, weights, rows), aggregator.update(memory, gramian, losses)


def gramian_of(aggregator: Aggregator, rows: Sequence[Params]) -> jax.Array:
    """Return the inner products of the gradients (tasks, tasks) over the shared parameters.

    Args:
        aggregator: It says which parameters are shared.
        rows: The gradient of each task.
    """
    is_shared = shared_paths(aggregator, rows[0])
    tasks = len(rows)
    named = [trees.named_leaves(row) for row in rows]
    paths = [path for path, matches in is_shared.items() if matches]
    # (tasks, n) for each array, in float32 or wider
    total: Any = 0.0
    for path in paths:
        leaves = [row[path] for row in named]
        flat = jnp.stack([leaf.astype(trees.wide(leaf)).reshape(-1) for leaf in leaves])
        # Full precision, since signs decide which tasks conflict. (tasks, n) -> (tasks, tasks)
        total = total + jnp.matmul(flat, flat.T, precision="highest")
    # Without an array, the total is the number 0.
    return jnp.broadcast_to(total, (tasks, tasks))


def combine(aggregator: Aggregator, coefficients: jax.Array, rows: Sequence[Params]) -> Params:
    """Return Σ_k c_k g_k; the sum of g_k for parameters that the coefficients do not apply to.

    Args:
        aggregator: It says which parameters the coefficients apply to.
        coefficients: c (tasks,).
        rows: The gradient of each task.
    """
    is_shared = shared_paths(aggregator, rows[0])

    def add(path: str, *leaves: jax.Array) -> jax.Array:
        wide = trees.wide(leaves[0])
        # The parameters of a head have the gradient of its task alone.
        weighs = aggregator.everywhere or is_shared[path]
        total: Any = 0.0
        for c, leaf in zip(coefficients, leaves, strict=True):
            term = leaf.astype(wide)
            total = total + (c.astype(wide) * term if weighs else term)
        return total.astype(leaves[0].dtype)

    named = [trees.named_leaves(row) for row in rows]
    added = [add(path, *(row[path] for row in named)) for path in is_shared]
    return jax.tree.unflatten(jax.tree.structure(rows[0]), added)


def shared_paths(aggregator: Aggregator, params: Params) -> dict[str, bool]:
    """Return for each parameter, by path, whether its gradients enter the Gramian.

    Raises:
        ConfigError: A pattern matches no path.
    """
    if aggregator.shared is None:
        return dict.fromkeys(trees.named_leaves(params), True)
    return trees.matching("aggregator shared", params, aggregator.shared)


def _expect_patterns(where: str, patterns: Any) -> tuple[str, ...] | None:
    """Return patterns as a tuple, None as it is; ConfigError for anything else or no pattern."""
    if patterns is None:
        return None
    is_sequence = isinstance(patterns, tuple | list) and len(patterns) > 0
    if not is_sequence or not all(isinstance(pattern, str) for pattern in patterns):
        advice = 'give a tuple of strings, as in ("body",)'
        raise ConfigError(
            where,
            "patterns of paths",
            repr(patterns),
            advice,
        )
    return tuple(patterns)


def _no_memory(tasks: int) -> tuple[()]:
    return ()


def _keep(memory: Any, gramian: Any, losses: jax.Array) -> Any:
    return memory


def _divide(a: jax.Array, b: jax.Array, otherwise: Number) -> jax.Array:
    """Return a / b where b > 0, with a finite derivative elsewhere too."""
    is_positive = b > 0
    # Without the inner `where`, 0 / 0 would make derivatives NaN.
    return jnp.where(is_positive, a / jnp.where(is_positive, b, 1), otherwise)


def _mean_where(counts: jax.Array, values: jax.Array) -> jax.Array:
    return _divide(jnp.where(counts, values, 0).sum(), counts.sum().astype(values.dtype), 0)
