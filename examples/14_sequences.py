"""Sequences of different lengths: a GRU compares the first symbol with the last one.

Run it with `python examples/14_sequences.py`; it takes half a minute on two CPU cores. The inputs
are a pair, the symbols and the lengths; the padding is random, so that only the lengths say which
symbol is the last one.
"""

import argparse

import jax
import jax.numpy as jnp

from fnn import lab, nn, optim, train

SYMBOLS, TIME, EXAMPLES, BATCH = 4, 20, 8000, 100

network = nn.graph(
    vectors=(nn.embed(SYMBOLS, 8), "x/0"),
    memory=(nn.gru(48, last=True), "vectors", "x/1"),
    y=(nn.dense(SYMBOLS), "memory"),
)


def sequences(key, count):
    """((symbols (count, TIME), lengths (count,)), labels): the last symbol minus the first one."""
    symbol_key, length_key = jax.random.split(key)
    symbols = jax.random.randint(symbol_key, (count, TIME), 0, SYMBOLS)
    lengths = jax.random.randint(length_key, (count,), 2, TIME + 1)
    last = symbols[jnp.arange(count), lengths - 1]
    return (symbols, lengths), (last - symbols[:, 0]) % SYMBOLS


def main(epochs=20):
    training = sequences(jax.random.key(0), EXAMPLES)
    test = sequences(jax.random.key(1), 1000)
    steps = train.num_steps(training, epochs=epochs, batch_size=BATCH)
    recipe = train.recipe(network, optim.adam(optim.one_cycle(1e-2, steps=steps)))
    options = {"valid": test, "epochs": epochs, "batch_size": BATCH}
    result = lab.fit(jax.random.key(2), recipe, training, **options)
    (symbols, lengths), labels = test
    # Other padding, the same predictions.
    padded = jnp.where(jnp.arange(TIME)[None] < lengths[:, None], symbols, 0)
    logits = train.predict(recipe, result.train_state, (symbols, lengths))
    same = train.predict(recipe, result.train_state, (padded, lengths))
    print(f"test accuracy {(logits.argmax(-1) == labels).mean():.3f}")
    print(f"independent of the padding: {bool((logits == same).all())}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
