"""Losses of classes: labels and their weights, the order of logits, and probabilities of 0."""

import math
from functools import partial

import attrs
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_says, normal, same_bits, same_number
from helpers.losses import REDUCTIONS, TABLE

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.losses.internal import formula_of, unchecked

INTEGERS = (torch.int64, torch.int32, torch.uint8)


# By loss: what it predicts, made of logits.
LOSSES = {
    "log_loss": torch.sigmoid, "log_sigmoid_loss": F.logsigmoid,
    "sigmoid_cross_entropy": torch.clone, "softmax_cross_entropy": torch.clone,
    "cross_entropy": partial(F.softmax, dim=1), "nll": partial(F.log_softmax, dim=1),
}  # fmt: skip
# The shapes of predictions, and of labels that are read as in the first column.
OF_TWO_CLASSES = [((5,), (5,)), ((5, 1), (5,)), ((5, 1), (5, 1)), ((1, 1), (1,))]
OF_CLASSES = [((5, 2), (5,)), ((5, 3), (5, 1)), ((4, 3, 2, 6), (4, 2, 6)), ((5, 1), (5,))]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_labels_may_have_any_of_their_shapes_and_dtypes(name, reduction):
    """Values and gradients are the table's; here, each way to write labels means the same ones."""
    loss, is_binary = getattr(losses, name)(reduction=reduction), "log_" in name or "sigm" in name
    for shape, target_shape in OF_TWO_CLASSES if is_binary else OF_CLASSES:
        prediction = LOSSES[name](normal(*shape).double())
        classes = 2 if is_binary else shape[1]
        target = keys.uniform(lf.Key(4), target_shape, 0, classes).floor()
        plain = target.double().view(shape) if is_binary else target.view(shape[0], *shape[2:])
        expected, of_plain = loss.forward(prediction, plain if is_binary else plain.long())
        g = keys.normal(lf.Key(5), tuple(expected.shape), dtype=torch.float64)
        dtypes = (*INTEGERS, *((torch.float32,) if is_binary else ()))
        for dtype in (*dtypes, *((torch.bool,) if classes <= 2 else ())):
            value, cache = loss.forward(prediction, target.to(dtype))
            given = value, loss.backward(cache, g)
            assert same_number(given, (expected, loss.backward(of_plain, g)))


def test_eta_is_added_to_both_probabilities():
    loss = losses.log_loss(reduction="none", eta=0.25)
    p, target = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1, 0, 1])
    value, cache = loss.forward(p, target)
    assert same_number(value, -torch.tensor([0.25, 0.25, 0.75]).log())
    gradient = loss.backward(cache, torch.ones(3))
    assert same_number(gradient, torch.tensor([-4.0, 4.0, -4 / 3]))


