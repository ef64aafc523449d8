"""Every loss in every configuration, against torch's module of the same name."""

import itertools

import pytest
import torch
from helpers import cast
from helpers.losses import REDUCTIONS, TABLE

import lincoln_fn as lf

# torch warns of its own kl_div that "mean" is not the divergence.
pytestmark = pytest.mark.filterwarnings("ignore:reduction:UserWarning")


EVERY = pytest.mark.parametrize("row", TABLE, ids=str)


def both(row, reduction, prediction, target, reference=None):
    """Give our value and gradients, and torch's, for one random cotangent."""
    loss = row.loss(reduction)
    value, cache = loss.forward(prediction, target)
    g = lf.keys.normal(lf.Key(5), tuple(value.shape), dtype=value.dtype)
    gradients = lf.tree.leaves(loss.backward(cache, g))
    assert {each.dtype for each in (value, *gradients)} == {lf.tree.leaves(prediction)[0].dtype}
    like = (prediction, target) if reference is None else cast((prediction, target), reference)
    expected, slopes = row.expected(reduction, *like, g.to(lf.tree.leaves(like)[0].dtype))
    return (value, *gradients), (expected, *slopes)


def assert_agree(ours, theirs, tolerance):
    for given, expected in zip(ours, theirs, strict=True):
        assert given.shape == expected.shape
        assert torch.isfinite(given).all()
        difference = (given.double() - expected.double()).abs().max()
        assert difference <= tolerance * expected.double().abs().max() + 1e-14


@pytest.mark.whole
@EVERY
def test_agrees_with_torch(row):
    for reduction in row.reductions:
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            prediction, target = cast((row.prediction, row.target), dtype)
            assert_agree(*both(row, reduction, prediction, target), tolerance)


@EVERY
def test_other_numbers_agree_with_torch(row):
    """In bfloat16, not contiguous, one example, and scores of ten thousand."""
    given = row.prediction, row.target
    # Of so many results at most.
    tolerance = 8 * torch.finfo(torch.bfloat16).eps
    assert_agree(*both(row, "mean", *cast(given, torch.bfloat16), torch.float64), tolerance)
    spaced = lf.tree.map(lambda leaf: leaf.unsqueeze(-1).repeat_interleave(2, -1)[..., 0], given)
    assert_agree(*both(row, "mean", *spaced), 1e-5)
    # Several inputs are never equal, for there a ranking has a kink.
    sizes = iter((1e4, 8e3, 6e3))
    far = lf.tree.map(
        lambda leaf: next(sizes) * leaf.sign() * (0.5 + torch.arange(leaf.shape[-1])),
        row.prediction,
    )
    for reduction in REDUCTIONS:
        if row.batched:
            one = lf.tree.map(lambda leaf: leaf[:1], given)
            assert_agree(*both(row, reduction, *one), 1e-5)
        if row.wide:
            assert_agree(*both(row, reduction, far, row.target, torch.float64), 1e-5)


@EVERY
def test_shapes_are_found_without_values(row):
    prediction, target = lf.tree.map(lambda leaf: leaf.to("meta"), (row.prediction, row.target))
    for reduction in REDUCTIONS:
        loss = row.loss(reduction)
        value, cache = loss.forward(prediction, target)
        expected = loss.forward(row.prediction, row.target)[0]
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
        gradients = lf.tree.leaves(loss.backward(cache))
        shapes = [(leaf.shape, leaf.dtype) for leaf in lf.tree.leaves(prediction)]
        assert [(leaf.shape, leaf.dtype) for leaf in gradients] == shapes


# As many classes as scores, or as rows of a matrix.
FIT = {("multi_margin(p=2)", 0), ("linear_cross_entropy(chunk_size=2)", 1)}


# `identity` has one tensor, of any shape.
@pytest.mark.parametrize("row", [row for row in TABLE if row.name != "identity"], ids=str)
def test_tensors_that_do_not_fit_together_are_refused_by_name(row):
    both = row.prediction, row.target
    for i, leaf in enumerate(lf.tree.leaves(both)):
        for wrong in (torch.cat([leaf, leaf]), leaf.float().sum()) if leaf.ndim else ():
            places = itertools.count()
            given = lf.tree.map(lambda t, w=wrong, i=i, n=places: w if next(n) == i else t, both)
            if (str(row), i) not in FIT or not wrong.ndim:
                with pytest.raises(lf.LayerError, match=f"^{row.name}: expected "):
                    row.loss("mean").forward(*given)
