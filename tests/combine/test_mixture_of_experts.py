"""A mixture of experts: its experts' own tokens, its losses, and its walks."""

import pytest
import torch
from helpers import begin, normal, same_number

import lincoln_fn as lf

NET = lf.mixture_of_experts(lf.dense(4, bias=False), (lf.swiglu(6),) * 4)
X = normal(3, 7, 5)
PARAMS = NET.init(lf.Key(0), X)
G = normal(3, 7, 5, seed=1)


@pytest.mark.parametrize("x", [X, X[:1, :1], X[:0]], ids=["all", "one token", "none"])
def test_experts_that_see_only_their_tokens_compute_the_same(x):
    seen = []

    def spied(layer, path, params, x):
        if path in ("1.0", "2.0", "3.0", "4.0"):  # each expert's first dense layer
            seen.append(len(x))
        return layer.forward(params, x)

    fast, g = lf.fast(NET), G[: len(x), : x.shape[1]]
    lf.walk.there(spied, fast, PARAMS, x)
    assert (len(seen), sum(seen)) == (4, 2 * x.shape[0] * x.shape[1])
    (y, cache), (own, of_own) = NET.forward(PARAMS, x), fast.forward(PARAMS, x)
    assert same_number((own, fast.backward(PARAMS, of_own, g)), (y, NET.backward(PARAMS, cache, g)))
    assert same_number(fast.grads(PARAMS, of_own, g), NET.grads(PARAMS, cache, g))


@pytest.mark.parametrize("expert", [lf.gru(5), lf.softmax(1), lf.dropout(0.5)], ids=str)
def test_an_expert_that_mixes_tokens_or_has_a_state_sees_them_all(expert):
    net = lf.mixture_of_experts(lf.dense(2), (lf.dense(5), lf.residual(expert)), top_k=1)
    params = net.init(lf.Key(0), X)
    assert same_number(lf.fast(net).predict(params, X), net.predict(params, X))
    assert same_number(lf.fast(net).forward(params, X)[0], net.forward(params, X)[0])


def test_an_expert_with_an_output_has_a_row_for_each_token():
    net = lf.tapped(lf.serial(NET), "0.experts.1", "0.router")
    y, cache = lf.fast(net).forward((PARAMS,), X)
    expected, own = net.forward((PARAMS,), X)
    assert y[1][0].shape == X.shape
    assert same_number(y, expected)
    g = lf.tree.map(torch.ones_like, y)
    given = lf.fast(net).grads((PARAMS,), cache, g)
    assert same_number(given, net.grads((PARAMS,), own, g))


@pytest.mark.parametrize(
    "gradient", [lf.per_example.clipped(0.1), lf.curvature.kfac(0.1)], ids=["clipped", "kfac"]
)
def test_a_gradient_of_another_kind_sees_all_tokens(gradient):
    net, sgd, loss = lf.serial(NET, lf.flatten(), lf.dense(2)), lf.optim.sgd(1.0), lf.losses.mse()
    begins = [begin(net, X, loss, sgd, gradient=gradient, fast=fast) for fast in (True, False)]
    state = begins[0][1]
    (new, _), (expected, _) = (step(state, (X, normal(3, 2))) for step, _ in begins)
    assert same_number(new.params, expected.params, terms=1.0)  # the size of params
    y, cache = lf.fast(net).forward(state.params, X)
    with pytest.raises(lf.LayerError, match="expected parts that get all examples, got experts"):
        lf.per_example.gradients(lf.fast(net), state.params, cache, torch.ones_like(y))


def test_a_step_learns_from_the_routers_logits():
    net = lf.tapped(lf.serial(lf.dense(5), NET, NET), "*.router")
    loss = lf.losses.weighted(
        {"y": (1.0, lf.losses.mse()), "balance": (0.1, lf.losses.router_balance())}
    )
    step, state = begin(net, X, loss, lf.optim.sgd(1.0))
    batch = X, (G, None)
    new, value = step(state, batch)
    y, cache = net.forward(state.params, X)
    expected, of_loss = loss.forward(y, batch[1])
    dparams = net.grads(state.params, cache, loss.backward(of_loss))
    assert same_number(value, expected)
    moved = lf.tree.map(torch.sub, state.params, new.params)
    assert same_number(moved, dparams, terms=1.0)  # the size of params
    assert [z.shape for z in y[1]] == [(3, 7, 4), (3, 7, 4)]


def test_a_text_is_decoded_token_by_token():
    net = lf.serial(lf.embedding(11, 5), NET, lf.gru(4))
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    params = net.init(lf.Key(0), ids)
    decoder = lf.decode(net)
    state = decoder.init(params, 1, 6)
    first, state = decoder.step(params, state, ids[:, :2])
    rest, _ = decoder.step(params, state, ids[:, 2:])
    assert same_number(torch.cat([first, rest], 1), net.predict(params, ids))


LOGITS = normal(3, 7, 4), normal(3, 7, 4, seed=1)


def balance_of(z, mask):
    """Compute equations 4 to 6 of the paper for each router's tokens together."""
    rows = torch.cat([each[mask] for each in z])
    p = torch.softmax(rows, -1)
    chosen = torch.nn.functional.one_hot(p.topk(2, -1).indices, 4).sum(1).to(p)
    return 4 * (chosen.mean(0) * p.mean(0)).sum()


def z_of(z, mask):
    return torch.cat([torch.logsumexp(each[mask], -1) for each in z]).square().mean()


@pytest.mark.parametrize(("loss", "formula"), [
    (lf.losses.router_balance(), balance_of), (lf.losses.router_z(), z_of),
], ids=["router_balance", "router_z"])  # fmt: skip
@pytest.mark.parametrize("mask", [normal(3, 7, seed=2) > -0.5, None], ids=["padded", "whole"])
def test_a_loss_of_routers_is_that_of_all_their_tokens(loss, formula, mask):
    value, cache = loss.forward(LOGITS, mask)
    watched = [z.clone().requires_grad_() for z in LOGITS]
    expected = formula(watched, torch.ones(3, 7, dtype=torch.bool) if mask is None else mask)
    slopes = torch.autograd.grad(expected, watched, torch.tensor(3.0))
    assert same_number((value, loss.backward(cache, 3.0)), (expected.detach(), tuple(slopes)))
    lf.testing.check_loss(loss, LOGITS, mask)
    lf.testing.check_loss(loss, LOGITS[0], mask)


@pytest.mark.parametrize("loss", [lf.losses.router_balance(), lf.losses.router_z()], ids=str)
def test_more_tokens_than_float16_can_count_have_a_mean(loss):
    z = torch.zeros(70_000, 2)
    value = loss.forward(z.half(), None)[0]
    # Each of 70,000 terms has the factor 1 / 70,000, a number of 8 bits in float16.
    assert abs(value - loss.forward(z[:1], None)[0]) < 2**-7 * value
