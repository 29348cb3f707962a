"""The code of docs/logging.md runs in an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent

CHECK = """
given = []
class Run:
    log = log_metrics = lambda self, figures, step: given.append((step, figures))
for make in (to_wandb, to_mlflow):
    make(Run())(3, {"loss": 0.5})
assert given == [(3, {"loss": 0.5})] * 2
"""


def test_the_code_of_the_page_runs(tmp_path):
    text = (ROOT / "docs" / "logging.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    program = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}{CHECK}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = r"step 22: \d\.\d{4}\nstep 44: \d\.\d{4}\nstep 66: \d\.\d{4}\n"
    assert re.fullmatch(lines, done.stdout)
