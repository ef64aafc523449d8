"""The influence of training examples, held against training without them."""

import pytest
import torch
from helpers import same_number
from helpers.one_by_one import with_leaves

import lincoln_fn as lf
from lincoln_fn import curvature, keys
from lincoln_fn.curvature.influence import conjugate_gradients
from lincoln_fn.layers import dense

L2, N = 2.0, 120
X = keys.normal(lf.Key(1), (N, 4)).double()
LABELS = (X @ keys.normal(lf.Key(2), (4, 3)).double() + 2 * keys.normal(lf.Key(3), (N, 3))).argmax(
    1
)
TEST = keys.normal(lf.Key(4), (6, 4)).double(), torch.tensor([0, 1, 2, 2, 1, 0])
NET = lf.dense(3)


def trained(weights):
    """Minimise sum_n w_n L_n + L2/2 ||params||^2 by Newton's method."""
    theta = torch.zeros(15).double()

    def value(theta):
        logits = X @ theta[:12].reshape(4, 3) + theta[12:]
        each = torch.nn.functional.cross_entropy(logits, LABELS, reduction="none")
        return (weights * each).sum() + L2 / 2 * (theta**2).sum()

    for _ in range(9):
        theta = theta.detach().requires_grad_()
        (grad,) = torch.autograd.grad(value(theta), theta)
        theta = theta - torch.linalg.solve(torch.autograd.functional.hessian(value, theta), grad)
    return theta.detach()


def params_of(theta):
    return dense.Params(theta[:12].reshape(4, 3), theta[12:])


@pytest.mark.full(but=("[hessian]",))
@pytest.mark.parametrize("kind", ["gauss_newton", "hessian"])
def test_it_is_the_derivative_of_the_test_loss_in_the_examples_weight(kind):
    ones, step = torch.ones(N).double(), 1e-4
    loss = lf.losses.softmax_cross_entropy(reduction="sum")
    got = curvature.influence(
        NET, params_of(trained(ones)), X, loss, LABELS, TEST,
        damping=L2, tolerance=1e-12, curvature=kind,
    )  # fmt: skip

    def reweighted(n, e):
        logits = NET.predict(
            params_of(trained(ones.index_fill(0, torch.tensor(n), 1 + e))), TEST[0]
        )
        return torch.nn.functional.cross_entropy(logits, TEST[1], reduction="sum")

    for n in (0, 5, 17):
        slope = (reweighted(n, step) - reweighted(n, -step)) / (2 * step)
        assert same_number(got[n], slope, error=1e-7)


def test_in_a_deep_network_it_is_minus_the_solved_inner_product():
    net, loss = lf.serial(lf.dense(5), lf.tanh(), lf.dense(3)), lf.losses.softmax_cross_entropy()
    params, damping = net.init(lf.Key(0), X), 0.1

    def gradient(x, labels):
        return flat(lf.value_and_gradient(net, loss)(params, (x, labels))[1])

    count = len(flat(params))
    columns = []
    for e in torch.eye(count).double():
        parts = e.split([leaf.numel() for leaf in lf.tree.leaves(params)])
        v = lf.tree.map(torch.Tensor.view_as, with_leaves(params, parts), params)
        columns.append(flat(curvature.gauss_newton_vector_product(net, params, X, loss, LABELS, v)))
    matrix = torch.stack(columns, 1) + damping * torch.eye(count).double()
    solved = torch.linalg.solve(matrix, gradient(*TEST))
    each = [gradient(X[n : n + 1], LABELS[n : n + 1]) / N for n in range(N)]
    wanted = -torch.stack(each) @ solved
    got = curvature.influence(net, params, X, loss, LABELS, TEST, damping=damping, tolerance=1e-11)
    assert same_number(got, wanted, error=1e-9)


def flat(tree):
    return torch.cat([leaf.flatten() for leaf in lf.tree.leaves(tree)])


def test_conjugate_gradients_refuse_negative_curvature_and_too_few_iterations():
    b = (torch.tensor([1.0, 2.0]),)
    with pytest.raises(lf.LayerError, match="direction of negative curvature; raise damping"):
        conjugate_gradients(lambda v: (-v[0],), b, 0.5, 1e-6, 10)
    scales = torch.tensor([1.0, 1000.0])
    with pytest.raises(lf.LayerError, match=r"in 1 iterations, got a residual of 0\.\d+; raise"):
        conjugate_gradients(lambda v: (scales * v[0],), b, 0.0, 1e-6, 1)
    (s,) = conjugate_gradients(lambda v: (scales * v[0],), b, 0.0, 1e-6, 10)
    assert same_number(s, b[0] / scales)
    (zero,) = conjugate_gradients(lambda v: v, (torch.zeros(2),), 0.0, 1e-6, 10)
    assert same_number(zero, torch.zeros(2))


def test_wrong_arguments_are_refused():
    params, loss = params_of(torch.zeros(15).double()), lf.losses.softmax_cross_entropy()
    with pytest.raises(lf.LayerError, match="curvature to be 'gauss_newton' or 'hessian'"):
        curvature.influence(NET, params, X, loss, LABELS, TEST, curvature="fisher")
    with pytest.raises(lf.LayerError, match="influence: expected loss to be a Loss, got"):
        curvature.influence(NET, params, loss, X, LABELS, TEST)
