"""Hessian- and Gauss-Newton-vector products, held against autograd's double backward."""

import pytest
import torch
from helpers import FIRST, cast, largest, same_bits, same_number
from helpers.compositions import random_like

import lincoln_fn as lf


def floating(tree):
    return [leaf for leaf in lf.tree.leaves(tree) if leaf.is_floating_point()]


# Neither quadratic nor convex: sum y^3 / 6 + y^2.
CUBIC = lf.Loss(
    "cubic()",
    lambda y, target: (sum((leaf**3 / 6 + leaf**2).sum() for leaf in floating(y)), y),
    lambda y, g=1.0: lf.tree.map(
        lambda leaf: g * (leaf**2 / 2 + 2 * leaf) if leaf.is_floating_point() else leaf, y
    ),
)


def with_leaves(params, leaves):
    these = iter(leaves)
    return lf.tree.map(lambda _: next(these), params)


def oracle(net, params, x, v):
    """Compute H v and G v by autograd through the forward pass alone."""
    leaves = [leaf.clone().requires_grad_() for leaf in lf.tree.leaves(params)]
    ys = floating(net.forward(with_leaves(params, leaves), x)[0])
    ys = [y for y in ys if y.requires_grad]
    value = sum((y**3 / 6 + y**2).sum() for y in ys)
    along = lf.tree.leaves(v)

    def grad(outputs, inputs, weights=None, **options):
        return torch.autograd.grad(
            outputs, inputs, weights, allow_unused=True, materialize_grads=True, **options
        )

    grads = grad(value, leaves, create_graph=True)
    slope = sum((g * t).sum() for g, t in zip(grads, along, strict=True))
    hessian = grad(slope, leaves, retain_graph=True) if slope.requires_grad else along
    # J v is the derivative of J^T u in u, along v.
    us = [torch.zeros_like(y, requires_grad=True) for y in ys]
    pulled = grad(ys, leaves, us, create_graph=True)
    j_v = grad(sum((p * t).sum() for p, t in zip(pulled, along, strict=True)), us)
    h_j_v = [(y.detach() + 2) * t for y, t in zip(ys, j_v, strict=True)]
    return hessian, grad(ys, leaves, h_j_v)


# torch nests no forward mode in another one.
TRAINED = [c for c in FIRST if lf.tree.leaves(c.params()) and not c.layer.name.startswith("jvp")]


# Each backward has its derivative in layers/test_transforms_of_layers.py.
@pytest.mark.full(but=("[dense(4)-5x3", "[conv2d", "[lstm(", "[multi_head", "[shared"))
@pytest.mark.parametrize("case", TRAINED, ids=str)
def test_products_equal_autograd_for_every_layer(case):
    params, x = cast(case.params()), cast(case.x)
    v = random_like(params, 300)
    hessian, gauss_newton = oracle(case.layer, params, x, v)
    for function, wanted in (
        (lf.curvature.hessian_vector_product, hessian),
        (lf.curvature.gauss_newton_vector_product, gauss_newton),
    ):
        got = lf.tree.leaves(function(case.layer, params, x, CUBIC, None, v))
        # The key's bias of attention has no effect: its sums cancel. A fixed point is reached in
        # 200 steps of some twenty roundings.
        wanted = tuple(wanted)
        assert same_number(tuple(got), wanted, terms=largest(wanted), length=4000)


@pytest.mark.full(but=("[dense(4)-5x3", "[conv2d", "[lstm("))
@pytest.mark.parametrize("case", TRAINED, ids=str)
def test_products_in_float32_run_through_the_fast_functions(case):
    params, x = case.params(), case.x
    v = random_like(params, 300)
    for function in (lf.curvature.hessian_vector_product, lf.curvature.gauss_newton_vector_product):
        got = function(case.layer, params, x, CUBIC, None, v)
        exact = function(case.layer, cast(params), cast(x), CUBIC, None, cast(v))
        assert {leaf.dtype for leaf in lf.tree.leaves(got)} == {torch.float32}
        assert same_number(got, exact, dtype=torch.float32)


def test_frozen_parameters_and_states_are_no_part_of_the_curvature():
    net = lf.serial(lf.frozen(lf.dense(4)), lf.dropout(0.4), lf.batch_norm(), lf.dense(2))
    x = lf.keys.normal(lf.Key(1), (6, 3)).double()
    params = net.init(lf.Key(0), x)
    v = random_like(params, 30)
    got = lf.curvature.hessian_vector_product(net, params, x, CUBIC, None, v)
    assert lf.tree.same_structure(got, params)
    hessian, _ = oracle(net, params, x, v)
    assert same_number(tuple(lf.tree.leaves(got)), hessian)


def test_nothing_given_is_changed_and_the_result_has_no_tangent():
    net, x = lf.serial(lf.dense(4), lf.relu(), lf.dense(2)), lf.keys.normal(lf.Key(1), (6, 3))
    params = net.init(lf.Key(0), x)
    v = random_like(params, 30)
    before = [leaf.clone() for leaf in lf.tree.leaves((params, v, x))]
    first, second = (
        lf.curvature.hessian_vector_product(net, params, x, CUBIC, None, v) for _ in range(2)
    )
    assert same_bits((before, first), (lf.tree.leaves((params, v, x)), second))
    assert not any(leaf.requires_grad for leaf in lf.tree.leaves(first))
    with torch.autograd.forward_ad.dual_level():
        for leaf in lf.tree.leaves((params, first)):
            assert torch.autograd.forward_ad.unpack_dual(leaf).tangent is None


NUMBERS = (lf.layers.dense.Params(1.0, 1.0),)


@pytest.mark.parametrize("v", [(), (torch.zeros(3, 2),), torch.zeros(2), 3.0, [1, 2], NUMBERS])
def test_a_vector_that_does_not_mirror_params_is_refused(v):
    net, x = lf.serial(lf.dense(2)), torch.zeros(4, 3)
    params = net.init(lf.Key(0), x)
    with pytest.raises(lf.LayerError, match="product: expected v to mirror params"):
        lf.curvature.gauss_newton_vector_product(net, params, x, CUBIC, None, v)


def test_a_wrong_order_names_the_right_one():
    net, x = lf.dense(2), torch.zeros(4, 3)
    params = net.init(lf.Key(0), x)
    with pytest.raises(lf.LayerError, match=r"the order is .*\(net, params, x, loss, target, v\)"):
        lf.curvature.hessian_vector_product(net, params, CUBIC, x, None, params)
