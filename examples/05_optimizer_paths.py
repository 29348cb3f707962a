"""The paths of five optimizers down the valley f(x, y) = x² / 20 + y² from (-7, 2).

Run `python examples/05_optimizer_paths.py`; it takes a few seconds and writes
out/optimizer_paths.png. Gradient descent oscillates across the valley, because the gradient rarely
points along it. Momentum accumulates it and overshoots. AdaGrad, RMSprop and Adam adapt the step
size to each coordinate. The rates are chosen for a clear picture, not for the best result.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from fnn import optim

STEPS = 30
START = jnp.array([-7.0, 2.0])
PICTURE = Path("out/optimizer_paths.png")
OPTIMIZERS = {
    "SGD, rate 0.95": optim.sgd(0.95),
    "momentum, rate 0.1": optim.momentum(0.1),
    "AdaGrad, rate 1.5": optim.adagrad(1.5),
    "RMSprop, rate 0.3": optim.rmsprop(0.3),
    "Adam, rate 0.3": optim.adam(0.3),
}


def valley(point):
    x, y = point[..., 0], point[..., 1]
    return x**2 / 20 + y**2


def path(optimizer):
    """The points of an optimizer's path, including the start, (steps + 1, 2)."""

    def one(carry, _):
        point, opt_state = carry
        return optim.step(optimizer, jax.grad(valley)(point), opt_state, point), point

    (end, _), points = jax.lax.scan(one, (START, optimizer.init(START)), length=STEPS)
    return jnp.vstack([points, end])


def draw(paths):
    """Plot each path over contour lines, one panel an optimizer."""
    xs, ys = jnp.linspace(-10, 10, 200), jnp.linspace(-5, 5, 100)
    heights = valley(jnp.stack(jnp.meshgrid(xs, ys), -1))
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    levels = 2 ** jnp.arange(-5.0, 5.0)
    panels = figure.subplots(1, len(paths), sharey=True)
    for axes, (name, points) in zip(panels, paths.items(), strict=True):
        axes.contour(xs, ys, heights, levels=levels, colors="0.8", linewidths=0.8)
        axes.plot(*points.T, "o-", color="#0072B2", markersize=3, linewidth=1)
        axes.plot(0, 0, "+", color="#D55E00", markersize=10)
        axes.set_title(f"{name}: f = {valley(points[-1]):.3g}")
        axes.plot(*START, "s", color="#009E73", markersize=6)
        axes.set_xlabel("x")
    figure.axes[0].set_ylabel("y")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main():
    paths = {name: jax.jit(path)(optimizer) for name, optimizer in OPTIMIZERS.items()}
    for name, points in paths.items():
        print(f"{name}: f = {valley(points[-1]):.5f} after {STEPS} steps")
    draw(paths)
    print(f"paths plotted in {PICTURE}")


if __name__ == "__main__":
    main()
