"""Progress of many runs in one program: one table and one log."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, lab, nn, optim, train
from fnn.errors import ConfigError, NonFiniteError

digits = data.digits()
train_data = (digits.train[0][:128], digits.train[1][:128])
valid_data = (digits.test[0][:80], digits.test[1][:80])
network = nn.chain(nn.flatten(), nn.dense(16), nn.tanh(), nn.dense(10))
RATES = jnp.array([0.1, 0.3, 1.0, jnp.inf])


def run(key, rate, callback, **options):
    recipe = train.recipe(network, optim.sgd(rate), **options)
    return train.run(
        key,
        recipe,
        train_data,
        valid=valid_data,
        epochs=4,
        batch_size=64,
        callback=callback,
    )


def run_lanes(key, rates, callback, **options):
    """One run for each rate, in one program."""
    mapped = jax.vmap(partial(run, key, callback=callback, **options))
    return jax.jit(mapped)(rates)


def test_lanes_have_one_table_and_one_log(key, capsys):
    logged = []
    with lab.progress(4, log=lambda step, figures: logged.append((step, figures))) as watch:
        history = run_lanes(key, RATES, watch).history
    assert [step for step, _ in logged] == [2, 4, 6, 8]
    losses = np.asarray(history.valid_loss)[:3]  # (lanes, epochs)
    best = [figures["valid_loss_best"] for _, figures in logged]
    np.testing.assert_allclose(best, losses.min(0), rtol=1e-6)
    median = [figures["valid_loss_median"] for _, figures in logged]
    np.testing.assert_allclose(median, np.median(losses, 0), rtol=1e-6)
    assert [figures["diverged"] for _, figures in logged] == [1] * 4
    head, *rows = [line.split() for line in capsys.readouterr().err.splitlines()]
    figures = ["valid_loss_best", "valid_loss_median", "diverged", "stopped"]
    assert head == ["epoch", *figures, "seconds"]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert all(row[3] == "1" for row in rows)


@pytest.mark.slow
def test_lanes_that_stopped_early_are_counted_and_left_out_of_the_summary(key):
    logged = []
    stopping = train.early_stopping(1, min_delta=0.3)
    with lab.progress(4, log=lambda step, figures: logged.append(figures), show=False) as watch:
        result = run_lanes(key, RATES[:3], watch, early_stopping=stopping)
    epochs = np.isfinite(result.history.valid_loss).sum(1)  # of each lane
    expected = [(epochs <= epoch).sum() for epoch in range(max(epochs))]
    assert [figures["stopped"] for figures in logged] == expected


def test_a_run_without_vmap_is_one_lane(key, capsys):
    with lab.progress(4) as watch:
        history = run(key, 0.3, callback=watch).history
    last = capsys.readouterr().err.splitlines()[-1].split()
    assert last[:2] == ["4", f"{history.valid_loss[-1]:.4f}"]
    assert last[1] == last[2]


@pytest.mark.slow
def test_an_existing_log_raises_its_own_error(key, tmp_path):
    def logged_run():
        with lab.progress(4, log=lab.jsonl_log(tmp_path / "log"), show=False) as watch:
            run(key, 0.3, callback=watch)

    logged_run()
    before = (tmp_path / "log").read_bytes()
    message = r"jsonl_log path: expected an empty or new file .*; move it away"
    with pytest.raises(ConfigError, match=message):
        logged_run()
    assert (tmp_path / "log").read_bytes() == before


def test_an_error_of_a_log_ends_the_output_but_not_the_run(key, capfd):
    steps = []

    def write(step, figures):
        steps.append(step)
        if step == 4:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), lab.progress(4, log=write) as watch:
        history = run_lanes(key, RATES[:3], watch).history
    assert steps == [2, 4]
    assert np.isfinite(history.valid_loss).all()
    # JAX prints nothing of it either.
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "1", "2"]


@pytest.mark.slow
def test_an_error_of_the_run_is_raised_before_one_of_the_log(key):
    def fail(step, figures):
        raise OSError("no space left")

    with pytest.raises(NonFiniteError), lab.progress(4, log=fail, show=False) as watch:
        run(key, 1e38, callback=watch)


def test_wrong_arguments_raise():
    with pytest.raises(ConfigError, match="epochs: expected >= 1, got 0"), lab.progress(0):
        pass
    with pytest.raises(ConfigError, match="log: expected a log"), lab.progress(3, log=7):
        pass
