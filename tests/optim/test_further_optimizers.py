"""Optimizers and transforms that torch does not have, beside the formulas of their papers."""

import math

import pytest
import torch
from helpers import assert_says, begin
from helpers.compare import same_number
from helpers.optimizers import gradient, parameters, steps_of

import lincoln_fn as lf
from lincoln_fn import optim


def adabelief(p, lr, betas, eps, decay):
    (b1, b2), m, s = betas, 0, 0
    for t in range(1, 51):
        g = gradient(p, t - 1)
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
        m_hat, s_hat = m / (1 - b1**t), s / (1 - b2**t)
        p = p - lr * decay * p - lr * m_hat / (s_hat.sqrt() + eps)
    return p


def adan(p, lr, betas, eps, decay):
    (b1, b2, b3), m, v, n = (1 - b for b in betas), 0, 0, 0  # as the paper has them
    before = gradient(p, 0)
    for t in range(1, 51):
        g = gradient(p, t - 1)
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * (g - before)
        n = (1 - b3) * n + b3 * (g + (1 - b2) * (g - before)) ** 2
        c1, c2, c3 = (1 - (1 - b) ** t for b in (b1, b2, b3))
        u = (m / c1 + (1 - b2) * v / c2) / ((n / c3).sqrt() + eps)
        p, before = (p - lr * u) / (1 + lr * decay), g
    return p


def lars(p, lr, momentum, decay, trust, nesterov):
    b = 0
    for t in range(50):
        u = gradient(p, t) + decay * p
        step = lr * trust * p.norm() / u.norm() * u
        b = momentum * b + step
        p = p - (step + momentum * b if nesterov else b)
    return p


OPTIONS = 0.01, (0.8, 0.95), 1e-6, 0.1
THREE = 0.01, (0.9, 0.7, 0.95), 1e-6, 0.1


@pytest.mark.parametrize(
    ("optimizer", "reference", "options"),
    [
        (optim.adabelief, adabelief, OPTIONS),
        (optim.adan, adan, THREE),
        (optim.lars, lars, (0.1, 0.9, 0.1, 0.02, False)),
        (optim.lars, lars, (0.1, 0.8, 0.0, 0.05, True)),
    ],
)
def test_each_leaf_takes_the_papers_steps(optimizer, reference, options):
    params = parameters(torch.float64)
    moved, _ = steps_of(optimizer(*options), params, 50)
    assert same_number(
        lf.tree.leaves(moved), [reference(p, *options) for p in lf.tree.leaves(params)]
    )


def as_vector(params):
    return torch.cat([leaf.flatten() for leaf in lf.tree.leaves(params)])


def prodigy(p, lr, betas, b3, eps, decay, corrected, safe, d, d_coef):
    """Take the steps of the authors' code; return p, the sum of its steps' sizes, and d."""
    start, (b1, b2), d0, r, s, m, v, distance = p, betas, d, 0, 0, 0, 0, 0
    b3 = math.sqrt(b2) if b3 is None else b3
    for t in range(1, 51):
        g = gradient(p, t - 1)
        k = d * lr * (math.sqrt(1 - b2**t) / (1 - b1**t) if corrected else 1)
        r = b3 * r + d / d0 * k * g.dot(start - p)
        s = b3 * s + d / d0 * (d if safe else k) * g
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * d * d * g * g
        d = max(d, d_coef * float(r / s.abs().sum()))
        step = k * decay * p + k * m / (v.sqrt() + d * eps)
        p, distance = p - step, distance + step.abs()
    return p, distance, d


@pytest.mark.parametrize(
    "options",
    [
        (1.0, (0.9, 0.999), None, 1e-8, 0.0, False, False, 1e-4, 1.0),
        (0.5, (0.8, 0.95), 0.9, 1e-6, 0.1, True, True, 1e-3, 2.0),
    ],
)
def test_prodigy_finds_the_authors_rate(options):
    params = parameters(torch.float64)
    moved, state = steps_of(optim.prodigy(*options), params, 50)
    expected, distance, d = prodigy(as_vector(params), *options)
    assert d > 10 * options[7]  # it has grown
    assert same_number(state.d, torch.tensor(d, dtype=torch.float64))
    # Each step has d's relative error, and they go to and fro.
    assert same_number(as_vector(moved), expected, terms=distance)


def test_prodigy_moves_a_parameter_without_axes_as_one_with_an_axis():
    optimizer = optim.prodigy(d0=0.1, weight_decay=0.1)
    with_axis, _ = steps_of(optimizer, torch.ones(1), 5)
    assert same_number(steps_of(optimizer, torch.ones(()), 5)[0].view(1), with_axis)


def test_prodigy_stays_where_there_is_no_gradient():
    params = parameters(torch.float64)
    zeros = lf.tree.map(torch.zeros_like, params)
    moved, state = optim.prodigy().update(params, zeros, optim.prodigy().init(params))
    assert same_number(moved, params)
    assert state.d == 1e-6


