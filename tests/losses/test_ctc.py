"""CTC against the sum over all paths written out, and against torch's."""

import itertools

import pytest
import torch
from helpers import largest, normal, same_bits, same_number
from helpers.refusals import refusals
from torch.nn import functional

import lincoln_fn as lf
from lincoln_fn.losses import ctc, through

Z = torch.log_softmax(normal(5, 4, 3, seed=20).double(), -1)  # T, N, C
ROWS = torch.tensor([[1, 1], [2, 1], [2, 7], [-1, 0]])
STEPS = torch.tensor([5, 3, 4, 2])
LENGTHS = torch.tensor([2, 2, 1, 0])
TARGET = (ROWS, STEPS, LENGTHS)
IN_ONE_ROW = torch.tensor([1, 1, 2, 1, 2])


def by_all_paths(z, target, blank=0):
    """Sum the probability of each path that gives the labels, one by one."""
    values = []
    for i, (row, steps, length) in enumerate(zip(*target, strict=True)):
        wanted = row[:length].tolist()
        total = z.new_zeros(())
        for path in itertools.product(range(z.shape[-1]), repeat=int(steps)):
            merged = [k for k, _ in itertools.groupby(path)]
            if [k for k in merged if k != blank] == wanted:
                total = total + z[range(len(path)), i, path].sum().exp()
        values.append(-total.log())
    return torch.stack(values)


def of_logits(**options):
    """CTC behind a log-softmax."""
    return through(lf.log_softmax(-1), ctc(**options))


def gradient(f, x, g):
    x = x.clone().requires_grad_()
    value = f(x)
    return value.detach(), torch.autograd.grad(value, x, g)[0]


@pytest.mark.parametrize("scale", [1.0, 1.5], ids=["probabilities", "any-numbers"])
@pytest.mark.parametrize("blank", [0, 2])
def test_is_the_sum_over_all_paths(blank, scale):
    z, target = scale * Z, TARGET if blank == 0 else (ROWS % 2, STEPS, LENGTHS)
    loss = ctc(blank=blank, reduction="none")
    value, cache = loss.forward(z, target)
    g = lf.keys.normal(lf.Key(3), (4,), dtype=torch.float64)
    expected, slope = gradient(lambda z: by_all_paths(z, target, blank), z, g)
    assert same_number((value, loss.backward(cache, g)), (expected, slope))


