"""Learned learning rates: 800 of them, and the scales of the initialization, by hypergradients.

Run it with `python examples/17_learned_rates.py [DIRECTORY]`; it takes about two minutes on two CPU
cores. DIRECTORY contains the four files of MNIST; without it they are downloaded on first use.

A network with three hidden layers of 50 units trains for 100 steps on 10,000 images. Each step has
a rate of its own for the kernel and the bias of each of the four layers. Adam descends on the
logarithms of the 800 rates, and of the standard deviations of the four initial kernels, by the
gradient of the training loss at the end of the run [Maclaurin et al. 2015, arXiv:1502.03492]. Each
step of Adam uses another key, so other initial parameters and batches. The learned rates are
compared with the best constant rate, from a grid, with keys that neither has been chosen on.
Figures are means and standard deviations over these keys.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnn
from fnn import data, nn, optim, search, train
from fnn.types import Initializer, Number, Schedule

EXAMPLES, BATCH, STEPS, OUTER_STEPS, KEYS = 10_000, 200, 100, 50, 5
RATES = np.geomspace(0.01, 3, 13)
WIDTHS = (50, 50, 50, 10)
INPUTS = (784, 50, 50, 50)
MOMENTUM = 0.5
PICTURE = Path("out/learned_rates.png")
LAYERS = [f"dense_{1 + 2 * layer}" for layer in range(len(WIDTHS))]


@fnn.maker
def exp_table(logs: Number) -> Schedule:
    """The rates exp(logs), one for each step; any logarithms are valid."""
    return optim.table(jnp.exp(logs))


@fnn.maker
def exp_normal(log_std: Number) -> Initializer:
    """Normal distribution with the standard deviation exp(log_std)."""
    return lambda key, shape: jnp.exp(log_std) * jax.random.normal(key, shape)


def make(rate):
    """The recipe to begin with: a constant rate for each array of parameters."""
    parts = [nn.flatten()]
    for width in WIDTHS:
        parts += [nn.dense(width, kernel_init=exp_normal(jnp.log(0.1))), nn.tanh()]
    optimizers = {
        f"{layer}/{kind}": optim.momentum(
            exp_table(jnp.full(STEPS, jnp.log(rate))), momentum=MOMENTUM
        )
        for layer in LAYERS
        for kind in ("kernel", "bias")
    }
    # The last layer has no activation.
    # Inputs of mean 0 and variance 1, for which a scale of 1/sqrt(inputs) is known to be good.
    prepare = data.normalize((0.1307,), (0.3081,))
    return train.recipe(nn.chain(*parts[:-1]), optim.partition(optimizers, None), prepare=prepare)


def learn(recipe, examples, epochs):
    """Descend on the logarithms; returns the recipe and the loss at each step."""
    outer = optim.adam(0.04)
    opt_state = outer.init(recipe)
    losses = []
    for key in jax.random.split(jax.random.key(0), OUTER_STEPS):
        slope = search.hypergradient(
            key, recipe, examples, valid=examples, epochs=epochs, batch_size=BATCH,
            paths=("*.logs", "*.log_std"), growth=False,
        )  # fmt: skip
        losses.append(float(slope.value))
        recipe, opt_state = optim.step(outer, slope.gradient, opt_state, recipe)
    return recipe, losses


def curves(recipe, examples, epochs, keys):
    """Losses (keys, steps) and the final loss on all examples (keys,)."""

    def run(key):
        result = train.run(key, recipe, examples, epochs=epochs, batch_size=BATCH)
        final = train.evaluate(recipe, result.train_state, examples)
        return result.history.loss, final["loss"]

    return jax.device_get(jax.lax.map(run, keys))


def best_constant(examples, epochs):
    """The constant rate of the grid with the lowest final loss, a mean over two keys."""
    keys = jax.random.split(jax.random.key(1), 2)
    finals = [curves(make(rate), examples, epochs, keys)[1].mean() for rate in RATES]
    return RATES[np.nanargmin(finals)]


def draw(losses, recipe, found):
    """Plot the descent, the learned rates, and the training loss of both recipes."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(losses, color="#0072B2")
    left.axhline(found["constant"][1].mean(), color="#D55E00", label="best constant rate")
    left.set(title="final training loss", xlabel="steps on the rates", yscale="log")
    left.legend()
    for layer, color in zip(LAYERS, ("#0072B2", "#009E73", "#E69F00", "#CC79A7"), strict=True):
        for kind, style in (("kernel", "-"), ("bias", ":")):
            logs = recipe[f"optimizer.parts.{layer}/{kind}.rate.logs"]
            middle.plot(np.exp(logs), style, color=color, label=f"{layer} {kind}", linewidth=1.2)
    middle.set(title="learned rates", xlabel="step", yscale="log")
    middle.legend(fontsize=7, ncols=2)
    for name, color in (("constant", "#D55E00"), ("learned", "#0072B2")):
        right.plot(found[name][0].mean(0), color=color, label=name)
    right.set(title="training loss, mean over new keys", xlabel="step", yscale="log")
    right.legend()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main(directory=None):
    images, labels = data.mnist(directory).train
    examples = images[:EXAMPLES], labels[:EXAMPLES]
    epochs = STEPS // (len(examples[1]) // BATCH)
    constant = best_constant(examples, epochs)
    # Half of the best rate: near the limit of stability, gradients of a run are mostly noise.
    learned, losses = learn(make(constant / 2), examples, epochs)
    keys = jax.random.split(jax.random.key(2), KEYS)
    found = {
        "constant": curves(make(constant), examples, epochs, keys),
        "learned": curves(learned, examples, epochs, keys),
    }
    print(f"best constant rate {constant:.2g}")
    for name, (_, final) in found.items():
        print(f"{name}: training loss {final.mean():.4f} ± {final.std():.4f}")
    for index, inputs in enumerate(INPUTS):
        std = float(jnp.exp(learned[f"network.{1 + 2 * index}.kernel_init.log_std"]))
        print(f"{LAYERS[index]}: initial scale {std:.3f}, 1/sqrt({inputs}) is {inputs**-0.5:.3f}")
    draw(losses, learned, found)
    print(f"plotted in {PICTURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