@pytest.mark.parametrize(("name", "least"), [("log_loss", 1e-8), ("cross_entropy", 2**-126)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_probability_of_0_costs_a_finite_loss_in_every_dtype(name, least, dtype):
    """It costs what the least one does, or float16's own smallest normal number, 2^-14."""
    loss = getattr(losses, name)(reduction="none")
    p = torch.tensor([[0.0, 1.0]], dtype=dtype)
    target = torch.tensor([[1, 1]]) if name == "log_loss" else torch.tensor([0])
    value, cache = loss.forward(p, target)
    gradient = loss.backward(cache, torch.ones_like(value))
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < 0
    assert same_number(value.flatten()[0], -math.log(max(least, torch.finfo(dtype).tiny)))


X = keys.normal(lf.Key(0), (2, 5, 3, 4)).double()
BY_ROWS = X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
LABELS = (torch.arange(24) % 5).view(2, 3, 4)
SOME_IGNORED = torch.where(LABELS == 2, -100, LABELS)
PROBABILITIES = torch.softmax(keys.normal(lf.Key(1), (2, 5, 3, 4)).double(), 1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]).double()


@pytest.mark.parametrize("form", [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize(
    "target", [LABELS, SOME_IGNORED, PROBABILITIES], ids=["labels", "ignored", "mixture"]
)
def test_value_and_gradient_do_not_depend_on_the_order_in_memory(form, target):
    loss = losses.softmax_cross_entropy(**form, reduction="none")
    (value, cache), (expected, plain) = (loss.forward(x, target) for x in (BY_ROWS, X))
    assert same_number(value, expected)
    g = keys.normal(lf.Key(2), tuple(value.shape)).double()
    dx = loss.backward(cache, g)
    assert same_number(dx, loss.backward(plain, g))
    assert dx.stride() == BY_ROWS.stride()


# Losses at the ends of a dtype's range: sums that overflow, lengths and numbers that vanish.


t = torch.tensor


def both(loss, prediction, target):
    value, cache = loss.forward(prediction, target)
    return value, loss.backward(cache, torch.ones_like(value))


@pytest.mark.parametrize("p", [2.0, 8.0, 10.0, 40.0])
def test_a_short_distance_has_a_direction_in_every_norm(p):
    # The anchor is the positive, so u is eps, whose power is 0 in float32.
    x = torch.zeros(2, 2), torch.zeros(2, 2), t([[0.3, 0.3], [5.3, 5.3]])
    value, gradients = both(losses.triplet_margin(p=p, reduction="sum"), x, None)
    slope = 2.0 ** (1 / p) / 2  # of a vector (u, u); the second triplet has z < 0
    assert same_number(value, t(1 - 0.6 * slope), error=1e-5)
    expected = (t([[end * slope] * 2, [0.0, 0.0]]) for end in (2, -1, -1))
    assert same_number(gradients, tuple(expected), error=1e-5)
    swapped = both(losses.triplet_margin(p=p, swap=True, reduction="sum"), x, None)[1]
    assert torch.stack(swapped).isfinite().all()
    assert not torch.stack(swapped)[:, 1].any()


@pytest.mark.parametrize("length", [1e-25, 1e25])
def test_a_distance_whose_square_is_out_of_range_has_a_direction(length):
    x = torch.zeros(1, 2), t([[3.0, 4.0]]) * length, torch.zeros(1, 2)
    loss = losses.triplet_margin(eps=0.0)
    value, (da, dp, dn) = both(loss, x, None)
    assert same_number((value, (da, dp)), (t(1 + 5 * length), (t([[-0.6, -0.8]]), t([[0.6, 0.8]]))))
    assert not dn.any()


def test_an_infinitely_far_negative_has_no_gradient():
    x = torch.zeros(1, 2), torch.zeros(1, 2), t([[torch.inf, 0.0]])
    value, gradients = both(losses.triplet_margin(), x, None)
    assert value == 0
    assert not torch.cat(gradients).any()


@pytest.mark.parametrize("g", [1.0, torch.ones((), dtype=torch.float16)])
def test_a_mean_over_more_than_65504_rows_of_float16(g):
    n = 70_000
    z = torch.full((n, 1), -1000.0, dtype=torch.float16)
    loss = losses.kl_div(reduction="batchmean")
    value, cache = loss.forward(z, torch.ones_like(z))
    dz = loss.backward(cache, g)
    assert same_number(value, t(1000.0, dtype=torch.float16))
    assert value.dtype is dz.dtype is torch.float16
    # A number of that size is a multiple of 2^-24.
    assert same_number(dz, torch.full_like(z, -1 / n), terms=2.0**-14)
    assert dz.all()


def test_ctcs_divisor_may_be_above_65504():
    n = 66_000
    z = torch.full((1, n, 2), -1.0, dtype=torch.float16)
    labels, lengths = torch.ones(n, 1, dtype=torch.long), (torch.ones(n, dtype=torch.long),) * 2
    loss = losses.ctc()
    exact, of_exact = loss.forward(z.double(), (labels, *lengths))
    value, cache = loss.forward(z, (labels, *lengths))
    assert same_number(value, exact, dtype=torch.float16)
    dz = loss.backward(cache)
    assert value.dtype is dz.dtype is torch.float16
    assert same_number(dz, loss.backward(of_exact), terms=2.0**-14, dtype=torch.float16)
    assert dz.any()
    weighted = losses.example_weighted(loss)
    target = (labels, *lengths), torch.ones(n, dtype=torch.float16)
    assert same_number(weighted.forward(z, target)[0], exact, dtype=torch.float16)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_reinforces_baseline_of_more_than_65504_actions_of_float16(baseline):
    z = torch.full((66_000,), -0.5, dtype=torch.float16)
    returns = torch.where(torch.arange(66_000) % 2 == 0, 3.0, 1.0).to(z.dtype)
    loss = losses.reinforce(baseline=baseline, reduction="none")
    value, dz = both(loss, z, returns)
    assert same_number((value, dz), (0.5 * (returns - 2), 2 - returns))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dice_of_a_large_image_in_half_precision(dtype):
    p = torch.full((1, 1, 400, 400), 0.75, dtype=dtype)
    loss = losses.dice()
    value, dp = both(loss, p, torch.ones_like(p))
    # i = 3/4 N, u = 7/4 N and D = 6/7, so dp = -(2 - 6/7) / (7/4 N).
    assert same_number(value, t(1 / 7, dtype=dtype))
    assert same_number(dp, torch.full_like(p, -(8 / 7) / (7 / 4 * 160_000)), terms=2.0**-14)
    assert dp.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cosine_embedding_in_half_precision(dtype):
    x1 = t([[300.0, 400.0], [0.0, 0.0], [0.01, 0.0]], dtype=dtype)
    x2 = t([[400.0, 300.0], [3.0, 4.0], [0.01, 0.0]], dtype=dtype)
    loss = losses.cosine_embedding(reduction="none")
    y = torch.ones(3)
    value, (dx1, dx2) = both(loss, (x1, x2), y)
    exact, (dx1_exact, dx2_exact) = both(loss, (x1.double(), x2.double()), y)
    assert value.dtype is dx1.dtype is dx2.dtype is dtype
    assert same_number(value, exact, dtype=dtype)
    for given, expected in ((dx1, dx1_exact), (dx2, dx2_exact)):
        for row in (0, 2):
            terms = 1 / x1[row].double().norm()
            assert same_number(given[row], expected[row], terms=terms, dtype=dtype)
    # The slope of a vector of zeros, 6e5, is beyond float16.
    assert dx1[1].tolist() == dx1_exact[1].to(dtype).tolist()
    assert not dx2[1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_poissons_rate_of_0_costs_nothing_where_nothing_was_counted(dtype):
    zero = torch.zeros(1, dtype=dtype)
    value, dx = both(losses.poisson_nll(log_input=False), zero, zero)
    assert (value, dx) == (0, 1)


@pytest.mark.parametrize("loss", [losses.router_z(), losses.router_balance()])
@pytest.mark.parametrize("hidden", [torch.nan, torch.inf, -torch.inf])
def test_routers_of_tokens_that_do_not_count_may_say_anything(loss, hidden):
    z, mask = t([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0], [2.0, 1.0, 0.0]]), t([True, False, True])
    given = torch.where(mask.unsqueeze(-1), z, hidden)
    expected, slope = both(loss, z[mask], None)
    value, dz = both(loss, (given, given), mask)
    assert same_number(value, expected)
    for of_router in dz:
        assert same_number(of_router[mask], slope / 2)
        assert not of_router[~mask].any()


def test_grpos_answer_of_more_than_65504_tokens_of_float16():
    z = torch.full((1, 2, 70_000), -1.0, dtype=torch.float16)
    loss = losses.grpo(beta=0.0, scale_rewards=False)
    value, dz = both(loss, z, (t([[100.0, -100.0]]), z))
    assert same_number(value, t(0.0, dtype=torch.float16), terms=50.0)
    expected = t([[-25 / 35_000], [25 / 35_000]], dtype=torch.float16).expand(2, 70_000)
    assert same_number(dz[0], expected, terms=2.0**-10)


# A loss without its check of predictions, which a step has after its first batch.


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_loss_gives_the_same_and_only_one_that_checks_predictions_changes(row):
    for loss in map(row.loss, REDUCTIONS):
        other, formula = unchecked(loss), formula_of(loss)
        assert (other is loss) is (formula is None or formula.check is None)
        assert repr(other) == repr(loss)
        results = []
        for each in (other, loss):
            value, cache = each.forward(row.prediction, row.target)
            results.append((value, each.backward(cache, value)))
        assert same_bits(*results)
        mine = attrs.evolve(loss, backward=lambda cache, g=1.0: g)
        assert unchecked(mine) is mine


def test_what_is_no_probability_is_refused_by_the_check_alone():
    loss, p, target = lf.losses.nll(), torch.ones(2, 3), torch.tensor([0, 1])
    weighted = lf.losses.weighted({"a": (1.0, loss)})
    for each, given, labels in ((loss, p, target), (weighted, (p,), (target,))):
        assert_says("expected log-probabilities, at most 0", each.forward, given, labels)
        assert unchecked(each).forward(given, labels)[0].isfinite().all()
