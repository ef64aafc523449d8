"""The benchmark of optimizers: tuned alike, resumed, and torch's take the same steps."""

import json

import pytest
import torch
from helpers.compare import same_number

import lincoln_fn as lf
from benchmarks import optimizers as benchmark

SMALL = {"LAYERS": 1, "WIDTH": 8, "HEADS": 2, "BATCH_SIZE": 3, "LENGTH": 8}
# q, k and v are one matrix in torch's network: Adafactor's rows and Muon's directions differ. ASGD
# takes the rate of the step before in torch.
DIFFERENT = {"adafactor", "muon", "asgd"}


@pytest.fixture
def text(monkeypatch, tmp_path):
    """Make the network small, and give a file of text."""
    for name, value in SMALL.items():
        monkeypatch.setattr(benchmark.example, name, value)
    monkeypatch.setattr(benchmark, "EVERY", 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be: that is the question. " * 12)
    return file


def trained(name, library, text):
    run = benchmark.Run(name, library, 0.01, 4, 0)
    return benchmark.train(run, benchmark.characters.load_text(text))


def test_every_optimizer_takes_part():
    made = {name for name in lf.optim.__all__ if name.islower()}
    made -= {name for name in made if name.endswith(("_params", "_state")) or "clip" in name}
    assert made - {"accumulate", "by_path", "chain", "ema", "sharded", "weight_decay", "lbfgs"} == {
        *benchmark.CONTENDERS
    } - {"kfac"}


@pytest.mark.full
@pytest.mark.parametrize("name", benchmark.CONTENDERS)
def test_ours_and_torch_learn_the_same(name, text):
    ours = trained(name, "ours", text)
    assert [step for step, _ in ours["curve"]] == [2, 4]
    assert not ours["problem"]
    if benchmark.CONTENDERS[name].torch is not None and name not in DIFFERENT:
        theirs = trained(name, "torch", text)
        assert same_number(ours["held_out"], theirs["held_out"], error=1e-4)


@pytest.mark.full
def test_a_finished_run_is_not_run_again(text, tmp_path, monkeypatch, capsys):
    options = [
        str(text), "--folder", str(tmp_path / "runs"), "--optimizer", "sgd", "adamw",
        "--search-steps", "2", "--steps", "4", "--loss", "9", "0.1", "--library", "ours", "torch",
    ]  # fmt: skip
    benchmark.main(options)
    first = capsys.readouterr().out
    files = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*.json")]
    cells = [line.split("|") for line in first.splitlines() if "|" in line]
    rows = {each[1].strip(): each for each in cells}
    assert {"adamw", "adamw torch", "sgd", "sgd torch"} <= rows.keys()
    assert [cell.strip() for cell in rows["adamw"][6:10:2]] == ["2", "-"]  # steps to 9 and to 0.1
    tried = [each for each in files if each["optimizer"] == "sgd" and each["steps"] == 2]
    best = min(tried, key=lambda each: each["held_out"])["lr"]
    rates = [each["lr"] for each in tried]
    assert min(rates) < best < max(rates)
    taken = [each for each in files if each["optimizer"] == "sgd" and each["steps"] == 4]
    assert {each["lr"] for each in taken} == {best}
    monkeypatch.setattr(benchmark, "train", None)
    benchmark.main(options)
    again = capsys.readouterr().out
    assert again.splitlines()[1:] == first[first.index("| optimizer") :].splitlines()
    benchmark.main([*options, "--table"])
    assert capsys.readouterr().out.splitlines() == again.splitlines()[1:]