def test_sam_steps_from_where_it_was_by_the_gradient_at_the_worst_point():
    rho, params = 0.3, parameters(torch.float64)
    optimizer, plain = optim.chain(optim.sam(rho), optim.sgd(0.1, 0.9)), optim.sgd(0.1, 0.9)
    state, alone = optimizer.init(params), plain.init(params)
    expected = params
    for t in range(6):
        grads = lf.tree.map(lambda p, t=t: gradient(p, t), params)
        norm = sum((g**2).sum() for g in lf.tree.leaves(grads)).sqrt()
        worst = lf.tree.map(lambda p, g, n=norm: p + rho * g / (n + 1e-12), params, grads)
        at_worst = lf.tree.map(lambda q, t=t: gradient(q, t), worst)
        expected, alone = plain.update(expected, at_worst, alone)
        params, state = optimizer.update(params, grads, state)
        assert same_number(params, worst)
        params, state = optimizer.update(params, at_worst, state)
        assert same_number(params, expected)
        assert params[2].state is expected[2].state
    away, between = optimizer.update(params, params, state)
    for given, own in ((params, state), (away, between)):
        assert same_number(optim.sam_params(own, given), params)


def test_what_needs_the_gradients_of_all_is_not_divided_among_processes():
    alone = lf.distributed.alone()
    params = lf.distributed.fully_sharded(lf.dense(4), alone).init(lf.Key(0), torch.ones(1, 4))
    for optimizer in (optim.chain(optim.sam(), optim.adamw()), optim.prodigy(), optim.lars()):
        with pytest.raises(lf.LayerError, match="an optimizer that updates each number by itself"):
            optim.sharded(optimizer, alone)
        assert_says("expected whole parameters, got slices", optimizer.init, params)
    for transform in (optim.lookahead(), optim.reduce_on_plateau()):
        optim.sharded(optim.chain(transform, optim.adan()), alone)


def test_lookahead_is_algorithm_1_of_its_paper():
    k, alpha, optimizer = 3, 0.4, optim.adam(0.05)
    params = parameters(torch.float64)
    moved, state = steps_of(optim.chain(optim.lookahead(k, alpha), optimizer), params, 11)
    slow = fast = params
    kept, t = optimizer.init(params), 0
    for steps in (3, 3, 3, 2):
        for _ in range(steps):
            grads = lf.tree.map(lambda p, t=t: gradient(p, t), fast)
            fast, kept = optimizer.update(fast, grads, kept)
            t += 1
        if steps == k:
            slow = fast = lf.tree.map(lambda s, f: s + alpha * (f - s), slow, fast)
    assert same_number(moved, fast)
    assert same_number(lf.tree.leaves(state.slow), lf.tree.leaves(slow))


@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0.5, "patience": 1}, {"factor": 0.3, "patience": 2, "threshold": 0.1},
        {"factor": 0.5, "patience": 0, "cooldown": 2}, {"patience": 0, "min_scale": 0.05},
    ],
    ids=str,
)  # fmt: skip
def test_reduce_on_plateau_is_torchs(options):
    losses = (lf.keys.uniform(lf.Key(3), (40,)) + torch.linspace(2, 0.5, 40)).tolist()
    p = leaf = torch.tensor([3.0, -2.0], dtype=torch.float64)
    leaf = leaf.clone().requires_grad_()
    reference = torch.optim.SGD([leaf], 0.1, momentum=0.9)
    least = {"min_lr": 0.1 * options["min_scale"]} if "min_scale" in options else {}
    own = {name: each for name, each in options.items() if name != "min_scale"}
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(reference, **own, **least)
    optimizer = optim.chain(optim.reduce_on_plateau(**options), optim.sgd(0.1, 0.9))
    state = optimizer.init(p)
    for t, loss in enumerate(losses):
        leaf.grad = gradient(leaf.detach(), t)
        reference.step()
        schedule.step(loss)
        p, state = optimizer.update(p, gradient(p, t), state)
        state = optim.plateau_step(state, loss)
        assert abs(state.scale * 0.1 - reference.param_groups[0]["lr"]) < 1e-15
        assert same_number(p, leaf.detach())
    assert state.scale < 0.3


def test_the_loss_of_each_step_can_shorten_the_next():
    x, plateau = torch.ones(4, 3), optim.reduce_on_plateau(0.5, patience=0)
    step, state = begin(lf.dense(1), x, lf.losses.mse(), optim.chain(plateau, optim.sgd(0.0)))

    def watched(state, batch):
        state, value = step(state, batch)
        return optim.plateau_step(state, value), value

    for state, _ in lf.train(watched, state, [(x, torch.ones(4, 1))] * 5):
        pass
    assert state.opt_state.scale == 0.5**4  # the first loss is the best so far
    assert_says("one reduce_on_plateau, got 0", optim.plateau_step, optim.sgd().init(x), 1.0)
    assert_says("expected min_scale from 0 to 1", optim.reduce_on_plateau, min_scale=2.0)
