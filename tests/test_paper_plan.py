"""The page docs/paper_plan.md has the numbers that its script computes."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from fnn import train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def plan():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import paper_plan

        yield paper_plan
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_bytes_that_a_device_sends(plan):
    params = {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32)}
    mesh = AbstractMesh((8,), ("data",))
    size = 2 * 8 * 16
    assert plan.sent_over_data(train.layout(mesh), params) == 2 * 7 / 8 * size
    assert plan.sent_over_data(train.layout(mesh, fsdp=True), params) == 3 * 7 / 8 * size
    once = train.layout(mesh, fsdp=True, regather=False)
    assert plan.sent_over_data(once, params) == 2 * 7 / 8 * size
    alone = train.layout(AbstractMesh((1,), ("data",)))
    assert plan.sent_over_data(alone, params) == 0


@pytest.mark.slow
def test_operations_of_a_step_are_those_of_the_literature(plan):
    # 17.5 G multiply-adds of a forward pass [Dosovitskiy et al. 2021]; three passes.
    assert plan.flops("ViT-B/16") == pytest.approx(3 * 2 * 17.5e9, rel=0.02)
    # 6 N a token, and attention: 12 depth width time.
    tokens, blocks = 2048, 18 * 2048
    assert plan.flops("GPT, 1 B") == pytest.approx(
        tokens * (6 * 1.009e9 + 12 * blocks * tokens), rel=0.03
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B/16", "GPT, 1 B"])
def test_the_page_has_the_tables_of_the_script(plan, name):
    assert plan.show(name) in (ROOT / "docs" / "paper_plan.md").read_text()
