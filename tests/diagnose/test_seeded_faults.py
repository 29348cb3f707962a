"""The benchmark of the doctor on two seeded faults of one network and a control."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("double_softmax/mlp/blobs", "low_rate/mlp/blobs", "adam/mlp/blobs")


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import doctor

        cases = {case.name: case for case in doctor.cases()}
        usual = doctor.train_case(cases["adam/mlp/blobs"], 2)
        return doctor, {name: doctor.rows_of(cases[name], usual) for name in NAMES}


def test_seeded_faults_are_found_and_the_control_is_healthy(rows):
    doctor, by_name = rows
    faulty = by_name[NAMES[0]] + by_name[NAMES[1]]
    assert all(row["counts"] for row in faulty)
    assert doctor.score(faulty).top == 1.0
    control = by_name[NAMES[2]]
    assert doctor.score(control).errors == 0.0


def test_rules_of_peers_give_alarms_on_healthy_runs(rows):
    doctor, by_name = rows
    control = by_name[NAMES[2]]
    assert doctor.score_peer(control, "SageMaker").alarms == 1.0


def test_every_fault_has_cells_of_calibration_and_held_out(rows):
    doctor, _ = rows
    names = [case.name for case in doctor.cases() if case.fault]
    held = {name for name in names if doctor.is_held_out(name)}
    assert 0.4 < len(held) / len(names) < 0.6
