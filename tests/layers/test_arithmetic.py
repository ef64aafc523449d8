"""What the table of cases cannot say of primitives: ties, kinks, zeros, extremes, wrong inputs."""

import math

import pytest
import torch
from helpers import cast, run, same_bits
from helpers.refusals import refusals

import lincoln_fn as lf

INF = math.inf
TIES = torch.tensor([[2.0, -1.0, 2.0, 2.0], [0.0, 0.0, -0.0, -3.0], [0.0, 0.0, 0.0, 0.0]])
OTHER = torch.tensor([[2.0, 3.0, -2.0, 2.0], [0.0, -1.0, 0.0, -3.0], [1.0, 0.0, -1.0, 0.0]])
# At the points where a slope is a choice, torch's, by the function of torch.
KINKS = [
    (lf.absolute(), (TIES,), torch.abs),
    (lf.clamp(-1.0, 2.0), (TIES,), lambda x: x.clamp(-1.0, 2.0)),
    (lf.clamp(min=0.0), (TIES,), lambda x: x.clamp(min=0.0)),
    (lf.sqrt(), (TIES.abs(),), torch.sqrt),
    (lf.power(0), (TIES,), lambda x: x**0),
    (lf.power(1), (TIES,), lambda x: x**1),
    (lf.power(0.5), (TIES.abs(),), lambda x: x**0.5),
    (lf.reciprocal(), (TIES,), torch.reciprocal),
    (lf.amax(), (TIES,), torch.amax),
    (lf.amax(1), (TIES,), lambda x: x.amax(1)),
    (lf.norm(dim=1), (TIES,), lambda x: x.norm(dim=1)),
    (lf.norm(1, dim=1), (TIES,), lambda x: x.norm(1, dim=1)),
    (lf.logsumexp(1), (torch.tensor([[-INF, -INF], [-INF, 1.0]]),), lambda x: x.logsumexp(1)),
    (lf.variance(1), (TIES,), lambda x: x.var(1)),
    (lf.maximum(), (TIES, OTHER), torch.maximum),
    (lf.divide(), (OTHER, TIES), torch.divide),
]


@pytest.mark.parametrize(("layer", "x", "function"), KINKS, ids=[str(row[0]) for row in KINKS])
def test_ties_kinks_and_zeros_have_torchs_slope(layer, x, function):
    y, dx, _ = run(layer, (), x if len(x) > 1 else x[0], torch.ones_like)
    given = [leaf.clone().requires_grad_() for leaf in x]
    theirs = function(*given)
    expected = torch.autograd.grad(theirs, given, torch.ones_like(theirs))
    assert torch.allclose(y, theirs, equal_nan=True, atol=0, rtol=1e-6)
    for ours, slope in zip(dx if len(x) > 1 else (dx,), expected, strict=True):
        assert torch.allclose(ours, slope, equal_nan=True, atol=0, rtol=1e-6)


def test_what_is_not_selected_gets_0_even_where_it_is_not_finite():
    a, b = torch.tensor([1.0, INF]), torch.tensor([math.nan, 2.0])
    y, dx, _ = run(lf.where(), (), (torch.tensor([True, False]), a, b), torch.tensor([3.0, 4.0]))
    assert y.tolist() == [1.0, 2.0]
    assert [dx[0], dx[1].tolist(), dx[2].tolist()] == [None, [3.0, 0.0], [0.0, 4.0]]


UP_TO_1E4 = torch.tensor([m * 10.0**n for n in range(-4, 5) for m in (1, 3.3)][:-1])
BOTH = torch.cat([UP_TO_1E4, -UP_TO_1E4])
ROWS = torch.cartesian_prod(BOTH, BOTH)
EXTREMES = [
    (lf.exp(), BOTH.clamp(max=80.0)), (lf.log(), UP_TO_1E4), (lf.sqrt(), UP_TO_1E4),
    (lf.power(3), BOTH), (lf.power(-1.5), UP_TO_1E4), (lf.reciprocal(), BOTH), (lf.sin(), BOTH),
    (lf.cos(), BOTH), (lf.absolute(), BOTH), (lf.logsumexp(1), ROWS), (lf.norm(dim=1), ROWS),
    (lf.norm(3, dim=1), ROWS), (lf.amax(1), ROWS), (lf.divide(), (ROWS[:, 0], ROWS[:, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "x"), EXTREMES, ids=[str(row[0]) for row in EXTREMES])
def test_float32_is_as_good_as_float32_allows(layer, x):
    results = (lf.tree.leaves(run(layer, (), t, torch.ones_like)) for t in (x, cast(x)))
    for single, double in zip(*results, strict=True):
        error = (single.double() - double).abs()
        # Near a zero of a sum, such as y of logsumexp, the rounding of its terms is left.
        assert (error <= 1e-5 * double.abs() + 2.0**-22).all(), error.max()


test_wrong_inputs_are_told = refusals("""
sum(2).forward((), TIES) -> ^sum: expected x to have an axis dim=2, got shape (3, 4)$
mean((0, -2)).forward((), TIES) -> ^mean: expected different axes, got dim=(0, -2) for 2 axes$
amax().forward((), torch.zeros(0)) -> ^amax: expected at least one element, got shape (0,)$
variance(0).forward((), torch.zeros(1, 3)) -> ^variance: expected more than 1 elements, got 1 for
    correction=1$
subtract().forward((), (TIES, TIES[0])) -> ^subtract: expected inputs of one shape, got (3, 4),
    (4,)$
divide().forward((), (TIES,) * 3) -> ^divide: expected x to be (a, b), got 3 tensors$
where().forward((), (TIES,) * 3) -> ^where: expected the condition to be a tensor of bools, got
    torch.float32$
matmul().forward((), (TIES, OTHER)) -> ^matmul: expected x to be (a, b) of shapes (..., n, k) and
    (..., k, m), got (3, 4) and (3, 4)$
broadcast_tensors().forward((), (TIES, torch.zeros(3))) -> ^broadcast_tensors: expected shapes that
    fit together, from the last axis, got (3, 4), (3,)$
broadcast_to(2, 4).forward((), TIES) -> ^broadcast_to: expected x of a shape that fits (2, 4), got
    (3, 4)$
logsumexp().forward((), torch.zeros(0)) -> ^logsumexp: expected at least one element, got (0,)$
split((1, 1)).forward((), TIES) -> ^split: expected sizes that add up to 3, got (1, 1)$
gather(1).forward((), (TIES, torch.tensor([[0, 7]]))) -> ^gather: expected indices from 0 to 3, got
    7$
gather(0).forward((), (TIES, torch.zeros(1, 5, dtype=torch.int64))) -> ^gather: expected an index no
    larger than x but along axis 0, got (3, 4) and (1, 5)$
gather(0).forward((), (TIES, OTHER)) -> ^gather: expected index to be a tensor of integers, got
    torch.float32$
""")


def test_a_split_undoes_a_stack_and_dilate_is_a_convolutions_stride():
    x = lf.keys.normal(lf.Key(0), (2, 3, 5)), lf.keys.normal(lf.Key(1), (2, 3, 5))
    apart = lf.serial(lf.stack(2), lf.split(1, dim=2)).predict(((), ()), x)
    assert same_bits([each.squeeze(2) for each in apart], list(x))
    w = lf.keys.normal(lf.Key(2), (4, 3, 2))
    strided = torch.nn.functional.conv_transpose1d(x[0], w.transpose(0, 1), stride=3)
    plain = torch.nn.functional.conv_transpose1d(lf.dilate(3).predict((), x[0]), w.transpose(0, 1))
    assert torch.allclose(strided, plain, atol=1e-5)
