"""`init_state(params=…)` copies what it is given, and draws nothing."""

import pytest
import torch
from helpers import SGD, Operations, error_of, same_bits

import lincoln_fn as lf
from lincoln_fn.initializers import Initializer

X = torch.ones(2, 60)


def numbers_in(operations):
    """Count the numbers in the tensors that operations make, but not on `meta`."""
    made = [lf.tree.leaves(result) for f, _, result in operations.calls if not f.is_view]
    leaves = [leaf for each in made for leaf in each if isinstance(leaf, torch.Tensor)]
    return sum(leaf.numel() for leaf in leaves if not leaf.is_meta)


def test_given_params_are_copied_and_none_are_drawn():
    net = lf.serial(
        lf.dense(50), lf.batch_norm(), lf.dropout(), lf.repeat(2, lf.dense(50)), lf.dense(10)
    )
    params = net.init(lf.Key(0), X)
    with Operations() as operations:
        state = lf.init_state(net, SGD, lf.Key(1), X, params=params)
    assert same_bits(state.params, params)
    given, kept = (lf.tree.leaves(p, states=True) for p in (params, state.params))
    assert not {leaf.data_ptr() for leaf in given} & {leaf.data_ptr() for leaf in kept}
    assert int(state.step) == 0
    drawn = lf.init_state(net, SGD, lf.Key(1), X)
    assert same_bits(state.key, drawn.key)
    strides = [[leaf.stride() for leaf in lf.tree.leaves(s.params)] for s in (state, drawn)]
    assert strides[0] == strides[1]
    total = sum(leaf.numel() for leaf in given)
    # An empty copy, and the operation that fills it; the rest is of the run's key.
    assert numbers_in(operations) <= 2 * total + 100


def test_an_init_that_reads_numbers_serves_too():
    def by_values(key, shape, fans, dtype):
        drawn = lf.keys.normal(key, shape, dtype=dtype)
        return drawn / drawn.abs().max().item()

    net = lf.serial(lf.dense(4, weight_init=Initializer("mine()", by_values)), lf.dense(3))
    params = net.init(lf.Key(0), X)
    state = lf.init_state(net, SGD, lf.Key(1), X, params=params)
    assert same_bits(state.params, params)


@pytest.mark.parametrize("features", [7, 60])
def test_an_x_that_does_not_fit_is_told_as_without_params(features):
    net = lf.serial(lf.dense(4), lf.reshape(2, 3))
    given = net, SGD, lf.Key(0), X[:, :features]
    assert error_of(lf.init_state, *given, params=()) == error_of(lf.init_state, *given)
