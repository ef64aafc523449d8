"""The examples run, and reach the figures that they promise."""

import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.cases.case import torch_names
from helpers.children import run_child
from helpers.compare import same_bits, same_number
from helpers.examples import EXAMPLES, MNIST_FILES, needs_mnist, run_in_two_processes, table
from helpers.pipelines import SCHEDULES
from torch import nn
from torch.func import functional_call

import lincoln_fn as lf
from lincoln_fn.distributed import gpipe, zero_bubble_h2


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


# Pipelines: the plan of one is simulated, and that of a character model trains.


GUIDE = Path(__file__).parents[2] / "docs/guides/pipelines.md"


@pytest.fixture
def ours(example):
    """Give the example's module, which has the names of the simulation, too."""
    return example("pipeline_plan")


def test_the_guide_shows_what_it_prints(run):
    lines = run("pipeline_plan", "--equal", "--stages", 4, "--microbatches", 12)
    shown = GUIDE.read_text().partition("```output\n")[2].partition("```")[0]
    assert lines == shown.splitlines()


@pytest.mark.parametrize(("p", "m"), [(2, 3), (3, 5), (4, 7), (4, 12), (8, 32)])
def test_stages_wait_as_long_as_the_formulas_of_qi_et_al_say(p, m, ours):
    f, b, w = 1.0, 1.25, 0.75
    stages = [ours.Stage(ours.Times(f, b, w))] * p

    def waits(name, **options):
        made = ours.plan(SCHEDULES[name](p, m), stages, **options)
        assert same_number(made.bubble, (made.period - m * (f + b + w)) / (m * (f + b + w)))
        return made.period - m * (f + b + w)

    for name in ("gpipe", "1f1b"):
        assert same_number(waits(name, joint_backward=True), (p - 1) * (f + b + w))
        assert same_number(waits(name), (p - 1) * (f + b))
    assert same_number(waits("h1"), (p - 1) * (f + b - w))
    assert same_number(waits("h2"), (p - 1) * (f + b - 2 * w))
    equal = ours.plan(zero_bubble_h2(p, m), [ours.Stage()] * p)
    assert (equal.bubble, equal.period) == (0, 3 * m)
    assert equal.makespan == 3 * m + p - 1  # the stages end one after the other


def test_transfers_take_time_in_both_directions(ours):
    times = ours.Times(1.0, 2.0, 4.0, send=0.5), ours.Times(8.0, 16.0, 32.0)
    made = ours.plan(gpipe(2, 1), [*map(ours.Stage, times)])
    assert [(each.stage, each.kind, each.begin, each.end) for each in made.intervals] == [
        (0, "F", 0.0, 1.0), (1, "F", 1.5, 9.5), (1, "B", 9.5, 25.5), (1, "W", 25.5, 57.5),
        (0, "B", 26.0, 28.0), (0, "W", 28.0, 32.0),
    ]  # fmt: skip


def test_a_measured_plan_has_the_memory_of_each_stage(ours):
    layers, link = (lf.dense(8), lf.serial(lf.relu(), lf.dense(2))), ours.Link(0.25, 32.0)
    stages = ours.measure(layers, torch.ones(4, 3), link, repeats=1)
    made = ours.plan(gpipe(2, 5), stages, link, pipelines=3)
    first, second = (3 * 8 + 8) * 4, (8 * 2 + 2) * 4
    assert made.bytes[0] == first + 5 * (4 * 3 + 4 * 8) * 4  # x and g of each microbatch
    assert made.bytes[1] >= second + 5 * (4 * 8 + 4 * 2) * 4
    assert [each.times.send for each in stages] == [0.25 + 4 * 8 * 4 / 32, 0.0]
    assert all(min(each.times.F, each.times.B, each.times.W) > 0 for each in stages)
    *actions, of_first, of_second = made.intervals
    for own, params in ((of_first, first), (of_second, second)):
        assert own.begin == max(each.end for each in actions if each.stage == own.stage)
        assert same_number(own.seconds, 0.5 + params * 4 / 3 / 32)
    assert made.makespan == max(of_first.end, of_second.end)


