"""Each example runs, with small sizes."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import makers
import numpy as np
import pytest

from fnn import augment, data, lab, nn

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PICTURE = b"\x89PNG"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Run an example in an empty directory, and return its names."""
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(ROOT / "examples" / name))


def make_small(names, **numbers):
    names["main"].__globals__.update(numbers)


def write_mnist(folder, examples):
    """Write the digits, enlarged, as files of MNIST."""
    folder.mkdir()
    for kind, (images, labels) in zip(("train", "t10k"), data.digits(), strict=True):
        sheet = np.zeros((examples, 28, 28), np.uint8)
        sheet[:, 2:26, 2:26] = images[:examples, ..., 0].repeat(3, 1).repeat(3, 2)
        for name, array in (
            (f"{kind}-images-idx3-ubyte", sheet),
            (f"{kind}-labels-idx1-ubyte", labels[:examples]),
        ):
            lengths = np.array(array.shape, ">i4").tobytes()
            head = bytes([0, 0, 8, array.ndim]) + lengths
            (folder / name).write_bytes(head + array.astype(np.uint8).tobytes())


def write_cifar(folder, records):
    """Write the digits, enlarged, as files of the binary version of CIFAR-10."""
    folder.mkdir()
    images, labels = data.digits().train
    planes = images[:records, ..., 0].repeat(4, 1).repeat(4, 2).reshape(records, -1)
    lines = np.concatenate([labels[:records, None], planes, planes, planes], 1).astype(np.uint8)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (folder / name).write_bytes(lines.tobytes())


def test_mnist_trains_and_plots(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 128)
    names = example("02_mnist.py")
    make_small(names, EPOCHS=2, BATCH=64)
    names["main"](tmp_path / "mnist")
    assert capsys.readouterr().out.startswith("test accuracy 0.")
    assert {path.name for path in Path("out").glob("*.png")} == {
        "mnist.png", "mnist_confusion.png", "mnist_mistakes.png"
    }  # fmt: skip


def test_cifar_resumes(example, tmp_path, capsys):
    write_cifar(tmp_path / "cifar", 20)
    names = example("03_cifar10.py")
    small = nn.chain(
        nn.conv(4, stride=2), nn.batch_norm(), nn.relu(), nn.global_avg_pool(), nn.dense(10)
    )
    make_small(names, BATCH=20, network=small)
    for _ in range(2):
        names["main"](tmp_path / "cifar", epochs=2)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith("test accuracy 0.")
    assert lab.read("out/cifar10/run").step == 10
    assert lab.read_log("out/cifar10/run.jsonl")["step"].tolist() == list(range(1, 11))


def test_a_stream_resumes(example, capsys):
    names = example("04_stream.py")
    make_small(names, IMAGES=300, BATCH=32)
    names["main"]()
    assert capsys.readouterr().out.endswith("equal to the uninterrupted run: True\n")


def test_five_optimizers_descend(example):
    names = example("05_optimizer_paths.py")
    names["main"]()
    ends = {
        name: names["valley"](names["path"](optimizer)[-1])
        for name, optimizer in names["OPTIMIZERS"].items()
    }
    assert max(ends.values()) < 0.7 < names["valley"](names["START"])
    assert Path("out/optimizer_paths.png").read_bytes().startswith(PICTURE)


def test_optimizers_are_compared(example, capsys):
    names = example("06_optimizers_compared.py")
    make_small(names, EPOCHS=1, RATES=2, TRIALS=1, KEYS=2)
    names["main"](["sgd"])
    assert "sgd: best rate" in capsys.readouterr().out
    assert Path("out/optimizers.png").read_bytes().startswith(PICTURE)


def test_augmentations_are_plotted(example, capsys):
    names = example("07_augmentations.py")
    make_small(names, SIDE=24)
    names["main"](["hidden"])
    assert capsys.readouterr().out.split() == ["out/hidden.png"]
    assert Path("out/hidden.png").read_bytes().startswith(PICTURE)


def test_characters_are_generated(example, capsys):
    names = example("09_characters.py")
    make_small(names, LENGTH=32, WIDTH=8, DEPTH=1, HEADS=1, EPOCHS=1)
    names["main"]()
    out = capsys.readouterr().out
    assert " characters, perplexity " in out
    for temperature in ("0.0", "0.7", "1.0"):
        assert f"--- temperature {temperature}\nA recipe " in out


