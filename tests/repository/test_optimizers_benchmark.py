"""The benchmark of optimizers: tuned alike, resumed, and torch's take the same steps."""

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
    stages = {"accumulate", "chain", "ema", "lookahead", "plateau_step", "reduce_on_plateau", "sam"}
    others = {"by_path", "lbfgs", "sharded", "weight_decay"}
    assert made - stages - others == {*benchmark.CONTENDERS} - {"kfac"}


@pytest.mark.full
@pytest.mark.parametrize("name", benchmark.CONTENDERS)
def test_ours_and_torch_learn_the_same(name, text):
    ours = trained(name, "ours", text)
    assert [step for step, _ in ours["curve"]] == [2, 4]
    assert not ours["problem"]
    if benchmark.CONTENDERS[name].torch is not None and name not in DIFFERENT:
        theirs = trained(name, "torch", text)
        assert same_number(ours["held_out"], theirs["held_out"], error=1e-4)
