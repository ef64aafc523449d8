"""The examples of what a backward pass in your hands is for run, and find what they promise."""

import re

import pytest
from helpers.compare import same_number
from helpers.examples import needs_mnist

pytestmark = pytest.mark.full


def numbers(lines, name):
    """Read the numbers in the line that begins with a name."""
    [line] = [line for line in lines if line.startswith(name)]
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


@needs_mnist
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("error", "step 105: backward of 2 faulty(dense(50)): dparams.0.weight[3, 1] is "),
        ("infinity", "step 137: backward of 2 faulty(dense(50)): dx[11, 0] is inf; batch 136, "),
    ],
)
def test_find_fault_finds_the_step_the_layer_and_the_number(fault, found, run, picture):
    lines = run("find_fault", "--fault", fault, "--steps", 150, "--plot", picture)
    assert [line for line in lines if line.startswith(found)]


@needs_mnist
def test_relevance_adds_up_to_the_score(run, picture):
    lines = run("relevance", "--steps", 40, "--images", 2, "--plot", picture)
    [score], [blank] = numbers(lines, "score of the first"), numbers(lines, "score of a blank")
    [integrated] = numbers(lines, "sum of integrated")
    assert abs(integrated - (score - blank)) < 0.05 * abs(score - blank)


def test_patching_compares_estimates_with_exact_effects(run, picture):
    lines = run("patching", "--steps", 10, "--plot", picture)
    metrics = numbers(lines, "metric:")
    last = numbers(lines, "2.2.1 residual")  # all of what the two runs differ by
    assert same_number(last[-1], metrics[0] - metrics[1], terms=1.0, error=0.002)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("feedback_alignment", ["--epochs", "0"], "argument --epochs: expected at least 1, got 0"),
        ("find_fault", ["--steps", "105"], "more than 105 steps: the fault begins at step 105"),
        ("find_fault", ["--save-every", "0"], "argument --save-every: expected at least 1, got 0"),
        ("mnist_private", ["--batch-size", "0"], "argument --batch-size: expected at least 1"),
        ("patching", ["--answer", "ab"], "expected one character for --answer"),
        ("relevance", ["--images", "-1"], "argument --images: expected at least 1, got -1"),
    ],
)
def test_a_wrong_option_is_told_before_the_training(name, arguments, message, run, capsys):
    with pytest.raises(SystemExit):
        run(name, *arguments)
    assert message in capsys.readouterr().err


def test_mislabelled_finds_more_wrong_labels_than_chance(run, picture):
    lines = run("mislabelled", "--steps", 200, "--plot", picture)
    found = [int(line.split()[0]) for line in lines if "are the first suspects by" in line]
    assert len(found) == 3
    assert min(found) >= 10  # of 30; by chance it is 1


def test_ten_distilled_images_teach_more_than_the_means(run, picture):
    lines = run("distil", "--walks", 10, "--plot", picture)
    means, distilled = numbers(lines, "means"), numbers(lines, "distilled")
    assert min(distilled) > max(means)


def test_a_balanced_mixture_uses_all_of_its_experts(run, picture):
    lines = run("mixture_of_experts", "--epochs", 2, "--plot", picture)
    shares = [[int(n) for n in line.partition("in % ")[2].split()] for line in lines]
    assert [len(row) for row in shares] == [8, 8]
    assert min(shares[1]) > min(shares[0])  # of 12.5 in the mean
    assert max(shares[1]) < max(shares[0])


def test_dpo_raises_the_digits_and_keeps_the_language(run):
    lines = run("dpo", "--pairs", 500)
    before, near = numbers(lines, "before"), numbers(lines, "beta 5.0")
    assert numbers(lines, "beta 0.1")[1] > near[1] > before[0] + 0.2
    assert min(before[1], near[2]) > 80


def test_clip_chooses_the_right_captions(run):
    first, *_ = run("clip", "--epochs", 6)
    assert float(first.split()[-2]) > 90


def test_changes_by_the_gradient_do_more_harm_than_random_ones(run):
    lines = run("poison", "--walks", 2)
    losses = [numbers(lines, name)[1] for name in ("as they are", "changed at", "changed by")]
    assert losses[2] - losses[0] > 3 * abs(losses[1] - losses[0])


def test_a_learning_rate_is_tuned_below_the_best_of_a_search(run):
    lines = run("tune_learning_rate", "--runs", 5, "--walks", 3)
    validation = [float(line.split()[-3]) for line in lines[1:4]]
    assert validation[2] < min(validation[:2])
