"""Experiments: each confirms a fault that is real, and refutes one that is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, diagnose, nn, objective, optim, train
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED
from fnn.errors import NonFiniteError
from fnn.types import Optimizer

pytestmark = pytest.mark.slow

KEY = jax.random.key(1)
INPUTS, LABELS = data.synthetic.blobs(KEY, 256, classes=4, features=8, spread=0.5)
TRAINING, VALIDATION = (INPUTS[:128], LABELS[:128]), (INPUTS[128:], LABELS[128:])
# A fifth of the labels is wrong.
NOISY = TRAINING[0], TRAINING[1].at[::5].set(0)
NETWORK = nn.chain(nn.dense(16), nn.relu(), nn.dense(4))
EPOCHS, BATCH = 8, 32


def outcome(id, recipe, training=TRAINING, epochs=EPOCHS, steps=None, **options):
    """Return the finding of a rule after its experiment."""
    result = train.run(jax.random.key(0), recipe, training, epochs=epochs, batch_size=BATCH)
    finding = diagnose.Finding(id, "fault", "warning", "a fault", steps=steps)
    options = {"valid": VALIDATION, "batch_size": BATCH} | options
    return diagnose.confirm(finding, recipe, result, training, **options)[0]


def with_rate(rate, later=None):
    """A rate that may change after a quarter of the steps; all share one program."""
    rates = [rate, rate if later is None else later]
    schedule = optim.piecewise(rates, boundaries=[EPOCHS])
    return train.recipe(NETWORK, optim.momentum(schedule))


def test_the_step_of_a_failure_is_computed_again_layer_by_layer():
    recipe = train.recipe(NETWORK, optim.momentum(100.0), on_nonfinite="ignore")
    found = outcome("T01", recipe)
    assert found.certainty == CONFIRMED and "forward" in found.experiment
    # The error of a run serves as well.
    finding = diagnose.Finding("T01", "nonfinite", "error", "not finite")
    strict = recipe.replace(on_nonfinite="raise")
    with pytest.raises(NonFiniteError) as error:
        train.run(jax.random.key(0), strict, TRAINING, epochs=EPOCHS, batch_size=BATCH)
    again = diagnose.confirm(finding, strict, error.value, TRAINING, batch_size=BATCH)[0]
    assert again.outcome == found.outcome
    assert outcome("T01", with_rate(0.1)).experiment == "not run: all steps of the run are finite"


@pytest.mark.parametrize("id", ["T02", "T04"])
def test_a_rate_is_too_high_if_a_tenth_of_it_trains_better(id):
    found = outcome(id, with_rate(3.0))
    assert found.certainty == CONFIRMED
    assert "at 0.1 times the rate" in found.experiment and found.outcome["gain"] > 0.5
    found = outcome(id, with_rate(0.1))
    assert found.certainty == REFUTED
    assert found.outcome["at 0.1 times the rate"] > found.outcome["as it is"]


def test_units_are_dead_on_many_examples():
    # Negative kernels on positive inputs.
    network = nn.chain(nn.dense(16, kernel_init=nn.constant(-1.0)), nn.relu(), nn.dense(4))
    found = outcome("T06", train.recipe(network, optim.sgd(0.1), prepare=jnp.abs))
    assert found.certainty == CONFIRMED and "at 0.1 times the rate" in found.experiment
    # They died before the run.
    assert found.outcome["before training"] == 1.0
    assert outcome("T06", with_rate(0.1)).certainty == REFUTED


def test_a_loss_oscillates_if_a_lower_rate_in_the_second_half_lowers_it():
    assert outcome("T08", train.recipe(NETWORK, optim.sgd(2.0)), NOISY).certainty == CONFIRMED
    assert outcome("T08", train.recipe(NETWORK, optim.sgd(0.1)), NOISY).certainty == REFUTED


def test_exploding_gradients_of_a_run_that_learns_nothing_are_not_refuted():
    found = outcome("T02", with_rate(1e-6))
    assert found.certainty == LIKELY and "inconclusive" in found.experiment


def test_a_rate_is_too_low_if_ten_times_the_rate_trains_better():
    assert outcome("T05", with_rate(1e-4)).certainty == CONFIRMED
    assert outcome("T05", with_rate(0.3)).certainty == REFUTED


def test_a_drop_is_too_early_if_a_later_one_trains_better():
    found = outcome("T12", with_rate(0.01, 1e-4), steps=(EPOCHS, EPOCHS))
    assert found.certainty == CONFIRMED and "step 7 kept until step 26" in found.experiment
    # The run has converged before the drop.
    longer = optim.momentum(optim.piecewise([0.1, 0.01], boundaries=[48]))
    found = outcome("T12", train.recipe(NETWORK, longer), NOISY, epochs=20)
    assert found.certainty == REFUTED
    found = outcome("T12", with_rate(0.1))
    assert found.certainty == LIKELY and found.experiment.startswith("not run: the rate has no")


@pytest.mark.parametrize("id", ["P14", "T13"])
def test_inputs_are_ignored_if_zeros_or_other_labels_train_as_well(id):
    shuffled = TRAINING[0], np.random.default_rng(0).permutation(TRAINING[1])
    assert outcome(id, with_rate(0.1), shuffled).certainty == CONFIRMED
    found = outcome(id, with_rate(0.1))
    assert found.certainty == REFUTED and found.outcome["advantage"] > 0.5


def test_statistics_have_drifted_if_fresh_ones_lower_the_loss():
    def recipe(momentum):
        network = nn.chain(nn.dense(16), nn.batch_norm(momentum=momentum), nn.relu(), nn.dense(4))
        return train.recipe(network, optim.adam(0.03))

    assert outcome("T16", recipe(0.999)).certainty == CONFIRMED
    assert outcome("T16", recipe(0.8)).certainty == REFUTED
    assert outcome("T16", with_rate(0.1)).experiment == "not run: the network has no statistics"


def test_a_run_overfits_if_weight_decay_lowers_the_validation_loss():
    few = NOISY[0][:64], NOISY[1][:64]
    recipe = train.recipe(NETWORK, optim.adam(0.03))
    assert outcome("E01", recipe, few, epochs=60).certainty == CONFIRMED
    assert outcome("E01", recipe, epochs=4).certainty == REFUTED
    assert outcome("E01", recipe, valid=None).experiment == "not run: overfitting needs valid="


def test_regularization_dominates_if_a_tenth_of_it_lowers_the_training_loss():
    def recipe(strength):
        return train.recipe(NETWORK, optim.adam(0.03), regularizer=objective.l2(strength))

    for id in ("T15", "E02"):
        assert outcome(id, recipe(1.0)).certainty == CONFIRMED
    assert outcome("T15", recipe(1e-6)).certainty == REFUTED
    # A network that is too small underfits without regularization too.
    found = outcome("E02", recipe(1e-6))
    assert found.certainty == LIKELY and "capacity" in found.experiment
    assert "no regularization" in outcome("E02", with_rate(0.1)).experiment


@pytest.mark.parametrize("id", ["P03", "E09"])
def test_classes_are_unbalanced_if_weights_raise_their_recall(id):
    recipe = train.recipe(nn.dense(4), optim.adam(0.01))
    rare = np.flatnonzero(np.asarray(LABELS) != 0)[:6]
    often = np.flatnonzero(np.asarray(LABELS) == 0)
    rows = np.concatenate([often, rare])
    unbalanced = INPUTS[rows], LABELS[rows]
    found = outcome(id, recipe, unbalanced, epochs=20)
    assert found.certainty == CONFIRMED and found.outcome["gain"] > 0.1
    assert outcome(id, recipe, epochs=20).certainty == REFUTED
    regression = train.recipe(nn.dense(1), optim.sgd(0.1), loss=objective.squared_error)
    numbers = INPUTS, jnp.ones((len(INPUTS), 1))
    assert outcome(id, regression, numbers, valid=None).experiment.startswith("not run")


@pytest.mark.parametrize("id", ["P11", "T03", "T07", "T10"])
def test_an_initialization_is_bad_if_rescaled_kernels_train_better(id):
    assert outcome(id, deep(0.01)).certainty == CONFIRMED
    assert outcome(id, deep(0.35), epochs=40).certainty == REFUTED
    # In a run whose loss hardly falls, rescaled kernels cannot gain much either.
    found = outcome(id, train.recipe(NETWORK, optim.sgd(1e-5)), epochs=1)
    assert found.certainty == LIKELY and "give more epochs" in found.experiment


def deep(std):
    hidden = [nn.dense(16, kernel_init=nn.normal(std)), nn.relu()]
    network = nn.chain(*hidden, *hidden, *hidden, nn.dense(4, kernel_init=nn.normal(std)))
    return train.recipe(network, optim.sgd(0.1))


def test_saturated_units_cost_steps_if_rescaled_kernels_train_better():
    def recipe(std):
        hidden = [nn.dense(16, kernel_init=nn.normal(std)), nn.tanh()]
        return train.recipe(nn.chain(*hidden, *hidden, nn.dense(4)), optim.sgd(0.1))

    assert outcome("T07", recipe(30.0), NOISY).certainty != REFUTED
    assert outcome("T07", recipe(0.3), epochs=20).certainty == REFUTED


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_initialization_is_symmetric_if_units_stay_equal_however_short_the_run_is(epochs):
    def recipe(init):
        network = nn.chain(nn.dense(16, kernel_init=init), nn.relu(), nn.dense(4))
        return train.recipe(network, optim.adam(1e-3))

    # The last layer has kernels of its own for each unit: the first one's are still different.
    constant = nn.chain(
        nn.dense(16, kernel_init=nn.constant(0.1)),
        nn.relu(),
        nn.dense(4, kernel_init=nn.constant(0.1)),
    )
    found = outcome("P10", train.recipe(constant, optim.adam(1e-3)), epochs=epochs)
    assert found.certainty == CONFIRMED
    assert "units of dense_0 are still equal" in found.experiment
    found = outcome("P10", recipe(nn.he_normal()), epochs=epochs)
    assert found.certainty != CONFIRMED and "no layer has equal units" in found.experiment
    drawn = train.recipe(recipe(nn.he_normal()).network, optim.adam(0.03))
    assert outcome("P10", drawn, epochs=20).certainty == REFUTED


@pytest.mark.parametrize("id", ["P04", "T11"])
def test_a_last_layer_is_too_large_if_a_tenth_of_it_begins_at_chance(id):
    def recipe(std):
        hidden = nn.dense(16), nn.relu()
        network = nn.chain(*hidden, nn.dense(4, kernel_init=nn.normal(std)))
        return train.recipe(network, optim.sgd(0.03))

    found = outcome(id, recipe(5.0), epochs=1)
    assert found.certainty == CONFIRMED
    treated = found.outcome["with a last layer of 0.1 times the size"]
    assert treated < found.outcome["as it is"] / 3
    assert outcome(id, recipe(0.01), epochs=1).certainty == REFUTED


def test_dropout_shifts_the_variance_if_statistics_without_it_lower_the_loss():
    def recipe(before, after):
        network = nn.chain(
            nn.dense(16),
            nn.relu(),
            nn.dropout(before),
            nn.dense(16),
            nn.batch_norm(momentum=0.8),
            nn.relu(),
            nn.dropout(after),
            nn.dense(4),
        )
        return train.recipe(network, optim.adam(0.03))

    found = outcome("P16", recipe(0.8, 0.0), epochs=30)
    assert found.certainty == CONFIRMED and found.outcome["gain"] > 0.1
    assert outcome("P16", recipe(0.0, 0.8), epochs=30).certainty == REFUTED
    assert outcome("P16", with_rate(0.1)).experiment == "not run: the network has no statistics"


def test_the_loss_jumps_by_long_updates_if_clipped_gradients_remove_the_jumps():
    def recipe(rate):
        return train.recipe(NETWORK, optim.sgd(rate))

    # A bump of the rate for two steps, in the middle of the run.
    bump = optim.piecewise([0.1, 30.0, 0.1], boundaries=[40, 42])
    found = outcome("T09", recipe(bump), epochs=20)
    assert found.outcome["jumps"] >= 1
    assert found.certainty == CONFIRMED and "a fall of" in found.experiment
    found = outcome("T09", recipe(0.1), epochs=20)
    assert found.certainty == REFUTED and "none of the 3 runs has a jump" in found.experiment


def test_the_sign_is_wrong_if_negated_updates_train_better():
    def recipe(rate, loss=objective.cross_entropy):
        return train.recipe(NETWORK, optim.sgd(rate), loss=loss)

    uphill = train.recipe(NETWORK, uphill_updates(optim.sgd(0.03)))
    found = outcome("T14", uphill)
    assert found.certainty == CONFIRMED and "with negated updates" in found.experiment
    found = outcome("T14", recipe(0.1))
    assert found.certainty == REFUTED


def uphill_updates(optimizer):
    """The optimizer with updates of the wrong sign."""

    def update(grads, opt_state, params):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return jax.tree.map(jnp.negative, updates), opt_state

    return Optimizer(optimizer.init, update)


@pytest.mark.parametrize("name", ["flipped_sign", "loss_sign"])
def test_a_loss_is_flipped_if_negated_updates_predict_better(name):
    def flipped(logits, labels):
        return -objective.cross_entropy(logits, labels)

    def found_by(loss):
        recipe = train.recipe(NETWORK, optim.sgd(0.03), loss=loss)
        result = train.run(jax.random.key(0), recipe, TRAINING, epochs=4, batch_size=BATCH)
        finding = diagnose.Finding("T14", name, "error", "a fault")
        options = {"valid": VALIDATION, "batch_size": BATCH}
        return diagnose.confirm(finding, recipe, result, TRAINING, **options)[0]

    declared = objective.loss(classes=True)
    found = found_by(declared(flipped))
    assert found.certainty == CONFIRMED and found.outcome["gain"] > 0.3
    assert found_by(objective.cross_entropy).certainty == REFUTED


def test_a_run_is_too_short_if_twice_the_epochs_lower_the_validation_loss():
    def recipe(steps):
        return train.recipe(NETWORK, optim.momentum(optim.linear(0.03, steps=steps)))

    found = outcome("E03", recipe(8), epochs=2)
    assert found.certainty == CONFIRMED and "after 4 epochs" in found.experiment
    # A linear classifier has converged.
    converged = recipe(160).replace(network=nn.dense(4))
    assert outcome("E03", converged, NOISY, epochs=40).certainty == REFUTED
    assert outcome("E03", recipe(8), valid=None).experiment.startswith("not run")


def test_a_network_is_worse_than_a_baseline_from_every_key():
    found = outcome("E10", with_rate(1e-5))
    assert found.certainty == CONFIRMED and "of a linear predictor" in found.experiment
    assert outcome("E10", with_rate(0.1)).certainty == REFUTED
    # Values: the explained share of the variance.
    targets = INPUTS @ jnp.ones((8, 1))
    recipe = train.recipe(nn.dense(1), optim.sgd(1e-6), loss=objective.squared_error)
    both = (INPUTS[:128], targets[:128]), (INPUTS[128:], targets[128:])
    assert outcome("E10", recipe, both[0], valid=both[1]).certainty == CONFIRMED
    trained = recipe.replace(optimizer=optim.adam(0.3))
    assert outcome("E10", trained, both[0], epochs=60, valid=both[1]).certainty == REFUTED
