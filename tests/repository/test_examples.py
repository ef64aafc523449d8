"""The examples run, and reach the figures that they promise."""

import re
import shutil
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers.children import run_child
from helpers.compare import same_number
from helpers.examples import EXAMPLES, MNIST_FILES, needs_mnist, table

import lincoln_fn as lf


@pytest.mark.full
def test_breast_cancer_reaches_the_notebooks_accuracy(run):
    lines = run("breast_cancer", "--epochs", 100)
    rows = table(lines)
    assert [row[0] for row in rows] == [20, 40, 60, 80, 100]
    first_loss, last_loss = rows[0][1], rows[-1][1]
    assert last_loss < first_loss / 3
    _, _, training_accuracy, _, held_out_accuracy = rows[-1]
    assert training_accuracy >= 98.594
    assert 93 < held_out_accuracy < 100
    assert f"Training accuracy {training_accuracy:.3f}%: on the 569 examples" in "\n".join(lines)
    assert f"Held-out accuracy {held_out_accuracy:.3f}%: on 113 examples" in "\n".join(lines)
    assert "trained on the other 456, never saw" in "\n".join(lines)


def test_breast_cancer_measures_exactly_the_rows_it_held_out(run, monkeypatch):
    run("breast_cancer", "--epochs", 1)  # so that the module is there to be watched
    breast_cancer = import_module("breast_cancer")
    trained, measured, scaled = [], [], []
    train_network, standardise = breast_cancer.train_network, breast_cancer.standardise

    def watched_train(net, data, train_rows, measured_rows, key, epochs):
        trained.append(set(train_rows.tolist()))
        measured.append(set(measured_rows.tolist()))
        return train_network(net, data, train_rows, measured_rows, key, epochs)

    def watched_standardise(features, train_rows):
        scaled.append(set(train_rows.tolist()))
        x = standardise(features, train_rows)
        assert x[train_rows].mean(0).abs().max() < 1e-5
        assert (x[train_rows].std(0, correction=0) - 1).abs().max() < 1e-5
        return x

    monkeypatch.setattr(breast_cancer, "train_network", watched_train)
    monkeypatch.setattr(breast_cancer, "standardise", watched_standardise)
    run("breast_cancer", "--epochs", 1)
    everything = set(range(569))
    assert trained[0] == measured[0] == everything
    assert not trained[1] & measured[1]
    assert trained[1] | measured[1] == everything
    assert scaled == trained


@pytest.mark.full
def test_breast_cancer_runs_as_a_script_and_draws(picture):
    script = [sys.executable, "-W", "error", EXAMPLES / "breast_cancer.py"]
    command = [*script, "--epochs", "40", "--plot", picture]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row[0] for row in table(done.stdout.splitlines())] == [20, 40]
    assert picture.stat().st_size > 10_000  # more than an empty page


