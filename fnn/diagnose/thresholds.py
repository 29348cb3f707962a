"""Thresholds of the rules of an examination, each with its source."""

from dataclasses import dataclass

from fnn import checks


@dataclass(frozen=True)
class Thresholds:
    """Numbers at which the rules of `diagnose.examine` report a finding.

    A level is a loss relative to that of the best constant output, such as log(classes): 1 is
    chance, 0 is perfect. Where no source is named, the number is of this library, calibrated on
    runs with planted faults and on healthy runs.

    Attributes:
        significance: Standard errors of a mean by which a change counts.
        min_steps: Steps below which no rule of curves applies.
        explosion_ratio: Ratio of the gradient norm by the first layer's output to that by the
            last's [AutoTrainer, Zhang et al. 2021: 70].
        gradient_spike: Ratio of a recorded gradient to its median.
        vanishing_ratio: The same ratio, below [AutoTrainer: 1e-3].
        layer_step: Ratio between neighbor layers by which one of them is named.
        update_ratio_high: Median ratio of updates to weights [TheDeepChecker, Ben Braiek & Khomh
            2023: 1e-1].
        update_ratio_low: The same ratio, below [TheDeepChecker: 1e-4].
        overshoot_fraction: Best fraction of an update, below which it is too long.
        undershoot_fraction: Best multiple of an update of the largest rate, from which it is too
            short.
        poor_level: Level of the training loss above which training has failed.
        fair_level: Level of the training loss above which training is not done.
        low_level: Level of the training loss below which nothing is left to gain.
        progress: Least fall of the loss below chance [TheDeepChecker: 5 %].
        rise_level: Rise of the loss above its minimum, in levels, after it had fallen.
        divergence: Ratio of the last loss to the first one or to chance, for a run that diverged.
        dead_error: Share of dead units of a layer, for an error [TheDeepChecker, SageMaker: .5].
        dead_warning: The same for a warning.
        saturated_share: Share of saturated units of a layer [TheDeepChecker: .5].
        plateau_share: Share of the run at its start within which the loss stays level.
        plateau_change: Relative change of a level loss.
        plateau_fall: Relative fall of the loss after a plateau.
        hockey_excess: Loss at the start above chance, in levels.
        plateau_steps: Least number of steps of a plateau.
        spike_ratio: Ratio of a spike to the loss before it [Lightning: 2].
        spike_level: Least height of a spike, in levels.
        noise_ratio: Standard deviation of the loss of batches relative to its mean, for a run that
            is held up by noise.
        cut_share: Share of the largest rate below which the rate is cut.
        cut_rest: Least share of the run that is left after a cut.
        cut_level: Level of the training loss at the end, above which a cut was too early; half of
            it after a cut in the first fifth of the run.
        cut_fall: Relative fall of the loss in the window before a cut.
        cut_slope: Ratio of the slopes after and before a cut.
        penalty_ratio: Ratio of the gradients of regularizer and loss [TheDeepChecker: 1].
        shrinkage: Relative size of the weights at the end, below which decay dominates.
        mode_ratio: Ratio of the losses in evaluation and training mode [TheDeepChecker: 1.5].
        small_batch: Batch size below which statistics of a batch are noisy.
        min_units: Units of a layer below which shares of dead units say little.
        tiny_share: Share of weights that are zero [TheDeepChecker: .95].
        gap_level: Gap between validation and training loss, in levels.
        gap_significance: Standard errors of the mean validation loss by which the gap counts.
        gap_accuracy: Gap between training and validation accuracy [AutoTrainer: .07 to .10].
        gap_factor: Factor of both gaps, and of `hockey_excess`, for targets that are values.
        generalization_loss: Relative rise of the validation loss above its minimum [Prechelt 1998].
        reverse_gap: Accuracy of validation above that of training [UMLAUT, Schoop et al. 2021].
        late_share: Share of the run at its end, in which the best epoch is late [Tuning Playbook].
        early_share: Share of the run at its start, in which the best epoch is early.
        noisy_validation: Ratio of the deviation of the last validation figures to their standard
            error.
        noisy_share: Deviation of the last validation losses relative to their mean, at a rate that
            is not decayed.
        label_noise: Share of examples whose neighbors agree on another label.
        calibration_warning: Expected calibration error for a warning.
        class_error: Error of a class, of at least 5 examples, for a finding [SageMaker: .7].
        baseline_margin: Score by which a predictor without a network is better.
        noisy_batch: Ratio of the noise scale to the batch size, or its inverse.
        input_share: Share of the time that the device waits for the loader [DLCheck: .5].
        uphill: Cosine of gradient and update from which the update has the wrong sign.
        majority: Share of the largest class above which baselines are not compared with it.
        double_softmax: Loss of an output that is sure of the label, above which softmax is applied
            twice.
    """

    significance: float = 4.0
    min_steps: int = 12
    explosion_ratio: float = 70.0
    gradient_spike: float = 10.0
    vanishing_ratio: float = 1e-3
    layer_step: float = 10.0
    update_ratio_high: float = 1e-1
    update_ratio_low: float = 1e-4
    overshoot_fraction: float = 0.25
    undershoot_fraction: float = 10.0
    poor_level: float = 0.6
    fair_level: float = 0.3
    low_level: float = 0.1
    progress: float = 0.05
    rise_level: float = 0.1
    divergence: float = 1.5
    dead_error: float = 0.9
    dead_warning: float = 0.5
    saturated_share: float = 0.5
    plateau_share: float = 0.1
    plateau_change: float = 0.02
    plateau_fall: float = 0.3
    hockey_excess: float = 1.0
    plateau_steps: int = 20
    spike_ratio: float = 2.0
    spike_level: float = 0.25
    noise_ratio: float = 0.3
    cut_share: float = 0.2
    cut_rest: float = 0.4
    cut_level: float = 0.2
    cut_fall: float = 0.05
    cut_slope: float = 0.25
    penalty_ratio: float = 1.0
    shrinkage: float = 0.2
    mode_ratio: float = 1.5
    small_batch: int = 16
    min_units: int = 4
    tiny_share: float = 0.95
    gap_level: float = 0.08
    gap_significance: float = 3.0
    gap_accuracy: float = 0.05
    gap_factor: float = 2.5
    generalization_loss: float = 0.2
    reverse_gap: float = 0.05
    late_share: float = 0.25
    early_share: float = 0.1
    noisy_validation: float = 3.0
    noisy_share: float = 0.15
    label_noise: float = 0.05
    calibration_warning: float = 0.15
    class_error: float = 0.7
    baseline_margin: float = 0.05
    noisy_batch: float = 10.0
    input_share: float = 0.5
    uphill: float = 0.1
    majority: float = 0.7
    double_softmax: float = 0.4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            checks.number(f"Thresholds {name}", value, "[0, inf]")


DEFAULT = Thresholds()
