"""A convolution's backward pass behind a max-pooling: sums over windows are sums over places."""

from functools import partial
from itertools import product as pairs

import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.compiling import compiles
from helpers.graphs import assert_same_after, drawn, targets, traced
from helpers.kernels_together import together

import lincoln_fn as lf
from lincoln_fn.compiler.kernels.pooled_convolution.op import backward
from lincoln_fn.compiler.passes import pooled_convolution, pooling

aten = torch.ops.aten
CHANNELS_LAST = torch.channels_last
pytestmark = pytest.mark.usefixtures("needs_vectors")


def gradients(i, x_shape, w_shape, padding, window, relu=True):
    """Give g, places, x and W, and what ATen makes of the g that pooling hands on, in float64."""
    x, weight = drawn(i, *x_shape), drawn(i + 1, *w_shape)
    y = torch.conv2d(x, weight, padding=padding)
    pooled, places = pooling.pool(y.to(memory_format=CHANNELS_LAST), window)
    g = drawn(i + 2, *pooled.shape)
    g = torch.where(pooled > 0, g, 0) if relu else g
    dense = pooling.pool_backward(g, places, window).double()
    expected = aten.convolution_backward(
        dense, x.double(), weight.double(), [len(weight)], [1, 1], padding, [1, 1], False, [0, 0],
        1, [True] * 3,
    )  # fmt: skip
    return (g, places, x, weight), expected


# The shapes of x and W, padding and window: a filter's line fits in a vector, in several with a
# rest, in several tiles across, and in several tiles down.
SHAPES = {
    "one channel": ((5, 1, 10, 9), (3, 1, 3, 2), (1, 2), (2, 3)),
    "a rest": ((3, 7, 7, 10), (6, 7, 2, 5), (0, 1), (3, 2)),
    "wide": ((2, 160, 4, 6), (3, 160, 1, 3), (0, 1), (2, 2)),
    "high": ((2, 48, 6, 5), (4, 48, 7, 2), (3, 0), (2, 4)),
}


@compiles
def test_sums_over_windows_are_sums_over_places():
    cases = []
    for (*shapes, padding, window), relu in pairs(SHAPES.values(), (True, False)):
        given, expected = gradients(5, *shapes, padding, window, relu)
        cases.append(((*given, padding, window, (True, True)), expected))
    made = together([partial(backward, *given) for given, _ in cases])
    for ours, (_, expected) in zip(made, cases, strict=True):
        assert same_number(list(ours), list(expected), dtype=torch.float32)
        assert all(d.is_contiguous(memory_format=CHANNELS_LAST) for d in ours[:2])


@compiles
def test_halves_are_those_of_the_whole_on_any_number_of_threads():
    *_, padding, window = SHAPES["one channel"]
    given, _ = gradients(8, *SHAPES["one channel"])

    def run(needed, threads):
        torch.set_num_threads(threads)
        return backward(*given, padding, window, needed)

    ways = ((True, True), 1), ((True, False), 1), ((False, True), 1), ((True, True), 2)
    whole, of_dx, of_dw, by_two = together([partial(run, *way) for way in ways])
    assert same_bits(of_dx[0], whole[0])
    assert same_bits(of_dw[1], whole[1])
    assert of_dx[1].numel() == of_dw[0].numel() == 0
    assert same_number(by_two[1], whole[1])
    assert same_bits(by_two[0], whole[0])


@compiles
def test_a_g_that_is_not_finite_is_no_zero():
    *_, padding, window = SHAPES["one channel"]
    (g, *others), _ = gradients(8, *SHAPES["one channel"])
    g[0, 1, 0, 0] = torch.nan
    _, dw, db = backward(g, *others, padding, window, (False, True))
    assert dw[1].isnan().any()
    assert db[1].isnan()
    assert dw[[0, 2]].isfinite().all()


def conv_net(*between, conv=None, pool=None):
    first = lf.conv2d(8, 3, padding=1)
    conv = conv or lf.conv2d(9, 3, padding=1)
    layers = first, lf.tanh(), conv, *between, pool or lf.max_pool2d(2), lf.relu()
    return lf.serial(*layers, lf.flatten(), lf.dense(3))


def rewritten(graph):
    pooling.rewrite(graph)
    pooled_convolution.rewrite(graph)


@compiles
def test_it_takes_the_place_of_a_convolution_s_behind_a_pooling():
    graph, arguments = traced(conv_net(lf.relu()), drawn(1, 6, 2, 8, 10))
    assert_same_after(rewritten, graph, arguments)
    called = targets(graph)
    assert called.count(backward) == 1
    assert called.count(aten.convolution_backward.default) == 1  # the first, without a pooling


@compiles
def test_the_first_layer_s_dx_is_left_out():
    net = lf.serial(lf.conv2d(8, 3, padding=1), lf.max_pool2d(2), lf.flatten(), lf.dense(3))
    graph, arguments = traced(net, drawn(1, 6, 2, 8, 10))
    assert_same_after(rewritten, graph, arguments)
    ours = backward
    (node,) = graph.graph.find_nodes(op="call_function", target=ours)
    assert node.args[-1] == (False, True)


OTHERS = {
    "with strides": conv_net(conv=lf.conv2d(9, 2, stride=2)),
    "dilated": conv_net(conv=lf.conv2d(9, 3, padding=2, dilation=2)),
    "in groups": conv_net(conv=lf.conv2d(8, 3, padding=1, groups=2)),
    "transposed": conv_net(conv=lf.conv_transpose2d(9, 3, padding=1)),
    "small windows": conv_net(pool=lf.max_pool2d((1, 2))),
    "overlapping windows": conv_net(pool=lf.max_pool2d(2, 1)),
    "a layer between": conv_net(lf.tanh()),
}


@compiles
@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_to_aten(name):
    graph, _ = traced(OTHERS[name], drawn(1, 6, 2, 8, 8))
    rewritten(graph)
    assert backward not in targets(graph)


@compiles
def test_a_gradient_that_is_used_otherwise_too_is_made():
    shift = lf.Layer(
        "shift()",
        lambda params, x: (x + params, None),
        lambda params, cache, g: (g, g.sum()),
        lambda key, x: torch.zeros(()),
    )
    graph, arguments = traced(conv_net(shift), drawn(1, 6, 2, 8, 10))
    assert_same_after(rewritten, graph, arguments)
    assert backward not in targets(graph)


def test_permutations_are_seen_through_if_they_come_to_nothing():
    def permuted(*orders):
        def run(x):
            y = x * 2
            for order in orders:
                y = y.permute(order)
            return y.sin()

        graph = torch.fx.experimental.proxy_tensor.make_fx(run)(torch.ones(2, 3, 4, 4)).graph
        (made,) = graph.find_nodes(op="call_function", target=aten.mul.Tensor)
        (last,) = graph.find_nodes(op="call_function", target=aten.sin.default)
        return pooled_convolution._find_unpermuted(last.args[0]) is made

    assert permuted()
    assert permuted((0, 2, 3, 1), (0, 3, 1, 2))
    assert not permuted((0, 1, 3, 2))
    assert not permuted((0, 2, 3, 1), (0, 3, 2, 1))