def test_every_augmentation_is_in_the_documentation():
    source = (ROOT / "examples" / "07_augmentations.py").read_text()
    combined = {
        "augment.chain",
        "augment.maybe",
        "augment.one_of",
        "augment.some_of",
        "augment.normalize",
    }
    shown = {name for name in makers.CALLS if makers.kind(name) is augment.Policy} - combined
    assert len(shown) > 40
    assert {name for name in shown if name not in source} == set()
    pictures = {path.stem for path in (ROOT / "docs" / "augmentation").glob("*.png")}
    assert pictures == set(
        runpy.run_path(str(ROOT / "examples" / "07_augmentations.py"))["sheets"]()
    )


def test_a_gan_trains_and_draws_digits(example, capsys):
    example("10_gan.py")["main"](epochs=1)
    assert capsys.readouterr().out.startswith("mean of real 0.3")
    assert Path("out/gan.png").read_bytes().startswith(PICTURE)


def test_a_variational_autoencoder_reports_its_bound(example, capsys):
    example("11_vae.py")["main"](epochs=2)
    assert "bound of the test images " in capsys.readouterr().out
    assert Path("out/vae.png").read_bytes().startswith(PICTURE)


def test_transfer_is_compared_with_training_from_scratch(example, capsys):
    names = example("12_transfer.py")
    make_small(names, KEYS=2)
    names["main"](epochs=2)
    words = capsys.readouterr().out.split()
    assert words[::2] == ["probe", "scratch", "tuned"]


def test_segmentation_trains_with_moved_masks(example, capsys):
    names = example("13_segmentation.py")
    make_small(names, network=nn.unet((4, 8), 3))
    names["main"](epochs=2)
    assert capsys.readouterr().out.count("mean IoU 0.") == 2


def test_sequences_do_not_depend_on_their_padding(example, capsys):
    names = example("14_sequences.py")
    make_small(names, EXAMPLES=400)
    names["main"](epochs=2)
    assert "independent of the padding: True" in capsys.readouterr().out


def test_a_contrastive_body_is_probed(example, capsys):
    example("15_contrastive.py")["main"](epochs=1)
    assert capsys.readouterr().out.count("0.") == 2


def test_halving_is_compared_with_random_search(example, capsys):
    names = example("21_halving.py")
    make_small(names, EPOCHS=3, TRIALS=9, REPEATS=2, LANES=3)
    names["main"]()
    out = capsys.readouterr().out
    assert "halving, 15 epochs" in out and "of 2 repeats" in out
    assert Path("out/halving.png").read_bytes().startswith(PICTURE)


def test_a_population_solves_a_problem_that_constant_hyperparameters_do_not(example, capsys):
    names = example("22_population.py")
    make_small(names, REPEATS=3)
    names["main"]()
    words = capsys.readouterr().out.split()
    scores = [
        float(words[index + 2].rstrip(",")) for index, word in enumerate(words) if word == "Q"
    ]
    assert scores[0] == 0.39 and scores[1] > 1.19
    assert "replayed bitwise: True" in " ".join(words)
    assert Path("out/population.png").read_bytes().startswith(PICTURE)


def test_reports_name_the_fault(example, capsys):
    names = example("28_report.py")
    make_small(names, EPOCHS=6)
    names["main"]()
    out = capsys.readouterr().out
    assert "out/report_healthy.html: 0 errors" in out and "error T04 rate_too_high" in out
    found = lab.read_report("out/report.html")
    assert "T04" in found.findings.errors.ids
    assert "dead_share" in found.history and found.columns["dead_share"][1] == "relu_1"


def test_two_heads_report_their_figures(example, capsys):
    example("16_two_heads.py")["main"](epochs=1)
    out = capsys.readouterr().out
    for name in ("loss_digit", "loss_turn", "accuracy_digit", "mean error of the angle"):
        assert name in out


def test_learned_uncertainties_equal_the_residuals(example, capsys):
    names = example("23_uncertainty_weights.py")
    make_small(names, UNITS=32, RUNS={"small": (100, 400, 20, True)})
    names["main"]()
    _, line = capsys.readouterr().out.strip().splitlines()
    *noise, first, second = map(float, line.split()[1:])
    np.testing.assert_allclose(noise, [first, second], rtol=0.02)


