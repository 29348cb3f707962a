"""A network with two heads: the class of a digit, and the angle by which it was turned.

Run it with `python examples/16_two_heads.py`; it takes less than a minute on two CPU cores, and
prints the figures of each head on the test images. The outputs are a dict, and so are the targets.
"""

import argparse

import jax

from fnn import augment, data, lab, nn, objective, optim, train

BATCH, DEGREES = 64, 60.0

body = nn.chain(
    nn.conv(24), nn.batch_norm(), nn.relu(),
    nn.conv(24), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.conv(48), nn.batch_norm(), nn.relu(), nn.flatten(), nn.dropout(0.3),
)  # fmt: skip
heads = nn.parallel(digit=nn.dense(10), turn=nn.dense(1), join="dict")
loss = objective.multi_task(
    {"digit": objective.cross_entropy, "turn": objective.squared_error}, weights={"turn": 3.0}
)


def turned(key, examples):
    """(images, {"digit": labels, "turn": fractions of DEGREES}), each image turned at random."""
    images, labels = examples
    turn_key, fraction_key = jax.random.split(key)
    fractions = jax.random.uniform(fraction_key, (len(labels), 1), minval=-1, maxval=1)

    def turn(image, fraction):
        return augment.rotate(DEGREES * fraction)(turn_key, image)

    images = jax.vmap(turn)(data.to_float(images), fractions[:, 0])
    return images, {"digit": labels, "turn": fractions}


def main(epochs=40):
    digits = data.digits()
    training = turned(jax.random.key(0), digits.train)
    test = turned(jax.random.key(1), digits.test)
    steps = train.num_steps(training, epochs=epochs, batch_size=BATCH)
    optimizer = optim.adamw(optim.one_cycle(1e-2, steps=steps))
    recipe = train.recipe(nn.chain(body=body, heads=heads), optimizer, loss=loss)
    options = {"valid": test, "epochs": epochs, "batch_size": BATCH}
    result = lab.fit(jax.random.key(2), recipe, training, **options)
    figures = train.evaluate(recipe, result.train_state, test)
    print(", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    outputs = train.predict(recipe, result.train_state, test[0])
    error = DEGREES * abs(outputs["turn"] - test[1]["turn"]).mean()
    print(f"mean error of the angle {error:.1f} degrees")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    main(parser.parse_args().epochs)
