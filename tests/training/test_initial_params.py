"""`init_state(params=…)` copies what it is given, and draws nothing."""

import pytest
import torch
from helpers.compare import same_bits
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf
from lincoln_fn.initializers import Initializer

X = torch.ones(2, 60)
SGD = lf.optim.sgd(0.1)


class Made(TorchDispatchMode):
    """Counts the numbers in the tensors that operations make, but not on `meta`."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in lf.tree.leaves(result):
            if isinstance(leaf, torch.Tensor) and not leaf.is_meta:
                self.count += 0 if function.is_view else leaf.numel()
        return result


def test_given_params_are_copied_and_none_are_drawn():
    net = lf.serial(
        lf.dense(50), lf.batch_norm(), lf.dropout(), lf.repeat(2, lf.dense(50)), lf.dense(10)
    )
    params = net.init(lf.Key(0), X)
    with Made() as made:
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
    assert made.count <= 2 * total + 100


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
    with pytest.raises(lf.LayerError) as expected:
        lf.init_state(net, SGD, lf.Key(0), X[:, :features])
    with pytest.raises(lf.LayerError) as told:
        lf.init_state(net, SGD, lf.Key(0), X[:, :features], params=())
    assert str(told.value) == str(expected.value)
