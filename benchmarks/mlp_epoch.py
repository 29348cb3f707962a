"""Cost of an epoch of an MLP: 60,000 shuffled examples of 784 numbers, in batches of 128.

784-256-128-10 with relu, Adam. Goal: fnn takes at most 0.55 of the time of torch's fastest loop.
Run `python benchmarks/mlp_epoch.py`.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, compare, judge, missing, show

from fnn import nn, optim, train

try:
    import torch
except ImportError:
    torch = None
try:
    import optax
except ImportError:
    optax = None

EXAMPLES, BATCH, SIZES, RATE = 60_000, 128, (784, 256, 128, 10), 1e-3
STEPS = EXAMPLES // BATCH
ROUNDS = 5

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.random((EXAMPLES, SIZES[0]), np.float32)
LABELS = RANDOM.integers(SIZES[-1], size=EXAMPLES).astype(np.int32)


def with_fnn() -> Program:
    hidden = [layer for size in SIZES[1:-1] for layer in (nn.dense(size), nn.relu())]
    recipe = train.recipe(nn.chain(*hidden, nn.dense(SIZES[-1])), optim.adam(RATE))

    @jax.jit
    def compiled(key, data):
        return train.run(key, recipe, data, epochs=1, batch_size=BATCH).history.loss

    data = jax.device_put((INPUTS, LABELS))
    return lambda: jax.block_until_ready(compiled(jax.random.key(0), data))


def with_torch(fused: bool) -> Program:
    """The loop of torch's tutorials: data in memory, one permutation per epoch, zero_grad."""
    pairs = list(itertools.pairwise(SIZES))
    layers = [layer for pair in pairs for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    model, loss_of = torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused)
    inputs, labels = torch.from_numpy(INPUTS), torch.from_numpy(LABELS).long()

    def run() -> None:
        order = torch.randperm(EXAMPLES)
        for step in range(STEPS):
            batch = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()

    return run


def with_optax() -> Program:
    """A compiled step on a list of arrays, with batches cut on the host."""
    optimizer = optax.adam(RATE)
    draw = jax.nn.initializers.he_normal()
    keys = jax.random.split(jax.random.key(0), len(SIZES) - 1)
    pairs = zip(keys, SIZES, SIZES[1:], strict=False)
    start = [(draw(key, (i, o)), jnp.zeros(o)) for key, i, o in pairs]

    def objective(params, x, labels):
        *hidden, (out_weight, out_bias) = params
        for weight, bias in hidden:
            x = jax.nn.relu(x @ weight + bias)
        logits = x @ out_weight + out_bias
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state, x, labels):
        grads = jax.grad(objective)(params, x, labels)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state

    def run() -> None:
        params = jax.tree.map(jnp.copy, start)
        opt_state = optimizer.init(params)
        order = np.random.default_rng(0).permutation(EXAMPLES)
        for batch in order[: STEPS * BATCH].reshape(STEPS, BATCH):
            params, opt_state = step(params, opt_state, INPUTS[batch], LABELS[batch])
        jax.block_until_ready(params)

    return run


def main() -> None:
    programs = {"fnn, one program": with_fnn()}
    if torch:
        programs["torch, eager"] = with_torch(fused=False)
        programs["torch, eager, fused Adam"] = with_torch(fused=True)
    if optax:
        programs["jax.jit step + optax"] = with_optax()
    timings = compare(programs, base="fnn, one program", rounds=ROUNDS)
    rows = [
        {"one epoch": name, "ms": f"{1e3 * t.seconds:.0f}", "× fnn": f"{t.ratio:.2f}"}
        for name, t in timings.items()
    ]
    goals = []
    if torch:
        fastest = min(t.ratio for name, t in timings.items() if name.startswith("torch"))
        label = "fnn relative to the fastest of torch:"
        goals.append(judge(label, 1 / fastest, 0.55, form=".2f"))
    method = f"{STEPS} steps, warm, median of {ROUNDS} alternating rounds."
    show(__doc__, method, rows, *goals, *missing("torch", "optax"))


if __name__ == "__main__":
    main()
