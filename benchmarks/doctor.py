"""Recall and false alarms of the doctor on seeded faults and healthy runs, next to other doctors.

Each fault is seeded into the healthy run of a network on a data set, where that makes sense, with
five keys. A cell (fault, network, data set) counts if the fault does harm: the median error on a
clean test set rises by .02 and a quarter, or the test loss by a tenth and a half. Some faults are
faults by definition, such as leakage. Half of the cells are for the calibration of thresholds: all
of the first data set of each network, and a quarter of the others, by the hash of their names. The
tables show the cells held out.

The doctor gets the recipe, the run and its data: the findings of `diagnose.preflight`, with the
first key, and those of `diagnose.examine`, ranked together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from doctor_cases import NETWORKS, Setup, healthy
from doctor_controls import controls
from doctor_faults import FAULTS, Fault
from doctor_peers import MEASURES, NOT_FINITE, PEERS, records
from doctor_runs import LANES, SHARES, Cell, is_held_out, run_cell
from measure import judge, show, table

from fnn import diagnose
from fnn.errors import NonFiniteError

CONTROL_LANES = 2
EVERY = 8  # steps between measurements of the instruments
TOP = 3
SERIOUS = ("error", "warning")
SILENT = "no finding"
# Programs run for a second and are many, so that most of the time is compilation. Convolutions and
# attention are too slow without optimization.
COMPILE_FAST = "--xla_backend_optimization_level=0"
PHASES = {("mlp", "regression"): COMPILE_FAST, ("cnn", "transformer"): ""}
CLEAR_AFTER = 12  # groups of cells, after which compiled programs are dropped from memory
MAX_GROUP = 24  # cells of a group

Row = dict[str, Any]


class Case(NamedTuple):
    """A cell of the benchmark: a seeded fault, or a control if there is none."""

    name: str
    network: str
    data: str
    setup: Setup
    fault: Fault | None


def cases() -> Iterator[Case]:
    """All cells, those that share programs next to each other."""
    for network, names in NETWORKS.items():
        for fault in FAULTS.values():
            if network not in fault.networks:
                continue
            for data in names:
                name = f"{fault.name}/{network}/{data}"
                yield Case(name, network, data, fault.change(healthy(network, data)), fault)
    for name, setup in controls():
        _, network, data = name.split("/")
        yield Case(name, network, data, setup, None)


# One cell.


def train_case(case: Case, lanes: int) -> Cell:
    instruments = diagnose.instruments(every=EVERY)
    return run_cell(case.name, case.setup, lanes, measures=MEASURES, instruments=instruments)


def check_before(cell: Cell) -> diagnose.Findings:
    """Findings before training, with the first key."""
    first = jax.tree.map(lambda leaf: leaf[0], cell.states[0.0])
    split = cell.setup.split
    steps = cell.setup.steps
    return diagnose.preflight(first.key, cell.recipe, split.train, valid=split.valid, steps=steps)


def examine(cell: Cell, before: diagnose.Findings, lane: int, share: float) -> diagnose.Findings:
    """Findings on a lane after a share of its budget, ranked with those before training."""
    split = cell.setup.split
    found = diagnose.examine(
        cell.recipe,
        cell.result(lane, share),
        split.train,
        valid=split.valid,
        batch_size=cell.setup.batch_size,
    )
    return diagnose.rank([*before, *found])


def is_harmed(cell: Cell, usual: Cell) -> bool:
    """Whether the fault raises the median error or loss on the clean test set."""
    error, loss = np.median(cell.figures, 0)
    usual_error, usual_loss = np.median(usual.figures, 0)
    worse_error = error >= usual_error + max(0.02, usual_error / 4)
    return bool(worse_error or loss >= usual_loss + max(0.1, usual_loss / 2))


def is_healthy(cell: Cell, usual: Cell) -> bool:
    """Whether the median error of a control is near that of the healthy run."""
    return bool(np.median(cell.figures[:, 0]) <= np.median(usual.figures[:, 0]) * 1.5 + 0.03)


def rows_of(case: Case, usual: Cell) -> list[Row]:
    """Train a cell, examine it, and return a row for each lane."""
    cell = train_case(case, LANES if case.fault else CONTROL_LANES)
    try:
        before = check_before(cell)
    except NonFiniteError as error:
        return refused(case, str(error))
    peers = records(cell, frozenset(before.ids))
    rows = []
    for lane in range(len(cell.figures)):
        findings = examine(cell, before, lane, 1.0)
        row: Row = {
            "cell": case.name,
            "network": case.network,
            "fault": case.fault.name if case.fault else None,
            "error": float(cell.figures[lane, 0]),
            "findings": [brief(one) for one in findings],
            "peers": {name: by_peer(name, peers[lane]) for name in PEERS},
        }
        if case.fault is None:
            row["counts"] = is_healthy(cell, usual)
        else:
            row["counts"] = not case.fault.is_harmful or is_harmed(cell, usual)
            if lane == 0:
                row["latency"] = latency(case.fault, cell, before)
        rows.append(row)
    return rows


def refused(case: Case, message: str) -> list[Row]:
    """Rows of data that fnn refuses before training, with an error that names the place."""
    finding = {
        "id": "P01",
        "name": "nonfinite_data",
        "severity": "error",
        "layer": None,
        "title": message,
        "direction": None,
    }
    row = {
        "cell": case.name,
        "network": case.network,
        "fault": case.fault.name if case.fault else None,
        "error": 1.0,
        "findings": [finding],
        # All of them check the data or the loss for such numbers.
        "peers": {name: [sorted(NOT_FINITE)] for name in PEERS},
        "counts": True,
    }
    return [row | {"latency": 0.0}, *[dict(row) for _ in range(1, LANES)]]


def brief(one: diagnose.Finding) -> Row:
    """The parts of a finding that are scored or shown."""
    keys = ("id", "name", "severity", "layer", "title")
    return {key: getattr(one, key) for key in keys} | {"direction": one.measured.get("direction")}


def by_peer(name: str, record: Any) -> list[list[str]]:
    with np.errstate(all="ignore"):
        return [sorted(meaning) for meaning in PEERS[name](record)]


def latency(fault: Fault, cell: Cell, before: diagnose.Findings) -> float | None:
    """Share of the budget after which a right rule is among the first findings."""
    if any(one.id in fault.right for one in diagnose.rank(before)[:TOP]):
        return 0.0
    for share in SHARES:
        if any(one.id in fault.right for one in examine(cell, before, 0, share)[:TOP]):
            return share
    return None


# All cells, in several processes.


def work(part: int, parts: int, networks: Sequence[str], only: Sequence[str], path: Path) -> None:
    """Write the rows of a part of the cells, one a line.

    Args:
        part: Index of this process.
        parts: Number of processes.
        networks: Of the cells.
        only: Beginnings of names of cells; empty for all.
        path: Of the file.
    """
    usual: dict[tuple[str, str], Cell] = {}
    with path.open("w") as file:
        for index, group in enumerate(groups_of(networks, only)[part::parts]):
            if index % CLEAR_AFTER == CLEAR_AFTER - 1:
                jax.clear_caches()
            for case in group:
                place = (case.network, case.data)
                if place not in usual:
                    name = f"healthy/{case.network}/{case.data}"
                    usual[place] = train_case(Case(name, *place, healthy(*place), None), LANES)
                for row in rows_of(case, usual[place]):
                    file.write(json.dumps(row) + "\n")
                file.flush()


def groups_of(networks: Sequence[str], only: Sequence[str]) -> list[list[Case]]:
    """Cells in groups that share their programs, the largest first.

    Args:
        networks: Of the cells.
        only: Beginnings of names of cells; empty for all.
    """
    by_program: dict[Any, list[Case]] = {}
    for case in cases():
        if case.network not in networks or (only and not case.name.startswith(tuple(only))):
            continue
        setup = case.setup
        # Recipes that differ in numbers alone have the same structure.
        structure = jax.tree.structure(setup.recipe())
        key = (case.network, structure, setup.batch_size, setup.steps, len(setup.split.train[0]))
        by_program.setdefault(key, []).append(case)
    groups = []
    for together in by_program.values():
        for first in range(0, len(together), MAX_GROUP):
            groups.append(together[first : first + MAX_GROUP])
    return sorted(groups, key=len, reverse=True)


def measure_phase(networks: Sequence[str], flag: str, only: Sequence[str]) -> list[Row]:
    """Rows of the cells of some networks, compiled with a flag."""
    parts = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    # XLA takes a value that is not empty and has no flag for the name of a file.
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    environment = os.environ | {"XLA_FLAGS": flags}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{part}.jsonl" for part in range(parts)]
        running = []
        for part, path in enumerate(paths):
            place = [str(part), str(parts), ",".join(networks), str(path)]
            command = [sys.executable, __file__, "--part", *place, *only]
            running.append(subprocess.Popen(command, env=environment))
        codes = [process.wait() for process in running]
        if any(codes):
            raise RuntimeError(f"processes ended with {codes}")
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


# Scores.


class Score(NamedTuple):
    """The score of a doctor on faulty runs and healthy ones.

    Attributes:
        top: Share of faulty runs with a right rule among the first three findings.
        first: Share with a right rule as the first finding.
        precision: Share of errors and warnings that are right or true consequences.
        strict: Share of errors and warnings that are right.
        errors: Share of healthy runs with an error.
        alarms: Share of healthy runs with an error or warning.
    """

    top: float
    first: float
    precision: float
    strict: float
    errors: float
    alarms: float


def score(rows: Sequence[Row]) -> Score:
    """Score the findings of the doctor."""
    top, first, true, strict = [], [], [], []
    healthy_errors, healthy_alarms = [], []
    for row in rows:
        serious = [one for one in row["findings"] if one["severity"] in SERIOUS]
        if row["fault"] is None:
            healthy_errors.append(any(one["severity"] == "error" for one in serious))
            healthy_alarms.append(bool(serious))
            continue
        fault = FAULTS[row["fault"]]
        ids = [one["id"] for one in row["findings"]]
        top.append(any(id in fault.right for id in ids[:TOP]))
        first.append(bool(ids) and ids[0] in fault.right)
        true += [one["id"] in fault.right | fault.also for one in serious]
        strict += [one["id"] in fault.right for one in serious]
    return Score(*map(mean, (top, first, true, strict, healthy_errors, healthy_alarms)))


def score_peer(rows: Sequence[Row], name: str) -> Score:
    """Score the rules of another doctor, which have no order and no severity."""
    top, true, strict, alarms = [], [], [], []
    for row in rows:
        meanings = [set(meaning) for meaning in row["peers"][name]]
        if row["fault"] is None:
            alarms.append(bool(meanings))
            continue
        fault = FAULTS[row["fault"]]
        top.append(any(meaning & fault.right for meaning in meanings))
        true += [bool(meaning & (fault.right | fault.also)) for meaning in meanings]
        strict += [bool(meaning & fault.right) for meaning in meanings]
    nothing = float("nan")
    return Score(mean(top), nothing, mean(true), mean(strict), nothing, mean(alarms))


def mean(values: Sequence[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def layers(rows: Sequence[Row], is_nan: bool) -> float:
    """Share of found faults of a layer whose right finding names it; for NaN with direction."""
    right = []
    for row in rows:
        fault = FAULTS.get(row["fault"] or "")
        if fault is None or not fault.block or (fault.direction is not None) != is_nan:
            continue
        found = [one for one in row["findings"] if one["id"] in fault.right]
        if not found and not is_nan:
            continue
        same = [fault.is_right_layer(one["layer"]) for one in found]
        if is_nan:
            directions = [one["direction"] == fault.direction for one in found]
            same = [a and b for a, b in zip(same, directions, strict=True)]
        right.append(any(same[:1]))
    return mean(right)


def by_fault(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """A table of recall by fault, with the most frequent first finding of missed runs."""
    lines = []
    for fault in FAULTS.values():
        own = [row for row in rows if row["fault"] == fault.name]
        if not own:
            continue
        scored = score(own)
        missed = []
        for row in own:
            if not any(one["id"] in fault.right for one in row["findings"][:TOP]):
                missed.append(row["findings"][0]["id"] if row["findings"] else SILENT)
        common = max(set(missed), key=missed.count) if missed else ""
        lines.append(
            {
                "fault": fault.name,
                "right": " ".join(sorted(fault.right)),
                "runs": str(len(own)),
                "top 3": f"{scored.top:.2f}",
                "top 1": f"{scored.first:.2f}",
                "instead": common,
            }
        )
    return lines


def compare(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """A table of all doctors."""
    scores = {"fnn": score(rows)} | {name: score_peer(rows, name) for name in PEERS}
    lines = []
    for name, one in scores.items():
        lines.append(
            {
                "doctor": name,
                "right rule reported": f"{one.top:.3f}" + (" (top 3)" if name == "fnn" else ""),
                "precision": f"{one.precision:.3f}",
                "healthy runs with an alarm": f"{one.alarms:.3f}",
            }
        )
    return lines


def report(rows: Sequence[Row]) -> None:
    """Print the section of RESULTS.md."""
    counted = [row for row in rows if row["counts"]]
    scored = [row for row in counted if row["fault"] is None or is_held_out(row["cell"])]
    tuned = [row for row in counted if row["fault"] and not is_held_out(row["cell"])]
    ours = score(scored)
    delays = [row["latency"] for row in scored if "latency" in row]
    early = mean([delay is not None and delay <= 0.2 for delay in delays])
    remarks = [
        judge("recall, top 3", ours.top, 0.9, at_least=True),
        judge("recall, top 1", ours.first, 0.75, at_least=True),
        judge("precision of errors and warnings", ours.precision, 0.9, at_least=True),
        judge("healthy runs with an error", ours.errors, 0.0),
        judge("healthy runs with a warning", ours.alarms, 0.05),
        judge("layer named right", layers(scored, False), 0.9, at_least=True),
        judge("layer and direction of a NaN", layers(scored, True), 1.0, at_least=True),
        judge("found within 20 % of the budget", early, 0.9, at_least=True),
        f"Precision without true consequences: {ours.strict:.3f}. On the cells of calibration: "
        f"recall {score(tuned).top:.3f} and {score(tuned).first:.3f}, precision "
        f"{score(tuned).precision:.3f}.",
        "By fault, all cells that count:\n\n" + table(by_fault(counted)),
    ]
    print_section(counted, rows, scored, remarks)


def print_section(
    counted: Sequence[Row], rows: Sequence[Row], scored: Sequence[Row], remarks: Sequence[str]
) -> None:
    cells = {row["cell"] for row in counted if row["fault"]}
    all_cells = {row["cell"] for row in rows if row["fault"]}
    own_controls = {row["cell"] for row in counted if row["fault"] is None}
    all_controls = {row["cell"] for row in rows if row["fault"] is None}
    held = {row["cell"] for row in scored if row["fault"]}
    method = (
        f"{len(FAULTS)} faults in {len(all_cells)} cells of {LANES} keys, of which {len(cells)} do "
        f"harm; {len(held)} of them are held out and scored. {len(own_controls)} of "
        f"{len(all_controls)} controls reach the error of the healthy run, with {CONTROL_LANES} "
        "keys each. A rule of a peer is right if any of our rules that it could mean is right."
    )
    show(__doc__, method, compare(scored), "\n\n".join(remarks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs=4, metavar=("PART", "PARTS", "NETWORKS", "FILE"))
    parser.add_argument("--save", type=Path, help="file for the rows of all runs, as JSON lines")
    parser.add_argument("--load", type=Path, help="report the rows of such a file")
    parser.add_argument("only", nargs="*", help="beginnings of names of cells")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.part:
        part, parts, networks, path = arguments.part
        work(int(part), int(parts), networks.split(","), arguments.only, Path(path))
        return
    if arguments.load:
        rows = [json.loads(line) for line in arguments.load.read_text().splitlines()]
    else:
        rows = []
        for networks, flag in PHASES.items():
            rows += measure_phase(networks, flag, arguments.only)
            # A phase takes half of the time: it is not lost if the next one is interrupted.
            if arguments.save:
                arguments.save.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report(rows)


if __name__ == "__main__":
    main()
