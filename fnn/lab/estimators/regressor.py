"""A regressor with the interface of scikit-learn."""

from typing import Any, Self

import numpy as np

from fnn import nn, objective, optim, train
from fnn.errors import CheckpointMismatchError, ShapeError
from fnn.lab.estimators.estimator import Estimator
from fnn.lab.estimators.examples import RegressorMixin
from fnn.train.recipe import Recipe
from fnn.types import Number, Shape


def default_regressor(
    outputs: int,
    width: int = 64,
    rate: Number = 1e-2,
) -> Recipe:
    """Recipe of a regressor with one hidden layer, trained by Adam.

    Args:
        outputs: Number of targets of an example.
        width: Units of the hidden layer.
        rate: Learning rate.
    """
    network = nn.chain(
        nn.flatten(),
        nn.dense(width),
        nn.relu(),
        nn.dense(outputs),
    )
    return train.recipe(network, optim.adam(rate), loss=objective.squared_error)


class Regressor(RegressorMixin, Estimator):
    """A recipe as a regressor of scikit-learn, for its pipelines and searches.

        model = make_pipeline(StandardScaler(), lab.Regressor(recipe, epochs=50))
        model = TransformedTargetRegressor(model, transformer=StandardScaler())

    The numbers and parts of the recipe are parameters by their paths. Recipes that differ in
    numbers alone share a compiled program, also in a search.

    Args:
        recipe: From `train.recipe`, with a loss of regression; or a function (outputs) -> recipe of
            the number of targets of an example, whose options are parameters too, as recipe__width.
            An option `steps` gets the number of steps of the run, for a schedule. None is a network
            with one hidden layer of recipe__width=64 units, trained by Adam at recipe__rate=1e-2 on
            the squared error; standardize X and y for it.
        epochs: Passes over the data in `fit`.
        batch_size: Examples per step, all if there are fewer. The remainder that fills no batch is
            left out of an epoch; which examples these are differs between epochs.
        validation_fraction: Share of the examples that early stopping or optim.plateau of the
            recipe monitors; these are not trained on. None for none.
        random_state: Seed of initialization, order, noise and held out examples; None or a
            RandomState of NumPy draws one in each call of fit.
        show: Whether to print progress, as `lab.fit` does.

    Attributes:
        n_features_in_: Number of features.
        feature_names_in_: Names of the columns of X, if it has names.
        recipe_: The recipe that was trained.
        train_state_: Its train state, for `train.predict`, `train.evaluate` and `train.weights`.
        history_: The history of the run of `fit`.
    """

    _is_numeric = True
    _default_recipe = staticmethod(default_regressor)
    # Number of columns of y; None for y (n,).
    _columns: int | None

    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
    ) -> Self:
        """Train for one epoch on these examples, from the last train state.

        Args:
            X: Inputs (n, ...), as for `fit`.
            y: Numbers (n,) or (n, targets).
            sample_weight: Weights of the examples, as for `fit`.

        Raises:
            ShapeError: y has another number of columns than in the first call.
            NonFiniteError: A step was not finite; the estimator is as before.
        """
        is_new = not self.__sklearn_is_fitted__()
        return self._partial_fit(
            X,
            y,
            sample_weight,
            is_new=is_new,
        )

    def predict(self, X: Any) -> np.ndarray:
        """Return the outputs of the network, (n,) or (n, targets) as y was.

        Args:
            X: Inputs (n, ...) of the shape that was fitted.

        Raises:
            NotFittedError: The estimator has not been fitted.
            FnnError: X is not valid.
            NonFiniteError: An output of the network is not finite.
        """
        # In float64, as other regressors of scikit-learn return it.
        outputs = self._outputs(X).astype(np.float64)
        return outputs.reshape(-1) if self._columns is None else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # The targets.

    def _read_targets(
        self,
        y: np.ndarray,
        is_new: bool,
    ) -> np.ndarray:
        columns = None if y.ndim == 1 else y.shape[1]
        if is_new:
            self._columns = columns
        elif columns != self._columns:
            expected = "y (n,)" if self._columns is None else f"y (n, {self._columns})"
            raise ShapeError(
                "Regressor y",
                expected,
                y.shape,
                "give targets of one layout",
            )
        # (n, columns); fnn converts float64 later, and reports numbers that are too large.
        return y.reshape(len(y), -1).astype(np.float64)

    def _output_shapes(self) -> list[Shape]:
        # Targets (n,) fit one output with an axis or without.
        return [(1,), ()] if self._columns is None else [(self._columns,)]

    def _facts(self) -> dict[str, Any]:
        return {"columns": self._columns}

    def _adopt_facts(
        self,
        where: str,
        facts: dict[str, Any],
    ) -> None:
        columns = facts.get("columns")
        if columns is not None and (not isinstance(columns, int) or columns < 1):
            advice = "save the estimator again"
            raise CheckpointMismatchError(
                where,
                "a number of columns",
                columns,
                advice,
            )
        self._columns = columns
