"""Transforms around optimizers: clipping, decay, accumulation, running means."""

import pytest
import torch
from helpers import same_bits, same_number
from helpers.optimizers import parameters as of_dtype
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import lincoln_fn as lf
from lincoln_fn import optim


def parameters(seed=0):
    return of_dtype(torch.float64, seed=seed)


def moved_by(optimizer, params, grads):
    return optimizer.update(params, grads, optimizer.init(params))[0]


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1000.0])
def test_clip_by_global_norm_is_torchs(max_norm):
    params, grads = parameters(), parameters(1)
    given = moved_by(
        optim.chain(optim.clip_by_global_norm(max_norm), optim.sgd(1.0)), params, grads
    )
    leaves = [leaf.clone().requires_grad_() for leaf in lf.tree.leaves(params)]
    for leaf, grad in zip(leaves, lf.tree.leaves(grads), strict=True):
        leaf.grad = grad.clone()
    torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    assert same_number(lf.tree.leaves(given), [leaf - leaf.grad for leaf in leaves])
    assert given[2].state is params[2].state


def test_clip_by_global_norm_of_nothing_and_of_zeros():
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd())
    assert moved_by(optimizer, ((), ()), ((), ())) == ((), ())
    params = parameters()
    zeros = lf.tree.map(torch.zeros_like, params)
    assert same_number(moved_by(optimizer, params, zeros), params)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_too_large_for_half_precision_is_clipped_to(dtype):
    grads = {"a": torch.full((4,), 6e4, dtype=dtype), "b": torch.tensor(6e4, dtype=dtype)}
    zeros = lf.tree.map(torch.zeros_like, grads)
    expected = torch.full((4,), -1 / 5**0.5, dtype=dtype)
    here = lf.distributed.clip_by_global_norm(1.0, lf.distributed.alone())
    for clip in (optim.clip_by_global_norm(1.0), here):
        moved = moved_by(optim.chain(clip, optim.sgd(1.0)), zeros, grads)
        assert same_number((moved["a"], moved["b"]), (expected, expected[0]))


