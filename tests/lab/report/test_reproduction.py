"""The code that reproduces a run."""

import jax
import jax.numpy as jnp
from reports import RECIPE, Page

import fnn
from fnn import lab, nn, train
from fnn.lab.report.reproduction import (
    describe_key,
    describe_recipe,
    describe_versions,
    reproduction_section,
)


class Norm:
    """A measure without a public name."""

    def __call__(self, record):
        return jnp.float32(0)


def test_the_code_has_key_recipe_and_steps():
    content = lab.Report(
        None, {}, {}, {}, 7, describe_recipe(RECIPE), "jax.random.key(3)", {"x": "1"}
    )
    text = Page(reproduction_section(content)).text
    assert "key = jax.random.key(3) recipe = train.recipe(" in text and "# 7 steps" in text
    assert describe_key(jax.random.key(3)) == content.key


def test_no_address_in_memory_is_written():
    recipe = train.recipe(nn.dense(3), measures={"norm": Norm()})
    assert " at 0x" in repr(recipe) and " at 0x" not in describe_recipe(recipe)
    assert describe_recipe(None) == ""


def test_versions_are_those_that_are_installed():
    versions = describe_versions()
    assert versions["fnn"] == fnn.__version__ and versions["jax"] == jax.__version__
    assert "cpu" in versions["device"].lower() or versions["device"]
