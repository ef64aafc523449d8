"""A rearranged network is the same function, with the same gradients."""

import pytest
import torch
from helpers import assert_says, begin, same_number

import lincoln_fn as lf
from lincoln_fn.fastpath.table import rearrange

POOLS = [
    lf.max_pool2d(2), lf.max_pool2d((3, 2), stride=1, padding=1),
    lf.max_pool2d(2, dilation=2, ceil_mode=True),
]  # fmt: skip


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("kind", ["spread", "ties", "negative", "infinite"])
def test_numbers_are_the_same(pool, kind):
    x = lf.keys.normal(lf.Key(0), (3, 2, 6, 5))
    x = {
        "spread": x,
        "ties": x.round(),
        "negative": -x.abs(),
        "infinite": torch.where(x > 1.5, torch.inf, torch.where(x < -1.5, -torch.inf, x)),
    }[kind]
    net = lf.serial(lf.relu(), pool)
    moved = rearrange(net)
    assert moved.parts == net.parts[::-1]
    y, cache = net.forward(((), ()), x)
    z, moved_cache = moved.forward(((), ()), x)
    assert same_number(y, z)
    g = lf.keys.normal(lf.Key(1), tuple(y.shape))
    assert same_number(
        net.backward(((), ()), cache, g)[0], moved.backward(((), ()), moved_cache, g)[0]
    )


def test_nan_comes_through_as_nan():
    x = torch.tensor([[[[torch.nan, 1.0], [2.0, 3.0]]]])
    for net in (lf.serial(lf.relu(), lf.max_pool2d(2)), lf.serial(lf.max_pool2d(2), lf.relu())):
        assert net.predict(((), ()), x).isnan().all()


def test_a_relu_moves_behind_all_the_pooling_and_within_compositions():
    first = lf.serial(lf.relu(), lf.max_pool2d(2), lf.max_pool2d(2), lf.tanh())
    assert str(rearrange(first)) == "serial(max_pool2d(2), max_pool2d(2), relu(), tanh())"
    inner = lf.serial(lf.relu(), lf.max_pool2d(3, 1, 1))
    net = lf.serial(lf.residual(inner), lf.checkpointed(inner))
    moved = "serial(max_pool2d(3, stride=1, padding=1), relu())"
    assert str(rearrange(net)) == f"serial(residual({moved}), checkpointed({moved}))"


@pytest.mark.parametrize("net", [
    lf.serial(lf.max_pool2d(2), lf.relu()),
    lf.serial(lf.relu(), lf.avg_pool2d(2)),
    lf.serial(lf.leaky_relu(), lf.max_pool2d(2)),
    lf.serial(lf.relu().replace(backward=lambda params, cache, g: (g, ())), lf.max_pool2d(2)),
    lf.serial(lf.relu(), lf.max_pool2d(2).replace(backward=lambda params, cache, g: (cache.x, ()))),
    lf.branch(lf.relu(), lf.max_pool2d(1), merge=lf.add()),
    lf.relu(),
], ids=str)  # fmt: skip
def test_what_must_not_move_stays(net):
    assert rearrange(net) is net


def test_errors_of_a_step_are_not_rearranged():
    net = lf.serial(lf.conv2d(4, 3), lf.relu(), lf.max_pool2d(2), lf.flatten(), lf.dense(3))
    x, target = lf.keys.normal(lf.Key(0), (5, 1, 8, 8)), torch.arange(5) % 3
    assert_says("serial[2] max_pool2d", *begin(net, x), (x[:, :, :3, :3], target))
