"""The exact diagonal of the Gauss-Newton matrix, and the loss's Hessian that it stands on."""

import pytest
import torch
from helpers import CASES, cast, largest, same_number

import lincoln_fn as lf
from lincoln_fn.curvature.columns import columns
from lincoln_fn.curvature.diagonal import square_sums
from lincoln_fn.curvature.duals import fast_for_columns

SUM = lf.losses.mse(reduction="sum")


def with_leaves(params, leaves):
    these = iter(leaves)
    return lf.tree.map(lambda _: next(these), params)


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
