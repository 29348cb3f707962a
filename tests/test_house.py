"""Rules of the code base: layers of imports, public names, docstrings, the README."""

import ast
import importlib.metadata
import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import makers
import pytest
from registry import REGISTRY

import fnn

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "fnn").rglob("*.py"))
GROUND = {"types", "errors", "checks", "trees", "values", "xla"}
MIDDLE = {"nn", "objective", "optim", "data", "augment"}
# The packages that each package may import. All may import the ground.
MAY_IMPORT = {
    **{room: frozenset() for room in GROUND | MIDDLE},
    "train": MIDDLE,
    "search": MIDDLE | {"train"},
    "ensemble": MIDDLE | {"train", "search"},
    "transfer": MIDDLE | {"train", "search", "ensemble"},
    "diagnose": MIDDLE | {"train", "search", "ensemble", "transfer"},
    "lab": MIDDLE | {"train", "search", "ensemble", "transfer", "diagnose"},
}
# The only packages that may access disk, clock or terminal.
WITH_IO = {"lab", "data/sets"}
IO_MODULES = {
    "time",
    "sys",
    "os",
    "signal",
    "threading",
    "pathlib",
    "io",
    "tqdm",
    "matplotlib",
    "importlib",
    "logging",
}
IO_MODULES |= {
    "urllib",
    "http",
    "socket",
    "gzip",
    "tarfile",
    "zipfile",
    "csv",
    "shutil",
    "tempfile",
    "PIL",
}


def room(path):
    relative = path.relative_to(ROOT / "fnn")
    return relative.parts[0].removesuffix(".py")


def imported(path):
    """The dotted names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def by_file(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@by_file([path for path in SOURCES if path.name != "__init__.py" or path.parent.name != "fnn"])
def test_imports_go_down_only(path):
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("fnn.")}
    assert rooms <= MAY_IMPORT[room(path)] | GROUND | {room(path)}


@by_file(SOURCES)
def test_only_some_packages_do_io(path):
    touched = {name.split(".")[0] for name in imported(path)} & IO_MODULES
    relative = str(path.relative_to(ROOT / "fnn"))
    if relative == "__init__.py":
        touched -= {"importlib"}  # packages are imported on first use
    if relative.startswith("values/"):
        touched -= {"sys"}  # sys.modules alone, to print and to unpickle by name
    if relative == "search/lane_devices.py":
        touched -= {"os"}  # free memory
    if relative == "search/lane_map.py":
        touched -= {"time"}  # which form is faster
    assert not touched or any(relative.startswith(f"{package}/") for package in WITH_IO)


@by_file(sorted((ROOT / "tests").rglob("*.py")))
def test_a_test_module_imports_no_peer(path):
    # `make test` runs without them. A test of a peer imports it itself, and is marked.
    modules = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import)]
    names = {alias.name.split(".")[0] for node in modules for alias in node.names}
    peers = {"torch", "torchvision", "timm", "flax", "optax", "optuna", "keras", "equinox"}
    assert path.parent.name == "golden" or not names & peers


@by_file(SOURCES)
def test_no_private_jax_and_no_pickle(path):
    assert not re.search(
        r"jax\._src|\bpickle\b|\beval\(|\bexec\(|allow_pickle=True", path.read_text()
    )


def docstring_lines(tree):
    """The number of lines of all docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [n for n in ast.walk(tree) if isinstance(n, documented) and ast.get_docstring(n)]
    return sum(n.body[0].end_lineno - n.body[0].lineno + 1 for n in nodes)


@by_file(SOURCES)
def test_a_file_is_short_and_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) - docstring_lines(tree) <= 350
    assert ast.get_docstring(tree)


