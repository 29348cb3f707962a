"""Inputs and targets of several arrays: tuples and dicts through every function of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError
from fnn.types import Layer

COUNT = 12
draw = np.random.default_rng(0)
SIGNALS = draw.normal(size=(COUNT, 5, 3)).astype(np.float32)
LENGTHS = draw.integers(1, 6, COUNT).astype(np.int32)
LABELS = np.arange(COUNT, dtype=np.int32) % 2
IMAGES = draw.integers(0, 256, (COUNT, 4, 4, 1), np.uint8)
MEANS = SIGNALS.mean((1, 2))[:, None]
key = jax.random.key(0)
options = {"epochs": 2, "batch_size": 4}


def flat_dict():
    """A layer of a dict: its arrays, flattened and joined in the order of their names."""

    def init(key, shape):
        return {}, {}, (sum(int(np.prod(one)) for one in shape.values()),)

    def apply(params, state, x, *, key=None, train=False):
        flat = [x[name].reshape(x[name].shape[0], -1) for name in sorted(x)]
        return jnp.concatenate(flat, 1), state

    return Layer(init, apply)


heads = nn.parallel(label=nn.dense(2), mean=nn.dense(1), join="dict")
losses = {"label": objective.cross_entropy, "mean": objective.squared_error}
CASES = {
    "a pair of signals and lengths": (
        train.recipe(nn.chain(nn.gru(4, last=True), nn.dense(2)), optim.sgd(0.1)),
        ((SIGNALS, LENGTHS), LABELS),
        ((5, 3), ()),
    ),
    "dicts": (
        train.recipe(
            nn.chain(flat_dict(), nn.dense(4), heads),
            optim.sgd(0.1),
            loss=objective.multi_task(losses),
        ),
        ({"image": IMAGES, "signal": SIGNALS}, {"label": LABELS, "mean": MEANS}),
        {"image": (4, 4, 1), "signal": (5, 3)},
    ),
}


def rows(tree, part):
    return jax.tree.map(lambda array: array[part], tree)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_function_takes_several_arrays(name):
    recipe, examples, shape = CASES[name]
    assert train.num_steps(examples, **options) == 6
    result = train.run(key, recipe, examples, valid=examples, **options)
    fitted = lab.fit(key, recipe, examples, valid=examples, show=False, **options)
    np.testing.assert_allclose(result.history.valid_loss, fitted.history.valid_loss, rtol=1e-6)
    figures = train.evaluate(recipe, result.train_state, examples, batch_size=4)
    np.testing.assert_allclose(figures["loss"], result.history.valid_loss[-1], rtol=1e-6)
    # A stream of batches of these arrays trains as single steps do.
    batches = [rows(examples, slice(begin, begin + 4)) for begin in (0, 4, 8)]
    streamed = lab.fit(key, recipe, batches, epochs=1, show=False).history.loss
    train_state = train.start(key, recipe, shape)
    for batch, loss in zip(batches, streamed, strict=True):
        train_state, measured = train.step(recipe, train_state, batch)
        np.testing.assert_allclose(measured["loss"], loss, rtol=1e-6)
    outputs = train.predict(recipe, train_state, examples[0], batch_size=5)
    assert jax.tree.leaves(outputs)[0].shape[0] == COUNT
    parts = data.split(jax.random.key(1), examples, fractions=(0.5, 0.5))
    _, measured = train.epoch(recipe, train_state, parts[0], batch_size=3)
    assert jnp.isfinite(measured["loss"]).all()


@pytest.mark.slow
def test_padding_has_no_influence_on_a_run():
    recipe, ((signals, lengths), labels), _ = CASES["a pair of signals and lengths"]
    padding = np.arange(5) >= lengths[:, None]
    other = np.where(padding[..., None], 9, signals)
    losses = []
    for inputs in (signals, other):
        run = train.run(key, recipe, ((inputs, lengths), labels), **options)
        losses.append(run.history.loss)
    np.testing.assert_array_equal(*losses)


def test_bytes_of_a_dict_are_scaled_and_integers_stay():
    floats = data.to_float({"image": IMAGES, "length": LENGTHS, "parts": (SIGNALS, [IMAGES])})
    np.testing.assert_allclose(floats["image"], IMAGES / 255, rtol=1e-6)
    np.testing.assert_allclose(floats["parts"][1][0], IMAGES / 255, rtol=1e-6)
    np.testing.assert_array_equal(floats["parts"][0], SIGNALS)
    assert floats["length"].dtype == jnp.int32


def test_the_network_is_made_for_prepared_inputs():
    """`prepare` may change the structure and the shape of inputs."""
    recipe = train.recipe(
        nn.chain(nn.flatten(), nn.dense(2)),
        optim.sgd(0.1),
        prepare=lambda inputs: data.to_float(inputs["image"])[:, :2],
    )
    examples = {"image": IMAGES, "name": LENGTHS}, LABELS
    result = train.run(key, recipe, examples, valid=examples, **options)
    assert result.train_state.params["dense_1"]["kernel"].shape == (8, 2)


def test_arrays_of_other_lengths_within_a_structure_raise():
    recipe, ((signals, lengths), labels), _ = CASES["a pair of signals and lengths"]
    state = train.start(key, recipe, ((5, 3), ()))
    with pytest.raises(ShapeError, match=r"one length, got .'inputs/0': 12, 'inputs/1': 11"):
        train.run(key, recipe, ((signals, lengths[1:]), labels), **options)
    with pytest.raises(ShapeError, match="expected inputs of one length, got"):
        train.predict(recipe, state, (signals, lengths[1:]))


def test_a_policy_of_images_refuses_a_structure():
    recipe, examples, _ = CASES["dicts"]
    with pytest.raises(ConfigError, match=r"recipe augment: expected images, one array .*uint8"):
        train.run(key, recipe.replace(augment=augment.flip_lr()), examples, **options)