def test_ways_to_balance_tasks_are_compared_with_the_best_fixed_weights(example, capsys):
    names = example("24_task_gradients.py")
    every = names["methods"](3.0, 660)

    def some(weight, steps):
        # The methods that differ in their programs have tests of their own.
        return {"fixed": every["weight 1"], "learned": every["uncertainty"]}

    make_small(names, EPOCHS=1, KEYS=2, TRIALS=2, methods=some)
    names["main"]()
    fixed, line = capsys.readouterr().out.splitlines()[1:]
    assert len(every) == 8 and fixed.startswith("fixed ")
    assert line.split()[-1] in ("better", "worse", "tie")


def test_learned_rates_are_compared_with_the_best_constant_one(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 128)
    names = example("17_learned_rates.py")
    make_small(names, EXAMPLES=128, BATCH=64, STEPS=4, OUTER_STEPS=2, KEYS=2, RATES=[0.1, 1.0])
    names["main"](tmp_path / "mnist")
    out = capsys.readouterr().out
    assert "learned: training loss " in out and out.count("initial scale") == 4
    assert Path("out/learned_rates.png").read_bytes().startswith(PICTURE)


def test_wrong_labels_are_found(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 256)
    names = example("18_hyper_cleaning.py")
    make_small(names, EXAMPLES=100, INNER_STEPS=4, OUTER_STEPS=2, REPEATS=2)
    names["main"](tmp_path / "mnist")
    words = capsys.readouterr().out.split()
    assert [words[i] for i in (0, 4, 8, 12)] == ["baseline", "cleaned", "oracle", "F1"]
    assert Path("out/hyper_cleaning.png").read_bytes().startswith(PICTURE)


def test_a_random_search_is_compared_with_a_grid(example, capsys):
    names = example("19_random_against_grid.py")
    make_small(names, EPOCHS=2, TRIALS=12, KEYS=2, POINTS=2)
    names["main"]()
    out = capsys.readouterr().out
    assert "grid of 16 trials, validation accuracy: 0." in out
    assert "optimizer.rate" in out
    for name in ("random_search", "grid_search", "random_best_of_n"):
        assert Path(f"out/{name}.png").read_bytes().startswith(PICTURE)


def test_the_verdict_about_a_published_search_is_to_widen_the_rate(example, capsys):
    names = example("20_book_search.py")
    make_small(names, EPOCHS=20, KEYS=2)
    names["main"]()
    out = capsys.readouterr().out
    assert "widen above 0.01" in out
    assert "rates from 0.0001 to 10: best of 16 trials" in out
    assert Path("out/search_book.png").read_bytes().startswith(PICTURE)


def test_an_ensemble_is_calibrated_and_saved(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 300)
    names = example("25_ensembles.py")
    make_small(names, MEMBERS=2, EPOCHS=4, BATCH=50, HELD_OUT=100)
    names["main"](tmp_path / "mnist")
    out = capsys.readouterr().out
    assert "calibrated by ensemble.temperature(" in out and "2 members: area under" in out
    for name in ("ensemble", "ensemble_reliability"):
        assert Path(f"out/{name}.png").read_bytes().startswith(PICTURE)
    assert len(lab.load_model("out/ensemble").members) == 2


def test_snapshots_and_averages_are_compared_at_equal_cost(example, capsys):
    names = example("26_one_run.py")
    make_small(names, KEYS=2, EPOCHS=6, CYCLES=2, BATCH=128)
    table = names["main"]()
    assert all(values.shape == (2, 2) for values in table.values())
    assert "independent members" in capsys.readouterr().out
    assert Path("out/one_run.png").read_bytes().startswith(PICTURE)


def test_eight_devices_train_as_one(tmp_path):
    """In a process of its own, since the number of devices is fixed when JAX starts."""
    code = (
        "import runpy, sys; "
        "names = runpy.run_path(sys.argv[1]); "
        "names['main'].__globals__.update(EPOCHS=1); "
        "gap = names['main'](); "
        "assert gap[0] <= 1e-6 and gap[-1] <= 1e-4"
    )
    script = str(ROOT / "examples" / "35_devices.py")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", code, script]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "8 devices" in done.stdout


