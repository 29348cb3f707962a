"""Many runs that are one program, watched as one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, lab, nn, optim, train
from fnn.errors import ConfigError, NonFiniteError

digits = data.digits()
few = (digits.train[0][:128], digits.train[1][:128])
some = (digits.test[0][:80], digits.test[1][:80])
network = nn.chain(nn.flatten(), nn.dense(16), nn.tanh(), nn.dense(10))
RATES = jnp.array([0.1, 0.3, 1.0, jnp.inf])


def run(key, rate, callback, **options):
    recipe = train.recipe(network, optim.sgd(rate), **options)
    return train.run(key, recipe, few, valid=some, epochs=4, batch_size=64, callback=callback)


def test_a_population_has_one_table_and_one_log(key, capsys):
    told = []
    with lab.progress(4, log=lambda step, figures: told.append((step, figures))) as watch:
        history = jax.jit(jax.vmap(partial(run, key, callback=watch)))(RATES).history
    assert [step for step, _ in told] == [2, 4, 6, 8]
    losses = np.asarray(history.valid_loss)[:3]  # (lanes, epochs)
    np.testing.assert_allclose(
        [figures["valid_loss_best"] for _, figures in told], losses.min(0), rtol=1e-6
    )
    np.testing.assert_allclose(
        [figures["valid_loss_median"] for _, figures in told], np.median(losses, 0), rtol=1e-6
    )
    assert [figures["diverged"] for _, figures in told] == [1] * 4
    head, *rows = capsys.readouterr().err.splitlines()
    assert head.split() == [
        "epoch",
        "valid_loss_best",
        "valid_loss_median",
        "diverged",
        "stopped",
        "seconds",
    ]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"] and all(
        row.split()[3] == "1" for row in rows
    )


def test_runs_that_stopped_early_are_counted_and_no_longer_judged(key):
    told = []
    stopping = train.early_stopping(1, min_delta=0.3)
    with lab.progress(4, log=lambda step, figures: told.append(figures), show=False) as watch:
        result = jax.jit(jax.vmap(partial(run, key, callback=watch, early_stopping=stopping)))(
            RATES[:3]
        )
    ran = np.isfinite(result.history.valid_loss).sum(1)
    assert [figures["stopped"] for figures in told] == [
        (ran <= epoch).sum() for epoch in range(max(ran))
    ]


def test_one_run_is_a_population_of_one(key, capsys):
    with lab.progress(4) as watch:
        history = run(key, 0.3, callback=watch).history
    last = capsys.readouterr().err.splitlines()[-1].split()
    assert last[:2] == ["4", f"{history.valid_loss[-1]:.4f}"] and last[1] == last[2]


def test_a_log_that_is_there_already_is_told_as_what_it_is(key, tmp_path):
    def watched():
        with lab.progress(4, log=lab.jsonl_log(tmp_path / "log"), show=False) as watch:
            run(key, 0.3, callback=watch)

    watched()
    before = (tmp_path / "log").read_bytes()
    with pytest.raises(ConfigError, match=r"jsonl_log path: expected no log yet, .*; move it away"):
        watched()
    assert (tmp_path / "log").read_bytes() == before


def test_an_error_of_a_log_ends_what_is_told_but_not_the_run(key, capfd):
    told = []

    def write(step, figures):
        told.append(step)
        if step == 4:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), lab.progress(4, log=write) as watch:
        history = jax.jit(jax.vmap(partial(run, key, callback=watch)))(RATES[:3]).history
    assert told == [2, 4] and np.isfinite(history.valid_loss).all()
    shown = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in shown] == ["epoch", "1", "2"]  # nor does JAX tell of it


def test_an_error_of_the_run_goes_before_one_of_the_log(key):
    def fail(step, figures):
        raise OSError("no space left")

    with pytest.raises(NonFiniteError), lab.progress(4, log=fail, show=False) as watch:
        run(key, 1e38, callback=watch)


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match="epochs: expected >= 1, got 0"), lab.progress(0):
        pass
    with pytest.raises(ConfigError, match="log: expected a log"), lab.progress(3, log=7):
        pass
