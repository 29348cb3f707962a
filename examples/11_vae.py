"""A variational autoencoder of the digits of scikit-learn, with the evidence lower bound as loss.

Run it with `python examples/11_vae.py`; it takes half a minute on two CPU cores, prints the bound
of the test images in nats, and writes a sheet of generated digits to out/vae.png.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

from fnn import data, lab, nn, objective, optim, train

LATENT, WIDTH, BATCH = 8, 128, 64
OUT = Path("out")

encoder = nn.chain(
    nn.dense(WIDTH), nn.relu(),
    nn.parallel(mean=nn.dense(LATENT), log_variance=nn.dense(LATENT), join="dict"),
)  # fmt: skip
decoder = nn.chain(nn.dense(WIDTH), nn.relu(), nn.dense(64))
network = nn.graph(
    code=(encoder, "x"),
    latent=(nn.sample_normal(always=True), "code"),
    pixels=(decoder, "latent"),
    outputs=(nn.chain(), {"pixels": "pixels", "code": "code"}),
)


def negative_bound(outputs, pixels):
    """-log p(x | z) + KL(q(z | x) || N(0, 1)), in nats for each image."""
    mean, log_variance = outputs["code"]["mean"], outputs["code"]["log_variance"]
    divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(-1)
    # The loss of an image is the mean over its 64 pixels.
    return 64 * objective.binary_cross_entropy(outputs["pixels"], pixels) + divergence


def pixels(images):
    """Targets are not prepared by a recipe, so the inputs are the same floats."""
    flat = data.to_float(images).reshape(-1, 64)
    return flat, flat


recipe = train.recipe(network, optim.adam(2e-3), loss=negative_bound)


def main(epochs=150):
    digits = data.digits()
    fit = {"valid": pixels(digits.test[0]), "epochs": epochs, "batch_size": BATCH}
    result = lab.fit(jax.random.key(0), recipe, pixels(digits.train[0]), **fit)
    z = jax.random.normal(jax.random.key(1), (64, LATENT))
    params = result.train_state.params["pixels"]
    logits, _ = nn.take(network, "pixels").apply(params, {}, z)
    sheet = (jax.nn.sigmoid(logits).reshape(-1, 8, 8, 1), jnp.zeros(64))
    OUT.mkdir(exist_ok=True)
    show = train.recipe(nn.flatten())
    lab.plot_batch(jax.random.key(2), show, sheet, OUT / "vae.png", batch_size=64, count=64)
    print(f"bound of the test images {result.history.valid_loss[-1]:.2f} nats")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=150)
    main(parser.parse_args().epochs)
