"""Each leaf is updated on its own; updates have derivatives; Adam's kernel is its formula."""

from functools import partial

import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.optimizers import EVERY, KINDS, MATRIX_KINDS, leaves_of, matrices, parameters, steps_of

import lincoln_fn as lf
from lincoln_fn import keys, optim, schedules
from lincoln_fn.fastpath.optimizers import fast_optimizer
from lincoln_fn.optim import adam, adamw, by_path, chain, sgd


@pytest.mark.parametrize("fast", [False, True], ids=["formula", "fast"])
@pytest.mark.parametrize("optimizer", EVERY, ids=[f"{i}-{o}" for i, o in enumerate(EVERY)])
def test_a_leafs_bits_do_not_depend_on_the_leaves_beside_it(optimizer, fast):
    optimizer = fast_optimizer(optimizer) if fast else optimizer
    kinds = MATRIX_KINDS if optimizer.name.startswith("muon") else KINDS
    together = leaves_of(kinds, 0)
    state = optimizer.init(together)
    alone = {kind: (leaf, optimizer.init(leaf)) for kind, leaf in together.items()}
    for t in range(3):
        grads = leaves_of(kinds, 1 + t)
        together, state = optimizer.update(together, grads, state)
        for kind in kinds:
            leaf, kept = alone[kind]
            alone[kind] = optimizer.update(leaf, grads[kind], kept)
            assert same_bits(together[kind], alone[kind][0]), kind


MAKE = [
    lambda: adam(),
    lambda: adam(0.01, weight_decay=0.1, amsgrad=True),
    lambda: adamw(0.01, weight_decay=0.1, maximize=True),
    lambda: adamw(schedules.cosine(0.01, 100), amsgrad=True),
]


@pytest.mark.parametrize("make", MAKE)
def test_adams_faster_update_is_its_formula(make):
    for dtype in (torch.float64, torch.float32):
        params = parameters(dtype)
        given, state = steps_of(fast_optimizer(make()), params, 20)
        expected, other = steps_of(make(), params, 20)
        assert same_number(lf.tree.leaves(given), lf.tree.leaves(expected))
        assert same_number(lf.tree.leaves(state.v), lf.tree.leaves(other.v))
        assert state.step == other.step == 20


@pytest.mark.parametrize("make", MAKE)
def test_what_the_kernel_cannot_read_is_updated_by_the_formula(make):
    params = matrices(torch.float64)
    turned = [p.mT.contiguous().mT for p in params]
    by_kernel, state = steps_of(fast_optimizer(make()), params, 20)
    by_rule, other = steps_of(fast_optimizer(make()), turned, 20)
    assert all(p.is_contiguous() for p in by_kernel)
    assert not by_rule[0].is_contiguous()
    assert same_bits(by_rule, steps_of(make(), turned, 20)[0])
    assert same_number((by_rule, lf.tree.leaves(other.v)), (by_kernel, lf.tree.leaves(state.v)))


def kernels_of(optimizer, params):
    state = optimizer.init(params)
    with torch.profiler.profile() as profile:
        optimizer.update(params, params, state)
    return {event.key for event in profile.key_averages() if "fused_adam" in event.key}


def test_the_kernel_is_found_within_compositions():
    params = {"a": torch.ones(3, 4), "b": torch.ones(4)}
    inside = [
        adamw(),
        chain(optim.clip_by_global_norm(1.0), optim.weight_decay(0.1), adamw()),
        chain(optim.accumulate(2), optim.ema(0.9), adamw()),
        by_path({"a": sgd(), "*": chain(optim.ema(0.5), adamw())}),
    ]
    for optimizer in inside:
        assert repr(fast_optimizer(optimizer)) == repr(optimizer)
        assert kernels_of(fast_optimizer(optimizer), params) == {"aten::_fused_adamw_"}
        assert kernels_of(optimizer, params) == set()
    assert kernels_of(fast_optimizer(adam()), params) == {"aten::_fused_adam_"}


def test_a_users_own_optimizer_is_left_alone():
    def update(params, grads, state, lr=0.1):
        return lf.tree.map(lambda p, dp: p - lr * dp.sign(), params, grads), state

    mine = lf.Optimizer("sign()", lambda params: (), update)
    assert fast_optimizer(mine) is mine
    bound = lf.Optimizer("sign()", lambda params: (), partial(update, lr=0.5))
    assert fast_optimizer(bound).update.func is update
    assert fast_optimizer(bound).update.keywords == {"lr": 0.5}


@pytest.mark.parametrize("make", MAKE)
def test_transforms_and_tracers_see_the_formula(make):
    optimizer = fast_optimizer(make())
    p, dp = keys.normal(lf.Key(0), (3, 4)).double(), keys.normal(lf.Key(1), (3, 4)).double()
    state = optimizer.init(p)

    def moved(dp):
        return optimizer.update(p, dp, state)[0]

    given = torch.func.vmap(moved)(torch.stack([dp, -dp]))
    assert same_number(list(given), [make().update(p, g, state)[0] for g in (dp, -dp)])
    slope = torch.func.grad(lambda dp: moved(dp).sum())(dp)
    expected = torch.func.grad(lambda dp: make().update(p, dp, state)[0].sum())(dp)
    assert same_number([slope], [expected])


IN_PLACE = [sgd(0.1), sgd(0.1, 0.9), adamw(), adam()]
ELSEWHERE = [
    sgd(0.1, 0.9, nesterov=True), sgd(0.1, weight_decay=0.2), sgd(0.1, maximize=True),
    sgd(schedules.constant(0.1), 0.9, 0.2), adam(amsgrad=True),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", [*IN_PLACE, *ELSEWHERE], ids=str)
def test_an_update_in_donated_memory_has_the_bits_of_the_pure_one_and_takes_no_other(optimizer):
    pure, donated = fast_optimizer(optimizer), fast_optimizer(optimizer, donate=True)
    params = leaves_of(KINDS, 0)
    mine = params, pure.init(params)
    given = lf.tree.map(torch.clone, mine)
    for t in range(3):
        grads, places = leaves_of(KINDS, 1 + t), places_of(given)
        mine = pure.update(mine[0], grads, mine[1])
        given = donated.update(given[0], grads, given[1])
        for ours, theirs in zip(lf.tree.leaves(given), lf.tree.leaves(mine), strict=True):
            assert same_bits(ours, theirs)
            assert ours.stride() == theirs.stride()
        assert same_bits(grads, leaves_of(KINDS, 1 + t))
        assert places_of(given) == places or optimizer in ELSEWHERE


def places_of(trees):
    """List where the tensors lie that a kernel updates: those with axes, without gaps."""
    leaves = lf.tree.leaves(trees)
    return [leaf.data_ptr() for leaf in leaves if leaf.ndim and leaf.is_contiguous()]


def test_an_optimizer_within_another_one_is_pure():
    """Accumulation takes the old params back where no step is due."""
    optimizer = chain(optim.accumulate(2), sgd(0.1))
    params = {"a": torch.ones(3)}
    donated = fast_optimizer(optimizer, donate=True)
    new, _ = donated.update(params, {"a": torch.ones(3)}, donated.init(params))
    assert same_number((new["a"], params["a"]), (torch.ones(3), torch.ones(3)))
