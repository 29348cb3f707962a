"""Wrong inputs of users: each raises an error of fnn that names the argument, before work starts."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, objective, optim, train
from fnn.errors import (
    ConfigError,
    DTypeError,
    FnnError,
    LabelError,
    NonFiniteError,
    ShapeError,
    TreeMismatchError,
)
from fnn.types import History, Result

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.arange(40, dtype=np.int32) % 10
FLOATS = IMAGES / np.float32(255)
classifier = nn.chain(nn.flatten(), nn.dense(10))
normed = nn.chain(
    conv1=nn.conv(4), bn1=nn.batch_norm(), pool=nn.global_avg_pool(), head=nn.dense(10)
)


def fresh():
    return jax.random.key(0)


def recipe(network=classifier, optimizer=None, **options):
    return train.recipe(network, optimizer or optim.sgd(0.1), **options)


def run(examples, *parts, entry=train.run, valid=None, resume=None, chunk=None, **options):
    """One epoch with a recipe of these parts and options."""
    how = {"valid": valid, "resume": resume, "chunk": chunk}
    how = {name: value for name, value in how.items() if value is not None}
    return entry(fresh(), recipe(*parts, **options), examples, epochs=1, batch_size=8, **how)


def with_label(label, place=3):
    labels = LABELS.astype(np.int64)
    labels[place] = label
    return labels


def all_nan(x):
    return data.to_float(x) * jnp.nan


def steep(outputs, labels):
    """A finite loss with an infinite gradient: the root of 0."""
    return objective.cross_entropy(outputs, labels) + jnp.sqrt(
        outputs - jax.lax.stop_gradient(outputs)
    ).sum(-1)


def one_hot(labels):
    return np.eye(10, dtype=np.float32)[labels]


def layer(maker, shape):
    """The layer's apply with parameters of zeros, as a function of x."""
    params, state, _ = maker.init(fresh(), shape)
    return partial(maker.apply, params, state)


logits = jnp.zeros((3, 4))
params = {"a": jnp.ones(2), "b": jnp.ones(3)}
dense_params, _, _ = nn.dense(3).init(fresh(), (4,))
image = jnp.zeros((8, 8, 1))

