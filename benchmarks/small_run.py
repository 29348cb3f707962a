"""Cost of a whole small run: one fnn program against the Python loops of its peers.

A run is 50 epochs of 44 shuffled steps of a 64-32-10 network on the digits. Goals: fnn takes at
most 1/8 of the time of torch's eager loop and 1/25 of that of flax nnx with optax. Run
`python benchmarks/small_run.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from measure import Program, Timing, compare, judge, missing, show

import fnn
from fnn import nn, optim, train

try:
    import torch
except ImportError:
    torch = None
try:
    import optax
    from flax import nnx
except ImportError:
    nnx = optax = None

EPOCHS, BATCH, HIDDEN, CLASSES, RATE = 50, 32, 32, 10, 1e-3
ROUNDS = 5
GOALS = {"torch": 8, "flax": 25}  # time of the fastest row of a peer relative to fnn

IMAGES, LABELS = fnn.data.digits().train
PIXELS = np.asarray(IMAGES, np.float32).reshape(len(IMAGES), -1) / 255
STEPS = len(PIXELS) // BATCH

# Mean training loss of the last epoch, a check that all programs train alike.
final_losses: dict[str, float] = {}


def record_loss(name: str, losses) -> None:
    """Keep the mean loss of the last epoch; reading it waits for the run to end."""
    final_losses[name] = float(np.mean(np.asarray(losses[-STEPS:])))


def with_fnn(name: str) -> Program:
    """The run is one function, compiled once."""
    network = nn.chain(nn.flatten(), nn.dense(HIDDEN), nn.relu(), nn.dense(CLASSES))
    recipe = train.recipe(network, optim.adam(RATE))
    options = {"epochs": EPOCHS, "batch_size": BATCH}
    compiled = jax.jit(lambda key: train.run(key, recipe, (IMAGES, LABELS), **options).history.loss)
    return lambda: record_loss(name, compiled(jax.random.key(0)))


def with_torch(name: str, threads: int | None = None) -> Program:
    """The loop of torch's tutorials: data in memory, one permutation per epoch, zero_grad.

    A second thread does not pay for arrays of this size, so there is a row with one thread.
    """
    threads = threads or torch.get_num_threads()
    images, labels = torch.from_numpy(PIXELS), torch.from_numpy(np.asarray(LABELS)).long()

    def run() -> None:
        torch.set_num_threads(threads)
        hidden = torch.nn.Linear(PIXELS.shape[1], HIDDEN)
        out = torch.nn.Linear(HIDDEN, CLASSES)
        model = torch.nn.Sequential(hidden, torch.nn.ReLU(), out)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        loss_of, losses = torch.nn.CrossEntropyLoss(), []
        for _ in range(EPOCHS):
            order = torch.randperm(len(images))
            for step in range(STEPS):
                batch = order[step * BATCH : (step + 1) * BATCH]
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(model(images[batch]), labels[batch])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        record_loss(name, torch.stack(losses).numpy())

    return run


def with_nnx(name: str) -> Program:
    """A compiled step on a mutable model, as in flax's tutorial."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(PIXELS.shape[1], HIDDEN, rngs=rngs)
            self.out = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.hidden(x)))

    def objective(model, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    @nnx.jit
    def step(model, optimizer, images, labels):
        loss, grads = nnx.value_and_grad(objective)(model, images, labels)
        optimizer.update(model, grads)
        return loss

    def run() -> None:
        model = Model(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
        record_loss(name, losses_of(partial(step, model, optimizer)))

    return run


def with_optax(name: str) -> Program:
    """A compiled step on a dict of arrays."""
    optimizer = optax.adam(RATE)

    def objective(params, images, labels):
        hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
        logits = hidden @ params["w2"] + params["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state, images, labels):
        loss, grads = jax.value_and_grad(objective)(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    def run() -> None:
        draw = jax.nn.initializers.lecun_normal()
        w1 = draw(jax.random.key(0), (PIXELS.shape[1], HIDDEN))
        w2 = draw(jax.random.key(1), (HIDDEN, CLASSES))
        params = {"w1": w1, "b1": jnp.zeros(HIDDEN), "w2": w2, "b2": jnp.zeros(CLASSES)}
        carried = [params, optimizer.init(params)]

        def advance(images, labels):
            *carried[:], loss = step(*carried, images, labels)
            return loss

        record_loss(name, losses_of(advance))

    return run


def losses_of(step) -> list[jax.Array]:
    """Run all steps from Python, on batches cut on the host.

    The losses stay on the device until the end.
    """
    random = np.random.default_rng(0)
    losses = []
    for _ in range(EPOCHS):
        order = random.permutation(len(PIXELS))
        for batch in order[: STEPS * BATCH].reshape(STEPS, BATCH):
            losses.append(step(PIXELS[batch], LABELS[batch]))
    return jax.device_get(losses)


def programs() -> dict[str, Program]:
    makers = {"fnn, one program": with_fnn}
    if torch:
        makers["torch, eager"] = with_torch
        makers["torch, eager, one thread"] = partial(with_torch, threads=1)
    if nnx:
        makers["flax nnx + optax"] = with_nnx
        makers["jax.jit step + optax"] = with_optax
    return {name: make(name) for name, make in makers.items()}


def row(name: str, timing: Timing) -> dict[str, str]:
    return {
        "one run": name,
        "seconds": f"{timing.seconds:.3f}",
        "µs per step": f"{1e6 * timing.seconds / (EPOCHS * STEPS):.0f}",
        "× fnn": f"{timing.ratio:.1f}",
        "final loss": f"{final_losses[name]:.3f}",
    }


def main() -> None:
    timings = compare(programs(), base="fnn, one program", rounds=ROUNDS)
    method = (
        f"{EPOCHS} epochs of {STEPS} steps of {BATCH}, Adam, warm, "
        f"median of {ROUNDS} alternating rounds."
    )
    rows = [row(name, timing) for name, timing in timings.items()]
    remarks = []
    for peer, goal in GOALS.items():
        ratios = [timing.ratio for name, timing in timings.items() if peer in name]
        if ratios:
            label = f"time of {peer} relative to fnn:"
            remarks.append(judge(label, min(ratios), goal, at_least=True, form=".1f"))
    show(__doc__, method, rows, *remarks, *missing("torch", "flax"))


if __name__ == "__main__":
    main()