def test_wrong_plans_are_refused(ours):
    for call, message in (
        (lambda: ours.plan(gpipe(2, 2), [ours.Stage()] * 4), "expected 4 stages, got"),
        (lambda: ours.split_into_stages(lf.serial(lf.relu()), torch.ones(1), 2), "from 1 to 1 sta"),
        (lambda: ours.measure_link(lf.distributed.alone(), torch.ones(3)), "at least 2 processes"),
        (lambda: ours.plan(((("F", 0),),), [ours.Stage()]), "got F0 at position 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.full
def test_it_measures_the_network_and_saves_the_pictures(run, picture, tmp_path):
    trace = tmp_path / "plan.json"
    options = ["--stages", 2, "--microbatches", 3, "--repeats", 1, "--pipelines", 2, "--cut"]
    lines = run("pipeline_plan", *options, "--plot", picture, "--trace", trace)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1f1b-joint", "33.3%"], ["gpipe", "22.2%"], ["1f1b", "22.2%"], ["h1", "11.1%"],
        ["h2", "0.0%"],
    ]  # fmt: skip
    assert len(json.loads(trace.read_text())["traceEvents"]) == 2 + 2 * 3 * 3 + 2


@pytest.mark.full
def test_the_first_of_two_processes_prints_their_link():
    printed = run_in_two_processes("pipeline_plan.py", "--equal")
    assert [line.split()[0] for line in printed.splitlines()] == [
        "latency", "schedule", "1f1b-joint", "gpipe", "1f1b", "h1", "h2",
    ]  # fmt: skip


OPTIONS = ["--steps", "2", "--sample", "7"]


@pytest.mark.full
def test_it_learns_what_the_tied_network_learns_in_one_piece(example):
    module, characters = example("char_gpt_pipeline"), example("characters")
    text = characters.load_text()
    stages = module.make_stages(len(text.alphabet))
    net, reduce = lf.distributed.pipeline(
        stages, lf.distributed.zero_bubble_h2(4, 3), lf.distributed.alone(), tied=module.TIED,
        max_norm=1.0,
    )  # fmt: skip
    embedding, *first = stages[0].parts
    block, norm, _, order = stages[3].parts
    whole = lf.serial(lf.tied(embedding, lf.serial(*first, *stages[1:3], block, norm)), order)
    optimizer, loss = lf.optim.sgd(0.5), lf.losses.softmax_cross_entropy()
    clipped = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), text.train[None, :16])
    (table, *rest), second, third, (last, scale, _, _) = state.params
    params = ((table, (*rest, second, third, last, scale)), ())
    theirs = lf.init_state(whole, clipped, lf.Key(0), text.train[None, :16], params=params)
    step = lf.make_step(net, loss, optimizer, reduce=reduce)
    their_step = lf.make_step(whole, loss, clipped)
    losses = []
    for batch in characters.random_windows(text.train, 4, 16, 10, lf.Key(1)):
        state, value = step(state, batch)
        theirs, expected = their_step(theirs, batch)
        assert same_number(value, expected)
        losses.append(value.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.full
def test_two_processes_print_what_one_prints(example, capsys):
    example("char_gpt_pipeline").main(OPTIONS)
    printed = capsys.readouterr().out
    ours, bigram = map(
        float, re.search(r"Held out: (\S+) bits .* model (\S+)\.\n", printed).groups()
    )
    assert 2 < bigram < 4 < ours < 8
    assert len(printed.partition("A sample:\n")[2]) == 7 + 1
    options = *OPTIONS, "--schedule", "gpipe"
    assert run_in_two_processes("char_gpt_pipeline.py", *options) == printed


# The character models learn step by step what torch's autograd makes the same networks learn.


TEXT_STEPS, BATCH_SIZE, LENGTH = 100, 4, 24


def dense(params, x):
    return F.linear(x, params.weight.mT, params.bias)


def norm(params, x):
    return F.layer_norm(x, x.shape[-1:], params.weight, params.bias)


def lstm_logits(params, x):
    """Compute what char_lstm's network does, by torch's LSTM."""
    embedding, cells, out, _ = params
    module = nn.LSTM(embedding.weight.shape[1], len(cells.cells[0][0].weight_hh), batch_first=True)
    h = functional_call(module, torch_names(cells), (F.embedding(x, embedding.weight),))[0]
    return dense(out, h).mT


def heads(x):
    return x.unflatten(-1, (4, -1)).transpose(-3, -2)


def gpt_logits(params, x):
    """Compute what char_gpt's network does, in torch's functions."""
    embedding, positions, blocks, last_norm, out, _ = params
    h = F.embedding(x, embedding.weight) + positions.weight[: x.shape[1]]
    for (attend, _), (think, _) in blocks:
        z, p = norm(attend[0], h), attend[1]
        q, k, v = (heads(dense(part, z)) for part in (p.query, p.key, p.value))
        merged = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + dense(p.output, merged.transpose(-3, -2).flatten(-2))
        h = h + dense(think[3], F.gelu(dense(think[1], norm(think[0], h))))
    return dense(out, norm(last_norm, h)).mT


MODELS = {
    "char_lstm": (lstm_logits, lambda leaves: torch.optim.Adam(leaves, lr=0.005)),
    "char_gpt": (gpt_logits, lambda leaves: torch.optim.AdamW(leaves, lr=0.003, weight_decay=0.01)),
}


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_the_first_losses_are_those_of_autograd(example, name):
    module, characters = example(name), example("characters")
    text = characters.load_text()
    net, optimizer = module.make_network(len(text.alphabet)), module.make_optimizer()
    state = lf.init_state(net, optimizer, lf.Key(0), text.train[None, :LENGTH])
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    logits, make_optimizer = MODELS[name]
    params = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), state.params)
    their_optimizer = make_optimizer(lf.tree.leaves(params))
    windows = characters.random_windows(text.train, BATCH_SIZE, LENGTH, TEXT_STEPS, lf.Key(1))
    first, last = None, None
    for x, target in windows:
        state, ours = step(state, (x, target))
        their_optimizer.zero_grad()
        theirs = F.cross_entropy(logits(params, x), target)
        theirs.backward()
        nn.utils.clip_grad_norm_(lf.tree.leaves(params), 1.0)
        their_optimizer.step()
        assert same_number(ours.item(), theirs.item(), dtype=torch.float32)
        first, last = first or ours.item(), ours.item()
    assert last < first - 0.5


