"""Predictors: trained networks, their combination and their calibration as one value."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from fnn import checks
from fnn.ensemble.combination import average_outputs, average_probabilities
from fnn.ensemble.evaluate import Combine, average_questions, combination_of
from fnn.ensemble.logit_maps import Scaling
from fnn.ensemble.members import Members, Part, expect_members, predict
from fnn.errors import ConfigError, ShapeError
from fnn.types import Logits, RandomKey
from fnn.values import Made

# The options of a recipe that prediction and evaluation need.
NEEDED = ("network", "loss", "metrics", "prepare")


class Predictor(NamedTuple):
    """Networks whose outputs are combined and then calibrated.

    Attributes:
        members: The networks, with recipes that only predict and evaluate.
        calibration: Map of the combined logits; None for none.
        combine: (outputs (members, n, ...)) -> outputs (n, ...); None for that of the loss.
        classes: The names of the classes, in the order of the logits; None if they have none.
    """

    members: Members
    calibration: Scaling | None = None
    combine: Combine | None = None
    classes: tuple[str, ...] | None = None

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int = 256,
        key: RandomKey | None = None,
    ) -> Any:
        """Compute the combined and calibrated outputs (n, ...), logits for a classifier.

        Args:
            inputs: Arrays whose first axis is the example, as they were given to training.
            batch_size: Examples that pass through a network at once.
            key: Key of layers that sample at train=False; None for none.

        Raises:
            FnnError: The inputs do not fit a recipe, as for `train.predict`.
        """
        outputs = predict(self.members, inputs, batch_size=batch_size, key=key)
        return self.join(outputs)

    def join(self, outputs: Any) -> Any:
        """Combine outputs (members, n, ...) of the networks to (n, ...), and calibrate them.

        Args:
            outputs: As from `ensemble.predict`.
        """
        combined = self._combine(outputs)
        return combined if self.calibration is None else self.calibration(combined)

    def probabilities(self, inputs: Any, *, batch_size: int = 256) -> jax.Array:
        """Compute the probabilities (n, ..., classes); for yes-or-no questions those of yes.

        Args:
            inputs: As for `predict`.
            batch_size: As for `predict`.

        Raises:
            ConfigError: The outputs are not logits.
            FnnError: The inputs do not fit a recipe.
        """
        logits = self._logits("probabilities", inputs, batch_size)
        # Questions are independent, each with a sigmoid; classes share a softmax.
        is_question = self._has_questions or logits.shape[-1] == 1
        return jax.nn.sigmoid(logits) if is_question else jax.nn.softmax(logits)

    def label(self, inputs: Any, *, batch_size: int = 256) -> np.ndarray | jax.Array:
        """Return the most probable class of each example (n, ...): its name, or else its index.

        Names are arrays of text, which JAX does not have: within jit there are only indices.

        Args:
            inputs: As for `predict`.
            batch_size: As for `predict`.

        Raises:
            ConfigError: The outputs are not logits of classes, or are traced and the classes have
                names.
            FnnError: The inputs do not fit a recipe.
            ShapeError: There are other classes than names.
        """
        logits = self._logits("label", inputs, batch_size)
        outputs = logits.shape[-1]
        # Each of several questions has an answer, so there is no one class.
        if self._has_questions and outputs > 1:
            advice = "compare probabilities(inputs) with a threshold for each"
            raise ConfigError(
                "label",
                "one question",
                f"{outputs} questions",
                advice,
            )
        # One output has two classes.
        if self.classes is not None and max(outputs, 2) != len(self.classes):
            expected = f"{len(self.classes)} classes, {', '.join(self.classes)}"
            raise ShapeError(
                "label",
                expected,
                logits.shape,
                "name each class of the logits",
            )
        # One output is the logit of the second of two classes.
        found = logits[..., 0] > 0 if outputs == 1 else logits.argmax(-1)
        if not checks.is_concrete(found):
            if self.classes is None:
                return found.astype(np.int32)
            advice = "call it outside of jax.jit, or leave classes out"
            raise ConfigError("label", "known inputs, for names of classes", "traced ones", advice)
        indices = np.asarray(found, np.int32)
        # names (classes,), indices (n, ...) -> (n, ...)
        return indices if self.classes is None else np.array(self.classes)[indices]

    @property
    def _combine(self) -> Combine:
        if self.combine is not None:
            return self.combine
        return self._combine_by_loss

    @property
    def _combine_by_loss(self) -> Combine:
        # The loss of the first member decides, as in `evaluate`. Its weights are not needed.
        return combination_of(self.members.parts[0].recipe_of(0).loss)

    @property
    def _has_questions(self) -> bool:
        """Whether the outputs are logits of separate questions."""
        is_mean = self._combine is average_outputs
        combine = self._combine_by_loss if is_mean else self._combine
        return combine is average_questions

    def _logits(
        self,
        where: str,
        inputs: Any,
        batch_size: int,
    ) -> Logits:
        """Return the logits of classes or questions; ConfigError for other outputs."""
        # Only these return logits; other outputs have no probabilities.
        of_logits = (average_probabilities, average_questions)
        # The mean of logits is one too.
        is_mean = self._combine is average_outputs and self._combine_by_loss in of_logits
        if not is_mean and self._combine not in of_logits:
            got = f"combine={getattr(self.combine, '__name__', 'a function')}"
            advice = "use predict, or leave combine out"
            if self.combine is None:
                got = f"the loss {checks.show(self.members[0].recipe.loss)}"
                advice = "use predict, or a recipe with a loss of classes such as cross_entropy"
            raise ConfigError(
                where,
                "logits of classes, combined as by average_probabilities",
                got,
                advice,
            )
        return cast(jax.Array, self.predict(inputs, batch_size=batch_size))


def predictor(
    members: Members,
    *,
    calibration: Scaling | None = None,
    combine: Combine | None = None,
    classes: Sequence[str] | None = None,
) -> Predictor:
    """Combine trained networks, a calibration and names of classes into one value.

        model = ensemble.predictor(members, calibration=ensemble.fit_temperature(logits, labels))
        lab.save_model("digits", model)
        probabilities = lab.load_model("digits").probabilities(inputs)

    The outputs are combined first and calibrated then, since the mean of calibrated probabilities
    is less confident than it is accurate [Rahaman & Thiery 2021, arXiv:2007.08792]. Fit the
    calibration to combined outputs, `average_probabilities(predict(members, inputs))`. A single
    network is an ensemble of one, `collect(recipe, [train_state])`.

    Args:
        members: From `ensemble.train` or `ensemble.collect`. Of their recipes the network, the
            loss, the metrics and `prepare` are kept.
        calibration: From `fit_temperature`, `fit_vector_scaling` or `fit_matrix_scaling`; None for
            none.
        combine: (outputs (members, n, ...)) -> outputs (n, ...); None for the one that `evaluate`
            takes for the loss.
        classes: The names of the classes, in the order of the logits; None for indices.

    Raises:
        ConfigError: An argument is not of the type described here.
    """
    expect_members("predictor", members)
    for name, function in (("calibration", calibration), ("combine", combine)):
        if function is not None and not callable(function):
            expected = "a function of outputs, or None"
            advice = "fit one, as in ensemble.fit_temperature(logits, labels)"
            raise ConfigError(
                f"predictor {name}",
                expected,
                checks.show(function),
                advice,
            )
    # A set has no order, and a text is a sequence of letters.
    is_ordered = isinstance(classes, Sequence | np.ndarray) and not isinstance(classes, str)
    if classes is not None and not is_ordered:
        advice = "give a list with one name for each class"
        raise ConfigError(
            "predictor classes",
            "a sequence of names",
            checks.show(classes),
            advice,
        )
    names = None if classes is None else tuple(map(str, classes))
    # A saved model needs neither the optimizer nor the augmentation.
    parts = tuple(map(_without_training, members.parts))
    return Predictor(Members(parts), calibration, combine, names)


def _without_training(part: Part) -> Part:
    """Return the members of a part with recipes that have no optimizer and no augmentation."""
    recipe = cast(Made, part.recipe)
    needed = {name: value for name, value in recipe.arguments.items() if name in NEEDED}
    # Recorded and not called, since the numbers may be stacked.
    return replace(part, recipe=recipe.recorded(needed))