# For each row: its name in the catalogue of bad inputs, the call, the error's class, and what its message says.
CALLS = [
    ("L1", lambda: run((IMAGES, with_label(10))), LabelError, r"labels: expected 0 <= label < 10, got 10 at index 3 \(1 of 40\)"),
    ("L2", lambda: run((IMAGES, with_label(-1))), LabelError, r"labels: expected 0 <= label < 10, got -1 at index 3"),
    ("L4", lambda: run((IMAGES, one_hot(LABELS) * (LABELS != 7)[:, None])), LabelError, r"targets: expected rows that sum to 1, got 0.0 at index 7 \(4 of 40\)"),
    ("L4 negative", lambda: run((IMAGES, 2 * one_hot(LABELS) - one_hot((LABELS + 1) % 10))), LabelError, r"targets: expected probabilities >= 0, got -1.0 at index \(0, 1\) \(40 of 400\)"),
    ("L5", lambda: run((IMAGES, LABELS.astype(np.float32))), DTypeError, "labels: expected an integer dtype, got float32"),
    ("L8", lambda: objective.cross_entropy(logits, jnp.zeros(1, jnp.int32)), ShapeError, r"labels: .*\(3, 4\), got \(1,\)"),
    ("L9", lambda: objective.cross_entropy(logits, jnp.int32(0)), ShapeError, r"labels: .*got \(\)"),
    ("L10", lambda: objective.cross_entropy(logits, jnp.ones((3, 1))), ShapeError, r"targets: expected probabilities of shape \(3, 4\), got \(3, 1\)"),
    ("L11", lambda: objective.cross_entropy(logits, jnp.eye(3, 4, dtype=jnp.int32)), DTypeError, r"targets: expected float probabilities \(3, 4\), got int32"),
    ("L12", lambda: objective.squared_error(jnp.ones((3, 1)), jnp.ones(3)), ShapeError, r"targets: expected the outputs' shape \(3, 1\), got \(3,\)"),
    ("L12 integers", lambda: objective.squared_error(jnp.ones(3), jnp.ones(3, int)), DTypeError, r"targets: expected floating-point numbers, got int\d+; cast them, as in targets.astype"),
    ("L12 heads", lambda: objective.cross_entropy({"digit": logits}, LABELS[:3]), DTypeError, r"logits: expected one array, got dict of digit; choose one, as in objective.of\('digit', ...\)"),
    ("L13", lambda: objective.cross_entropy(logits.astype(jnp.uint8), LABELS[:3]), DTypeError, "logits: expected floating-point numbers, got uint8"),
    ("L14", lambda: run((IMAGES[:0], LABELS[:0])), ShapeError, "a batch axis with 0 examples"),
    ("L14 step", lambda: train.step(recipe(), train.start(fresh(), recipe(), (8, 8, 1)), (FLOATS[:0], LABELS[:0])), ShapeError, "a batch axis with 0 examples"),
    ("N1", lambda: layer(nn.chain(bn1=nn.batch_norm()), (4,))(jnp.ones((1, 4)), train=True), ShapeError, "expected more than 1 value per channel when training"),
    ("N3", lambda: run((np.where(np.arange(40)[:, None, None, None] == 5, np.nan, FLOATS).astype(np.float32), LABELS)), NonFiniteError, r"inputs: expected finite numbers, got nan at index \(5, 0, 0, 0\)"),
    ("N6", lambda: layer(nn.batch_norm(), (4,))(jnp.ones((2, 4))), TypeError, "'train'"),
    ("N8", lambda: nn.batch_norm(eps=0.0), ConfigError, r"batch_norm eps: expected a number in \(0, inf\), got 0.0"),
    ("D2", lambda: layer(nn.conv(4), (8, 8, 1))(jnp.asarray(IMAGES)), DTypeError, r"conv x: .*got uint8; scale first, e.g. fnn.data.to_float\(x\)"),
    ("D2 dense", lambda: layer(nn.dense(4), (8,))(jnp.ones((2, 8), jnp.uint8)), DTypeError, "dense x: .*got uint8; scale first"),
    ("D3", lambda: layer(nn.dense(4), (8,))(jnp.ones((2, 8), jnp.int32)), DTypeError, "dense x: .*got int32"),
    ("D3 bool", lambda: layer(nn.dense(4), (8,))(jnp.ones((2, 8), bool)), DTypeError, "dense x: .*got bool"),
    ("D4", lambda: run((IMAGES * 1e300, LABELS)), DTypeError, r"inputs: expected numbers that fit float32, got .*e\+30"),
    ("D6", lambda: nn.dense(0), ConfigError, "dense units: expected >= 1, got 0"),
    ("D6 conv", lambda: nn.conv(-1), ConfigError, "conv channels: expected >= 1, got -1"),
    ("D7", lambda: nn.conv(8, in_channels=3).init(fresh(), (3, 32, 32)), ShapeError, r"\(height, width, 3\), channels last \(NHWC\), got \(3, 32, 32\)"),
    ("D7 apply", lambda: layer(nn.conv(8), (32, 32, 3))(jnp.zeros((2, 3, 32, 32))), ShapeError, r"conv x: .*3\) as in its kernel.*\(2, 3, 32, 32\).*NHWC"),
    ("D8", lambda: layer(nn.chain(c1=nn.conv(4)), (28, 28, 1))(jnp.zeros((16, 28, 28))), ShapeError, r"conv x: expected rank 4 \(N, H, W, C\), got \(16, 28, 28\); add a channel axis"),
    ("D8 init", lambda: nn.conv(4).init(fresh(), (28, 28)), ShapeError, r"conv: expected \(height, width, channels\), got \(28, 28\)"),
    ("D9", lambda: nn.conv(4, 5, padding="VALID").init(fresh(), (4, 4, 1)), ShapeError, r"conv: expected an image of at least \(5, 5\)"),
    ("D9 apply", lambda: layer(nn.conv(4, 5, padding="VALID"), (8, 8, 1))(jnp.zeros((1, 4, 4, 1))), ShapeError, r"at least \(5, 5\)"),
    ("D10", lambda: nn.max_pool(3).init(fresh(), (2, 2, 1)), ShapeError, r"max_pool: expected an image of at least \(3, 3\)"),
    ("D11", lambda: nn.conv(4, (3, 3, 3)), ConfigError, "conv kernel: expected one int or two"),
    ("D12", lambda: nn.dropout(1.5), ConfigError, r"dropout drop_rate: expected a number in \[0, 1\), got 1.5"),
    ("D12 negative", lambda: nn.dropout(-0.5), ConfigError, "dropout drop_rate: .*got -0.5"),
    ("D13", lambda: nn.dropout(0.5).apply({}, {}, jnp.ones((2, 3)), train=True), TypeError, "dropout key: expected a key"),
    ("D15", lambda: nn.dense(3).apply(dense_params | {"scale": jnp.ones(3)}, {}, jnp.ones((2, 4))), TreeMismatchError, "dense scale: expected no such leaf"),
    ("D15 chain", lambda: nn.chain(head=nn.dense(3)).apply({"head": dense_params, "haed": dense_params}, {}, jnp.ones((2, 4))), TreeMismatchError, "'haed'"),
    ("D16", lambda: nn.dense(3).apply({"kernel": dense_params["kernel"]}, {}, jnp.ones((2, 4))), TreeMismatchError, r"dense bias: expected shape \(3,\), got no such leaf"),
    ("D16 shape", lambda: nn.dense(3).apply(dense_params | {"bias": jnp.ones(2)}, {}, jnp.ones((2, 4))), TreeMismatchError, r"dense bias: expected shape \(3,\), got shape \(2,\)"),
    ("D16 width", lambda: nn.dense(3).apply(dense_params, {}, jnp.ones((2, 5))), ShapeError, r"dense x: expected \(\.\.\., 4\) as in its kernel \(4, 3\), got \(2, 5\)"),
    ("N3 in the graph", lambda: run((IMAGES, LABELS), normed, prepare=all_nan), NonFiniteError, "step 0: expected finite .* non-finite state/bn1/mean, state/bn1/var, loss and 6 more"),
    ("O1", lambda: run((FLOATS, LABELS), loss=steep), NonFiniteError, "step 0: .* non-finite gradient/dense_1/bias, gradient/dense_1/kernel;"),
    ("O1 fit", lambda: run((FLOATS, LABELS), loss=steep, entry=partial(lab.fit, show=False)), NonFiniteError, "step 0: .* gradient/dense_1/kernel"),
    ("O4", lambda: optim.sgd(-1), ConfigError, r"sgd rate: expected a number in \[0, inf\), got -1"),
    ("O5", lambda: optim.adam(0.1, b1=1.0), ConfigError, r"adam b1: expected a number in \[0, 1\), got 1.0"),
    ("O5 above", lambda: optim.adam(0.1, b2=1.5), ConfigError, "adam b2: .*got 1.5"),
    ("O6", lambda: optim.adam(0.1, eps=0), ConfigError, r"adam eps: expected a number in \(0, inf\), got 0"),
    ("O7", lambda: optim.sgd(0.1).update({"a": jnp.ones(2)}, optim.sgd(0.1).init(params), params), TreeMismatchError, r"sgd grads b: expected float32\[3\], got no such leaf"),
    ("O7 shape", lambda: optim.sgd(0.1).update(params | {"a": jnp.ones(1)}, optim.sgd(0.1).init(params), params), TreeMismatchError, r"sgd grads a: expected float32\[2\], got float32\[1\]"),
    ("O9", lambda: optim.adam(0.1).init({"a": jnp.array([5, 5])}), DTypeError, "adam params a: expected floating-point numbers, got int32"),
    ("O9 apply", lambda: optim.apply_updates({"a": jnp.array([5, 5])}, {"a": jnp.array([1, 1])}), DTypeError, "params a: .*int32"),
    ("O11", lambda: run((np.full((320, 8, 8, 1), 255, np.uint8), np.arange(320) % 10), normed, prepare=all_nan, on_nonfinite="skip"), NonFiniteError, "step 9: "),
    ("O11 fit across chunks", lambda: run((np.full((320, 8, 8, 1), 255, np.uint8), np.arange(320) % 10), normed, prepare=all_nan, on_nonfinite="skip", entry=partial(lab.fit, show=False, chunk=3)), NonFiniteError, "step 9: "),
    ("O13", lambda: optim.one_cycle(0.1, steps=5, warmup_steps=10), ConfigError, "one_cycle warmup_steps: expected fewer than steps=5, got 10"),
    ("O13 cosine", lambda: optim.cosine(0.1, steps=5, warmup_steps=10), ConfigError, "cosine warmup_steps: expected fewer than steps=5, got 10"),
    ("K1", lambda: train.start(jax.random.PRNGKey(0), recipe(), (8,)), TypeError, r"key: expected a key from jax.random.key\(\.\.\.\), got uint32\[2\]"),
    ("K2", lambda: nn.dense(3).init(0, (4,)), TypeError, r"key: expected a key from jax.random.key\(\.\.\.\), got int 0"),
    ("K2 run", lambda: train.run(0, recipe(), (IMAGES, LABELS), epochs=1, batch_size=8), TypeError, "key: .*got int 0"),
    ("K3", lambda: augment.flip_lr()(fresh(), jnp.asarray(IMAGES)), ShapeError, r"augmentation: expected one image .*got \(40, 8, 8, 1\); for a batch use augment.per_image"),
    ("A1", lambda: augment.random_crop(padding=0, size=16)(fresh(), image), ShapeError, r"random_crop: expected an image of at least \(16, 16\) after padding, got \(8, 8\)"),
    ("A3", lambda: run((IMAGES.astype(np.float32), LABELS), augment=augment.flip_lr()), ValueError, r"images: expected \[0, 1\], got max 255"),
    ("A4", lambda: augment.flip_lr()(fresh(), jnp.zeros((3, 32, 32))), ShapeError, r"augmentation: expected channels last \(height, width, channels\), got \(3, 32, 32\)"),
    ("A7", lambda: run((IMAGES, LABELS.astype(">i4"))), DTypeError, "targets: expected native byte order, got dtype >i4"),
    ("A8", lambda: run((IMAGES, LABELS.astype(object))), DTypeError, "targets: expected an array of numbers, got dtype object"),
    ("A8 string", lambda: run((LABELS.astype(str), LABELS)), DTypeError, "inputs: expected an array of numbers, got dtype <U"),
    ("D4 labels", lambda: run((IMAGES, with_label(2**32 + 3).astype(np.int64))), DTypeError, "targets: expected numbers that fit int32, got 4294967299"),
    # Of the same classes, beyond the catalogue.
    ("no pair", lambda: run(IMAGES), ConfigError, r"data: expected a pair \(inputs, targets\), got ndarray"),
    ("a number", lambda: run(5), ConfigError, r"data: expected a pair \(inputs, targets\), got int"),
    ("lists", lambda: run(([[1.0]], [0])), DTypeError, "inputs"),
    ("lengths", lambda: run((IMAGES, LABELS[:-1])), ShapeError, "data: expected inputs and targets of one length"),
    ("valid lengths", lambda: run((IMAGES, LABELS), valid=(IMAGES, LABELS[:-1])), ShapeError, "valid: expected inputs and targets of one length"),
    ("valid inputs alone", lambda: run((IMAGES, LABELS), valid=IMAGES), ConfigError, r"valid: expected a pair \(inputs, targets\), got ndarray"),
    ("valid inputs alone, fit", lambda: run((IMAGES, LABELS), valid=IMAGES, entry=lab.fit), ConfigError, r"valid: expected a pair \(inputs, targets\), got ndarray"),
    ("metrics unnamed", lambda: run((IMAGES, LABELS), metrics=[objective.accuracy]), ConfigError, r"recipe metrics: expected functions by name, got \["),
    ("augment by name", lambda: run((IMAGES, LABELS), augment="flip"), ConfigError, "recipe augment: expected a function, got 'flip'"),
    ("resume a result", lambda: run((IMAGES, LABELS), entry=lab.fit, resume=Result(train.start(fresh(), recipe(), (8, 8, 1)), History({}))), ConfigError, r"resume: .*, got a Result; give resume=result.train_state"),
    ("not flattened", lambda: run((IMAGES, LABELS), nn.dense(10)), ShapeError, r"logits \(40, 8, 8, 10\), got \(40,\); .* flatten or pool before the last layer"),
    ("column of labels", lambda: run((IMAGES, LABELS[:, None])), DTypeError, r"probabilities \(40, 10\), got int32 \(40, 1\); cast them, or give labels \(40,\)"),
    ("valid label", lambda: run((IMAGES, LABELS), valid=(IMAGES, with_label(11))), LabelError, "got 11 at index 3"),
    ("batch too large", lambda: train.run(fresh(), recipe(), (IMAGES, LABELS), epochs=1, batch_size=41), ConfigError, "batch_size: expected at most the 40 examples, got 41"),
    ("batch of none", lambda: train.num_steps((IMAGES, LABELS), epochs=1, batch_size=0), ConfigError, "batch_size: expected >= 1, got 0"),
    ("epochs", lambda: train.run(fresh(), recipe(), (IMAGES, LABELS), epochs=1.5, batch_size=8), ConfigError, "epochs: expected a whole number, got 1.5"),
    ("no network", lambda: run((IMAGES, LABELS), nn.relu), ConfigError, "recipe network: expected a Layer"),
    ("no layer", lambda: nn.chain(nn.relu), ConfigError, "chain .*expected a Layer"),
    ("no optimizer", lambda: run((IMAGES, LABELS), classifier, optim.adam), ConfigError, "recipe optimizer: expected a pair"),
    ("on_nonfinite", lambda: run((IMAGES, LABELS), on_nonfinite="stop"), ConfigError, "recipe on_nonfinite: expected one of raise, skip, ignore, got 'stop'"),
    ("mean loss", lambda: run((IMAGES, LABELS), loss=lambda o, t: objective.cross_entropy(o, t).mean()), ShapeError, r"loss: expected one value an example, \(40,\), got \(\)"),
    ("no loss", lambda: run((IMAGES, LABELS), loss=lambda o, t: None), ShapeError, r"loss: expected one value an example, \(40,\), got None"),
    ("integer loss", lambda: run((IMAGES, LABELS), loss=lambda o, t: o.argmax(-1) != t), DTypeError, r"loss: expected floating-point numbers, got bool"),
    ("metric name", lambda: run((IMAGES, LABELS), metrics={"rate": objective.accuracy}), ConfigError, "recipe metrics: expected names other than"),
    ("several rates", lambda: optim.sgd(jnp.ones(3)), ConfigError, r"sgd rate: expected one number .*shape \(3,\); .*jax.vmap"),
    ("rate a string", lambda: optim.sgd("fast"), ConfigError, "sgd rate: expected one number"),
    ("padding", lambda: nn.conv(3, padding="same"), ConfigError, "conv padding: expected"),
    ("groups", lambda: nn.conv(3, groups=2), ConfigError, "conv channels: expected a multiple of groups=2, got 3"),
    ("residual ends", lambda: nn.residual(nn.dense(3)).init(fresh(), (4,)), ShapeError, r"residual body: expected to end in \(4,\), got \(3,\)"),
    ("crop mode", lambda: augment.random_crop(mode="mirror"), ConfigError, "random_crop mode: expected one of constant, edge, reflect"),
    ("affine factor", lambda: augment.affine(factor=0.0), ConfigError, r"affine factor: expected a number in \(0, inf\), got 0.0"),
    ("affine shear", lambda: augment.affine(shear_rows=(-100.0, 0.0)), ConfigError, r"affine shear_rows low: expected a number in \(-90, 90\), got -100.0"),
    ("blur sigma", lambda: augment.gaussian_blur(0.0), ConfigError, r"gaussian_blur sigma: expected a number in \(0, inf\), got 0.0"),
    ("blur size", lambda: augment.gaussian_blur(1.0, size=4), ConfigError, "gaussian_blur size: expected one of 5, got 4"),
    ("brightness", lambda: augment.brightness(-0.5), ConfigError, r"brightness factor: expected a number in \[0, inf\), got -0.5"),
    ("channel_drop", lambda: augment.channel_drop(fill=2.0), ConfigError, r"channel_drop fill: expected a number in \[0, 1\], got 2.0"),
    ("contrast", lambda: augment.contrast((-1.0, 1.0)), ConfigError, "contrast factor low: .*got -1.0"),
    ("cutout", lambda: augment.cutout(-1), ConfigError, r"cutout size: expected a number in \[0, inf\), got -1"),
    ("elastic cells", lambda: augment.elastic(1.0, cells=0), ConfigError, "elastic cells: expected >= 1, got 0"),
    ("elastic border", lambda: augment.elastic(1.0, mode="mirror"), ConfigError, "elastic mode: expected one of constant, edge"),
    ("flip", lambda: augment.flip_ud(1.5), ConfigError, r"flip_ud probability: expected a number in \[0, 1\], got 1.5"),
    ("gamma", lambda: augment.gamma(0.0), ConfigError, r"gamma exponent: expected a number in \(0, inf\), got 0.0"),
    ("grid_mask", lambda: augment.grid_mask((0.0, 0.5)), ConfigError, r"grid_mask unit low: expected a number in \(0, 1\], got 0.0"),
    ("hue", lambda: augment.hue(0.7), ConfigError, r"hue turns: expected a number in \[-0.5, 0.5\], got 0.7"),
    ("jitter hue", lambda: augment.jitter(hue=0.7), ConfigError, r"jitter hue: expected a number in \[0, 0.5\], got 0.7"),
    ("jitter contrast", lambda: augment.jitter(contrast=-0.1), ConfigError, "jitter contrast: .*got -0.1"),
    ("jpeg", lambda: augment.jpeg(0.0), ConfigError, r"jpeg quality: expected a number in \[1, 100\], got 0.0"),
    ("noise", lambda: augment.gaussian_noise(-0.1), ConfigError, r"gaussian_noise deviation: expected a number in \[0, inf\), got -0.1"),
    ("pad", lambda: augment.pad(-1), ConfigError, "pad padding: expected >= 0, got -1"),
    ("pca_lighting", lambda: augment.pca_lighting(-0.1), ConfigError, "pca_lighting deviation: .*got -0.1"),
    ("perspective", lambda: augment.perspective(1.5), ConfigError, r"perspective distortion: expected a number in \[0, 1\], got 1.5"),
    ("posterize", lambda: augment.posterize(9.0), ConfigError, r"posterize bits: expected a number in \[0, 8\], got 9.0"),
    ("erasing area", lambda: augment.random_erasing(area=(0.0, 0.3)), ConfigError, r"random_erasing area low: expected a number in \(0, 1\], got 0.0"),
    ("erasing fill", lambda: augment.random_erasing(fill="white"), ConfigError, "random_erasing fill: expected one number .*'white'"),
    ("resize method", lambda: augment.resize(8, method="cubic"), ConfigError, "resize method: expected one of bilinear, bicubic, got 'cubic'"),
    ("resized ratio", lambda: augment.random_resized_crop(8, ratio=1.0), ConfigError, r"random_resized_crop ratio: expected \(low, high\), got 1.0"),
    ("rgb_shift", lambda: augment.rgb_shift(20.0), ConfigError, r"rgb_shift amount: expected a number in \[-1, 1\], got 20.0"),
    ("rot90", lambda: augment.rot90(0.5), ConfigError, "rot90 turns: expected a whole number, got 0.5"),
    ("rotate ends", lambda: augment.rotate((30.0, -30.0)), ConfigError, r"rotate degrees: expected \(low, high\) with low <= high"),
    ("rotate three", lambda: augment.rotate((0.0, 1.0, 2.0)), ConfigError, r"rotate degrees: expected one number or \(low, high\)"),
    ("rotate order", lambda: augment.rotate(30.0, method="cubic"), ConfigError, "rotate method: expected one of bilinear, nearest, got 'cubic'"),
    ("salt", lambda: augment.salt_and_pepper(1.1), ConfigError, r"salt_and_pepper probability: expected a number in \[0, 1\], got 1.1"),
    ("saturation", lambda: augment.saturation(-1.0), ConfigError, "saturation factor: .*got -1.0"),
    ("scale", lambda: augment.scale(-1.0), ConfigError, r"scale factor: expected a number in \(0, inf\), got -1.0"),
    ("sharpness", lambda: augment.sharpness(-1.0), ConfigError, "sharpness factor: .*got -1.0"),
    ("shear", lambda: augment.shear(90.0), ConfigError, r"shear rows: expected a number in \(-90, 90\), got 90.0"),
    ("solarize", lambda: augment.solarize(128.0), ConfigError, r"solarize threshold: expected a number in \[0, 1\], got 128.0"),
    ("translate fill", lambda: augment.translate(0.1, fill=255), ConfigError, r"translate fill: expected a number in \[0, 1\], got 255"),
    ("chunk", lambda: run((IMAGES, LABELS), entry=partial(lab.fit, show=False), chunk=0), ConfigError, "chunk: expected >= 1, got 0"),
    ("other key", lambda: run((IMAGES, LABELS), entry=partial(lab.fit, show=False), resume=train.start(jax.random.key(1), recipe(), (8, 8, 1))), ConfigError, "resume: expected a train state of a run with this key"),
    ("no recipe", lambda: train.run(fresh(), classifier, (IMAGES, LABELS), epochs=1, batch_size=8), ConfigError, r"run recipe: expected a recipe from train.recipe, got a Layer; call train.recipe\(network, optimizer\)"),
    ("no recipe, fit", lambda: lab.fit(fresh(), classifier, (IMAGES, LABELS), epochs=1, batch_size=8), ConfigError, "fit recipe: expected a recipe from train.recipe, got a Layer"),
    ("nothing to train with", lambda: train.run(fresh(), train.recipe(classifier), (IMAGES, LABELS), epochs=1, batch_size=8), ConfigError, "recipe optimizer: expected an optimizer to train with, got None"),
    ("recipe of a recipe", lambda: train.recipe(recipe(), optim.sgd(0.1)), ConfigError, "recipe network: expected a Layer, got a recipe"),
    ("prepare", lambda: run((IMAGES, LABELS), prepare=3), ConfigError, "recipe prepare: expected a function, got 3"),
    ("regularizer", lambda: run((IMAGES, LABELS), regularizer=0.1), ConfigError, "recipe regularizer: expected a function, got 0.1"),
    ("loss a number", lambda: run((IMAGES, LABELS), loss=0.1), ConfigError, "recipe loss: expected .*, got 0.1"),
    ("micro_batch_size", lambda: run((IMAGES, LABELS), micro_batch_size=0), ConfigError, "recipe micro_batch_size: expected >= 1, got 0"),
    ("early_stopping a number", lambda: run((IMAGES, LABELS), early_stopping=3), ConfigError, "recipe early_stopping: expected a value from train.early_stopping, got 3"),
    ("instruments a tier", lambda: run((IMAGES, LABELS), instruments="full"), ConfigError, "recipe instruments: expected a value from diagnose.instruments, got 'full'"),
    ("early_stopping by", lambda: run((IMAGES, LABELS), early_stopping=train.early_stopping(3, by="accuracy")), ConfigError, "early_stopping by: expected one of valid_loss, valid_accuracy, got 'accuracy'"),
    ("callback", lambda: train.run(fresh(), recipe(), (IMAGES, LABELS), epochs=1, batch_size=8, callback=3), ConfigError, r"callback: expected a function of \(step, figures\), got 3"),
    ("replaced by another name", lambda: recipe().replace(optimiser=optim.sgd(0.1)), ConfigError, "recipe optimiser: expected one of network, optimizer, .*, got 'optimiser'"),
    ("no train images", lambda: data.standardize(IMAGES[:0]), ShapeError, "standardize train_inputs: expected at least one example"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS]
)
def test_a_wrong_input_raises(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    if error is not TypeError:
        assert isinstance(caught.value, FnnError)


BEFORE_COMPILING = {
    "L1",
    "L2",
    "L4",
    "L5",
    "L14",
    "N3",
    "D4",
    "A3",
    "A7",
    "A8",
    "lengths",
    "valid label",
    "epochs",
}


@pytest.mark.parametrize("call", [row[1] for row in CALLS if row[0] in BEFORE_COMPILING])
def test_it_raises_before_anything_trains(call, monkeypatch):
    # fnn.train.run is the function, which hides its module.
    monkeypatch.setattr(sys.modules["fnn.train.run"], "run_epochs", None)
    with pytest.raises(FnnError):
        call()
