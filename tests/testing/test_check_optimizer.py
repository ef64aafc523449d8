"""`check_optimizer` holds an adjoint equal to the derivative of the update; each is proven, too."""

from functools import partial

import attrs
import pytest
import torch
from helpers import assert_says
from helpers.optimizers import ADJOINTS
from helpers.optimizers import TREE as PARAMS
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import optim
from lincoln_fn.optim.adam import rules as adam_rules
from lincoln_fn.testing import GradientError, check_optimizer


@pytest.mark.parametrize("optimizer", [optim.sgd(0.1, 0.9), optim.adam(0.1)], ids=str)
def test_hyperparameters_are_on_the_device_of_the_params(optimizer):
    with torch.device("meta"):  # not that of the params
        check_optimizer(optimizer, PARAMS)


@pytest.mark.parametrize(("optimizer", "steps"), [
    (optim.chain(optim.accumulate(2), optim.sgd(0.1, 0.9)), (0, 1, 2)),
    (optim.chain(optim.lookahead(2, 0.3), optim.sgd(0.1, 0.9)), (0, 1, 2)),
    (optim.radam(0.1, (0.9, 0.99)), (0, 5)),
], ids=str)  # fmt: skip
def test_what_depends_on_the_step_is_differentiated_at_each(optimizer, steps):
    for step in steps:
        check_optimizer(optimizer, PARAMS, steps=step)


def test_every_optimizer_has_an_adjoint_or_a_reason():
    """Those of the list above, those whose steps are signs, and those of eigenvectors."""
    names = {optimizer.name.partition("(")[0] for optimizer in ADJOINTS}
    made = {name for name in optim.__all__ if name.islower() and not name.endswith("_params")}
    made -= {"lbfgs", "lbfgs_state"}  # which is no update of (params, grads, state)
    transforms = {"accumulate", "clip_by_global_norm", "clip_by_value", "ema", "weight_decay"}
    transforms |= {"galore", "lookahead", "plateau_step", "reduce_on_plateau", "sam"}
    transforms |= {"schedule_free"}
    without = {"adamw", "prodigy", "lion", "rprop", "sharded", "shampoo", "soap"}
    assert made - transforms - names == without - names


STILL = optim.Optimizer("still()", lambda params: (), lambda p, d, state: (p, state))
test_without_an_adjoint_the_reason_is_named = refusals("""
check_optimizer(STILL, PARAMS) -> ^still(): has no adjoint: write Optimizer(name, init, update,
    adjoint)$
check_optimizer(optim.lion(), PARAMS) -> has no adjoint: ... the sign of
check_optimizer(optim.rprop(), PARAMS) -> has no adjoint: ... the sign of
check_optimizer(optim.chain(optim.ema(0.9), optim.lion()), PARAMS) -> has no adjoint: ... the sign
    of
check_optimizer(optim.soap(), PARAMS) -> has no adjoint: ... eigenvectors
check_optimizer(optim.shampoo(), PARAMS) -> has no adjoint: ... eigenvectors
check_optimizer(optim.chain(optim.galore(1), optim.adam()), PARAMS) -> has no adjoint: ... singular
    vectors
check_optimizer(optim.chain(optim.schedule_free(lr=schedules.constant(1.0)), optim.sgd()), PARAMS)
    -> has no adjoint: ... a schedule
""")


def test_by_path_gives_the_derivatives_of_each_optimizer():
    parts = optim.sgd(0.1), optim.sgd(0.3, 0.9)
    optimizer = optim.by_path({"weight": parts[0], "*": parts[1]})
    ones = lf.tree.map(torch.ones_like, PARAMS)
    state = optimizer.init(PARAMS)
    found = optimizer.adjoint(PARAMS, ones, state, PARAMS, state).hyperparameters
    # bar lr = -sum d bar p, where d is the gradient, 1.
    expected = torch.stack([-PARAMS[name].sum(dtype=torch.float64) for name in ("weight", "bias")])
    assert torch.allclose(found["lr"], expected, rtol=1e-6)
    assert found["momentum"].tolist() == [0.0, 0.0]  # b was 0 before the first step


def test_an_adjoint_keeps_running_statistics_and_keys():
    net = lf.serial(lf.dense(3), lf.batch_norm(), lf.dropout(0.5), lf.dense(2))
    params = net.init(lf.Key(0), torch.ones(4, 5))
    optimizer = optim.adamw(0.1)
    state = optimizer.init(params)
    found = optimizer.adjoint(params, params, state, params, state)
    assert lf.tree.same_structure(found.params, params, states=True)


def wrong(optimizer, **changes):
    """Change the bars that an adjoint returns."""

    def adjoint(*given, **hyperparameters):
        found = optimizer.adjoint(*given, **hyperparameters)
        return lf.evolve(found, **{name: f(getattr(found, name)) for name, f in changes.items()})

    return attrs.evolve(optimizer, adjoint=partial(adjoint, **optimizer.adjoint.keywords))


@pytest.mark.parametrize(("changes", "told"), [
    ({"grads": partial(lf.tree.map, torch.neg)}, "grads_bar.* has the wrong sign"),
    ({"params": partial(lf.tree.map, lambda bar: 2 * bar)}, "params_bar.* is 2 times"),
    ({"state": partial(lf.tree.map, torch.zeros_like)}, "state_bar.momentum.* is zero"),
    ({"hyperparameters": lambda d: {**d, "lr": -d["lr"]}}, "hyperparameters.lr has the wrong"),
])  # fmt: skip
def test_mistakes_are_named(changes, told):
    with pytest.raises(GradientError, match=told):
        check_optimizer(wrong(optim.sgd(0.1, 0.9), **changes), PARAMS)


