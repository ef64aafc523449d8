"""What the table of losses cannot see: stopped gradients, chunks, the axis of the classes."""

import pytest
import torch
from helpers import assert_says, begin, loss_formulas, normal, same_number
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf
from lincoln_fn.curvature.columns import columns

LABELS = torch.tensor([[1, 0, 3], [2, 2, 0]])


def test_ktos_reference_point_moves_the_value_and_has_no_gradient():
    x = normal(4, seed=1), normal(4, seed=2) + 3
    target = torch.tensor([True, False, False, True]), normal(4, seed=3), normal(4, seed=4)
    loss = lf.losses.kto(beta=0.5, desirable_weight=2.0)
    value, cache = loss.forward(x, target)
    watched = tuple(leaf.clone().requires_grad_() for leaf in x)
    expected = loss_formulas.kto("mean", beta=0.5, desirable_weight=2.0)(watched, target)
    assert same_number(value, expected.detach())
    assert abs(value - loss.forward((x[0], x[1] - 9), target)[0]) > 0.1
    gradients = loss.backward(cache)
    assert same_number(gradients[0], torch.autograd.grad(expected, watched[0])[0])
    assert gradients[1].tolist() == [0.0] * 4


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_reinforces_baseline_is_of_the_returns_that_the_mask_leaves(baseline):
    z, returns = normal(4, 2, seed=1), normal(4, 2, seed=2)
    mask = torch.tensor([[True, False], [True, True], [True, True], [False, False]])
    loss = lf.losses.reinforce(baseline=baseline, reduction="none")
    value, cache = loss.forward(z, (torch.where(mask, returns, torch.nan), mask))
    for token, rows in enumerate(mask.T):
        expected, of_rows = loss.forward(z[rows, token], returns[rows, token])
        assert same_number(value[rows, token], expected)
        gradient = loss.backward(cache, torch.ones(4, 2))[rows, token]
        assert same_number(gradient, loss.backward(of_rows, torch.ones(int(rows.sum()))))
    assert value[~mask].tolist() == [0.0] * 3
    # One return for each sequence; the last sequence has no token.
    padded, _ = loss.forward(z, (torch.where(mask.any(1), returns[:, 0], torch.nan), mask))
    assert same_number(padded[:3], loss.forward(z[:3], (returns[:3, 0], mask[:3]))[0])


def test_the_hessians_columns_have_the_classes_on_the_last_axis():
    x = normal(2, 4, 3)
    for target in (LABELS, normal(2, 4, 3, seed=1).softmax(1)):
        last = target if target is LABELS else target.movedim(1, -1)
        s = columns(lf.losses.softmax_cross_entropy(), x, target)
        moved = columns(lf.losses.softmax_cross_entropy(dim=-1), x.movedim(1, -1), last)
        assert same_number(moved.movedim(-1, 2), s)


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that is computed."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for leaf in result if isinstance(result, list | tuple) else [result]:
            if isinstance(leaf, torch.Tensor) and not (leaf.numel() and 0 in leaf.stride()):
                self.count = max(self.count, leaf.numel())
        return result


@pytest.mark.full
def test_a_step_on_a_linear_head_is_that_of_a_dense_layer_and_never_has_all_scores():
    classes, ignored = 50, torch.arange(60).view(3, 20) % 7 == 0
    x = normal(3, 20, 4), torch.where(ignored, -100, torch.arange(60).view(3, 20) % classes)
    heads = lf.linear_head(classes), lf.dense(classes, bias=False)
    nets = [lf.serial(lf.dense(6), head) for head in heads]
    for reduction in ("sum", "mean"):
        loss = lf.losses.linear_cross_entropy(chunk_size=8, reduction=reduction)
        plain = lf.losses.softmax_cross_entropy(dim=-1, reduction=reduction)
        step, start = begin(nets[0], x[0], loss)
        with LargestTensor() as largest:
            state, value = step(start, x)
        expected, other = lf.make_step(nets[1], plain, lf.optim.sgd(0.1))(start, x)
        assert same_number((value, state.params), (other, expected.params))
        assert same_number(nets[0].predict(state.params, x[0]), nets[1].predict(state.params, x[0]))
        assert largest.count < 60 * classes / 4


X, T, LOG_VARIANCE = (normal(5, 3, seed=i) for i in range(3))
NORMAL = X, LOG_VARIANCE.exp()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("written", "given", "made", "of_made"),
    [
        (lambda y, t: (y - t).square(), (X, T), lf.losses.mse, (X, T)),
        (lambda mean, var, t: (var.log() + (t - mean) ** 2 / var) / 2, (NORMAL, T),
         lf.losses.gaussian_nll, (NORMAL, T)),
        (lambda y, label, is_hard: (is_hard * y - label).abs(), (X, (T, torch.ones(5, 3).long())),
         lf.losses.l1, (X, T)),
        (lambda y: y, (X, None), lf.losses.identity, (X, None)),
        (lambda z: z, ((X,), None), lf.losses.identity, (X, None)),
    ],
    ids=["one", "two inputs", "two targets", "no target", "a tuple of one"],
)  # fmt: skip
def test_a_loss_of_a_layer_is_the_loss_of_its_formula(written, given, made, of_made, reduction):
    loss = lf.losses.from_layer(lf.graph(written), reduction=reduction)
    plain = made(reduction=reduction)
    lf.testing.check_loss(loss, *given)
    (value, cache), (expected, of_plain) = loss.forward(*given), plain.forward(*of_made)
    g = torch.ones_like(value) * 3
    found = loss.backward(cache, g)
    assert same_number(value, expected)
    assert lf.tree.same_structure(found, given[0])
    assert same_number(lf.tree.leaves(found), lf.tree.leaves(plain.backward(of_plain, g)))


def test_a_network_that_computes_its_loss_is_trained_by_the_mean_of_it():
    net = lf.graph(lambda x, t: (x.dense(1) - t).square())
    pair = X, T[:, :1]
    step, state = begin(net, pair, lf.losses.identity())
    plain, other = begin(lf.dense(1), X, lf.losses.mse(), params=state.params["dense"])
    for _ in range(3):
        state, value = step(state, (pair, None))
        other, expected = plain(other, pair)
        assert same_number(value, expected)
    assert same_number(state.params["dense"].weight, other.params.weight)


def test_what_a_loss_of_a_layer_cannot_be():
    pair = lf.losses.from_layer(lf.graph(lambda y, t: (y - t, y)))
    assert_says("from_layer: expected the output of graph( ... tensor", pair.forward, X, T)
