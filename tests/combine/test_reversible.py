"""Reversible blocks: the input is recomputed from the output, and memory is flat in depth."""

import torch
from helpers import normal, same_bits
from helpers.compositions import forward_and_backward, peak_bytes, run
from helpers.loops import HALVES as X
from helpers.loops import THREE_BLOCKS as BLOCKS
from helpers.loops import F, H

import lincoln_fn as lf


def test_a_tuple_and_a_tensor_give_the_same():
    net = BLOCKS
    params, y, _, _ = run(net, X)
    halves, _ = net.forward(params, (X[:, :3], X[:, 3:]))
    assert same_bits(torch.cat(halves, 1), y)


def test_the_cache_is_the_output_and_the_next_states():
    layer, x = BLOCKS, X
    params, y, cache, _ = run(layer, x)
    assert cache.arrays is y
    kept = {id(leaf) for leaf in lf.tree.leaves(cache, states=True)}
    theirs = {id(leaf) for leaf in lf.tree.leaves(params)}
    own = [leaf for leaf in lf.tree.leaves(cache, states=True) if id(leaf) not in theirs]
    assert theirs <= kept
    assert sum(leaf.numel() for leaf in own) == y.numel() + 2 * (1 + 5 + 5 + 1)


def test_states_advance_as_in_the_parts_alone():
    net = lf.reversible((F, H))
    params, _, cache, _ = run(net, X)
    f_of_x2, of_f = F.forward(params[0], X[:, 3:])
    _, of_h = H.forward(params[1], X[:, :3] + f_of_x2)
    expected = (F.advance(params[0], of_f), H.advance(params[1], of_h))
    assert same_bits(net.advance(params, cache), expected)
    trained = lf.tree.map(lambda leaf: leaf + 1, params)
    assert same_bits(lf.tree.leaves(net.advance(trained, cache)), lf.tree.leaves(trained))


def test_parts_that_are_not_trained_get_no_dx():
    def refuse(*arguments):
        raise AssertionError("nobody needs this dx")

    still = lf.tanh().replace(input_grad=refuse)
    net = lf.reversible((still, lf.frozen(lf.dense(3))), (lf.dense(3), lf.dense(3)))
    params, _, cache, g = run(net, X)
    expected = lf.map_layers(lambda part: lf.tanh() if part is still else part, net)
    assert same_bits(net.grads(params, cache, g), expected.backward(params, cache, g)[1])


def peak_of_step(net, x):
    """Measure forward and backward, without the gradients of the parameters."""
    params, _, _, g = run(net, x)
    peak = peak_bytes(forward_and_backward, net, params, x, g)
    return peak - sum(leaf.nbytes for leaf in lf.tree.leaves(params))


def test_memory_does_not_grow_with_depth():
    x = normal(256, 40)
    block = (lf.serial(lf.dense(20), lf.tanh()), lf.serial(lf.dense(20), lf.tanh()))
    peaks = {depth: peak_of_step(lf.reversible(*[block] * depth), x) for depth in (4, 64)}
    assert peaks[64] == peaks[4]
    plain = lf.repeat(16, lf.residual(lf.serial(lf.dense(40), lf.tanh())))
    assert peak_of_step(plain, x) > 3 * peaks[64]