@pytest.mark.full
@pytest.mark.parametrize("name", [*MODELS, "char_mamba"])
def test_a_short_run_prints_bits_beside_the_bigram_models_and_a_sample(example, capsys, name):
    example(name).main(["--steps", "2", "--sample", "7"])
    printed = capsys.readouterr().out
    held_out = re.search(
        r"Held out: (\d\.\d{3}) bits per character; the bigram model (\d\.\d{3})", printed
    )
    ours, bigram = map(float, held_out.groups())
    assert 2 < bigram < 4 < ours < 8
    assert len(printed.partition("A sample:\n")[2]) == 7 + 1


def test_the_bigram_models_bits_are_those_of_its_smoothed_counts(example):
    characters = example("characters")
    text = characters.Text(torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 1, 1]), "ab")
    # From a came b twice and a never, from b came a and b once each; one is added to each count.
    assert same_number(
        characters.bigram_bits(text),
        -(math.log2(3 / 4) + math.log2(2 / 4)) / 2,
        dtype=torch.float32,
    )


@pytest.mark.full
def test_nanogpt_learns_a_file(example, capsys, tmp_path):
    file = tmp_path / "text"
    file.write_text("abracadabra" * 70, encoding="utf-8")
    text = example("characters").load_text(file)
    assert text.alphabet == "abcdr"
    assert "".join(text.alphabet[code] for code in text.train[:11].tolist()) == "abracadabra"
    options = ["--text", str(file), "--steps", "2", "--sample", "7"]
    example("char_nanogpt").main(options)
    printed = capsys.readouterr().out
    assert printed.startswith("693 characters to train on, 796,416 parameters")
    assert set(printed.partition("A sample:\n")[2].strip()) <= set("abcdr")


def test_windows_are_a_function_of_the_key_and_targets_are_one_further_on(example):
    characters = example("characters")
    codes = torch.arange(50)
    batches = list(characters.random_windows(codes, 3, 5, 4, lf.Key(0)))
    again = list(characters.random_windows(codes, 3, 5, 4, lf.Key(0)))
    assert len(batches) == 4
    for (x, target), (x_again, _) in zip(batches, again, strict=True):
        assert same_bits(x, x_again)
        assert same_bits(target, x + 1)
        assert x.shape == (3, 5)
    assert not same_bits(batches[0][0], batches[1][0])


def test_held_out_bits_are_the_mean_over_all_windows(example):
    characters = example("characters")
    codes = torch.tensor([0, 1, 2, 1, 0, 2, 2])
    net = lf.serial(lf.embedding(3, 3), lf.permute(0, 2, 1))
    params = net.init(lf.Key(0), codes[None])
    given = characters.bits_per_character(net, params, codes, 3)
    logits = net.predict(params, codes[None, :6])
    expected = F.cross_entropy(logits, codes[None, 1:]).item() / math.log(2)
    assert same_number(given, expected, dtype=torch.float32)


@pytest.mark.full
def test_batch_sizes_follow_the_noise_and_see_as_many_windows(example, capsys, picture):
    example("batch_size").main(["--windows", "1700", "--plot", str(picture)])
    printed = capsys.readouterr().out
    fixed, by_noise = printed.partition("fixed: ")[::2]
    for lines in (fixed, by_noise):
        rows = re.findall(r"(\d+) windows +(\d+) steps of now +(\d+) ", lines)
        windows, steps, sizes = zip(*(map(int, row) for row in rows), strict=True)
        assert 1700 <= windows[-1] < 1700 + 128
        taken = [after - before for before, after in itertools.pairwise((0, *steps))]
        assert windows[-1] == sum(map(math.prod, zip(taken, sizes, strict=True)))
        assert (len(set(sizes)) == 1) == (lines == fixed)
    assert len(re.findall(r"\d\.\d{3} bits .* correlation -?\d\.\d{3}", printed)) == 2


def test_a_batch_is_the_power_of_two_below_the_noise_scale(example):
    size_for = example("batch_size").size_for
    sizes = [size_for(scale) for scale in (0.0, 3.9, 4.0, 31.9, 32.0, 127.0, 200.0, -5.0, math.inf)]
    assert sizes == [4, 4, 4, 16, 32, 64, 128, 128, 128]
