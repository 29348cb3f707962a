"""What a whole small run costs: one fnn program against the Python loops of its peers.

A run is 50 epochs of 44 shuffled steps of a 64-32-10 network on the digits. Goal: fnn takes at most 1/8 of the time of
torch's eager loop and 1/25 of that of flax nnx with optax. Run `python benchmarks/small_run.py`.
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
GOALS = {
    "torch": 8,
    "flax": 25,
}  # how many times slower than fnn even the fastest of a peer's rows is

IMAGES, LABELS = fnn.data.digits().train
PIXELS = np.asarray(IMAGES, np.float32).reshape(len(IMAGES), -1) / 255
STEPS = len(PIXELS) // BATCH

finals: dict[
    str, float
] = {}  # mean training loss of the last epoch, to see that all programs learn the same


def note(name: str, losses) -> None:
    """Keep the mean loss of the last epoch; reading it waits for the run to end."""
    finals[name] = float(np.mean(np.asarray(losses[-STEPS:])))


def with_fnn(name: str) -> Program:
    """The run is one function, compiled once."""
    network = nn.chain(nn.flatten(), nn.dense(HIDDEN), nn.relu(), nn.dense(CLASSES))
    recipe, options = (
        train.recipe(network, optim.adam(RATE)),
        {"epochs": EPOCHS, "batch_size": BATCH},
    )
    compiled = jax.jit(lambda key: train.run(key, recipe, (IMAGES, LABELS), **options).history.loss)
    return lambda: note(name, compiled(jax.random.key(0)))


def with_torch(name: str, threads: int | None = None) -> Program:
    """Data in memory, a permutation an epoch, zero_grad(set_to_none): the loop of torch's own tutorials.

    Arrays this small are not worth a second thread, so there is a row with one.
    """
    threads = threads or torch.get_num_threads()
    images, labels = torch.from_numpy(PIXELS), torch.from_numpy(np.asarray(LABELS)).long()

    def run() -> None:
        torch.set_num_threads(threads)
        model = torch.nn.Sequential(
            torch.nn.Linear(PIXELS.shape[1], HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, CLASSES),
        )
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
        note(name, torch.stack(losses).numpy())

    return run


def with_nnx(name: str) -> Program:
    """A compiled step on a mutable model, as in flax's own tutorial."""

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
        note(name, looped(partial(step, model, optimizer)))

    return run


def with_optax(name: str) -> Program:
    """A compiled step on a plain dict of arrays."""
    optimizer = optax.adam(RATE)

    def objective(params, images, labels):
        hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
        return optax.softmax_cross_entropy_with_integer_labels(
            hidden @ params["w2"] + params["b2"], labels
        ).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state, images, labels):
        loss, grads = jax.value_and_grad(objective)(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    def run() -> None:
        draw = jax.nn.initializers.lecun_normal()
        w1, w2 = (
            draw(jax.random.key(0), (PIXELS.shape[1], HIDDEN)),
            draw(jax.random.key(1), (HIDDEN, CLASSES)),
        )
        params = {"w1": w1, "b1": jnp.zeros(HIDDEN), "w2": w2, "b2": jnp.zeros(CLASSES)}
        carried = [params, optimizer.init(params)]

        def advance(images, labels):
            *carried[:], loss = step(*carried, images, labels)
            return loss

        note(name, looped(advance))

    return run


def looped(step) -> list[jax.Array]:
    """Every step of a run from Python, on batches cut on the host; the losses stay on the device until the end."""
    random = np.random.default_rng(0)
    losses = []
    for _ in range(EPOCHS):
        order = random.permutation(len(PIXELS))
        for batch in order[: STEPS * BATCH].reshape(STEPS, BATCH):
            losses.append(step(PIXELS[batch], LABELS[batch]))
    return jax.device_get(losses)


def programs() -> dict[str, Program]:
    makers = {"fnn, one program": with_fnn}
    makers |= (
        {"torch, eager": with_torch, "torch, eager, one thread": partial(with_torch, threads=1)}
        if torch
        else {}
    )
    makers |= {"flax nnx + optax": with_nnx, "jax.jit step + optax": with_optax} if nnx else {}
    return {name: make(name) for name, make in makers.items()}


def row(name: str, timing: Timing) -> dict[str, str]:
    return {
        "one run": name,
        "seconds": f"{timing.seconds:.3f}",
        "µs a step": f"{1e6 * timing.seconds / (EPOCHS * STEPS):.0f}",
        "× fnn": f"{timing.ratio:.1f}",
        "loss at the end": f"{finals[name]:.3f}",
    }


def main() -> None:
    timings = compare(programs(), base="fnn, one program", rounds=ROUNDS)
    method = f"{EPOCHS} epochs of {STEPS} steps of {BATCH}, Adam, warm, median of {ROUNDS} alternating rounds."
    fastest = {
        peer: min((t.ratio for name, t in timings.items() if peer in name), default=None)
        for peer in GOALS
    }
    goals = [
        judge(
            f"{peer} takes so many times the time of fnn:",
            ratio,
            GOALS[peer],
            at_least=True,
            form=".1f",
        )
        for peer, ratio in fastest.items()
        if ratio is not None
    ]
    show(
        __doc__, method, [row(*item) for item in timings.items()], *goals, *missing("torch", "flax")
    )


if __name__ == "__main__":
    main()
