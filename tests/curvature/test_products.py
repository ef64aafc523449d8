"""Hessian- and Gauss-Newton-vector products, and the exact diagonal, held against autograd."""

import pytest
import torch
from helpers import CASES, FIRST, cast, largest, same_bits, same_number
from helpers.cases.case import random_like
from helpers.one_by_one import with_leaves
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.curvature.columns import columns
from lincoln_fn.curvature.diagonal import square_sums
from lincoln_fn.curvature.duals import fast_for_columns


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


NET, X = lf.serial(lf.dense(2)), torch.zeros(4, 3)
PARAMS = NET.init(lf.Key(0), X)


def along(v, *given):
    lf.curvature.gauss_newton_vector_product(NET, PARAMS, *(given or (X, CUBIC)), None, v)


test_a_vector_that_does_not_mirror_params_and_a_wrong_order_are_refused = refusals("""
along(()) -> product: expected v to mirror params
along((torch.zeros(3, 2),)) -> product: expected v to mirror params
along(torch.zeros(2)) -> product: expected v to mirror params
along(3.0) -> product: expected v to mirror params
along([1, 2]) -> product: expected v to mirror params
along((lf.layers.dense.Params(1.0, 1.0),)) -> product: expected v to mirror params
along(PARAMS, CUBIC, X) -> the order is ... (net, params, x, loss, target, v)
""")


SUM = lf.losses.mse(reduction="sum")


def by_autograd(net, params, x, g):
    """Compute the sum of the squared gradients of each column and each example."""
    leaves = [leaf.clone().requires_grad_() for leaf in lf.tree.leaves(params)]
    y, _ = net.forward(with_leaves(params, leaves), x)
    totals = [torch.zeros_like(leaf) for leaf in leaves]
    for column in g:
        for output, its in zip(y, column, strict=True):
            each = torch.autograd.grad(
                output, leaves, its, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            totals = [total + d.detach() ** 2 for total, d in zip(totals, each, strict=True)]
    return totals


def of_squared_error(y):
    """List the columns of the Hessian of a sum of squares, 2 I."""
    size = y[0].numel()
    return 2**0.5 * torch.eye(size).to(y).reshape(size, 1, *y.shape[1:]).expand(-1, *y.shape)


def has_examples(case):
    """Return whether a case is trained, has a batch on axis 0 of one y, and mixes no examples."""
    params, x = cast(case.params()), cast(case.x)
    if not lf.tree.leaves(params):
        return False
    y, cache = case.layer.forward(params, x)
    if not isinstance(y, torch.Tensor) or y.ndim < 2:
        return False
    try:
        lf.per_example.gradients(case.layer, params, cache, torch.ones_like(y))
    except lf.LayerError:
        return False
    return True


@pytest.mark.parametrize("case", CASES, ids=str)
def test_squares_and_the_diagonal_equal_autograds_for_every_layer(case):
    if not has_examples(case):
        return
    net, params, x = case.layer, cast(case.params()), cast(case.x)
    y, cache = net.forward(params, x)
    g = lf.keys.normal(lf.Key(40), (3, *y.shape)).double()
    fast = fast_for_columns(net)
    cache = fast.forward(params, x)[1]
    given, expected = square_sums(fast, params, cache, g), by_autograd(net, params, x, g)
    # The gradient of the keys' bias cancels.
    assert same_number(lf.tree.leaves(given), expected, terms=largest(expected))
    if y[0].numel() <= 12:
        got = lf.curvature.ggn_diagonal(net, params, x, SUM, torch.zeros_like(y))
        assert same_number(lf.tree.leaves(got), by_autograd(net, params, x, of_squared_error(y)))


@pytest.mark.full
def test_the_layers_of_most_cases_have_a_diagonal():
    each = [case for case in CASES if has_examples(case)]
    assert len(each) > 100
    assert sum(case.layer.predict(case.params(), case.x)[0].numel() <= 12 for case in each) > 20


def test_uses_of_a_shared_layer_are_added_before_they_are_squared():
    net = lf.serial(lf.shared(lf.dense(4)), lf.add(), lf.dense(2))
    x = lf.keys.normal(lf.Key(1), (4, 3)).double(), lf.keys.normal(lf.Key(2), (4, 3)).double()
    params = net.init(lf.Key(0), x)
    y = net.predict(params, x)
    got = lf.curvature.ggn_diagonal(net, params, x, SUM, torch.zeros_like(y))
    assert same_number(lf.tree.leaves(got), by_autograd(net, params, x, of_squared_error(y)))


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_columns_in_parts_have_the_same_sum(at_once):
    net, loss = lf.serial(lf.dense(4), lf.relu(), lf.dense(5)), lf.losses.softmax_cross_entropy()
    x, target = lf.keys.normal(lf.Key(1), (6, 3)).double(), torch.tensor([0, 1, 2, 3, 4, 0])
    params = net.init(lf.Key(0), x)
    whole = lf.curvature.ggn_diagonal(net, params, x, loss, target)
    parts = lf.curvature.ggn_diagonal(net, params, x, loss, target, columns_at_once=at_once)
    assert same_number(parts, whole)


LABELS = torch.tensor([[0, 2, 1], [1, 1, 3]])
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0]).double()
MIXTURE = lf.keys.uniform(lf.Key(5), (2, 4, 3)).double().softmax(1)
CROSS_ENTROPIES = {
    "mean": ({}, LABELS),
    "sum": ({"reduction": "sum"}, LABELS),
    "weighted": ({"weight": WEIGHT}, LABELS),
    "ignored": ({"ignore_index": 1}, LABELS),
    "smoothed": ({"label_smoothing": 0.2, "weight": WEIGHT, "ignore_index": 3}, LABELS),
    "probabilities": ({"weight": WEIGHT}, MIXTURE),
}


