"""Linear probes: a dense layer fitted to fixed features, and networks with it as their head."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.split import whole_folds
from fnn.errors import ConfigError, ShapeError
from fnn.nn import chain, dense, replace
from fnn.train.arrays import ONE_CALL, validate_data
from fnn.transfer.convex import fit_dense, mean_loss
from fnn.transfer.head import expect_path, expect_plain, find_head, kernels, set_at
from fnn.transfer.neighbors import count_classes, expect_features
from fnn.types import Data, Layer, Number, Params, RandomKey, Scalar, Step, Weights

FOLDS = 5


class Path(NamedTuple):
    """The scores of several penalties.

    Attributes:
        l2: (penalties,).
        losses: Mean loss of the examples that were not fitted, (folds, penalties); one row where
            they are given as `valid`.
    """

    l2: np.ndarray
    losses: np.ndarray


class LinearProbe(NamedTuple):
    """A fitted dense layer.

    Attributes:
        layer: The layer, nn.dense(classes).
        params: Its params, a kernel (width, classes) and a bias (classes,).
        l2: The penalty.
        loss: Mean loss of the fitted examples, without the penalty.
        gradient: Largest entry of the gradient of loss and penalty, 0 at the optimum.
        steps: Number of steps of L-BFGS; 0 for a solution in closed form.
        path: The scores of all penalties, where one of several was chosen; None otherwise.
    """

    layer: Layer
    params: Params
    l2: Scalar
    loss: Scalar
    gradient: Scalar
    steps: Step
    path: Path | None = None

    def predict(self, features: Any) -> jax.Array:
        """Return logits, or predictions of numbers, (n, classes).

        Args:
            features: (n, width).

        Raises:
            ShapeError: They have another width.
        """
        x = expect_features("linear_probe features", features, len(self.params["kernel"]))
        y, _ = self.layer.apply(self.params, {}, x, train=False)
        return y


def linear_probe(
    features: Any,
    targets: Any,
    *,
    l2: Number | Sequence[Number] = 1e-3,
    classes: int | None = None,
    valid: Data | None = None,
    folds: int = FOLDS,
    key: RandomKey | None = None,
    steps: int = 1000,
) -> LinearProbe:
    """Fit a dense layer to fixed features: logistic regression, or ridge regression of floats.

    The mean loss + l2/2 Σ kernel² is minimized. The bias has no penalty. The loss is the softmax
    cross-entropy of labels, or half the squared error of floats, summed over outputs. Both are
    convex with a single optimum, so there is no rate and no seed. Labels are fitted by L-BFGS from
    zeros on centered features, each scaled by the root of its curvature, which changes the way to
    the optimum and not the optimum. Floats are solved in closed form.

        probe = transfer.linear_probe(x, labels, l2=[1e-4, 1e-3, 1e-2], key=key)
        logits = probe.predict(x_test)

    scikit-learn's LogisticRegression(C=1 / (n l2)) and Ridge(alpha=n l2) have the same optimum.

    Args:
        features: (n, width), as from `transfer.features`.
        targets: Labels, integers (n,) with 0 <= label < classes; or floats (n,) or (n, outputs).
        l2: Penalty, > 0. Of several ones that with the least loss of `valid` is taken; without it,
            that with the least mean loss over the folds of a cross-validation. It is then fitted to
            all examples.
        classes: Number of classes; by default the largest label + 1.
        valid: (features, targets) by which the penalty is chosen; None for cross-validation.
        folds: Number of folds.
        key: Random key of the folds, needed for cross-validation.
        steps: Largest number of steps of L-BFGS.

    Raises:
        ConfigError: `l2` is not > 0, `classes` is less than 2, or there is no key for the folds.
        LabelError: A label is not in 0 <= label < classes.
        ShapeError: `features` are not (n, width), or lengths differ.
        DTypeError: They are not numbers.
        NonFiniteError: They are NaN or infinite.
    """
    x, y, outputs = _expect_examples("linear_probe", features, targets, classes)
    checks.whole("linear_probe steps", steps)
    path = None
    penalty: Any = l2
    if np.shape(penalty) != ():
        path = _choose(x, y, outputs, l2, valid, folds, key, steps)
        # (folds, penalties) -> (penalties,)
        penalty = path.l2[np.argmin(path.losses.mean(0))]
    checks.number("linear_probe l2", penalty, "(0, inf)")
    weights = jnp.ones(len(x), x.dtype)
    params, used, loss, gradient, taken = fit_dense(
        x, y, weights, jnp.asarray(penalty, x.dtype), outputs, steps
    )
    return LinearProbe(dense(outputs), params, used, loss, gradient, taken, path)


def attach(
    network: Layer,
    weights: Weights,
    probe: LinearProbe,
    *,
    head: str | None = None,
) -> tuple[Layer, Weights]:
    """Put a linear probe into the place of the head of its network.

    The outputs of the whole network are then those of the probe. Linear probing, then fine-tuning
    [Kumar et al. 2022, arXiv:2202.10054] is this, and a run from there:

        probe = transfer.linear_probe(transfer.features(recipe, weights, images), labels)
        network, weights = transfer.attach(recipe.network, weights, probe)
        tuned = transfer.fine_tune(train.recipe(network, optim.adam(1e-4)), weights)

    Args:
        network: The network whose features the probe has.
        weights: Its weights. Frozen params become params again, as by `nn.unfreeze`, so that the
            network is one without `nn.freeze`.
        probe: From `transfer.linear_probe`, on the input of the head.
        head: Path of the dense layer to replace. By default the one in which the network ends. A
            network without a head, whose output are the features, becomes the part "body" of
            nn.chain(body=network, head=...).

    Returns:
        The network with the new head, and its weights.

    Raises:
        ConfigError: An argument is not of the type described here, or there is no layer at `head`.
        ShapeError: The probe has another width than the input of the head.
    """
    if not isinstance(probe, LinearProbe):
        advice = "give the result of transfer.linear_probe"
        raise ConfigError("attach probe", "a LinearProbe", checks.show(probe), advice)
    given = expect_plain("attach", network, weights)
    path = head if head is not None else find_head("attach", network, given)
    if path is None:
        joined = chain(body=network, head=probe.layer)
        params = {"body": given.params, "head": probe.params}
        state = {"body": given.state} if given.state else {}
        return joined, Weights(params, state)
    path = expect_path("attach head", network, path)
    kernel, old = probe.params["kernel"], kernels(given).get(path)
    if old is not None and old.shape[0] != kernel.shape[0]:
        raise ShapeError(
            "attach probe",
            f"features of width {old.shape[0]}, the input of {path}",
            f"a probe of width {kernel.shape[0]}",
            "fit it to transfer.features(recipe, weights, inputs) of this network",
        )
    return replace(network, path, probe.layer), given._replace(
        params=set_at(given.params, path, probe.params)
    )


# Checks.


def _expect_examples(
    where: str,
    features: Any,
    targets: Any,
    classes: int | None,
) -> tuple[jax.Array, jax.Array, int]:
    """Return features (n, width), targets and the number of outputs.

    Targets are labels (n,) or floats (n, outputs).
    """
    x, y = validate_data(where, (features, targets), ONE_CALL)
    x = expect_features(f"{where} features", x)
    checks.one_array(f"{where} targets", y)
    is_float = jnp.issubdtype(y.dtype, jnp.floating)
    if y.ndim > 1 + is_float:
        expected = "labels (n,), or floats (n,) or (n, outputs)"
        raise ShapeError(f"{where} targets", expected, y.shape, "give one row an example")
    if is_float:
        # (n,) -> (n, 1)
        y = jnp.asarray(y, x.dtype).reshape(len(y), -1)
        return x, y, y.shape[1]
    # Counted before arrays of NumPy become values of a trace.
    outputs = count_classes(where, y, classes)
    return x, jnp.asarray(y, jnp.int32), outputs


# Choice of the penalty.


def _choose(
    x: jax.Array,
    y: jax.Array,
    outputs: int,
    l2: Any,
    valid: Data | None,
    folds: int,
    key: RandomKey | None,
    steps: int,
) -> Path:
    """Return the losses of all penalties on examples that are not fitted."""
    values = list(l2) if isinstance(l2, Sequence | np.ndarray | jax.Array) else []
    if not values:
        raise ConfigError("linear_probe l2", "one number or several", checks.show(l2), "as in 1e-3")
    for value in values:
        checks.number("linear_probe l2", value, "(0, inf)")
    penalties = np.array(values, x.dtype)  # (penalties,)
    fit = partial(_fit_and_score, outputs=outputs, steps=steps)
    ones = jnp.ones((1, len(x)), x.dtype)  # (1, n)
    if valid is not None:
        valid_x, valid_y, _ = _expect_examples("linear_probe valid", *_pair(valid), outputs)
        expect_features("linear_probe valid features", valid_x, x.shape[1])
        if valid_y.ndim != y.ndim or valid_y.shape[1:] != y.shape[1:]:
            advice = "give targets of one kind"
            expected = checks.describe(y)
            got = checks.describe(valid_y)
            raise ShapeError("linear_probe valid targets", expected, got, advice)
        scored = jnp.ones((1, len(valid_x)), x.dtype)
        losses = fit(x, y, ones, valid_x.astype(x.dtype), valid_y, scored, penalties)
        return Path(penalties, np.asarray(losses))
    if key is None:
        advice = "give key=jax.random.key(0), or valid="
        raise ConfigError("linear_probe key", "a key of the folds", None, advice)
    fold_of, _ = whole_folds("linear_probe", key, (x, y), folds=folds, stratified=y.ndim == 1)
    # (folds, n)
    is_valid = fold_of[None] == np.arange(folds)[:, None]
    fitted, scored = (jnp.asarray(part, x.dtype) for part in (~is_valid, is_valid))
    return Path(penalties, np.asarray(fit(x, y, fitted, x, y, scored, penalties)))


def _pair(valid: Any) -> tuple[Any, Any]:
    if not isinstance(valid, tuple | list) or len(valid) != 2:
        advice = "give both"
        got = checks.show(valid)
        raise ConfigError("linear_probe valid", "a pair (features, targets)", got, advice)
    return valid[0], valid[1]


@partial(jax.jit, static_argnames=("outputs", "steps"))
def _fit_and_score(
    x: jax.Array,
    y: jax.Array,
    fitted: jax.Array,
    valid_x: jax.Array,
    valid_y: jax.Array,
    scored: jax.Array,
    penalties: jax.Array,
    *,
    outputs: int,
    steps: int,
) -> jax.Array:
    """Return the loss (folds, penalties) of the scored examples after a fit to the others.

    Args:
        x: Features (n, width).
        y: Targets.
        fitted: Weights of the examples in each fit, (folds, n).
        valid_x: Features to score, (m, width).
        valid_y: Their targets.
        scored: Their weights, (folds, m).
        penalties: (penalties,).
        outputs: Number of classes or of outputs.
        steps: Largest number of steps.
    """

    def of_fold(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        def of_penalty(l2: Scalar) -> Scalar:
            params, *_ = fit_dense(x, y, weights[0], l2, outputs, steps)
            return mean_loss(params, valid_x, valid_y, weights[1])

        return jax.lax.map(of_penalty, penalties)

    return jax.lax.map(of_fold, (fitted, scored))
