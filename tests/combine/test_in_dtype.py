"""A layer that computes in another dtype keeps its parameters, and all around it, in their own."""

import torch
from helpers import begin, first_run, run, same_bits, same_number

import lincoln_fn as lf

X, TARGET = lf.keys.normal(lf.Key(0), (16, 24)), torch.arange(16) % 5
INNER = lf.serial(lf.dense(32), lf.tanh(), lf.dense(5))
LOW = lf.in_dtype(INNER, torch.bfloat16)


def dtypes(tree):
    return {leaf.dtype for leaf in lf.tree.leaves(tree, states=True)}


def test_it_equals_the_layer_on_cast_numbers():
    params = LOW.init(lf.Key(1), X)
    low = lf.tree.map(torch.Tensor.bfloat16, params)
    y, cache = LOW.forward(params, X)
    g = lf.keys.normal(lf.Key(2), tuple(y.shape))
    inner_y, *inner = run(INNER, low, X.bfloat16(), g.bfloat16())
    assert same_bits((y, LOW.predict(params, X)), (inner_y.float(),) * 2)
    results = LOW.backward(params, cache, g)
    assert dtypes((params, y, results)) == {torch.float32}
    assert dtypes(cache.cache) == {torch.bfloat16}
    assert same_bits(results, lf.tree.map(torch.Tensor.float, tuple(inner)))


def test_y_has_the_dtype_that_is_asked_for():
    layer = lf.in_dtype(INNER, torch.bfloat16, torch.float32)
    params, x = layer.init(lf.Key(1), X), X.bfloat16()
    g = lf.keys.normal(lf.Key(2), (16, 5))
    y, dx, dparams = run(layer, params, x, g)
    of_floats, expected_dx, expected = run(LOW, params, X, g)
    assert y.dtype is torch.float32
    assert same_bits((y, layer.predict(params, x)), (of_floats, of_floats))
    assert dx.dtype is torch.bfloat16
    assert same_bits(dx.float(), expected_dx)
    assert dtypes(dparams) == {torch.float32}
    assert same_bits(dparams, expected)


def test_small_steps_are_not_lost():
    step, first = begin(LOW, X, lf.losses.softmax_cross_entropy(), lf.optim.sgd(1e-4))
    state = first
    for _ in range(5):
        state, _ = step(state, (X, TARGET))
    for old, new in zip(lf.tree.leaves(first.params), lf.tree.leaves(state.params), strict=True):
        assert new.dtype is torch.float32
        assert not same_bits(old, new)
        # A step of 1e-4 of the gradient is far below what bfloat16 can tell apart.
        assert (old - new).abs().max() < 1e-3


def test_codes_take_the_dtype_of_the_parameters():
    layer = lf.in_dtype(lf.embedding(7, 4), torch.bfloat16)
    codes = torch.tensor([[1, 2], [6, 0]])
    params, y, cache = first_run(layer, codes)
    assert y.dtype is torch.float32
    dx, dparams = layer.backward(params, cache, torch.ones_like(y))
    assert dx is None
    assert dparams.weight.dtype is torch.float32


def test_its_name_makes_it_again_and_other_parts_stay_in_it():
    assert str(LOW) == f"in_dtype({INNER}, torch.bfloat16)"
    relu = LOW.rebuild((lf.relu(),))
    assert str(relu) == "in_dtype(relu(), torch.bfloat16)"
    wider = lf.in_dtype(INNER, torch.bfloat16, torch.float32).rebuild((lf.relu(),))
    assert str(wider) == "in_dtype(relu(), torch.bfloat16, torch.float32)"
    assert wider.predict((), X.bfloat16()).dtype is torch.float32


def test_running_statistics_stay_in_their_own_dtype():
    layer = lf.in_dtype(lf.batch_norm(), torch.bfloat16)
    params, _, cache = first_run(layer, X)
    advanced = layer.advance(params, cache)
    exact = lf.batch_norm().advance(params, lf.batch_norm().forward(params, X)[1])
    assert same_number(advanced, exact, dtype=torch.bfloat16)
    assert dtypes(advanced) == dtypes(exact)
