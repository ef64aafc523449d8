"""A loss without its check of predictions, which a step has after its first batch."""

import attrs
import pytest
import torch
from helpers import assert_says, same_bits
from helpers.losses import REDUCTIONS, TABLE

import lincoln_fn as lf
from lincoln_fn.losses.internal import formula_of, unchecked


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
