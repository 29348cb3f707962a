"""A classifier with the interface of scikit-learn."""

from typing import Any, Self

import numpy as np

from fnn import nn, optim, train
from fnn.errors import ConfigError, LabelError
from fnn.lab.estimators.estimator import Estimator
from fnn.lab.estimators.examples import ClassifierMixin, read_class_weights, read_classes
from fnn.lab.estimators.notes import pack_classes, unpack_classes
from fnn.train.recipe import Recipe
from fnn.types import Number, Shape


def default_classifier(
    outputs: int,
    width: int = 64,
    rate: Number = 1e-2,
) -> Recipe:
    """Recipe of a classifier with one hidden layer, trained by Adam.

    Args:
        outputs: Number of classes.
        width: Units of the hidden layer.
        rate: Learning rate.
    """
    network = nn.chain(
        nn.flatten(),
        nn.dense(width),
        nn.relu(),
        nn.dense(outputs),
    )
    return train.recipe(network, optim.adam(rate))


class Classifier(ClassifierMixin, Estimator):
    """A recipe as a classifier of scikit-learn, for its pipelines and searches.

        model = make_pipeline(StandardScaler(), lab.Classifier(recipe, epochs=20))
        search = GridSearchCV(model, {"classifier__recipe__optimizer__rate": [1e-3, 1e-2]})

    The numbers and parts of the recipe are parameters by their paths. Recipes that differ in
    numbers alone share a compiled program, also in a search.

    Args:
        recipe: From `train.recipe`; or a function (outputs) -> recipe of the number of classes,
            whose options are parameters too, as recipe__width. An option `steps` gets the number of
            steps of the run, for a schedule. None is a network with one hidden layer of
            recipe__width=64 units, trained by Adam at recipe__rate=1e-2; standardize X for it.
            The network has one output for each class, or one for two classes, as of
            objective.binary_cross_entropy.
        epochs: Passes over the data in `fit`.
        batch_size: Examples per step, all if there are fewer. The remainder that fills no batch is
            left out of an epoch; which examples these are differs between epochs.
        class_weight: Weights of classes in the loss, {label: weight}; "balanced" for n / (k count);
            None for equal ones. They are multiplied by sample_weight.
        validation_fraction: Share of the examples that early stopping or optim.plateau of the
            recipe monitors, stratified by class; these are not trained on. None for none.
        random_state: Seed of initialization, order, noise and held out examples; None or a
            RandomState of NumPy draws one in each call of fit.
        show: Whether to print progress, as `lab.fit` does.

    Attributes:
        classes_: The sorted labels (classes,).
        n_features_in_: Number of features.
        feature_names_in_: Names of the columns of X, if it has names.
        recipe_: The recipe that was trained.
        train_state_: Its train state, for `train.predict`, `train.evaluate` and `train.weights`.
        history_: The history of the run of `fit`.
    """

    _is_numeric = False
    _default_recipe = staticmethod(default_classifier)

    def __init__(
        self,
        recipe: Any = None,
        *,
        epochs: int = 100,
        batch_size: int = 64,
        class_weight: Any = None,
        validation_fraction: float | None = None,
        random_state: Any = 0,
        show: bool = False,
    ):
        super().__init__(
            recipe,
            epochs=epochs,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            random_state=random_state,
            show=show,
        )
        self.class_weight = class_weight

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train for one epoch on these examples, from the last train state.

        Args:
            X: Inputs (n, ...), as for `fit`.
            y: Labels (n,).
            classes: All labels that will occur, for the first call.
            sample_weight: Weights of the examples, as for `fit`.

        Raises:
            ConfigError: The first call has no classes, or a later one has others.
            LabelError: A label is none of the classes.
            NonFiniteError: A step was not finite; the estimator is as before.
        """
        # Balanced weights need all examples.
        if isinstance(self.class_weight, str):
            raise ConfigError(
                "Classifier class_weight",
                "weights by label in partial_fit, whose examples are not known",
                repr(self.class_weight),
                "give a dict",
            )
        given = None if classes is None else read_classes("Classifier classes", np.asarray(classes))
        if not self.__sklearn_is_fitted__():
            if given is None:
                advice = "give classes=np.unique(y) of all labels"
                raise ConfigError(
                    "Classifier classes",
                    "all labels",
                    None,
                    advice,
                )
            self.classes_ = given
        elif given is not None and not np.array_equal(given, self.classes_):
            advice = "leave them out after the first call"
            raise ConfigError(
                "Classifier classes",
                f"{self.classes_.tolist()}",
                given,
                advice,
            )
        return self._partial_fit(
            X,
            y,
            sample_weight,
            is_new=False,
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, (n, classes) in the order of classes_.

        Args:
            X: Inputs (n, ...) of the shape that was fitted.

        Raises:
            NotFittedError: The estimator has not been fitted.
            FnnError: X is not valid.
            NonFiniteError: An output of the network is not finite.
        """
        outputs = self._outputs(X).astype(np.float64)
        if self._output_shape in ((), (1,)):
            # One output is the logit of the second class; that of the first is 0.
            logit = outputs.reshape(-1)  # (n,)
            outputs = np.stack([np.zeros_like(logit), logit], axis=1)
        # The largest exponent is 0, so that none overflows.
        exponentials = np.exp(outputs - outputs.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each example, (n,).

        Args:
            X: Inputs (n, ...) of the shape that was fitted.

        Raises:
            NotFittedError: The estimator has not been fitted.
            FnnError: X is not valid.
            NonFiniteError: An output of the network is not finite.
        """
        winners = self.predict_proba(X).argmax(1)
        return self.classes_[winners]

    # The targets.

    def _read_targets(
        self,
        y: np.ndarray,
        is_new: bool,
    ) -> np.ndarray:
        if is_new:
            self.classes_ = read_classes("Classifier y", y)
        # Labels of Python, which compare across widths of NumPy.
        indices = {label: index for index, label in enumerate(self.classes_.tolist())}
        labels = y.tolist()
        for label in labels:
            if label not in indices:
                expected = f"one of the classes {self.classes_.tolist()}"
                advice = "give all labels to the first call, as classes="
                raise LabelError(
                    "Classifier y",
                    expected,
                    repr(label),
                    advice,
                )
        return np.array([indices[label] for label in labels], np.int32)

    def _weigh(
        self,
        targets: np.ndarray,
        weights: np.ndarray | None,
    ) -> np.ndarray | None:
        if self.class_weight is None:
            return weights
        y = self.classes_[targets]
        by_class = read_class_weights(
            "Classifier",
            self.class_weight,
            self.classes_,
            y,
        )
        # (classes,) -> (n,)
        by_example = by_class[targets].astype(np.float32)
        return by_example if weights is None else by_example * weights

    def _output_shapes(self) -> list[Shape]:
        count = len(self.classes_)
        # Two classes can share one logit.
        return [(count,), (1,), ()] if count == 2 else [(count,)]

    def _facts(self) -> dict[str, Any]:
        return pack_classes("Classifier save", self.classes_)

    def _adopt_facts(
        self,
        where: str,
        facts: dict[str, Any],
    ) -> None:
        self.classes_ = unpack_classes(where, facts)
