"""A faster loss checks no prediction; and cross-entropy keeps the order of its logits in memory."""

import attrs
import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.losses import REDUCTIONS, TABLE

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.fastpath.table import fast_loss
from lincoln_fn.losses.common.reduction import formula_of


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_loss_gives_the_same_and_only_one_that_checks_predictions_changes(row, reduction):
    loss = row.loss(reduction)
    fast = fast_loss(loss)
    formula = formula_of(loss)
    assert (fast is loss) is (formula is None or formula.check is None)
    assert repr(fast) == repr(loss)
    (value, cache), (expected, its) = (
        each.forward(row.prediction, row.target) for each in (fast, loss)
    )
    assert same_bits((value, fast.backward(cache, value)), (expected, loss.backward(its, expected)))
    mine = attrs.evolve(loss, backward=lambda cache, g=1.0: g)
    assert fast_loss(mine) is mine


def test_what_is_no_probability_is_refused_by_the_formula_alone():
    loss, p, target = losses.nll(), torch.ones(2, 3), torch.tensor([0, 1])
    weighted = losses.weighted({"a": (1.0, loss)})
    for each, given, labels in ((loss, p, target), (weighted, (p,), (target,))):
        with pytest.raises(lf.LayerError, match="expected log-probabilities, at most 0"):
            each.forward(given, labels)
        assert fast_loss(each).forward(given, labels)[0].isfinite().all()


X = keys.normal(lf.Key(0), (2, 5, 3, 4)).double()
BY_ROWS = X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
LABELS = (torch.arange(24) % 5).view(2, 3, 4)
SOME_IGNORED = torch.where(LABELS == 2, -100, LABELS)
PROBABILITIES = torch.softmax(keys.normal(lf.Key(1), (2, 5, 3, 4)).double(), 1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]).double()


@pytest.mark.parametrize("form", [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("target", [LABELS, SOME_IGNORED, PROBABILITIES], ids=["l", "i", "p"])
def test_value_and_gradient_do_not_depend_on_the_order_in_memory(form, target):
    loss = losses.softmax_cross_entropy(**form, reduction="none")
    (value, cache), (expected, plain) = (loss.forward(x, target) for x in (BY_ROWS, X))
    assert same_number(value, expected)
    g = keys.normal(lf.Key(2), tuple(value.shape)).double()
    dx = loss.backward(cache, g)
    assert same_number(dx, loss.backward(plain, g))
    assert dx.stride() == BY_ROWS.stride()


@pytest.mark.parametrize("make", [losses.nll, losses.softmax_cross_entropy, losses.cross_entropy])
def test_labels_of_weight_1_are_those_of_a_tensor_of_ones(make):
    p = X.softmax(1) if make is losses.cross_entropy else X.log_softmax(1)
    for target in (LABELS, SOME_IGNORED):
        results = []
        for weight in (None, torch.ones(5)):
            loss = make(weight=weight)
            value, cache = loss.forward(p, target)
            results.append((value, loss.backward(cache)))
        assert same_number(*results)
