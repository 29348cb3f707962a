"""Decisions of the training loop that several processes take together."""

import jax
import numpy as np
import process_runs
import pytest

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab.fit.votes import Votes, count_votes, join_positions, own_position, silent_log
from fnn.lab.logs.log import Log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which this process has begun a run on four devices."""
    made = tmp_path_factory.mktemp("fit")
    fit(checkpoints=made / "shared", max_steps=2)
    return made


@pytest.fixture(scope="module")
def found(folder):
    """The findings of two processes."""
    return process_runs.run_job("fit", folder)


@pytest.fixture(scope="module")
def one():
    """The run of one process with the same number of devices."""
    return fit()


def fit(data=process_runs.DATA, **changes):
    options = process_runs.OPTIONS | {
        "valid": process_runs.VALID,
        "mesh": process_runs.all_devices(),
        "show": False,
    }
    return lab.fit(process_runs.key(), process_runs.RECIPE, data, **(options | changes))


@pytest.mark.slow
def test_two_processes_fit_as_one(found, one):
    for process in found:
        for name, values in one.history.items():
            np.testing.assert_allclose(process["fit"][name], values, rtol=1e-5, err_msg=name)
        assert process["calls"] == [3, 6]


@pytest.mark.slow
def test_one_process_writes_the_log_and_the_checkpoints(found, folder):
    logged = lab.read_log(folder / "run.jsonl")
    np.testing.assert_array_equal(logged["step"], np.arange(1, 7))
    np.testing.assert_allclose(logged["loss"], found[0]["fit"]["loss"], rtol=1e-6)
    checkpoint = lab.read(folder / "whole")
    assert checkpoint.step == 6
    np.testing.assert_array_equal(checkpoint.leaves["history/loss"], found[1]["fit"]["loss"])


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_is_the_uninterrupted_one(found):
    for process in found:
        for name, values in process["fit"].items():
            np.testing.assert_array_equal(process["resumed"][name], values, err_msg=name)


@pytest.mark.slow
def test_a_run_passes_from_one_process_to_two_and_back(found, folder, one):
    for process in found:
        np.testing.assert_allclose(process["shared"]["loss"], one.history.loss[:4], rtol=1e-5)
    found_at = lab.read(folder / "shared").step
    last = fit(checkpoints=folder / "shared", resume=True)
    assert found_at == 4
    np.testing.assert_allclose(last.history.loss, one.history.loss, rtol=1e-5)


@pytest.mark.slow
def test_params_divided_over_two_processes_are_trained_saved_and_resumed(found, folder, one):
    for process in found:
        assert process["shards"]["dense_0/kernel"] == [(3, 2), (3, 2)]
        np.testing.assert_allclose(process["divided"]["loss"], one.history.loss[:4], rtol=1e-5)
        np.testing.assert_allclose(process["divided resumed"]["loss"], one.history.loss, rtol=1e-5)
    # The checkpoint has whole arrays, from which one device continues.
    kernel = lab.read(folder / "divided").leaves["train_state/params/dense_0/kernel"]
    assert kernel.shape == (3, 8)
    last = fit(checkpoints=folder / "divided", resume=True, mesh=None, epochs=3)
    whole = fit(mesh=None, epochs=3)
    np.testing.assert_allclose(last.history.loss, whole.history.loss, rtol=1e-5)


@pytest.mark.slow
def test_parts_of_batches_are_the_batches_of_one_process(found):
    """The last batch has two examples, which the four devices do not divide."""
    whole = process_runs.parts(16)
    assert [len(targets) for _, targets in whole] == [16, 16, 16, 2]
    one = lab.fit(
        process_runs.key(),
        process_runs.RECIPE,
        whole,
        epochs=2,
        mesh=process_runs.all_devices(),
        show=False,
    )
    for process in found:
        np.testing.assert_allclose(process["stream"]["loss"], one.history.loss, rtol=1e-4)


@pytest.mark.slow
def test_the_loader_of_each_process_continues_at_its_own_position(found, folder):
    for process in found:
        np.testing.assert_array_equal(
            process["loaders resumed"]["loss"], process["loaders"]["loss"]
        )
    saved = lab.read(folder / "loaders").notes["place"]["processes"]
    states = [position["state"]["json"] for position in saved]
    assert states == [{"taken": 6, "process": 0}, {"taken": 6, "process": 1}]


@pytest.mark.slow
def test_what_fails_on_one_process_ends_the_run_on_all_of_them(found):
    first, second = (process["errors"] for process in found)
    failed = "expected success on all processes, got"
    assert f"fit on process 1: {failed} ValueError: a broken callback" in first["callback"]
    assert "a broken callback" in second["callback"]
    assert f"fit on process 0: {failed} OSError: a full disk" in second["log"]
    assert "a full disk" in first["log"]
    assert f"data batch 2 on process 1: {failed} OSError: a lost file" in first["loader"]
    assert "a lost file" in second["loader"]


@pytest.mark.slow
def test_data_and_directories_that_do_not_fit_raise_on_all_processes(found):
    for process in found:
        errors = process["errors"]
        assert "targets int32[] on process 0, none, at the end of the data" in errors["short"]
        assert "expected a part of the batch from each process" in errors["same"]
        assert "ProcessError: fit checkpoints: expected the same" in errors["directory"]
        assert "checkpoints: expected a directory without checkpoints" in errors["used"]


def test_one_process_decides_alone():
    votes = Votes(15, True, 1.0, 8, False)
    assert count_votes(None, 3, votes) is votes
    assert join_positions(None, 3, {"epochs": 1}) == {"epochs": 1}


def test_the_positions_of_several_loaders_need_as_many_processes():
    saved = {"processes": [{"epochs": 0, "taken": 1, "state": {"json": 5}}] * 2}
    message = "resume: expected a stream in 2 parts, .* as in the saved run, got 1 processes"
    with pytest.raises(ConfigError, match=message):
        own_position(None, saved)
    assert own_position(None, {"epochs": 0, "taken": 1}) == {"epochs": 0, "taken": 1}


def test_a_silent_log_needs_the_states_that_the_log_needs():
    assert not silent_log(Log()).uses_states
    log = Log(on_state=lambda step, train_state: jax.debug.print("written"))
    assert silent_log(log).uses_states
    silent_log(log).on_state(1, None)
