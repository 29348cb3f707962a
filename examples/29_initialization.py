"""Initialization: activations by depth, and batch norm against sixteen scales of the kernels.

Run it with `python examples/29_initialization.py [DIRECTORY]`. DIRECTORY contains the four files of
MNIST; without it the 8 x 8 digits of scikit-learn are used, which takes half a minute on two CPU
cores. `diagnose.profile` measures five layers of 100 units before training, for kernels of standard
deviation 1 and 0.01, Xavier and He, with sigmoid, tanh and relu. Large kernels saturate sigmoid and
tanh, small ones make all examples alike, and the fitting scale depends on the activation. Networks
with batch norm then learn at scales at which those without do not. Pictures are in out/
[Saitoh 2016, Deep Learning from Scratch, chapter 6].
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from fnn import data, diagnose, nn, optim, train

WIDTH, DEPTH, KEYS = 100, 5, 3
EXAMPLES, EPOCHS, BATCH, RATE = 1000, 20, 100, 0.01
SCALES = np.geomspace(1, 1e-4, 16)
OUT = Path("out")
ACTIVATIONS = {"sigmoid": nn.sigmoid(), "tanh": nn.tanh(), "relu": nn.relu()}
INITIALIZERS = {
    "std 1": nn.normal(1.0),
    "std 0.01": nn.normal(0.01),
    "Xavier": nn.xavier_normal(),
    "He": nn.he_normal(),
}


def network(kernel_init, activation, *norm):
    """Hidden layers of one width, and a layer of ten outputs."""
    hidden = [nn.dense(WIDTH, kernel_init=kernel_init), *norm, activation]
    return nn.chain(nn.flatten(), *hidden * DEPTH, nn.dense(10, kernel_init=kernel_init))


def recipe(kernel_init, activation, prepare, *norm):
    return train.recipe(network(kernel_init, activation, *norm), optim.sgd(RATE), prepare=prepare)


def profiles(keys, training, prepare):
    """The profile of each activation and initializer before training, with an axis of keys."""
    found = {}
    for activation, layer in ACTIVATIONS.items():
        for name, kernel_init in INITIALIZERS.items():
            own = recipe(kernel_init, layer, prepare)

            def profile(key, own=own):
                begin = train.start(key, own, training[0].shape[1:])
                return diagnose.profile(own, begin, training)

            found[activation, name] = jax.jit(jax.vmap(profile))(keys)
    return found


def of_activations(profile, figure):
    """The figure of the hidden layers after their activation, (keys, depth, ...)."""
    columns = [index for index, kind in enumerate(profile.kinds) if kind in ACTIVATIONS]
    return np.asarray(getattr(profile, figure))[:, columns]


def draw_profiles(found, path):
    """Plot the histograms of the first key, one line a layer."""
    figure, panels = plt.subplots(
        len(ACTIVATIONS), len(INITIALIZERS), figsize=(13, 7.5), layout="constrained", sharex=True
    )
    edges = diagnose.HISTOGRAM_EDGES
    # The outer bins are open: they are drawn one bin beyond the edges.
    centers = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, DEPTH))
    for axes, ((activation, name), profile) in zip(panels.flat, found.items(), strict=True):
        shares = of_activations(profile, "activation_histogram")[0]
        deviations = of_activations(profile, "activation_std").mean(0)
        for depth, (share, color) in enumerate(zip(shares, colors, strict=True), 1):
            axes.plot(centers, share, color=color, drawstyle="steps-mid", label=f"layer {depth}")
        axes.set_xscale("asinh", linear_width=0.02)
        axes.set_xticks([-10, -1, -0.1, 0, 0.1, 1, 10], ["-10", "-1", "-.1", "0", ".1", "1", "10"])
        first, last = deviations[[0, -1]]
        title = f"{activation}, {name}: std {first:.2g} in layer 1, {last:.2g} in {DEPTH}"
        axes.set_title(title, fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("activation (log axis beyond ±0.02)")
    for axes in panels[:, 0]:
        axes.set_ylabel("share of values")
    panels[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def learning(keys, training, prepare):
    """Training accuracy of each epoch with and without batch norm, (scales, keys, epochs)."""
    found = {}
    for name, norm in {"without batch norm": (), "with batch norm": (nn.batch_norm(),)}.items():
        recipes = [recipe(nn.normal(scale), nn.relu(), prepare, *norm) for scale in SCALES]

        def accuracy(key, own):
            history = train.run(key, own, training, epochs=EPOCHS, batch_size=BATCH).history
            # A network whose outputs are not finite has no accuracy.
            values = jnp.where(history.finite, history.accuracy, jnp.nan)
            return values.reshape(EPOCHS, -1).mean(1)

        # One program for all keys and scales, whose numbers are leaves of the recipe.
        by_key = jax.vmap(accuracy, (0, None))
        found[name] = np.asarray(jax.jit(jax.vmap(by_key, (None, 0)))(keys, train.stack(recipes)))
    return found


def draw_learning(curves, path):
    """Plot the accuracy by epoch, one panel a scale; bands are the range over keys."""
    figure, panels = plt.subplots(
        4, 4, figsize=(12, 9), layout="constrained", sharex=True, sharey=True
    )
    styles = {"without batch norm": ("#D55E00", "--"), "with batch norm": ("#0072B2", "-")}
    for index, axes in enumerate(panels.flat):
        axes.set_title(f"std {SCALES[index]:.2g}")
        for name, (color, style) in styles.items():
            values = curves[name][index]
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.mean(0), color=color, linestyle=style, label=name)
            axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2)
            if np.isnan(values).any():
                axes.text(2, 0.9, f"{name}: not finite", color=color, fontsize=8)
        axes.set_ylim(0, 1)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    for axes in panels[:, 0]:
        axes.set_ylabel("training accuracy")
    panels[0, 0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(directory=None):
    images, labels = (data.digits() if directory is None else data.mnist(directory)).train
    training = images[:EXAMPLES], labels[:EXAMPLES]
    prepare = data.standardize(training[0])
    keys = jax.random.split(jax.random.key(0), KEYS)
    OUT.mkdir(exist_ok=True)
    found = profiles(keys, training, prepare)
    for (activation, name), profile in found.items():
        deviations = of_activations(profile, "activation_std")[:, -1]
        share = "dead_share" if activation == "relu" else "saturated_share"
        shares = of_activations(profile, share)[:, -1]
        print(
            f"{activation}, {name}: layer {DEPTH} has std {deviations.mean():.2g} ± "
            f"{deviations.std():.1g}, {share.split('_')[0]} units {shares.mean():.2f} ± "
            f"{shares.std():.2f}"
        )
    draw_profiles(found, OUT / "initialization.png")
    curves = learning(keys, training, prepare)
    for name, values in curves.items():
        last = values[..., -1]
        learned = (last > 0.5).sum(0)
        print(
            f"{name}: {learned.mean():.1f} ± {learned.std():.1f} of {len(SCALES)} scales reach an "
            "accuracy of 0.5"
        )
    draw_learning(curves, OUT / "batch_norm.png")
    print(f"two plots in {OUT}/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", help="directory with the files of MNIST")
    main(parser.parse_args().directory)
