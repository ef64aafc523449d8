"""Every faster loss against its formula, in every case; and which losses are left alone."""

from functools import partial

import attrs
import pytest
import torch
from helpers.compare import same_number
from helpers.losses import REDUCTIONS, TABLE, to

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.fastpath.losses import Picked, Rows, fast_loss
from lincoln_fn.losses.common.reduction import formula_of

FAST = ("nll", "softmax_cross_entropy")
CASES = [
    pytest.param(row.loss(reduction), row.prediction, row.target, id=f"{row}-{reduction}")
    for row in TABLE
    if row.name in FAST
    for reduction in REDUCTIONS
]


def answers(loss, prediction, target):
    value, cache = loss.forward(prediction, target)
    g = keys.normal(lf.Key(5), tuple(value.shape), dtype=value.dtype)
    return value, loss.backward(cache, g)


def assert_same(loss, prediction, target):
    given, expected = (answers(each, prediction, target) for each in (fast_loss(loss), loss))
    assert same_number(given, expected)


@pytest.mark.parametrize(("loss", "prediction", "target"), CASES)
def test_a_faster_loss_is_its_formula(loss, prediction, target):
    assert repr(fast_loss(loss)) == repr(loss)
    assert formula_of(fast_loss(loss)).forward.func is not formula_of(loss).forward.func
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        assert_same(loss, *to(dtype, (prediction, target)))
    assert_same(loss, prediction.repeat_interleave(2, -1)[..., ::2], target)


@pytest.mark.parametrize("row", [row for row in TABLE if row.name in FAST and row.wide], ids=str)
def test_at_scores_of_ten_thousand(row):
    for reduction in REDUCTIONS:
        assert_same(row.loss(reduction), 1e4 * row.prediction, row.target)


def doubled(formula, cache, g=1.0):
    return 2 * formula.backward(cache.formula, g)


def test_what_is_a_users_own_is_left_alone():
    for name in losses.__all__:
        if name.islower() and name not in (*FAST, "example_weighted", "through", "weighted"):
            loss = getattr(losses, name)()
            formula = formula_of(loss)
            if formula is None or formula.check is None:
                assert fast_loss(loss) is loss
            else:
                assert formula_of(fast_loss(loss)).forward is formula.forward
    for name in FAST:
        loss = getattr(losses, name)()
        assert fast_loss(loss) is not loss
        assert fast_loss(fast_loss(loss)) is not None
        mine = attrs.evolve(loss, backward=lambda cache, g=1.0: g)
        assert fast_loss(mine) is mine
        mine = attrs.evolve(loss, backward=partial(doubled, formula_of(loss)))
        assert fast_loss(mine) is mine
        mine = attrs.evolve(loss, forward=lambda x, target: (x, target))
        assert fast_loss(mine) is mine
        other = attrs.evolve(loss, backward=getattr(losses, name)().backward)
        assert fast_loss(other) is other
    mine = lf.Loss("nll()", lambda x, target: (x, target), lambda cache, g=1.0: g)
    assert fast_loss(mine) is mine


X = keys.normal(lf.Key(0), (2, 5, 3, 4)).double()
BY_ROWS = X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
LABELS = (torch.arange(24) % 5).view(2, 3, 4)
SOME_IGNORED = torch.where(LABELS == 2, -100, LABELS)
PROBABILITIES = torch.softmax(keys.normal(lf.Key(1), (2, 5, 3, 4)).double(), 1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]).double()

FORMS = [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}, {"weight": WEIGHT, "ignore_index": 3}]
TARGETS = {"labels": LABELS, "some ignored": SOME_IGNORED, "probabilities": PROBABILITIES}
ROW_CASES = [
    (form, target)
    for form in FORMS
    for target in TARGETS
    if (target == "labels" or "ignore_index" not in form)
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("form", "target"), ROW_CASES, ids=str)
def test_value_and_gradient_do_not_depend_on_the_order_in_memory(form, target, reduction):
    loss = losses.softmax_cross_entropy(**form, reduction=reduction)
    target = TARGETS[target]
    value, cache = fast_loss(loss).forward(BY_ROWS, target)
    expected, plain = fast_loss(loss).forward(X, target)
    assert isinstance(cache.formula, Rows)
    assert not isinstance(plain.formula, Rows)
    assert same_number(value, expected)
    g = keys.normal(lf.Key(2), tuple(value.shape)).double()
    dx = fast_loss(loss).backward(cache, g)
    assert same_number(dx, fast_loss(loss).backward(plain, g))
    assert dx.stride() == BY_ROWS.stride()
    assert_same(loss, BY_ROWS, target)
    lf.testing.check_loss(fast_loss(loss), BY_ROWS, target)


def test_one_class_and_far_apart_logits_are_the_same_by_rows():
    for x in (X[:, :1], X * 1e4):
        rows = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        target = LABELS * (x.shape[1] > 1)
        loss = fast_loss(losses.softmax_cross_entropy())
        (value, cache), (expected, plain) = loss.forward(rows, target), loss.forward(x, target)
        assert same_number((value, loss.backward(cache)), (expected, loss.backward(plain)))


def test_what_is_weighted_or_ignored_is_left_to_the_formula():
    for loss, target, is_plain in (
        (losses.nll(), LABELS, True),
        (losses.nll(), SOME_IGNORED, False),
        (losses.nll(weight=WEIGHT), LABELS, False),
    ):
        _, cache = fast_loss(loss).forward(X, target)
        assert isinstance(cache.formula, Picked) is is_plain


@pytest.mark.parametrize("target", [
    LABELS[:, :2], LABELS.view(2, 12), LABELS.double(), PROBABILITIES[:, :4], LABELS + 1,
    LABELS - 1, torch.full_like(LABELS, -100),
], ids=lambda target: f"{target.dtype} {tuple(target.shape)} from {target.min():.0f}")  # fmt: skip
@pytest.mark.parametrize("name", FAST)
def test_errors_are_the_formulas(name, target):
    loss = getattr(losses, name)()
    with pytest.raises(lf.LayerError) as expected:
        loss.forward(X, target)
    for x in (X, BY_ROWS):
        with pytest.raises(lf.LayerError) as raised:
            fast_loss(loss).forward(x, target)
        assert str(raised.value) == str(expected.value)


def test_a_wrong_target_has_the_formulas_message():
    x, target = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, dtype=torch.long)
    loss, said = losses.softmax_cross_entropy(dim=-1), []
    for each in (loss, fast_loss(loss)):
        with pytest.raises(lf.LayerError, match=r"of shape \(2, 3\) for prediction") as raised:
            each.forward(x, target)
        said.append(str(raised.value))
    assert said[0] == said[1]
