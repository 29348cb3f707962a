"""The base of the estimators: training, outputs, parameters and files."""

import os
from typing import Any, Self

import jax
import numpy as np

from fnn import checks, data, train
from fnn.errors import ConfigError, DTypeError, NonFiniteError, ShapeError
from fnn.lab.checkpoints.reader import read
from fnn.lab.checkpoints.restore import restore
from fnn.lab.checkpoints.store import checkpoint_store
from fnn.lab.estimators.examples import (
    BaseEstimator,
    Examples,
    UnfittedError,
    expect_shape,
    read_examples,
    read_inputs,
    read_random_state,
    read_weights,
)
from fnn.lab.estimators.notes import Notes, read_notes, write_notes
from fnn.lab.estimators.parameters import SEPARATOR, read_parameters, replace_parameters
from fnn.lab.estimators.recipes import make_recipe, trace_recipe, weigh
from fnn.lab.fit.fit import fit
from fnn.train.figures import FINITE
from fnn.train.inputs import example_shapes
from fnn.train.recipe import Recipe
from fnn.types import RandomKey, Result, Shape, TrainState
from fnn.values.leaves import pack, unpack

BLOCK = 256  # examples that pass through the network at once in a prediction
MIN_BLOCK = 8  # a product with a single row is rounded differently
HELD_OUT = 5  # purpose of random numbers, after those of a run in fnn/train/inputs.py
RECIPE = f"recipe{SEPARATOR}"


