"""A GAN on the digits of scikit-learn: generator and critic are one network with one recipe.

Run it with `python examples/10_gan.py`; it takes about a minute on two CPU cores, and writes a
sheet of generated digits to out/gan.png.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

from fnn import data, lab, nn, objective, optim, train

NOISE, BATCH = 16, 64
OUT = Path("out")

generator = nn.chain(
    nn.dense(4 * 4 * 32), nn.reshape((4, 4, 32)), nn.batch_norm(), nn.relu(),
    nn.upsample(2), nn.conv(32), nn.batch_norm(), nn.relu(),
    nn.conv(1), nn.sigmoid(),
)  # fmt: skip
critic = nn.chain(
    nn.conv(32), nn.leaky_relu(0.2),
    nn.conv(64, stride=2), nn.leaky_relu(0.2), nn.dropout(0.3),
    nn.flatten(), nn.dense(1),
)  # fmt: skip
network = nn.adversarial(generator, critic, noise=NOISE)
optimizer = optim.adam(2e-4, b1=0.5)
recipe = train.recipe(network, optimizer, loss=objective.adversarial)


def main(epochs=150):
    digits = data.digits()
    result = lab.fit(jax.random.key(0), recipe, digits.train, epochs=epochs, batch_size=BATCH)
    # The generator alone, with its parts of the params and of the state.
    z = jax.random.normal(jax.random.key(1), (64, NOISE))
    params, state = result.train_state.params["generator"], result.train_state.state["generator"]
    images, _ = nn.take(network, "generator").apply(params, state, z)
    OUT.mkdir(exist_ok=True)
    sheet = train.recipe(nn.flatten())
    lab.plot_batch(
        jax.random.key(2), sheet, (images, jnp.zeros(64)), OUT / "gan.png", batch_size=64, count=64
    )
    print(f"mean of real {digits.train[0].mean() / 255:.3f}, of generated {images.mean():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=150)
    main(parser.parse_args().epochs)
