"""The example of the rules runs with each rule and with each paper's settings."""

import math
import re

import feedback_alignment
import mnist
import pytest
import rule_settings
import torch
from helpers import same_bits, same_number, uniform
from helpers.examples import needs_mnist

import lincoln_fn as lf
from lincoln_fn import rules

pytestmark = pytest.mark.full


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the example eagerly on a few examples, and give the lines that it prints."""

    def run_example(*arguments, count=256, tested=64):
        def few():
            if count is None:
                train, test = mnist.load_data()
                return tuple(t[:12800] for t in train), tuple(t[:1000] for t in test)
            x = uniform(count + tested, 784, low=-0.4, high=2.8)
            labels = torch.arange(count + tested) % 10
            return (x[:count], labels[:count]), (x[count:], labels[count:])

        monkeypatch.setattr(feedback_alignment, "load_data", few)
        feedback_alignment.main(["--eager", *map(str, arguments)])
        return capsys.readouterr().out.splitlines()

    return run_example


def numbers(line):
    return [float(number) for number in re.findall(r"[\d.]+|nan", line)]


@pytest.mark.parametrize("rule", feedback_alignment.RULES)
def test_each_rule_trains(rule, run):
    epoch, best = run("--rule", rule, "--epochs", 1)
    number, error, *angles, _ = numbers(epoch)
    assert (number, 0 <= error <= 100) == (1, True)
    assert best.startswith(f"Lowest test error {error:.2f} %, after epoch 1")
    layers = {"bp": 0, "ff": 0, "local": 7}.get(rule, 3)
    assert len(angles) == layers
    assert all(0 <= angle <= 180 for angle in angles)


@pytest.mark.parametrize(
    ("paper", "rule", "kind"),
    [
        ("biotorch", "fa", "both"),
        ("nokland", "dfa", "both"),
        ("local", "local", "prediction"),
        ("local", "local", "similarity"),
        ("pepita", "pepita", "both"),
        ("ff", "ff", "both"),
        ("ff", "bp", "both"),
    ],
)
def test_each_paper_trains(paper, rule, kind, run):
    lines = run(
        "--paper", paper, "--rule", rule, "--kind", kind, "--epochs", 1, "--width", 20,
        "--lr", "1e-5", tested=10,
    )  # fmt: skip
    assert lines[0].startswith("epoch 1  test error ")


@needs_mnist
def test_feedback_alignment_learns_to_read(run):
    *_, epoch, best = run("--epochs", 3, count=None)
    assert numbers(epoch)[1] < 12
    assert numbers(best)[0] < 12


def test_images_are_shifted_by_up_to_two_pixels():
    images = uniform(200, 28, 28, low=0.5)
    moved = rule_settings.shifted(lf.Key(0), images.flatten(1), 2).view(-1, 28, 28)
    offsets = []
    for image, own in zip(moved, images, strict=True):
        padded = torch.nn.functional.pad(own, (2,) * 4, value=-0.1307 / 0.3081)
        found = [
            (r, c) for r in range(5) for c in range(5)
            if same_bits(image, padded[r : r + 28, c : c + 28])
        ]  # fmt: skip
        assert len(found) == 1
        offsets += found
    assert len(set(offsets)) == 25


def test_the_settings_are_those_of_the_papers():
    def size(paper, rule, kind="both"):
        settings = rule_settings.settings_of(paper, "mlp", kind, 2000)
        x = settings.image(torch.zeros(2, 784))
        return lf.summary(settings.net(rule), x).total.parameters, settings

    # 1 x 6 x 25 + 6, 6 x 16 x 25 + 16, 16 x 120 x 25 + 120, 120 x 84 + 84, 84 x 10 + 10
    parameters, settings = size("biotorch", "fa")
    assert parameters == 61_706
    rates = settings.schedule("bp", 1000, None)(torch.tensor([0, 499, 500, 749, 750]))
    assert same_number(rates.float(), torch.tensor([1, 1, 0.1, 0.1, 0.01]) * 0.01)
    parameters, settings = size("local", "bp")
    assert parameters == 2_913_290 + 2 * 3 * 1024
    rates = settings.schedule("local", 100, 1.0)(torch.tensor([49, 50, 75, 89, 94]))
    assert same_number(rates.float(), 0.25 ** torch.arange(5.0))
    assert size("nokland", "dfa")[0] == 784 * 800 + 800 + 800 * 800 + 800 + 8010
    assert size("pepita", "pepita")[0] == 784 * 1024 + 10 * 1024
    assert size("ff", "ff")[0] == 784 * 2000 + 3 * 2000 * 2000 + 4 * 2000
    rates = size("ff", "ff")[1].schedule("ff", 8, 1.0)(torch.tensor([0, 3, 4, 6, 8]))
    assert same_number(rates.float(), torch.tensor([1, 1, 1, 0.5, 0]))
    zero = size("nokland", "dfa")[1]
    params = rules.feedback_alignment(zero.net("fa"), feedback_init=zero.feedback_init).init(
        lf.Key(0), torch.zeros(2, 784)
    )
    assert not params[1].params.weight.any()
    assert 0 < params[1].feedback.matrices[0].max() < 1 / math.sqrt(800)
