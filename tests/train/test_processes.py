"""Runs over the devices of two processes."""

import numpy as np
import process_runs
import pytest

from fnn import train
from fnn.train.devices import as_layout
from fnn.train.processes import agreement, is_writer


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The findings of two processes."""
    return process_runs.run_job("train", tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def one():
    """The run of one process with the same number of devices."""
    return train.run(
        process_runs.key(),
        process_runs.RECIPE,
        process_runs.DATA,
        valid=process_runs.VALID,
        mesh=process_runs.all_devices(),
        **process_runs.OPTIONS,
    )


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(found, one):
    for process in found:
        assert process["run"].keys() == one.history.keys()
        for name, values in one.history.items():
            np.testing.assert_allclose(process["run"][name], values, rtol=1e-5, err_msg=name)
    mean = pytest.approx(float(one.history.loss.mean()), rel=1e-5)
    # The history is read on each process, and is the same.
    assert found[0]["mean"] == found[1]["mean"] == mean
    np.testing.assert_array_equal(found[0]["run"]["loss"], found[1]["run"]["loss"])


@pytest.mark.slow
def test_two_processes_evaluate_and_predict_as_one(found, one):
    state = one.train_state
    figures = train.evaluate(process_runs.RECIPE, state, process_runs.VALID, batch_size=5)
    outputs = train.predict(process_runs.RECIPE, state, process_runs.POINTS[:13], batch_size=5)
    for process in found:
        for name, value in figures.items():
            assert process["evaluate"][name] == pytest.approx(float(value), rel=1e-5)
        np.testing.assert_allclose(process["predict"], outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_data_that_is_divided_among_processes_trains_as_that_of_one(found):
    data = tuple(array[:48] for array in process_runs.DATA)
    options = process_runs.OPTIONS | {"mesh": process_runs.all_devices()}
    whole = train.run(process_runs.key(), process_runs.RECIPE, data, **options)
    for process in found:
        np.testing.assert_allclose(process["global"]["loss"], whole.history.loss, rtol=1e-5)


@pytest.mark.slow
def test_steps_on_parts_of_a_batch_are_those_on_the_batch(found):
    """The steps are not awaited, and none blocks another."""
    options = process_runs.OPTIONS | {"epochs": 0, "mesh": process_runs.all_devices()}
    state = train.run(
        process_runs.key(), process_runs.RECIPE, process_runs.DATA, **options
    ).train_state
    batch = tuple(array[:16] for array in process_runs.DATA)
    for _ in range(process_runs.STEPS):
        state, measured = train.step(process_runs.RECIPE, state, batch)
    for process in found:
        assert process["steps"] == pytest.approx(float(measured["loss"]), rel=1e-3)


@pytest.mark.slow
def test_a_difference_between_processes_raises_on_all_of_them(found):
    first, second = (process["errors"] for process in found)
    same = "expected the same on all processes, got"
    assert f"ProcessError: run data: {same}" in first["data"]
    assert f"ProcessError: run key: {same} [0, 0] on process 0, [0, 1]" in first["key"]
    assert f"run batch_size: {same} 16 on process 0, 12 on process 1" in first["batch size"]
    assert f"ProcessError: run code of a step: {same} digest" in first["code"]
    for name in ("data", "key", "batch size", "code"):
        assert first[name] == second[name]
    assert "got evaluate on process 0, predict on process 1" in first["call"]
    assert "got evaluate on process 0, predict on process 1" in second["call"]


@pytest.mark.slow
def test_a_wrong_input_of_one_process_raises_on_all_of_them(found):
    first, second = (process["errors"]["labels"] for process in found)
    assert second.startswith("LabelError: labels: expected 0 <= label < 2, got 2 at index 0")
    assert first.startswith("ProcessError: run on process 1: expected success on all processes")
    assert second.split(";")[0] in first


@pytest.mark.slow
def test_a_wrong_mesh_or_batch_raises_on_all_processes(found):
    for index, process in enumerate(found):
        errors = process["errors"]
        message = f"all 4 devices of the 2 processes, or those of process {index} alone, got 2 of"
        assert message in errors["some devices"]
        assert "batch_size: expected a multiple of the 4 devices" in errors["not divided"]
        assert "batch of all processes: expected a multiple of the 4 devices" in errors["part"]


def test_on_one_process_nothing_is_compared():
    layout = as_layout("mesh", process_runs.all_devices())
    for given in (None, layout):
        assert is_writer(given)
        with agreement("run", given) as agreed:
            agreed.facts["name"] = "value"
        assert agreed.every == []
