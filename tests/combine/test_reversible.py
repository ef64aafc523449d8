"""Reversible blocks: the input is recomputed from the output, and memory is flat in depth."""

import pytest
import torch
from helpers import cast, normal, same_bits, same_number
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


# Flows: the log-determinant is that of the Jacobian, and the inverse comes back.


def mlp(n):
    return lf.serial(lf.dense(7), lf.tanh(), lf.dense(n))


IMAGE = lf.coupling(lf.conv2d(4, 3, padding=1), swap=True, dim=1)
FLOWS = {
    "rows": (lf.serial(lf.coupling(mlp(4)), lf.coupling(mlp(6), swap=True, max_log_scale=None)),
        normal(4, 5)),
    "images": (lf.serial(IMAGE, lf.serial(lf.coupling(lf.conv2d(4, 1), dim=1))),
        normal(2, 4, 2, 3)),
}  # fmt: skip

LAYER, ROWS = lf.coupling(lf.dense(4)), normal(3, 4)
PARAMS = LAYER.init(lf.Key(0), ROWS)


@pytest.mark.parametrize(("flow", "x"), FLOWS.values(), ids=FLOWS)
def test_the_log_determinant_is_that_of_the_jacobian_and_the_inverse_comes_back(flow, x):
    params, x = cast(flow.init(lf.Key(0), x)), x.double()
    y, log_det = flow.predict(params, x)
    for n, row in enumerate(x):
        jacobian = torch.func.jacrev(lambda row: flow.predict(params, row[None])[0][0])(row)
        expected = torch.linalg.slogdet(jacobian.reshape(row.numel(), -1)).logabsdet
        assert same_number(log_det[n], expected, terms=float(row.numel()))
    again, rest = lf.inverse(flow, params, (y, log_det))
    assert same_number((again, rest), (x, torch.zeros_like(rest)), terms=10.0)
    assert same_number(lf.inverse(flow, params, y)[1], -log_det, terms=10.0)


@pytest.mark.parametrize("flow", [LAYER, lf.serial(LAYER)], ids=["alone", "in serial"])
def test_dx_mirrors_a_pair_without_a_log_determinant(flow):
    params = PARAMS if flow is LAYER else (PARAMS,)
    g = normal(3, 4, seed=1), normal(3, seed=2)
    (y, cache), (same, its_cache) = (flow.forward(params, x) for x in (ROWS, (ROWS, None)))
    dx, dparams = flow.backward(params, cache, g)
    (of_x, of_log_det), same_dparams = flow.backward(params, its_cache, g)
    assert same_bits((same, of_x, same_dparams), (y, dx, dparams))
    assert of_log_det is None