@pytest.mark.parametrize("target", [TARGET, (IN_ONE_ROW, STEPS, LENGTHS)], ids=["rows", "one-row"])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_agrees_with_torch_behind_log_softmax(reduction, zero_infinity, target):
    loss = of_logits(reduction=reduction, zero_infinity=zero_infinity)
    module = torch.nn.CTCLoss(reduction=reduction, zero_infinity=zero_infinity)
    for dtype in (torch.float64, torch.float32):
        x = normal(5, 4, 3, seed=22).to(dtype)
        value, cache = loss.forward(x, target)
        assert value.dtype == dtype
        g = lf.keys.normal(lf.Key(3), tuple(value.shape), dtype=dtype)
        expected, slope = gradient(lambda x: module(torch.log_softmax(x, -1), *target), x, g)
        assert same_number((value, loss.backward(cache, g)), (expected, slope))


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_torch_on_random_lengths(seed, zero_infinity):
    """Sequences without steps, without labels, and too short for them among the rest."""
    n_classes = (1, 2, 5)[seed // 2]
    blank = min(seed % 3, n_classes - 1)
    draw = torch.Generator().manual_seed(seed)
    steps = torch.randint(0, 31, (8,), generator=draw)
    lengths = torch.randint(0, 12, (8,), generator=draw) * (n_classes > 1)
    labels = torch.randint(0, max(n_classes - 1, 1), (8, 11), generator=draw)
    target = (labels + (labels >= blank) * (n_classes > 1), steps, lengths)
    x = torch.randn(30, 8, n_classes, generator=draw).double()
    loss = of_logits(blank=blank, zero_infinity=zero_infinity, reduction="none")
    value, cache = loss.forward(x, target)
    g = lf.keys.normal(lf.Key(seed), (8,), dtype=torch.float64)
    dx = loss.backward(cache, g)
    module = torch.nn.CTCLoss(blank, "none", zero_infinity)
    expected, slope = gradient(lambda x: module(torch.log_softmax(x, -1), *target), x, g)
    # A sequence is as likely as 1 at most, and its logarithm is 0 but for rounding.
    assert same_number(value, expected, terms=max(1.0, largest(expected)))
    is_nan = slope.isnan()  # where there are too few steps
    assert same_bits(dx.isnan(), is_nan)
    assert same_number(dx[~is_nan], slope[~is_nan])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_a_batch_it_is_a_batch_of_one(reduction):
    loss = ctc(reduction=reduction)
    value, cache = loss.forward(Z[:, 0], (ROWS[0], STEPS[0], LENGTHS[0]))
    batch, batch_cache = loss.forward(Z[:, :1], tuple(part[:1] for part in TARGET))
    assert value.shape == ()
    assert same_number(value, batch.view(()))
    assert same_number(loss.backward(cache), loss.backward(batch_cache)[:, 0])


def test_sequences_without_labels():
    none = (torch.zeros(4, 0, dtype=torch.long), STEPS, torch.zeros(4, dtype=torch.long))
    loss = ctc(reduction="none")
    value, cache = loss.forward(Z, none)
    places = torch.arange(5)[:, None] < STEPS
    assert same_number(value, -(Z[..., 0] * places).sum(0))
    slopes = places[..., None] * torch.tensor([-1.0, 0, 0]).double()
    assert same_number((loss.backward(cache), ctc().forward(Z, none)[0]), (slopes, value.mean()))


def test_certain_and_hopeless_steps():
    x, loss = 1e4 * normal(5, 4, 3, seed=23).sign(), ctc()
    value, cache = loss.forward(torch.log_softmax(x, -1), TARGET)
    expected, _ = gradient(
        lambda x: functional.ctc_loss(torch.log_softmax(x, -1), *TARGET), x, torch.tensor(1.0)
    )
    assert same_number(value, expected)
    assert torch.isfinite(loss.backward(cache)).all()


def test_bfloat16_is_computed_in_float64():
    z = Z.bfloat16()
    loss = ctc(reduction="none")
    value, cache = loss.forward(z, TARGET)
    exact, exact_cache = loss.forward(z.float(), TARGET)
    assert same_bits(value, exact.bfloat16())
    assert same_bits(loss.backward(cache), loss.backward(exact_cache).bfloat16())
    mean, cache = ctc().forward(z, TARGET)
    assert (mean.dtype, ctc().backward(cache).dtype) == (torch.bfloat16, torch.bfloat16)


def test_many_steps_in_float32_keep_float64s_digits():
    z = torch.log_softmax(5 * normal(200, 3, 20, seed=30), -1)
    labels = 1 + torch.arange(90).view(3, 30) % 19
    target = (labels, torch.tensor([200, 150, 90]), torch.full((3,), 30))
    loss = ctc(reduction="none")
    value, cache = loss.forward(z, target)
    exact, exact_cache = loss.forward(z.double(), target)
    given, expected = (value, loss.backward(cache)), (exact, loss.backward(exact_cache))
    assert same_number(given, expected, length=16, dtype=torch.float32)


test_errors = refusals("""
ctc().forward(Z[0, 0], TARGET) -> ^ctc: expected prediction of shape (T, N, C) or (T, C), got (3,)$
ctc().forward(Z, ROWS) -> ^ctc: expected target (labels, steps, lengths), got int64[4, 2]$
ctc().forward(Z, (ROWS, STEPS, 2)) -> ^ctc: expected lengths to be a tensor, got int; convert it by
    torch.tensor$
ctc().forward(Z, (ROWS.float(), STEPS, LENGTHS)) -> ^ctc: expected labels of an integer dtype, got
    torch.float32$
ctc().forward(Z, (ROWS[:3], STEPS, LENGTHS)) -> ^ctc: expected labels of shape (4, S) or (S,), got
    (3, 2)$
ctc().forward(Z, (ROWS, STEPS[:3], LENGTHS)) -> ^ctc: expected steps of shape (4,) for prediction
    (5, 4, 3), got (3,)$
ctc().forward(Z, (ROWS, STEPS + 1, LENGTHS)) -> ^ctc: expected steps from 0 to 5, got 6$
ctc().forward(Z, (ROWS, STEPS, LENGTHS + 1)) -> ^ctc: expected lengths from 0 to 2, got 3$
ctc().forward(Z, (IN_ONE_ROW[:4], STEPS, LENGTHS)) -> ^ctc: expected 5 labels, the sum of lengths,
    got 4$
ctc().forward(Z, (ROWS + 1, STEPS, LENGTHS)) -> ^ctc: expected labels from 0 to 2, got 3$
ctc().forward(Z, (ROWS - 1, STEPS, LENGTHS)) -> ^ctc: expected labels other than blank=0, got 0$
ctc().forward(Z[..., :0], TARGET) -> ^ctc: expected at least one example, got prediction of shape
    (5, 4, 0)$
ctc(blank=-1) -> ^ctc: expected blank of at least 0, got -1$
ctc(blank=3).forward(Z, TARGET) -> ^ctc: expected more classes than blank=3, got 3$
""")