def test_two_processes_train_as_one_device(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import runpy\n"
        f"names = runpy.run_path({str(ROOT / 'examples' / '36_processes.py')!r})\n"
        "names['main'].__globals__.update(EPOCHS=1)\n"
        "gap = names['main']()\n"
        "assert gap[0] <= 1e-6 and gap[-1] <= 1e-4\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "fnn.lab.launch", "-n", "2", "--cpu-devices", "2"]
    done = subprocess.run(
        [*command, str(script)],
        cwd=tmp_path,
        # Without optimization the programs of both processes compile sooner.
        env=environment
        | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "devices 4, processes 2" in done.stdout


def test_transfer_is_compared_by_the_number_of_examples(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 360)
    names = example("27_transfer_sizes.py")
    make_small(names, SIZES=(10, 40), KEYS=2, STEPS=10, EPOCHS=1, BATCH=20)
    table = names["main"](tmp_path / "mnist")
    assert all(len(one) == 2 for values in table.values() for one in values)
    assert "fine-tuning beats probe at " in capsys.readouterr().out
    assert Path("out/transfer_sizes.png").read_bytes().startswith(PICTURE)


def test_initializations_are_profiled_and_batch_norm_learns_at_more_scales(example, capsys):
    names = example("29_initialization.py")
    make_small(names, KEYS=2, EXAMPLES=100, EPOCHS=2, BATCH=50, WIDTH=16, DEPTH=3)
    # Each pair compiles a program.
    for table in ("ACTIVATIONS", "INITIALIZERS"):
        make_small(names, **{table: dict(list(names[table].items())[1:3])})
    names["main"]()
    out = capsys.readouterr().out
    assert "tanh, Xavier: layer 3 has std " in out and "of 16 scales reach" in out
    for name in ("initialization", "batch_norm"):
        assert Path(f"out/{name}.png").read_bytes().startswith(PICTURE)


def test_overfitting_is_named_and_its_cures_are_compared(example, capsys):
    names = example("30_overfitting.py")
    make_small(names, KEYS=2, DEPTH=2, WIDTH=32, EPOCHS=60)
    names["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if "training accuracy" in line] == [
        "no regularization", "weight decay", "dropout"
    ]  # fmt: skip
    assert Path("out/overfitting.png").read_bytes().startswith(PICTURE)


def test_the_types_of_learning_curves_get_their_verdicts(example, capsys):
    names = example("31_learning_curves.py")
    make_small(names, KEYS=1)
    names["main"]()
    out = capsys.readouterr().out
    for verdict in (
        "a good run: first finding none",
        "kernels too small: first finding P11",
        "rate too high: first finding T04",
        "rate too low: first finding T05",
        "rate cut too early: first finding T12",
        "few images: first finding E01",
    ):
        assert verdict in out
    assert Path("out/learning_curves.png").read_bytes().startswith(PICTURE)


def test_lpft_is_compared_with_fine_tuning_and_a_probe(example, capsys):
    names = example("32_lpft.py")
    make_small(names, KEYS=2, EPOCHS=1, SOURCE_EPOCHS=1, RATES=(1e-4, 1e-3))
    table = names["main"]()
    shapes = {name: values.shape for name, values in table.items()}
    assert shapes == {"probe": (1, 2, 2), "fine-tuning": (2, 2, 2), "LP-FT": (2, 2, 2)}
    assert "LP-FT less fine-tuning: upright " in capsys.readouterr().out
    assert Path("out/lpft.png").read_bytes().startswith(PICTURE)


def test_ensembles_and_dropout_are_compared_over_resamplings(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 300)
    names = example("33_known_unknown.py")
    make_small(names, SIZES=(1, 2), RESAMPLINGS=2, EXAMPLES=100, EPOCHS=3, HELD_OUT=100)
    table = names["main"](tmp_path / "mnist")
    assert all(values.shape == (2, 2, 4) for values in table.values())
    out = capsys.readouterr().out
    assert "of 2 resamplings" in out and "M = 2, after a temperature: calibration error" in out
    for name in ("known_unknown", "known_unknown_reliability"):
        assert Path(f"out/{name}.png").read_bytes().startswith(PICTURE)


def test_an_ensemble_on_mnist_resumes_and_is_saved(example, tmp_path, capsys):
    write_mnist(tmp_path / "mnist", 128)
    names = example("34_mnist_ensemble.py")
    make_small(names, BATCH=64, WIDTHS=(4, 4, 4))
    single, accuracy = names["main"](tmp_path / "mnist", members=2, epochs=1)
    assert single.shape == (2,)
    assert "member 2: " in capsys.readouterr().out
    assert names["main"](tmp_path / "mnist", members=2, epochs=1)[1] == accuracy
    loaded = lab.load_model("out/mnist_ensemble")
    labels = data.mnist(tmp_path / "mnist").test[1]
    assert (loaded.label(data.mnist(tmp_path / "mnist").test[0]) == labels).mean() == accuracy
    assert Path("out/mnist_ensemble.png").read_bytes().startswith(PICTURE)