class Estimator(BaseEstimator):
    """The base class of `Classifier` and `Regressor`, which document its parameters."""

    def __init__(
        self,
        recipe: Any = None,
        *,
        epochs: int = 100,
        batch_size: int = 64,
        validation_fraction: float | None = None,
        random_state: Any = 0,
        show: bool = False,
    ):
        # scikit-learn demands that a constructor stores its arguments as they are, without checks.
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.show = show

    # The targets, which the subclasses define.

    # Whether y may have several columns, and must be numbers.
    _is_numeric: bool

    @staticmethod
    def _default_recipe(outputs: int) -> Recipe:
        raise NotImplementedError

    def _read_targets(self, y: np.ndarray, is_new: bool) -> np.ndarray:
        """Return targets (n, ...) of the loss; store facts about them, or compare with these."""
        raise NotImplementedError

    def _weigh(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        """Return the weights of the examples with these targets, or None for equal ones."""
        return weights

    def _output_shapes(self) -> list[Shape]:
        """Return the shapes that an output of the network may have; the first is the usual one."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """Return the facts about the targets as a value of JSON."""
        raise NotImplementedError

    def _adopt_facts(self, where: str, facts: dict[str, Any]) -> None:
        """Store facts about the targets that were read from a file."""
        raise NotImplementedError

    # Training.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from the start: the run that `train.run` makes with jax.random.key(random_state).

        Args:
            X: (n, features), or inputs (n, ...) of any shape that the network takes. Numbers become
                floats. Bytes stay bytes, and so do integers where the network takes them, as of
                nn.embed.
            y: One target an example.
            sample_weight: Numbers >= 0 (n,), the weights of the examples in the loss; None for
                equal ones. Examples of weight 0 are left out.

        Raises:
            FnnError: A parameter or an array is not valid, or does not fit the recipe. Errors are
                also a ValueError or a TypeError, as scikit-learn expects.
            NonFiniteError: The run has diverged, as for `train.run`.

        After an error the estimator is not fitted.
        """
        key = self._key()
        self._forget()
        examples = self._read(X, y, sample_weight, is_new=True)
        training, valid = self._hold_out(key, examples)
        batch_size = self._batch_size(training)
        steps = train.num_steps(training.data, epochs=self.epochs, batch_size=batch_size)
        self._adopt_recipe(training.inputs, steps)
        result = self._run(key, self._convert(training), self._convert(valid), batch_size)
        self.train_state_, self.history_ = result
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, *, is_new: bool) -> Self:
        """Train for one epoch, from the start or from the last train state."""
        is_first = not self.__sklearn_is_fitted__()
        examples = self._read(X, y, sample_weight, is_new=is_new, is_first=is_first)
        if is_first:
            # The number of calls, hence that of steps, is not known.
            self._adopt_recipe(examples.inputs, None)
        before = self._first_state(self._key()) if is_first else self.train_state_
        examples = self._convert(examples)
        recipe = self.recipe_ if examples.weights is None else weigh(self.recipe_)
        batch_size = self._batch_size(examples)
        after, figures = train.epoch(recipe, before, examples.data, batch_size=batch_size)
        finite = np.asarray(figures[FINITE])
        if recipe.on_nonfinite == "raise" and not finite.all():
            # The argmin is the first False.
            step = int(before.step) + int(finite.argmin())
            error = NonFiniteError(
                f"{self._name} partial_fit",
                "a finite loss and finite gradients",
                f"others at step {step}",
                "lower the rate; the estimator is as it was before this call",
            )
            error.step = step
            raise error
        self.train_state_ = after
        return self

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, is_new: bool, is_first: bool = True
    ) -> Examples:
        """Return the examples, checked and without those of weight 0."""
        X, y = read_examples(self, X, y, is_new=is_first, is_numeric=self._is_numeric)
        if is_first:
            self._input_shape = X.shape[1:]
        expect_shape(self._name, X, self._input_shape)
        targets = self._read_targets(y, is_new)
        weights = self._weigh(targets, read_weights(self._name, sample_weight, X))
        examples = Examples(X, targets, weights)
        if weights is None:
            return examples
        if not weights.any():
            advice = "give some examples a weight"
            raise ConfigError(f"{self._name} weights", "some numbers > 0", "only 0", advice)
        # Otherwise the number of examples without weight would change the batches.
        return examples.take(weights > 0)

    def _hold_out(self, key: RandomKey, examples: Examples) -> tuple[Examples, Examples | None]:
        """Return examples for training and for validation."""
        fraction = self.validation_fraction
        if fraction is None:
            return examples, None
        checks.number(f"{self._name} validation_fraction", fraction, "(0, 1)")
        targets = examples.targets
        parts = data.split(
            jax.random.fold_in(key, HELD_OUT),
            (np.arange(len(targets)), targets),
            fractions=(1 - fraction, fraction),
            # Targets of integers are classes.
            stratified=targets.dtype.kind == "i",
        )
        return examples.take(parts[0][0]), examples.take(parts[1][0])

    def _adopt_recipe(self, inputs: np.ndarray, steps: int | None) -> None:
        """Make the recipe, and store the dtype of its inputs and the shape of its outputs."""
        outputs = self._output_shapes()[0][0]
        self.recipe_ = make_recipe(self._name, self._recipe_or_default, outputs, steps)
        self._steps = steps
        self._input_dtype, shape = trace_recipe(self.recipe_, inputs)
        if shape not in self._output_shapes():
            raise ShapeError(
                f"{self._name} recipe",
                f"a network whose output has shape ({outputs},), as these targets need",
                shape,
                "give a function of the number of outputs, as in "
                "lambda outputs: train.recipe(nn.chain(nn.dense(outputs)), optim.adam())",
            )
        self._output_shape = shape

    def _run(
        self, key: RandomKey, training: Examples, valid: Examples | None, batch_size: int
    ) -> Result:
        recipe = self.recipe_ if training.weights is None else weigh(self.recipe_)
        options: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": batch_size,
            "valid": None if valid is None else valid.data,
        }
        try:
            if checks.flag(f"{self._name} show", self.show):
                return fit(key, recipe, training.data, **options)
            return train.run(key, recipe, training.data, **options)
        except ConfigError as error:
            # An estimator takes a fraction where a run takes validation data.
            where, expected, _, _ = error.args
            if where != "valid" or valid is not None:
                raise
            name, advice = f"{self._name} validation_fraction", "give validation_fraction=0.1"
            raise ConfigError(name, expected, None, advice) from None

    def _convert(self, examples: Any) -> Any:
        """Return the examples with the dtype of the inputs and the shape of the targets."""
        if examples is None:
            return None
        inputs = self._convert_inputs(examples.inputs)
        targets = examples.targets
        # Labels (n,) are targets of several outputs; all other targets have the outputs' shape.
        is_label = targets.ndim == 1 and self._output_shape not in ((), (1,))
        if not is_label:
            targets = targets.reshape(len(targets), *self._output_shape)
        return examples._replace(inputs=inputs, targets=targets)

    def _convert_inputs(self, X: np.ndarray) -> np.ndarray:
        dtype = self._input_dtype
        # fnn converts float64 later, and reports numbers that are too large.
        if X.dtype == dtype or (X.dtype == np.float64 and dtype.kind == "f"):
            return X
        # A number that is out of range is unequal to the converted one.
        with np.errstate(invalid="ignore"):
            converted = X.astype(dtype)
        if dtype.kind != "f" and (converted != X).any():
            advice = "give numbers of the dtype of fit"
            raise DTypeError(f"{self._name} X", f"{dtype} as in fit", X.dtype, advice)
        return converted

    # Outputs.

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the outputs of the network (n, ...)."""
        self._expect_fitted()
        X = read_inputs(self, X)
        expect_shape(self._name, X, self._input_shape)
        X = self._convert_inputs(X)
        weights = train.weights(self.recipe_, self.train_state_)
        parts = []
        for begin in range(0, len(X), BLOCK):
            block = X[begin : begin + BLOCK]
            # Each number of rows compiles a program, so it is one of a few: a power of 2.
            rows = max(MIN_BLOCK, 1 << (len(block) - 1).bit_length())
            padding = np.repeat(block[-1:], rows - len(block), axis=0)
            padded = np.concatenate([block, padding])
            outputs = train.predict(self.recipe_, weights, padded, batch_size=BLOCK)
            parts.append(np.asarray(outputs)[: len(block)])
        whole = np.concatenate(parts)
        wrong = ~np.isfinite(whole.reshape(len(whole), -1)).all(1)
        # The largest of such outputs would be a class like any other.
        if wrong.any():
            got = f"others in {int(wrong.sum())} of {len(whole)} examples"
            advice = "check these examples, or train at a lower rate"
            raise NonFiniteError(f"{self._name} X", "finite outputs of the network", got, advice)
        return whole

    # Parameters.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Args:
            deep: Whether to include those of the recipe, such as recipe__optimizer__rate.
        """
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            parts = read_parameters(self._recipe_or_default)
            params |= {f"{RECIPE}{path}": value for path, value in parts.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those of the recipe by their paths.

            classifier.set_params(epochs=5, recipe__optimizer__rate=1e-3)

        Args:
            **params: By name. A path in a recipe has the names of arguments, and indices in *args,
                lists and tuples, joined by two underscores. If a function makes the recipe, its
                options are set in this way.

        Raises:
            ConfigError: There is no such parameter, or the recipe does not accept a value.
        """
        names = self._get_param_names()
        changes = {}
        for name, value in params.items():
            if name.startswith(RECIPE):
                changes[name.removeprefix(RECIPE)] = value
            elif name not in names:
                expected = f"one of {', '.join(names)}, or recipe__ and a path in the recipe"
                raise ConfigError(f"{self._name} {name}", expected, repr(name), "check the name")
        for name in params.keys() & set(names):
            setattr(self, name, params[name])
        # A new recipe in the same call is set before.
        if changes:
            self.recipe = replace_parameters("recipe", self._recipe_or_default, changes)
        return self

    # Files.

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Save the fitted estimator as a checkpoint, which `load` restores.

        Args:
            directory: A directory of checkpoints, as for `lab.save`.

        Raises:
            NotFittedError: The estimator has not been fitted.
            WriteError: The disk refused it; the directory is as before.
            ConfigError: The classes are neither numbers nor texts, or the directory has later
                checkpoints.
        """
        self._expect_fitted()
        names = vars(self).get("feature_names_in_")
        notes = Notes(
            estimator=self._name,
            input_shape=self._input_shape,
            input_dtype=str(self._input_dtype),
            feature_names=None if names is None else list(names),
            steps=self._steps,
            targets=self._facts(),
        )
        with checkpoint_store(directory, keep=None) as store:
            store.save(0, self.train_state_, notes=write_notes(notes))

    def load(self, directory: str | os.PathLike[str], *, sha256: str | None = None) -> Self:
        """Restore the fitted estimator that `save` saved.

            classifier = lab.Classifier(recipe).load("model")

        The recipe is that of this estimator: the file holds arrays and names, but no code.

        Args:
            directory: Where it was saved.
            sha256: SHA-256 of manifest.json to verify, as for `lab.read`.

        Raises:
            CheckpointCorruptError: The checkpoint is not as it was written.
            CheckpointMismatchError: It is not a saved estimator of this class, or its leaves are
                not those of this recipe.
        """
        checkpoint = read(directory, sha256=sha256)
        where = f"load {directory}"
        notes = read_notes(where, self._name, checkpoint.notes)
        self._forget()
        self._adopt_facts(where, notes.targets)
        self._input_shape = notes.input_shape
        self.n_features_in_ = notes.input_shape[0]
        if notes.feature_names is not None:
            self.feature_names_in_ = np.array(notes.feature_names, object)
        self._adopt_recipe(np.zeros((1, *notes.input_shape), notes.input_dtype), notes.steps)
        # The file holds all arrays, so that shapes suffice.
        like = jax.eval_shape(self._first_state, jax.random.key(0))
        self.train_state_ = restore(checkpoint, like)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        # Random keys cannot be pickled.
        if "train_state_" in state:
            state["train_state_"] = jax.tree.map(pack, state["train_state_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "train_state_" in state:
            self.train_state_ = jax.tree.map(unpack, state["train_state_"])

    # Parts of the above.

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _recipe_or_default(self) -> Any:
        return self._default_recipe if self.recipe is None else self.recipe

    def __sklearn_is_fitted__(self) -> bool:
        return "train_state_" in vars(self)

    def _forget(self) -> None:
        """Make the estimator unfitted, so that an error leaves no mixture of two fits."""
        for name in ("train_state_", "history_", "feature_names_in_"):
            if name in vars(self):
                delattr(self, name)

    def _expect_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise UnfittedError(
                self._name, "a fitted estimator", "one that is not", "call fit first"
            )

    def _key(self) -> RandomKey:
        return jax.random.key(read_random_state(self._name, self.random_state))

    def _batch_size(self, examples: Examples) -> int:
        return min(checks.whole("batch_size", self.batch_size), len(examples.targets))

    def _first_state(self, key: RandomKey) -> TrainState:
        inputs = jax.ShapeDtypeStruct((1, *self._input_shape), self._input_dtype)
        return train.start(key, self.recipe_, example_shapes(self.recipe_, inputs))