@by_file([path for path in SOURCES if path.name == "__init__.py" and path.parent.name != "fnn"])
def test_an_init_only_re_exports(path):
    statements = ast.parse(path.read_text()).body[1:]
    # The list of the names follows from the imports.
    if statements and isinstance(statements[-1], ast.Assign):
        assert ast.unparse(statements.pop()).startswith("__all__ = _public_names(globals()")
        own = "from fnn.values.show import public_names as _public_names"
        statements = [one for one in statements if ast.unparse(one) != own]
    for statement in statements:
        # Names that need an optional package are imported on first use.
        if is_lazy_export(statement):
            continue
        assert isinstance(statement, ast.ImportFrom)
        assert all(alias.asname == alias.name for alias in statement.names)


def is_lazy_export(statement):
    is_for_types = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
    return is_for_types or getattr(statement, "name", "") == "__getattr__"


def test_importing_fnn_imports_its_packages_on_first_use():
    program = "import sys, fnn; print('fnn.nn' in sys.modules, fnn.nn.__name__, fnn.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    version = importlib.metadata.version("fnn")
    assert done.stdout.split() == ["False", "fnn.nn", version], done.stderr
    with pytest.raises(AttributeError, match="module 'fnn' has no attribute 'layers'"):
        _ = fnn.layers


def is_public(module, value):
    """Whether a package exports the value, or a module of the ground defines it."""
    home = getattr(value, "__module__", "")
    return (
        callable(value)
        and home.startswith("fnn.")
        and (hasattr(module, "__path__") or home == module.__name__)
    )


def test_a_name_has_one_public_path():
    paths: dict[int, list[str]] = {}
    for name in dir(fnn):
        module = getattr(fnn, name)
        if inspect.ismodule(module):
            for member, value in vars(module).items():
                if not member.startswith("_") and is_public(module, value):
                    paths.setdefault(id(value), []).append(f"{name}.{member}")
    assert len(paths) > 50
    assert [names for names in paths.values() if len(names) > 1] == []


def test_a_package_exports_its_public_names_and_no_other_module():
    for room, module in makers.ROOMS.items():
        functions = {f"{room}.{name}" for name in module.__all__ if callable(getattr(module, name))}
        assert functions >= makers.public({room: module}).keys()
    namespace = {}
    exec("from fnn.nn import *; from fnn.data import *", namespace)
    assert namespace["conv"] is fnn.nn.conv and namespace["synthetic"] is fnn.data.synthetic
    assert "activations" not in namespace and "Any" not in namespace
    listed = pydoc.plain(pydoc.render_doc(fnn.nn))
    assert "FUNCTIONS" in listed and "conv(channels: int" in listed


@by_file([path for path in SOURCES if path.name != "__init__.py"])
def test_tests_mirror_the_source(path):
    relative = path.relative_to(ROOT / "fnn")
    tests = ROOT / "tests" / relative.parent
    mirrored = {"test_" + relative.name, *ALSO_TESTED_BY.get(str(relative), ())}
    assert any((tests / name).exists() for name in mirrored)