def assert_square_root(loss, torch_loss, x, target):
    """Compare sum_k s_k s_k^T with the blocks of torch's Hessian."""
    s = columns(loss, x, target).flatten(2)
    hessian = torch.func.hessian(lambda x: torch_loss(x, target))(x)
    size = x[0].numel()
    blocks = hessian.reshape(len(x), size, len(x), size)
    for n in range(len(x)):
        assert same_number(torch.einsum("ki,kj->ij", s[:, n], s[:, n]), blocks[n, :, n])


# torch's own, at the first jvp of a process.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize(("options", "target"), CROSS_ENTROPIES.values(), ids=CROSS_ENTROPIES)
def test_the_columns_of_a_cross_entropy_are_a_square_root_of_torchs_hessian(options, target):
    x = 3 * lf.keys.normal(lf.Key(1), (2, 4, 3)).double()
    torch_loss = torch.nn.CrossEntropyLoss(**options)
    assert_square_root(lf.losses.softmax_cross_entropy(**options), torch_loss, x, target)
    first = target[:, 0] if target.ndim == 2 else target[..., 0]
    assert_square_root(
        lf.losses.softmax_cross_entropy(**options), torch_loss, x[..., 0].contiguous(), first
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize(("ours", "theirs"), [
    (lf.losses.mse(), torch.nn.functional.mse_loss),
    (lf.losses.huber(), torch.nn.functional.huber_loss),
    (lf.losses.sigmoid_cross_entropy(), torch.nn.functional.binary_cross_entropy_with_logits),
    (lf.losses.multi_label_soft_margin(), torch.nn.functional.multilabel_soft_margin_loss),
], ids=["mse", "huber", "sigmoid_cross_entropy", "multi_label_soft_margin"])  # fmt: skip
def test_the_columns_of_other_losses_come_from_their_own_gradient(ours, theirs):
    x = lf.keys.normal(lf.Key(1), (3, 4)).double()
    target = (lf.keys.uniform(lf.Key(2), (3, 4)) > 0.5).double()
    assert_square_root(ours, theirs, x, target)


def test_extreme_logits_have_finite_columns():
    x = torch.tensor([[1e4, -1e4, 0.0], [0.0, 200.0, 0.0], [-1e4, -1e4, -1e4]])
    s = columns(lf.losses.softmax_cross_entropy(reduction="sum"), x, torch.tensor([0, 1, 2]))
    p = x.double().softmax(1)
    for n in range(3):
        exact = torch.diag(p[n]) - torch.outer(p[n], p[n])
        assert same_number(s[:, n].mT @ s[:, n], exact, dtype=torch.float32)


def test_predictions_without_an_axis_of_outputs():
    x, target = lf.keys.normal(lf.Key(3), (5, 2)), lf.keys.normal(lf.Key(4), (5,))
    net = lf.serial(lf.dense(1), lf.flatten(0, 1))
    params = net.init(lf.Key(0), x)
    found = lf.curvature.ggn_diagonal(net, params, x, SUM, target)
    column = net.parts[:1], params[:1]
    expected = lf.curvature.ggn_diagonal(lf.serial(*column[0]), column[1], x, SUM, target[:, None])
    assert same_number(found[0], expected[0])


def test_batch_norm_is_refused_with_its_place():
    net, x = lf.serial(lf.dense(2), lf.batch_norm()), torch.zeros(4, 3)
    params = net.init(lf.Key(0), x)
    with pytest.raises(lf.LayerError, match=r"serial\[1\] batch_norm\(\): expected a layer that"):
        lf.curvature.ggn_diagonal(net, params, x, SUM, torch.zeros(4, 2))
    ours = lf.curvature.ggn_diagonal(lf.inference(net), params, x, SUM, torch.zeros(4, 2))
    assert lf.tree.same_structure(ours, params)


def test_a_loss_that_is_not_convex_is_refused():
    net, x = lf.dense(2), torch.ones(4, 3)
    params = net.init(lf.Key(0), x)
    concave = lf.Loss(
        "concave()", lambda y, target: (-(y**2).sum(), y), lambda y, g=1.0: -2 * g * y
    )
    with pytest.raises(lf.LayerError, match="no negative eigenvalue, got -2"):
        lf.curvature.ggn_diagonal(net, params, x, concave, None)


def test_one_class_has_no_curvature():
    net, x = lf.dense(1), lf.keys.normal(lf.Key(1), (4, 3))
    params, loss = net.init(lf.Key(0), x), lf.losses.softmax_cross_entropy()
    diagonal = lf.curvature.ggn_diagonal(net, params, x, loss, torch.zeros(4).long())
    assert not any(leaf.any() for leaf in lf.tree.leaves(diagonal))
    factors = lf.curvature.kfac_factors(net, params, x, loss, torch.zeros(4).long())
    assert not factors[""].b.any()
