"""The benchmark of nanoGPT: ours and torch take the same steps. Times are not tested."""

import pytest
import torch
from helpers.compare import same_number

import lincoln_fn as lf
from benchmarks import nanogpt as benchmark

# A large rate, so that a rate or a decay that is not the other's shows at once.
SMALL = {"LAYERS": 2, "WIDTH": 16, "BATCH_SIZE": 3, "LENGTH": 8, "LR": 0.02, "WARMUP": 4}


@pytest.fixture
def text(monkeypatch):
    """Make the network small, and give a text."""
    for name, value in SMALL.items():
        monkeypatch.setattr(benchmark.example, name, value)
    codes = torch.arange(200) ** 2 % 11
    return benchmark.characters.Text(codes[:150], codes[150:], "abcdefghijk")


def test_ours_and_torch_learn_the_same(text):
    steps = 12
    known = benchmark.programs(len(text.alphabet), lf.Key(0), steps)
    ours, theirs = known["ours"](), known["torch"]()
    for x, target in benchmark.windows(text, lf.Key(1), steps):
        assert same_number(ours.take(x, target), theirs.take(x, target), dtype=torch.float32)
    held_out = ours.held_out(text.held_out), theirs.held_out(text.held_out)
    assert same_number(*held_out, dtype=torch.float32)
