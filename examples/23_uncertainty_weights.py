"""Learned uncertainty weights find the noise of two tasks of very different scales.

Run `python examples/23_uncertainty_weights.py`; it takes about 20 seconds on two CPU cores. Two
lines are observed with noise of standard deviations 10 and 1. A network with a head for each task
trains on Σ_k exp(-s_k) L_k / 2 + s_k / 2, so that exp(s_k / 2) estimates the noise of a task. At
the optimum it is the root of the mean squared residual, whatever the unit of the task.

The first run is that of the authors' notebook: 100 points, 1,024 units, Adam and 2,000 epochs. Its
estimates are 8.648 and 0.925. The first of them is not the optimum: the slope by s becomes about
100 times smaller as s grows, and Adam, which divides by the root of its mean square, is slow from
then on. With an optimizer of its own for s, the estimates equal the residuals; with 10,000 points
they are near the truth [Kendall, Gal & Cipolla 2018, arXiv:1705.07115].
"""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import nn, objective, optim, train

UNITS = 1024
NOISE = {"first": 10.0, "second": 1.0}
LOSSES = {"first": objective.squared_error, "second": objective.squared_error}
# Name: (points, epochs, examples of a batch, whether s has an optimizer of its own)
RUNS = {
    "as published": (100, 2000, 20, False),
    "own optimizer": (100, 2000, 20, True),
    "10,000 points": (10_000, 200, 1000, True),
}

# With weights of 1/2 this is the likelihood of a normal distribution with the log variance s.
loss = objective.multi_task(LOSSES, weights=dict.fromkeys(LOSSES, 0.5), learned=True)


def lines(points):
    """Points of two lines with noise, as in the notebook."""
    draw = np.random.RandomState(0)
    x = draw.randn(points, 1)
    first = 2 * x + 8 + NOISE["first"] * draw.randn(points, 1)
    second = 3 * x + 3 + NOISE["second"] * draw.randn(points, 1)
    return np.float32(x), {"first": np.float32(first), "second": np.float32(second)}


def make(steps, own_optimizer):
    heads = nn.parallel(
        first=nn.dense(1),
        second=nn.dense(1),
        log_variance=nn.parameter(2, init=nn.zeros()),
        join="dict",
    )
    network = nn.chain(body=nn.chain(nn.dense(UNITS), nn.relu()), heads=heads)
    optimizer = optim.adam(1e-3)
    if own_optimizer:
        falling = optim.adam(optim.linear(3e-3, steps=steps))
        variances = optim.sgd(optim.linear(0.05, steps=steps))
        optimizer = optim.partition({"heads/log_variance": variances}, falling)
    return train.recipe(network, optimizer, loss=loss)


def estimates(points, epochs, batch_size, own_optimizer):
    """The estimated noise of both tasks, and the root of the mean squared residuals."""
    data = lines(points)
    steps = train.num_steps(data, epochs=epochs, batch_size=batch_size)
    recipe = make(steps, own_optimizer)
    key = jax.random.key(0)
    train_state, _ = train.run(key, recipe, data, epochs=epochs, batch_size=batch_size)
    outputs = train.predict(recipe, train_state, data[0])
    noise = np.exp(outputs["log_variance"][0] / 2)
    residuals = [float(jnp.sqrt(((outputs[k] - data[1][k]) ** 2).mean())) for k in LOSSES]
    return noise, np.array(residuals)


def main():
    print("                  estimated noise    rms residual")
    for name, run in RUNS.items():
        noise, residuals = estimates(*run)
        figures = "".join(f"{value:9.3f}" for value in (*noise, *residuals))
        print(f"{name:15s}{figures}")


if __name__ == "__main__":
    main()