# The modules of optimizers whose papers' formulas are in papers.py: one file tests all of them.
FORMULAS = {
    makers.public()[name].__module__.rsplit(".", 1)[1]
    for name, entry in REGISTRY.items()
    if entry.paper is not None
}
# Files without a test file of their own: the test that covers each.
ALSO_TESTED_BY = {
    "diagnose/update_lines.py": ["test_observation.py"],
    "diagnose/outcomes.py": ["test_experiments.py"],
    "diagnose/rate_experiments.py": ["test_experiments.py"],
    "diagnose/start_experiments.py": ["test_experiments.py"],
    "transfer/convex.py": ["test_linear_probe.py"],
    "search/execution.py": ["test_random.py"],
    "search/monitor.py": ["test_random.py"],
    "search/options.py": ["test_random.py"],
    "search/description.py": ["test_random.py"],
    "search/evaluation.py": ["test_trials.py"],
    "search/halving_trials.py": ["test_hyperband.py"],
    "search/rungs.py": ["test_hyperband.py"],
    "search/pool.py": ["test_hyperband.py"],
    "search/power_law.py": ["test_learning_curve.py"],
    "search/replay.py": ["test_population.py"],
    "search/verdicts.py": ["test_trials.py"],
    "search/run_score.py": ["test_hypergradient.py"],
    **{
        f"diagnose/{name}.py": ["test_examine.py"]
        for name in ("evidence", "levels", "run_checks", "thresholds")
    },
    "ensemble/logits.py": ["test_uncertainty.py"],
    "ensemble/member_epoch.py": ["test_train.py"],
    "diagnose/heads.py": ["test_loss_rules.py"],
    "diagnose/lane_runs.py": ["test_short_runs.py"],
    "nn/kernels/reference.py": ["test_convolution.py"],
    "nn/kernels/cpu.py": ["test_convolution.py"],
    **{f"optim/optimizers/{name}.py": ["test_optimizers.py"] for name in FORMULAS},
    **{
        f"optim/schedules/{name}.py": ["test_schedules.py"]
        for name in ("base", "composed", "decays")
    },
    "data/sets/dataset.py": ["test_cifar.py"],
    "lab/fit/config.py": ["test_loop.py"],
    **{
        f"values/{name}.py": ["test_values.py"]
        for name in ("decorator", "leaves", "made", "show", "structure")
    },
    **{
        f"lab/estimators/{name}.py": ["test_estimator.py"]
        for name in ("examples", "notes", "recipes")
    },
    "lab/plots/class_names.py": ["test_confusion.py"],
    "lab/plots/figure.py": ["test_curves.py"],
    "lab/report/description.py": ["test_html_report.py"],
    "lab/logs/formats.py": ["test_jsonl_csv.py"],
    "lab/logs/lines.py": ["test_jsonl_csv.py"],
    "lab/disk.py": ["checkpoints/test_writer.py"],
    "lab/checkpoints/folders.py": ["test_store.py"],
    "lab/checkpoints/host.py": ["test_store.py"],
    **{f"lab/exports/{name}.py": ["test_program.py"] for name in ("function", "model_card")},
    "lab/fit/history.py": ["test_loop.py"],
    "lab/fit/records.py": ["test_loop.py"],
    "lab/fit/checkpoint_policy.py": ["test_loop.py"],
    "lab/fit/array_source.py": ["test_source.py"],
    "lab/fit/stream_source.py": ["test_source.py"],
    "objective/metrics/bins.py": ["test_dataset.py"],
    "search/derivatives.py": ["test_hypergradient.py"],
    "search/numbers.py": ["test_hypergradient.py"],
    "search/score.py": ["test_hypergradient.py"],
    "train/common_layout.py": ["test_layout.py"],
    "train/measure.py": ["test_evaluate.py"],
    "train/targets.py": ["test_inputs.py"],
    "diagnose/decay_rules.py": ["test_rate_rules.py"],
}


# The makers, and the functions of fnn.data.
DOCUMENTED = makers.public() | makers.public(
    {"data": fnn.data, "data.synthetic": fnn.data.synthetic}
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_function_has_a_summary_line_and_types(name):
    function = DOCUMENTED[name]
    first = inspect.getdoc(function).splitlines()[0]
    assert first.endswith(".") or (first.endswith(":") and len(first) <= 120)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


# Functions with more than two positional parameters, which belong together in this order.
LONGER = {"nn.generate": 4, "nn.pretrained": 3, "nn.replace": 3, "optim.step": 4}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_options_are_keyword_only_and_key_comes_first(name):
    parameters = list(inspect.signature(DOCUMENTED[name]).parameters.values())
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= LONGER.get(name, 2)
    assert [
        p.name for p in positional if p.name in ("rng", "seed", "rate_", "keep_rate", "is_training")
    ] == []
    assert "key" not in [p.name for p in positional[1:]]


def test_the_readme_lists_every_package():
    text = (ROOT / "README.md").read_text()
    rooms = {
        path.parent.name
        for path in SOURCES
        if path.name == "__init__.py" and path.parent.parent.name == "fnn"
    }
    assert all(f"{room}/" in text for room in rooms)