def test_clip_by_global_norm_of_half_precision_is_undone():
    optimizer, p = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(1.0)), torch.zeros(4)
    grads, bar = torch.tensor([3e4, 6e4, -6e4, 1e4]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = optimizer.adjoint(p.double(), grads.double(), (), bar.double(), ())
    given = optimizer.adjoint(p.half(), grads.half(), (), bar.half(), ())
    # Of numbers below the smallest normal one of float16, only the place is known.
    assert (given.grads.double() - expected.grads).abs().max() <= 2**-24


def test_clip_by_value_is_torchs():
    params, grads = parameters(), parameters(1)
    given = moved_by(optim.chain(optim.clip_by_value(0.3), optim.sgd(1.0)), params, grads)
    assert same_number(given, lf.tree.map(lambda p, g: p - g.clamp(-0.3, 0.3), params, grads))


@pytest.mark.parametrize(("transformed", "plain"), [
    (optim.chain(optim.weight_decay(0.3), optim.adam(0.1)), optim.adam(0.1, weight_decay=0.3)),
    (optim.chain(optim.accumulate(1), optim.adam()), optim.adam()),
], ids=str)  # fmt: skip
def test_a_transform_is_the_optimizers_own(transformed, plain):
    params, grads = parameters(), parameters(1)
    assert same_number(moved_by(transformed, params, grads), moved_by(plain, params, grads))


def test_masked_weight_decay():
    params, grads = parameters(), parameters(1)
    decay = optim.weight_decay(0.3, mask=lambda path: path.endswith("weight"))
    given = moved_by(optim.chain(decay, optim.sgd(0.1)), params, grads)
    some = optim.by_path({"*weight": optim.sgd(0.1, weight_decay=0.3), "*": optim.sgd(0.1)})
    assert same_number(given, moved_by(some, params, grads))
    assert not same_bits(given[0].weight, moved_by(optim.sgd(0.1), params, grads)[0].weight)


def test_the_first_transform_sees_the_gradients_first():
    p, g = torch.tensor(2.0), torch.tensor(5.0)
    clip_first = optim.chain(optim.clip_by_value(1.0), optim.weight_decay(0.5), optim.sgd(1.0))
    decay_first = optim.chain(optim.weight_decay(0.5), optim.clip_by_value(1.0), optim.sgd(1.0))
    assert (moved_by(clip_first, p, g), moved_by(decay_first, p, g)) == (0.0, 1.0)


def test_accumulated_steps_are_those_of_the_mean_gradients():
    k, optimizer = 3, optim.adamw(0.05)
    accumulated = optim.chain(optim.accumulate(k), optimizer)
    params = expected = parameters()
    state, alone = accumulated.init(params), optimizer.init(params)
    for i in range(3):
        each = [parameters(10 * i + j) for j in range(k)]
        for j, grads in enumerate(each):
            assert same_number(params, expected)
            params, state = accumulated.update(params, grads, state)
            assert state.count == (j + 1) % k
        mean = lf.tree.map(lambda *g: sum(g) / k, *each)
        expected, alone = optimizer.update(expected, mean, alone)
    assert same_number((params, state.inner), (expected, alone))
    assert state.inner.step == 3
    assert state.count.dtype is torch.int64


def test_ema_is_torchs():
    decay, optimizer = 0.8, optim.sgd(0.1)
    params = parameters()
    module = torch.nn.ParameterList(lf.tree.leaves(params))
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.update_parameters(module)  # its first update copies the parameters
    averaging = optim.chain(optim.ema(decay), optimizer)
    state = averaging.init(params)
    assert same_number(optim.ema_params(state, params), params)
    for i in range(5):
        params, state = averaging.update(params, parameters(i), state)
        for ours, theirs in zip(lf.tree.leaves(params), module, strict=True):
            theirs.data.copy_(ours)
        average.update_parameters(module)
    read = optim.ema_params(state, params)
    assert same_number(lf.tree.leaves(read), list(average.module))
    assert read[2].state is params[2].state
    assert read[2].bias is None


def test_gradients_that_do_not_mirror_are_named():
    params, state = parameters(), optim.chain(optim.accumulate(2), optim.sgd()).init(parameters())
    with pytest.raises(lf.LayerError, match="accumulate: expected gradients of the parameters'"):
        optim.chain(optim.accumulate(2), optim.sgd()).update(params, params[:2], state)
    with pytest.raises(lf.LayerError, match="sgd: expected gradients of the parameters'"):
        optim.chain(optim.clip_by_global_norm(1.0), optim.sgd()).update(params, params[:2], ())
    with pytest.raises(lf.LayerError, match="ema_params: expected a state with trees of 4"):
        optim.ema_params(optim.chain(optim.ema(0.5), optim.sgd()).init(params[:1]), params)


def test_accumulation_is_undone_beside_a_running_statistic():
    optimizer, params, grads = (
        optim.chain(optim.accumulate(2), optim.sgd(0.5)),
        parameters(),
        parameters(1),
    )
    _, waiting = optimizer.update(params, grads, optimizer.init(params))
    for state, is_due in ((optimizer.init(params), False), (waiting, True)):
        found = optimizer.adjoint(params, grads, state, params, waiting)
        assert found.params[2].state is params[2].state
        # The bar of the sum, which is these gradients; where the step is due, that of the mean.
        expected = lf.tree.map(lambda p: -0.5 / 2 * p, params) if is_due else grads
        assert same_number(lf.tree.leaves(found.grads), lf.tree.leaves(expected))


def test_the_mean_is_found_wherever_it_stands():
    params = parameters()
    for before, after in (
        ((), (optim.accumulate(2),)),
        ((optim.accumulate(2),), ()),
        ((optim.clip_by_value(9.0),), ()),
    ):
        state = optim.chain(*before, optim.ema(0.5), *after, optim.sgd(1.0)).init(params)
        assert same_number(optim.ema_params(state, params), params)


def test_a_mean_that_is_not_there_or_not_alone():
    params = parameters()
    half = optim.chain(optim.ema(0.5), optim.sgd())
    twice = optim.chain(optim.ema(0.5), optim.accumulate(2), optim.ema(0.9), optim.sgd())
    for optimizer, count in (
        (optim.adam(), 0),
        (optim.by_path({"0.*": half, "*": half}), 2),
        (twice, 2),
    ):
        with pytest.raises(ValueError, match=f"one running mean, got {count}"):
            optim.ema_params(optimizer.init(params), params)
