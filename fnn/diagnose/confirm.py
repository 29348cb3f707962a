"""Confirmation of findings by experiments."""

from dataclasses import replace
from typing import Any

import jax

from fnn import checks
from fnn.diagnose.arms import Arms
from fnn.diagnose.experiments import BY_NAME, EXPERIMENTS, OTHERS
from fnn.diagnose.findings import Finding, Findings
from fnn.diagnose.run_checks import expect_trained_by
from fnn.errors import ConfigError, NonFiniteError
from fnn.search.lanes import Task, prepare_task
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, Result


def confirm(
    findings: Findings | Finding,
    recipe: Recipe,
    result: Result | NonFiniteError | RandomKey,
    data: Data,
    *,
    batch_size: int,
    epochs: int | None = None,
    valid: Data | None = None,
    seeds: int = 3,
) -> Findings:
    """Confirm or refute findings by an experiment each.

        findings = diagnose.examine(recipe, result, data, valid=valid, batch_size=64)
        print(diagnose.confirm(findings, recipe, result, data, valid=valid, batch_size=64))

    An experiment trains with a treatment that removes the supposed fault, and without it, from the
    same keys. A finding is confirmed if the treatment gains at least a fixed effect, by two
    standard errors over the keys; refuted if it gains less; otherwise it stays likely. It also
    stays likely where the experiment is too short to refute, which `experiment` then says.

    | rules | treatment |
    | --- | --- |
    | T01 | the first step that is not finite again, layer by layer |
    | T02, T04 | a tenth and a hundredth of the rate |
    | T05 | ten and a hundred times the rate |
    | T06 | units counted on 4,096 examples, before training, and at a tenth of the rate |
    | T08 | a tenth of the rate in the second half |
    | T09 | clipped gradients, and a tenth of the rate: jumps are counted |
    | T12 | the rate before its drop, kept for three quarters of the steps after it |
    | T14, loss_sign | negated updates; for T14 also a tenth of the rate |
    | P14, T13 | inputs of zeros; labels exchanged at random |
    | P16 | statistics of batch norm from passes with dropout and without it |
    | T16 | statistics of batch norm from a pass over the training data |
    | E01 | weight decay, of three strengths |
    | E02, T15 | a tenth of the regularization, and none |
    | E03 | twice the epochs, with schedules of twice the length |
    | P03, E09 | a loss weighted by the counts of the classes |
    | E10 | runs from other keys, against the baseline |
    | P04, T11 | a last layer of a tenth of the size |
    | P10 | units compared after the run; then as for P11 |
    | P11, T02, T03, T07, T10 | initial kernels rescaled by `nn.lsuv` |

    Findings of other rules are returned as they are. The experiments are functions of recipe, key
    and data: the same arguments give the same findings. Rules that need the same runs share them.

    Args:
        findings: From an examination or pre-flight, or one of them.
        recipe: From `train.recipe`, of the examined run.
        result: The examined run; the NonFiniteError that ended it; or, before a run, its key.
        data: (inputs, targets), the training data.
        batch_size: Examples per step, that of the run.
        epochs: Passes over the data of each run of an experiment; by default those of the examined
            run. A schedule of the recipe has its own length.
        valid: (inputs, targets) for validation. Experiments on overfitting need it.
        seeds: Number of keys of each experiment. The first one is that of the run.

    Returns:
        The findings with their certainty, the `experiment` as a sentence, and its numbers as
        `outcome`. If there was no experiment for want of an argument, `experiment` has the reason.

    Raises:
        FnnError: An argument is not valid, or the data does not fit the recipe, as for `train.run`.
    """
    given = _expect_findings(findings)
    expect_recipe("confirm", recipe)
    checks.whole("confirm seeds", seeds)
    examined = _expect_run(result)
    if isinstance(examined, Result | NonFiniteError):
        expect_trained_by("confirm result", recipe, examined.train_state)
    task = prepare_task([recipe], data, valid, epochs=1, batch_size=batch_size)
    if epochs is None:
        epochs = _epochs_of(examined, task)
    task = task._replace(epochs=checks.whole("confirm epochs", epochs))
    arms = Arms(recipe, examined, task, seeds)
    return Findings(_confirm_one(finding, arms) for finding in given)


def _confirm_one(finding: Finding, arms: Arms) -> Finding:
    experiment = BY_NAME.get(finding.name) or EXPERIMENTS.get(finding.id)
    if experiment is None or finding.name in OTHERS:
        return finding
    outcome = experiment(finding, arms)
    return replace(
        finding,
        certainty=outcome.certainty or finding.certainty,
        experiment=outcome.account,
        outcome=dict(outcome.figures),
    )


def _expect_findings(findings: Any) -> Findings:
    """Return findings; ConfigError for anything else."""
    if isinstance(findings, Finding):
        return Findings([findings])
    if not isinstance(findings, Findings):
        raise ConfigError(
            "confirm findings",
            "findings, or one of them",
            checks.show(findings),
            "give those of diagnose.examine",
        )
    return findings


def _expect_run(result: Any) -> Result | NonFiniteError | RandomKey:
    """Return the argument that stands for a run; ConfigError for others."""
    is_array = isinstance(result, jax.Array)
    if is_array and jax.dtypes.issubdtype(result.dtype, jax.dtypes.prng_key):
        return checks.key("confirm result", result)
    is_step = isinstance(result, NonFiniteError) and result.train_state is not None
    if not is_step and not isinstance(result, Result):
        raise ConfigError(
            "confirm result",
            "the result of a run, the error of a step, or a key",
            checks.show(result),
            "give that of train.run or lab.fit",
        )
    if isinstance(result, Result) and result.history[LOSS].ndim != 1:
        raise ConfigError(
            "confirm result",
            "the result of one run",
            f"one of lanes, with losses {result.history[LOSS].shape}",
            "take a lane, as by jax.tree.map(lambda leaf: leaf[0], result)",
        )
    return result


def _epochs_of(result: Result | NonFiniteError | RandomKey, task: Task) -> int:
    """Return the number of epochs of a run, or up to its error, at least 1."""
    epoch_length = steps_per_epoch(task.data, task.batch_size)
    if isinstance(result, NonFiniteError):
        return result.step // epoch_length + 1
    if not isinstance(result, Result):
        raise ConfigError(
            "confirm epochs",
            "a number of epochs, since there is no run yet",
            None,
            "give that of the run to come",
        )
    return max(1, len(result.history[LOSS]) // epoch_length)