def test_a_term_that_is_left_out_is_found(monkeypatch):
    """The test of the test: the derivative of the root that Adam and NAdam share."""

    def without_root(u, u_bar, s, v):
        return u_bar / s, torch.zeros_like(v)

    monkeypatch.setitem(adam_rules.__globals__, "ratio_back", without_root)
    report = check_optimizer(optim.nadam(0.1), PARAMS, all=True)
    assert not report.is_right


def test_a_parameter_that_never_had_a_gradient_has_finite_bars():
    p = torch.zeros(3)
    for optimizer in (
        optim.adamw(),
        optim.rmsprop(),
        optim.adagrad(),
        optim.radam(),
        optim.nadam(),
    ):
        state = optimizer.init(p)
        bars = optimizer.adjoint(p, p, state, torch.ones(3), state)
        assert all(leaf.isfinite().all() for leaf in lf.tree.leaves(bars)), optimizer


# Momentum written by hand, over a dict of params.
def momentum(params, grads, state):
    m = lf.tree.map(lambda a, b: 0.9 * a + b, state["m"], grads)
    return lf.tree.map(lambda p, d: p - 0.1 * d, params, m), {"m": m}


def minus_tenth(bars):
    return lf.tree.map(lambda bar: -0.1 * bar, bars)


def of_state(params_bar, state_bar):
    return lf.tree.map(lambda p, m: 0.9 * (m - 0.1 * p), params_bar, state_bar["m"])


def mine(adjoint, update=momentum):
    zeros = lambda params: {"m": lf.tree.map(torch.zeros_like, params)}  # noqa: E731
    return optim.Optimizer("mine()", zeros, update, adjoint)


def right(params, grads, state, params_bar, state_bar):
    grads_bar = lf.tree.map(lambda p, m: m - 0.1 * p, params_bar, state_bar["m"])
    m_bar = of_state(params_bar, state_bar)
    return optim.Adjoints(params_bar, grads_bar, {"m": m_bar}, {})


def with_its_state(params, grads, state, params_bar, state_bar):
    return lf.evolve(right(params, grads, state, params_bar, state_bar), state=state)


def forgetful(params, grads, state, params_bar, state_bar):
    found = right(params, grads, state, params_bar, state_bar)
    return lf.evolve(found, grads=minus_tenth(params_bar))


def updating_in_place(params, grads, state):
    return lf.tree.map(lambda p, d: p.sub_(0.1 * d), params, grads), state


def test_momentum_by_hand_is_right():
    assert check_optimizer(mine(right), PARAMS, all=True).is_right


def test_the_state_in_place_of_its_bar_is_told_at_its_leaves():
    few = lf.tree.map(lambda leaf: leaf.flatten()[:3], PARAMS)  # of more, two terms are sought long
    report = check_optimizer(mine(with_its_state), few, all=True)
    leaves = ["state_bar.m.bias", "state_bar.m.weight"]
    assert [mistake.leaf for mistake in report.mistakes] == leaves
    for mistake in report.mistakes:
        assert str(mistake) == f"mine(): {mistake.leaf} is the state itself, not its bar"


def unnamed_rate(params, grads, state, lr):
    return lf.tree.map(lambda p, d: p - lr * d, params, grads), state


def without_rate(params, grads, state, params_bar, state_bar, lr):
    grads_bar = lf.tree.map(lambda bar: -lr * bar, params_bar)
    return optim.Adjoints(params_bar, grads_bar, state_bar, {})


MISUSED = {
    "a forgotten bar": (mine(forgetful), r"grads_bar\.bias forgets state_bar\.m\.bias$"),
    "a tuple": (mine(lambda p, d, s, p_bar, s_bar: (p_bar, p_bar, s_bar, {})),
        "expected adjoint to return Adjoints, got a tuple$"),
    "a key error": (mine(lambda p, d, s, p_bar, s_bar: s_bar["v"]),
        "adjoint raised KeyError: 'v'$"),
    "no state": (
        mine(lambda p, d, s, p_bar, s_bar: optim.Adjoints(p_bar, minus_tenth(p_bar), (), {})),
        r"expected a bar of the state of m\.bias, m\.weight; got nothing$"),
    "no lr": (mine(partial(without_rate, lr=0.1), partial(unnamed_rate, lr=0.1)),
        'hyperparameters lacks "lr"$'),
    "in place": (mine(right, updating_in_place), r"update changed params\.bias in place$"),
}  # fmt: skip


@pytest.mark.full(but=("[a forgotten bar]", "[a tuple]", "[a key error]", "[no state]", "[no lr]"))
@pytest.mark.parametrize(("optimizer", "told"), MISUSED.values(), ids=MISUSED)
def test_errors_are_in_the_words_of_optimizers(optimizer, told):
    with pytest.raises(GradientError, match=rf"^mine\(\): {told}"):
        check_optimizer(optimizer, PARAMS)
    assert not check_optimizer(optimizer, PARAMS, all=True).is_right


def test_an_update_without_a_state_is_told_what_to_return():
    optimizer = mine(right, lambda params, grads, state: params)
    assert_says(
        "expected update to return (params, state), got a dict$", check_optimizer, optimizer, PARAMS
    )


def test_a_count_of_python_is_told():
    optimizer = optim.Optimizer("mine()", lambda params: {"t": 0}, momentum, right)
    assert_says("state.t has the type int, expected a tensor$", check_optimizer, optimizer, PARAMS)
