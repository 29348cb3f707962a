"""The Python code of the README and of the pages in docs/ runs as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
# Checks appended to the code of a page.
CHECKS = {
    "docs/diagnosis.md": """
assert findings[0].id == confirmed[0].id == "T05" and confirmed[0].certainty == "confirmed"
assert lab.read_report("report.html").findings.ids == findings.ids
""",
    "docs/ensembles.md": """
assert train.evaluate(averaged, weights, digits.test)["accuracy"] > 0.92
assert abs(chosen[np.arange(len(chosen)), truth[1::2]].mean() - 0.9) < 0.07
assert parts.epistemic[model.label(digits.test[0]) != truth].mean() > 2 * parts.epistemic.mean()
""",
    "docs/logging.md": """
given = []
class Run:
    log = log_metrics = lambda self, figures, step: given.append((step, figures))
for make in (to_wandb, to_mlflow):
    make(Run())(3, {"loss": 0.5})
assert given == [(3, {"loss": 0.5})] * 2
""",
    "docs/multi_task.md": """
assert abs(gradient - jnp.array([0.6, 1.8])).max() < 1e-6
assert result.history.valid_loss[-1] < result.history.valid_loss[0]
""",
    "docs/report.md": """
assert content.findings.errors and not lab.read_report("first.html").findings.errors
assert content.columns["dead_share"][2] == "relu_2"
""",
    "docs/search.md": """
assert trials.best.score > 0.85 and tested.best > 0.85
assert trials.importance()["optimizer.rate"].share > 0.4
assert set(coupled.distributions) == {"rate", "units"}
""",
    "docs/several_networks.md": """
assert abs(made.mean(0) - 3).max() < 0.7
assert abs(outputs["u"] - jnp.sin(points[:, 0])).max() < 0.05
assert trained.history.valid_loss[-1] < 0.8 * trained.history.valid_loss[0]
""",
    "docs/transfer.md": """
assert (probe.predict(x_test).argmax(-1) == test[1]).mean() > 0.85
assert (found.labels == test[1]).mean() > 0.85 and len(table.results) == 4
""",
}
PAGES = [
    str(page.relative_to(ROOT))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "```python" in page.read_text()
]


def run_page(name, folder, environment):
    """Run all Python blocks of a page as one program, in an empty directory."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    program = "\n".join([head, *blocks, CHECKS.get(name, "")])
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs(name, tmp_path, compilation_cache):
    done = run_page(name, tmp_path, os.environ | compilation_cache)
    assert done.returncode == 0, done.stderr
    if name == "docs/logging.md":
        lines = r"step 22: \d\.\d{4}\nstep 44: \d\.\d{4}\nstep 66: \d\.\d{4}\n"
        assert re.fullmatch(lines, done.stdout)


def test_links_between_pages_exist():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
