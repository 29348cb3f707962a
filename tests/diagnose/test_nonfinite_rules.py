"""Numbers that are not finite before training, with the layer and the direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, optim, train
from fnn.diagnose.activation_rules import LayerFacts
from fnn.diagnose.localize import Location
from fnn.diagnose.nonfinite_rules import location_finding, nonfinite_findings
from fnn.diagnose.structure_rules import Leaf

KEY = jax.random.key(0)
DATA = jnp.abs(jax.random.normal(KEY, (64, 6))) + 0.1, jnp.arange(64) % 3


def facts(finite):
    return LayerFacts(0.0, 1.0, 1.0, 0.0, 0.0, finite)


def test_the_first_layer_that_is_not_finite_is_named():
    leaves = [Leaf(name, "dense", {}) for name in "abc"]
    known = {"a": facts(True), "b": facts(False), "c": facts(False)}
    (finding,) = nonfinite_findings(leaves, known)
    assert (finding.id, finding.layer, finding.severity) == ("T01", "b", "error")
    assert finding.measured["direction"] == "forward"


def test_the_finding_of_a_place_has_its_direction_and_step():
    place = Location("dense_2", "backward", 7, 3.0)
    finding = location_finding(place, "warning")
    assert finding.title == "step 7 is not finite, first in the gradient of dense_2"
    assert finding.measured == {"direction": "backward", "largest before": 3.0}
    assert location_finding(Location("inputs", "forward", 0, np.nan), "error").advice[0] == (
        "remove examples that are not finite"
    )


def broken(function):
    """Findings of the preflight on a network whose second layer is the function."""
    network = nn.chain(first=nn.dense(8), middle=nn.elementwise(function), last=nn.dense(3))
    recipe = train.recipe(network, optim.sgd(0.1))
    return diagnose.preflight(KEY, recipe, DATA, short_runs=False)


@jax.custom_jvp
def identity(x):
    return x


@identity.defjvp
def wrong_derivative(primals, tangents):
    return primals[0], tangents[0] / 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "direction"), [(lambda x: jnp.log(x - 9), "forward"), (identity, "backward")]
)
def test_the_preflight_names_the_layer_and_not_the_data(function, direction):
    found = broken(function).errors
    assert [one.id for one in found] == ["T01"]
    assert found[0].layer == "middle"
    assert found[0].measured["direction"] == direction


@pytest.mark.slow
def test_a_later_step_that_is_not_finite_is_localized_as_well():
    network = nn.chain(nn.dense(8), nn.relu(), nn.dense(3))
    recipe = train.recipe(network, optim.sgd(1e30))
    found = diagnose.preflight(KEY, recipe, DATA, short_runs=False)
    (finding,) = [one for one in found if one.id == "T01"]
    assert finding.steps[0] > 0
    assert finding.layer is not None


def test_data_that_is_not_finite_is_a_fault_of_the_data():
    recipe = train.recipe(nn.dense(3), optim.sgd(0.1), prepare=lambda x: jnp.log(x - 9))
    found = diagnose.preflight(KEY, recipe, DATA, short_runs=False)
    assert [one.name for one in found] == ["nonfinite_data"]
