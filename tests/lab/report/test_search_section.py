"""The section of a search, and its report."""

import jax
import numpy as np
import pytest
from reports import HOSTILE, Page

from fnn import lab, nn, optim, search, train
from fnn.search.columns import hyperparameter_columns
from fnn.search.samplers import unit_points
from fnn.search.score import Score
from fnn.search.space import as_space
from fnn.search.trials import Trials

SPACE = train.recipe(
    nn.chain(**{"a<b>": nn.dense(search.choice(8, 16)), "head": nn.dense(2)}),
    optim.sgd(search.log_uniform(1e-6, 1e-2)),
)


@pytest.fixture(scope="module")
def trials():
    """Trials whose loss falls with the rate up to the edge of its interval; one diverged."""
    space = as_space("test", SPACE)
    points = unit_points(jax.random.key(0), 24, len(space.distributions))
    drawn = [space.draw(point) for point in points]
    scores = np.repeat(1 - points.T[1][:, None], 2, 1) + np.array([0, 0.01])
    scores[3] = np.nan
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    recipes = [recipe for recipe, _ in drawn]
    return Trials(space, recipes, columns, scores, {}, np.full(24, 5), Score(), {})


def test_a_search_has_a_report(trials, tmp_path):
    content = lab.report(trials, tmp_path / "search.html")
    text = (tmp_path / "search.html").read_text()
    page = Page(text)
    assert page.sections == ["search", "reproduction"]
    assert "Search of 24 trials" in page.text
    assert f"Trial {trials.best.index} of 24, of which 1 diverged." in page.text
    assert "Next stepsoptimizer.rate: widen above 0.01" in page.text
    assert [tag for tag, _ in page.elements].count("svg") == 3
    assert content.recipe == repr(trials.best.recipe)
    assert "http" not in text.replace("http-equiv", "") and HOSTILE not in text
    assert lab.read_report(tmp_path / "search.html").figures == {
        "best trial": {"valid_loss": trials.best.score}
    }