@pytest.mark.parametrize(
    "name",
    [
        *("breast_cancer", "mnist", "mnist_cnn", "char_lstm", "char_gpt", "char_mamba"),
        *("char_nanogpt", "find_fault", "mislabelled", "mixture_of_experts", "tune_learning_rate"),
        *("distil", "dpo", "clip", "poison", "relevance", "patching", "feedback_alignment"),
        *("mnist_private", "mnist_distributed", "batch_size", "relp"),
    ],
)
def test_help_says_what_a_run_does_and_how_long_it_takes(name, run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(name, "--help")
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    summary = import_module(name).__doc__.partition("\n")[0]
    assert "".join(summary.split()) in said.replace(" ", "")
    assert re.search(r"A default run takes about [\w ]+ (seconds|minutes?) on two cores", said)


@pytest.mark.parametrize("name", ["breast_cancer", "mnist"])
@pytest.mark.parametrize(
    ("picture", "said"), [("missing/curve.png", "there is no folder"), (".", "is a folder")]
)
def test_a_picture_that_could_not_be_saved_is_refused_before_training(
    name, picture, said, run, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(lf, "train", None)
    with pytest.raises(SystemExit) as stop:
        run(name, "--plot", tmp_path / picture)
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert f"argument --plot: {'' if said[0] == 't' else tmp_path}" in told.err
    assert said in told.err
    assert told.out == ""


@pytest.mark.full
@needs_mnist
@pytest.mark.parametrize("output", ["softmax", "log_softmax"])
def test_mnist_learns_in_an_epoch(output, run, picture):
    lines = run("mnist", "--output", output, "--epochs", 1, "--plot", picture)
    rows = table(lines)
    assert [row[:2] for row in rows] == [[1, 100], [1, 200], [1, 300], [1, 400], [1, 469]]
    _, _, last_loss, accuracy = rows[-1]
    assert last_loss < rows[0][2] / 2
    assert 0.92 <= accuracy < 1
    assert f"Test accuracy {accuracy:.2%}: on 10000 images" in "\n".join(lines)


@pytest.mark.full
@needs_mnist
def test_mnist_goes_on_from_its_newest_checkpoint(run, tmp_path):
    options = ("mnist", "--epochs", 1, "--checkpoint", tmp_path)
    lines = run(*options)
    names = [f"step_{step:09}.safetensors" for step in (300, 400, 469)]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    last = (tmp_path / names[2]).read_bytes()
    (tmp_path / names[2]).unlink()
    assert [row[:2] for row in table(run(*options))] == [row[:2] for row in table(lines)][-1:]
    assert (tmp_path / names[2]).read_bytes() == last
    assert run(*options) == [f"The run in {tmp_path} has taken all its steps."]


SCRIPT = """
import runpy, sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv.pop(1) + "/mnist.py", run_name="__main__")
"""


def test_mnist_says_where_missing_files_belong(tmp_path):
    done = run_child(SCRIPT, EXAMPLES, LINCOLN_FN_DATA=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Place the MNIST files ")
    assert all(name in done.stderr for name in MNIST_FILES)
    assert str(tmp_path / "MNIST" / "raw") in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # a download would have made MNIST/raw first


# The C++ program that trains from an exported step takes the steps of Python.


pytest.importorskip("onnx")
pytest.importorskip("sklearn")

FOLDER = EXAMPLES / "train_from_cpp"
STEPS = 10


def flags_of_onnxruntime():
    """Give the compiler's options for ONNX Runtime, or skip where a part is missing."""
    for program in ("g++", "pkg-config"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    asked = ["pkg-config", "--cflags", "--libs", "libonnxruntime"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip("needs ONNX Runtime's headers, such as Debian's libonnxruntime-dev")
    return ran.stdout.split()


@pytest.mark.full
def test_ten_steps_in_cpp_are_ten_steps_in_python(tmp_path, monkeypatch):
    flags = flags_of_onnxruntime()
    monkeypatch.syspath_prepend(str(FOLDER))
    import write_files

    write_files.main([str(tmp_path)])
    program = str(tmp_path / "train")
    command = ["g++", "-std=c++17", str(FOLDER / "train.cpp"), "-o", program, *flags]
    subprocess.run(command, check=True, timeout=120)
    ran = subprocess.run(
        [program, str(tmp_path), str(STEPS)], check=True, capture_output=True, text=True, timeout=60
    )
    (images, labels), (step, state) = write_files.load_digits(), write_files.make_training()
    losses = []
    for i in range(STEPS):
        rows = slice(i * write_files.BATCH, (i + 1) * write_files.BATCH)
        state, loss = step(state, (images[rows], labels[rows]))
        losses.append(loss)
    printed = [float(line.split()[-1]) for line in ran.stdout.splitlines()]
    assert same_number(torch.tensor(printed), torch.stack(losses))
    # AdamW divides by the gradient's size, so rounding counts for more where that is near 0.
    params = torch.cat([leaf.flatten() for leaf in lf.tree.leaves(state.params)])
    theirs = torch.from_numpy(np.fromfile(tmp_path / "params.bin", np.float32))
    assert same_number(theirs, params, error=1e-4)


# The programs of the recipes run for a few steps, and draw; the numbers are those of long runs.


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "steps", "line", "low", "high"),
    [
        ("vit_digits", 150, "accuracy", 0.2, 1.0),
        ("flow_moons", 60, "nats", 1.0, 2.6),
        ("graph_digits", 30, "with edges", 0.8, 1.0),
        ("ddpm_digits", 60, "last steps", 0.1, 1.0),
        ("vqvae_digits", 200, "error", 0.01, 0.12),
    ],
)
def test_a_program_learns_and_draws(name, steps, line, low, high, run, picture):
    lines = [each for each in run(name, "--steps", steps, "--plot", picture) if line in each]
    number = float(re.search(rf"{line}\D*(\d+\.\d+)", lines[0])[1])
    assert low < number < high


@pytest.mark.full
def test_a_network_solves_poissons_equation(run):
    lines = run("pinn", "--steps", 3)
    error = float(re.fullmatch(r"largest error (\S+)", lines[-1])[1])
    assert 0 < error < 1e-3
    assert [line[:6] for line in lines[:3]] == ["step 1", "step 2", "step 3"]
