"""Every family matches its peer in both precisions, on 200 random problems each."""

import pytest
from families import FAMILIES
from harness import GOALS, worst

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("dtype", GOALS)
@pytest.mark.parametrize("name", FAMILIES)
def test_family_matches_its_peer(name, dtype):
    assert worst(name, dtype) <= GOALS[dtype]
