"""Combinators hand on all functions, proven over dropout and batch norm."""

import pickle

import pytest
import torch
from helpers import first_run, normal, same_bits, same_number
from helpers.stateful import STATEFUL, X

import lincoln_fn as lf

each = pytest.mark.parametrize("name", STATEFUL)


def states(params):
    """List the running statistics and keys."""
    pairs = zip(
        lf.tree.paths(params, states=True), lf.tree.leaves(params, states=True), strict=True
    )
    return [leaf for path, leaf in pairs if "running" in path or "key" in path]


@each
def test_advance_is_handed_on_to_every_state(name):
    layer, x = STATEFUL[name]
    params, _, cache = first_run(layer, x, 1)
    advanced = layer.advance(params, cache)
    moved = [
        not same_bits(before, after)
        for before, after in zip(states(params), states(advanced), strict=True)
    ]
    assert moved
    assert all(moved)
    for before, after in zip(lf.tree.leaves(params), lf.tree.leaves(advanced), strict=True):
        assert before is after


@each
def test_predict_is_handed_on(name):
    layer, x = STATEFUL[name]
    params = layer.init(lf.Key(1), x)
    first = lf.tree.leaves(layer.predict(params, x))
    advanced = layer.advance(params, layer.forward(params, x)[1])
    for _ in range(3):
        advanced = layer.advance(advanced, layer.forward(advanced, x)[1])
    # Dropout is off and running statistics are used: an example gets the same alone.
    alone = lf.tree.map(lambda leaf: leaf[:1], x)
    together = lf.tree.map(lambda leaf: leaf[:1], layer.predict(advanced, x))
    assert same_number(layer.predict(advanced, alone), together)
    assert all(torch.isfinite(leaf).all() for leaf in first)


def test_shared_draws_different_masks_and_threads_the_running_statistics():
    x = torch.ones(4, 8)
    layer = lf.shared(lf.dropout(0.5))
    first, second = layer.forward(layer.init(lf.Key(3), (x, x)), (x, x))[0]
    assert not same_bits(first, second)

    norm = lf.batch_norm()
    params = norm.init(lf.Key(0), X)
    other = normal(5, 3, seed=1)
    in_turn = params
    for x_i in (X, other):
        in_turn = norm.advance(in_turn, norm.forward(in_turn, x_i)[1])
    at_once = lf.shared(norm)
    together = at_once.advance(params, at_once.forward(params, (X, other))[1])
    assert same_bits(states(together), states(in_turn))


def test_checkpointed_recomputes_with_the_same_masks_and_keeps_x_alone():
    plain = lf.serial(lf.dropout(0.5), lf.dense(4), lf.dropout(0.5))
    params = plain.init(lf.Key(1), X)
    layer = lf.checkpointed(plain)
    y, cache = layer.forward(params, X)
    plain_y, plain_cache = plain.forward(params, X)
    g = normal(6, 4, seed=3)
    assert same_bits(y, plain_y)
    assert cache.arrays is X
    ours, theirs = layer.backward(params, cache, g), plain.backward(params, plain_cache, g)
    assert same_bits(ours, theirs)
    kept = {leaf.data_ptr() for leaf in lf.tree.leaves(cache, states=True) if leaf.ndim}
    assert kept <= {leaf.data_ptr() for leaf in (X, *lf.tree.leaves(params))}


def test_checkpointed_advances_the_same_from_params_that_have_moved():
    layer = lf.checkpointed(lf.serial(lf.dense(4), lf.batch_norm()))
    params, _, cache = first_run(layer, X, 1)
    moved = lf.tree.map(lambda leaf: leaf + 1, params)
    advanced = layer.advance(moved, cache)
    for given, expected in zip(lf.tree.leaves(advanced), lf.tree.leaves(moved), strict=True):
        assert given is expected
    assert same_bits(states(advanced), states(layer.advance(params, cache)))


def test_frozen_computes_no_dparams_and_nothing_below_it():
    def refuse(*arguments):
        raise AssertionError("a gradient that nobody needs was computed")

    below = lf.dense(4).replace(grads=refuse, input_grad=refuse)
    frozen = lf.frozen(below.replace(backward=refuse, grads=refuse))
    net = lf.serial(frozen, lf.relu().replace(backward=refuse), lf.dense(2))
    params = net.init(lf.Key(0), X)
    dparams = net.grads(params, net.forward(params, X)[1], normal(6, 2, seed=1))
    assert lf.tree.paths(dparams) == ["2.weight", "2.bias"]
    assert dparams[0] is params[0]


def test_a_composition_of_other_parts_says_so():
    layer = pickle.loads(pickle.dumps(lf.residual(lf.dense(4))))
    other = lf.map_layers(lambda part: lf.dense(7) if part.name == "dense(4)" else part, layer)
    assert str(other) == "residual(dense(7))"
    named = lf.serial(lf.dense(3), lf.relu()).replace(name="encoder")
    other = lf.map_layers(lambda part: lf.tanh() if part.name == "relu()" else part, named)
    assert (str(other), other.spec["layers"]) == ("encoder", other.parts)
