"""A layer that mixes the examples is refused, and never gives wrong gradients, trained or not."""

import pytest
import torch
from helpers import CASES, Case, assert_says, first_run, normal, same_number
from helpers.one_by_one import run_alone

import lincoln_fn as lf
from lincoln_fn.core.declaration import gradients_of

UNBATCHED = [
    Case(lf.normalize(dim=0), normal(4, 3)),
    Case(lf.normalize(dim=-2), normal(4, 3)),
    Case(lf.matmul(), (normal(4, 4), normal(4, 4, seed=1))),
    Case(lf.linear_attention(2), tuple(normal(4, 6, seed=seed) for seed in range(3))),
    Case(lf.lstm(3, batch_first=False), normal(5, 2, 3)),
    Case(lf.gru(3), normal(5, 3)),
    Case(lf.conv1d(4, 3, padding=1), normal(4, 7)),
    Case(lf.layer_norm(), normal(4)),
    Case(lf.dense(4), normal(4)),
    Case(lf.softmin(0), normal(4, 6)),
]  # fmt: skip


def is_floating(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.ndim > 0


def is_tested(case):
    """Tell whether x is of tensors, all of the same number of examples."""
    entries = case.x if isinstance(case.x, tuple) else (case.x,)
    lengths = {len(entry) for entry in entries if is_floating(entry)}
    return len(lengths) == 1 and min(lengths) > 1 and None not in entries and all(
        isinstance(entry, torch.Tensor) for entry in entries
    )  # fmt: skip


def mixes(case):
    """Tell whether the g of one example reaches the dx of another."""
    y, cache = case.layer.forward(case.params(), case.x)
    outputs = y if isinstance(y, tuple) else (y,)
    count = len(next(filter(is_floating, lf.tree.leaves(case.x))))
    for n in range(count):

        def alone(leaf, n=n):
            # The states after a sequence have the layers on axis 0.
            g = torch.zeros_like(leaf)
            if is_floating(leaf) and leaf is outputs[0] and len(leaf) == count:
                g[n] = normal(*leaf.shape[1:], seed=n)
            return g

        dx = case.layer.input_grad(case.params(), cache, lf.tree.map(alone, y))
        for leaf in filter(is_floating, lf.tree.leaves(dx)):
            if len(leaf) == count and torch.cat([leaf[:n], leaf[n + 1 :]]).any():
                return True
    return False


def check_refused(case):
    """Check that a layer is refused behind a trained one, if it mixes the examples."""
    if not mixes(case):
        return
    first = lf.prelu()
    if isinstance(case.x, tuple):
        first = lf.parallel(*(lf.prelu() if is_floating(x) else lf.identity() for x in case.x))
    net = lf.serial(first, lf.frozen(case.layer))
    params, y, cache = first_run(net, case.x)
    with pytest.raises(lf.LayerError, match="expected"):
        lf.per_example.gradients(net, params, cache, lf.tree.map(torch.ones_like, y))


@pytest.mark.parametrize("case", UNBATCHED, ids=str)
def test_a_layer_without_a_batch_is_refused(case):
    assert mixes(case)
    check_refused(case)


@pytest.mark.full
@pytest.mark.parametrize("case", [*filter(is_tested, CASES)], ids=str)
def test_a_layer_that_mixes_examples_is_refused(case):
    check_refused(case)


def test_a_norm_by_its_running_statistics_is_named():
    layer = lf.inference(lf.batch_norm(track_running_stats=False))
    x = normal(4, 3)
    params = layer.init(lf.Key(0), x)
    with pytest.raises(lf.LayerError, match=r"^batch_norm: expected"):
        gradients_of(layer).terms(params, layer.forward(params, x)[1], x)


def test_the_classes_of_tokens_are_no_examples():
    logits, tokens = normal(3, 4, 7), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 0], [1, 2, 3, 4]])
    net = lf.serial(lf.parallel(lf.dense(7), lf.identity()), lf.token_log_probs())
    params, y, cache = first_run(net, (logits, tokens))
    g = torch.ones_like(y)
    each = run_alone(net, params, (logits, tokens), g)
    assert same_number(lf.per_example.gradients(net, params, cache, g), each, error=1e-6)


def own(name, forward, back):
    return lf.Layer(name, lambda p, x: (forward(x), None), lambda p, cache, g: (back(g), ()))


OWN = {
    "alone": own("twice()", lambda x: 2 * x, lambda g: 2 * g),
    "centred": own("centred()", lambda x: x - x.mean(0), lambda g: g - g.mean(0)),
    "forwards": own("own()", lambda x: 2 * x, lambda g: g.flip(0).cumsum(0).flip(0)),
    "backwards": own("own()", lambda x: 2 * x, lambda g: g.cumsum(0)),
}


@pytest.mark.parametrize("name", OWN)
def test_a_layer_of_ones_own_is_tried(name):
    net, x, target = lf.serial(lf.dense(3), OWN[name], lf.dense(2)), normal(5, 4), torch.ones(5, 2)
    params, y, cache = first_run(net, x)
    for compute in (
        lambda: lf.per_example.gradients(net, params, cache, y),
        lambda: lf.per_example.squared_norms(net, params, cache, y),
        lambda: lf.curvature.kfac_factors(net, params, x, lf.losses.mse(), target),
    ):
        if name == "alone":
            compute()
            continue
        told = rf"^serial\[1\] {OWN[name].name[:-2]}\(\): .* the g of one reaches the dx of others"
        with pytest.raises(lf.LayerError, match=told):
            compute()


def test_a_layer_that_moves_examples_is_refused_with_a_backward_of_ones_own():
    moving = lf.permute(1, 0)
    net, x = lf.serial(lf.dense(4), moving.replace(backward=moving.backward)), torch.ones(4, 3)
    params, y, cache = first_run(net, x)
    assert_says("make it by its constructor", lf.per_example.squared_norms, net, params, cache, y)
