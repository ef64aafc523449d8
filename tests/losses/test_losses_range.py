"""Losses at the ends of a dtype's range: sums that overflow, lengths and numbers that vanish."""

import pytest
import torch
from helpers.compare import same_number

from lincoln_fn import losses

t = torch.tensor


def both(loss, prediction, target):
    value, cache = loss.forward(prediction, target)
    return value, loss.backward(cache)


def both_of_ones(loss, prediction, target):
    value, cache = loss.forward(prediction, target)
    return value, loss.backward(cache, torch.ones_like(value))


@pytest.mark.parametrize("p", [2.0, 8.0, 10.0, 40.0])
def test_a_short_distance_has_a_direction_in_every_norm(p):
    # The anchor is the positive, so u is eps, whose power is 0 in float32.
    x = torch.zeros(2, 2), torch.zeros(2, 2), t([[0.3, 0.3], [5.3, 5.3]])
    value, gradients = both(losses.triplet_margin(p=p, reduction="sum"), x, None)
    slope = 2.0 ** (1 / p) / 2  # of a vector (u, u); the second triplet has z < 0
    assert same_number(value, t(1 - 0.6 * slope), error=1e-5)
    expected = (t([[end * slope] * 2, [0.0, 0.0]]) for end in (2, -1, -1))
    assert same_number(gradients, tuple(expected), error=1e-5)
    swapped = both(losses.triplet_margin(p=p, swap=True, reduction="sum"), x, None)[1]
    assert torch.stack(swapped).isfinite().all()
    assert not torch.stack(swapped)[:, 1].any()


@pytest.mark.parametrize("length", [1e-25, 1e25])
def test_a_distance_whose_square_is_out_of_range_has_a_direction(length):
    x = torch.zeros(1, 2), t([[3.0, 4.0]]) * length, torch.zeros(1, 2)
    loss = losses.triplet_margin(eps=0.0)
    value, (da, dp, dn) = both(loss, x, None)
    assert same_number(value, t(1 + 5 * length))
    assert same_number((da, dp), (t([[-0.6, -0.8]]), t([[0.6, 0.8]])))
    assert not dn.any()


def test_an_infinitely_far_negative_has_no_gradient():
    x = torch.zeros(1, 2), torch.zeros(1, 2), t([[torch.inf, 0.0]])
    value, gradients = both(losses.triplet_margin(), x, None)
    assert value == 0
    assert not torch.cat(gradients).any()
