"""examples/mnist_private.py: its batches, its account, and a short run."""

import pytest
import torch
from helpers.compare import same_bits, same_number, same_statistics

import lincoln_fn as lf

pytestmark = pytest.mark.full


@pytest.fixture
def example(example):
    pytest.importorskip("torchvision")
    return example("mnist_private")


@pytest.fixture
def small(example, monkeypatch):
    """Train on 300 made images of ten brightnesses."""
    target = torch.arange(300) % 10
    x = target.unsqueeze(1) / 5 - 1 + 0.1 * lf.keys.normal(lf.Key(0), (300, 784))
    monkeypatch.setattr(example, "load_data", lambda: ((x, target), (x[:100], target[:100])))
    return example


def test_the_network_is_opacus_s(example):
    net, x = example.make_network(), torch.zeros(2, 784)
    params = net.init(lf.Key(0), x)
    assert net.predict(params, x).shape == (2, 10)
    assert sum(leaf.numel() for leaf in lf.tree.leaves(params)) == 26_010


def test_each_example_is_drawn_with_the_same_probability(example):
    data = torch.arange(1000), torch.arange(1000) + 7
    batches = list(example.poisson_batches(data, 0.2, lf.Key(1), 300))
    counts = torch.zeros(1000)
    for x, target in batches:
        assert same_bits(target, x + 7)
        counts[x] += 1
    assert same_statistics(counts, mean=60, std=(300 * 0.2 * 0.8) ** 0.5)
    assert len({len(x) for x, _ in batches}) > 10
    again = next(iter(example.poisson_batches(data, 0.2, lf.Key(1), 1)))
    assert same_bits(again[0], batches[0][0])


def test_the_account_is_the_published_one_or_tighter(example):
    pytest.importorskip("dp_accounting")
    epsilon = example.account(0.004, 1.3, 1e-5)
    assert same_number(epsilon(3750), 0.922, terms=1.0, error=0.001)  # by the older bound 1.16
    assert epsilon(250) < epsilon(500)


def test_a_run_prints_accuracy_and_epsilon(small, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(small, "account", lambda *given: lambda steps: steps / 100)
    picture = tmp_path / "private.png"
    small.main(["--epochs", "2", "--batch-size", "30", "--plot", str(picture)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1", "2"]
    assert "epsilon 0.10" in lines[0]
    assert "epsilon 0.20" in lines[1]
    assert picture.read_bytes().startswith(b"\x89PNG")
