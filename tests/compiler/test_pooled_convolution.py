"""A convolution and its max-pooling by kernels, there and back: the same numbers and places."""

from functools import partial
from itertools import product as pairs

import pytest
import torch
from helpers import assert_same_after, compiles, drawn, same_bits, same_number, targets, traced
from helpers.kernels_together import together

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.settings import lanes
from lincoln_fn.compiler.passes import pooling
from lincoln_fn.compiler.passes.pooling import convolve_and_pool as forward
from lincoln_fn.compiler.passes.pooling import convolve_and_pool_backward as backward

aten = torch.ops.aten
CHANNELS_LAST = torch.channels_last
pytestmark = [compiles, pytest.mark.full, pytest.mark.usefixtures("needs_vectors")]


# The shapes of x and of a filter, how many vectors of filters, padding and window: one channel and
# many, tiles of one vector and of two, lines of nothing but padding, windows wider than a tile.
SHAPES = {
    "one channel": ((5, 1, 10, 9), (3, 2), 1, (1, 2), (2, 2)),
    "two vectors": ((3, 7, 7, 10), (2, 5), 2, (0, 1), (3, 2)),
    "three vectors": ((2, 4, 6, 8), (1, 1), 3, (0, 0), (2, 4)),
    "much padding": ((2, 3, 4, 3), (5, 5), 2, (4, 4), (2, 7)),
    "a wide window": ((1, 2, 4, 32), (1, 1), 2, (0, 0), (1, 16)),
}


def arguments(name):
    x_shape, kernel, vectors, padding, window = SHAPES[name]
    filters = vectors * lanes()
    x = drawn(1, *x_shape).to(memory_format=CHANNELS_LAST)
    return x, drawn(2, filters, x_shape[1], *kernel), drawn(3, filters), padding, window


def test_is_pooling_of_the_convolution():
    given = []
    for name in SHAPES:
        x, weight, bias, padding, window = arguments(name)
        given += [(x, weight, b, padding, window) for b in (bias, None)]
    calls = [partial(forward, *case) for case in given]
    for (x, weight, bias, padding, window), (y, places) in zip(given, together(calls), strict=True):
        made = torch.conv2d(x, weight, bias, padding=padding).to(memory_format=CHANNELS_LAST)
        expected, expected_places = pooling.pool(made, window)
        assert same_number(y, expected)
        assert same_bits(places, expected_places)
        assert (y.stride(), places.stride()) == (expected.stride(), expected_places.stride())


def test_the_first_of_equals_is_chosen_and_nan_stays():
    x = torch.zeros(1, 1, 2, 6).to(memory_format=CHANNELS_LAST)
    x[0, 0, 1, 1], x[0, 0, 0, 3] = 5.0, torch.nan
    weight = torch.ones(lanes(), 1, 1, 1)
    y, places = forward(x, weight, None, (0, 0), (2, 2))
    assert y[0, 0, 0].isnan().tolist() == [False, True, False]
    assert y[0, 0, 0, [0, 2]].tolist() == [5.0, 0.0]
    assert places[0, 0, [0, 2], 0].tolist() == [3, 0]


# The shapes of x and W, padding and window: a filter's line fits in a vector, in several with a
# rest, in several tiles across, and in several tiles down.
BACKWARD = {
    "one channel": ((5, 1, 10, 9), (3, 1, 3, 2), (1, 2), (2, 3)),
    "a rest": ((3, 7, 7, 10), (6, 7, 2, 5), (0, 1), (3, 2)),
    "wide": ((2, 160, 4, 6), (3, 160, 1, 3), (0, 1), (2, 2)),
    "high": ((2, 48, 6, 5), (4, 48, 7, 2), (3, 0), (2, 4)),
}


def gradients(name, relu=True):
    """Give g, places, x and W, and what ATen makes of the g that pooling hands on, in float64."""
    x_shape, w_shape, padding, window = BACKWARD[name]
    x, weight = drawn(5, *x_shape), drawn(6, *w_shape)
    y = torch.conv2d(x, weight, padding=padding)
    pooled, places = pooling.pool(y.to(memory_format=CHANNELS_LAST), window)
    g = drawn(7, *pooled.shape)
    g = torch.where(pooled > 0, g, 0) if relu else g
    dense = pooling.pool_backward(g, places, window).double()
    expected = aten.convolution_backward(
        dense, x.double(), weight.double(), [len(weight)], [1, 1], padding, [1, 1], False, [0, 0],
        1, [True] * 3,
    )  # fmt: skip
    return (g, places, x, weight, padding, window), expected


def test_sums_over_windows_are_sums_over_places():
    cases = [gradients(name, relu) for name, relu in pairs(BACKWARD, (True, False))]
    made = together([partial(backward, *given, (True, True)) for given, _ in cases])
    for ours, (_, expected) in zip(made, cases, strict=True):
        assert same_number(list(ours), list(expected), dtype=torch.float32)
        assert all(d.is_contiguous(memory_format=CHANNELS_LAST) for d in ours[:2])


def with_threads(function, arguments, *more, threads):
    torch.set_num_threads(threads)
    return function(*arguments, *more)


def test_any_number_of_threads_gives_the_same_and_halves_are_those_of_the_whole():
    there, (back, _) = arguments("one channel"), gradients("one channel")
    ways = ((True, True), 1), ((True, False), 1), ((False, True), 1), ((True, True), 2)
    calls = [partial(with_threads, forward, there, threads=n) for n in (1, 2, 7)]
    calls += [partial(with_threads, backward, back, needed, threads=n) for needed, n in ways]
    first, *others, whole, of_dx, of_dw, by_two = together(calls)
    assert all(same_bits(list(other), list(first)) for other in others)
    assert same_bits(of_dx[0], whole[0])
    assert same_bits(of_dw[1], whole[1])
    assert of_dx[1].numel() == of_dw[0].numel() == 0
    assert same_number(by_two[1], whole[1])
    assert same_bits(by_two[0], whole[0])


def test_a_g_that_is_not_finite_is_no_zero():
    (g, *others), _ = gradients("one channel")
    g[0, 1, 0, 0] = torch.nan
    _, dw, db = backward(g, *others, (False, True))
    assert dw[1].isnan().any()
    assert db[1].isnan()
    assert dw[[0, 2]].isfinite().all()


def pooled(first, *between, pool=None):
    pool = pool or lf.max_pool2d(2)
    return lf.serial(*first, *between, pool, lf.relu(), lf.flatten(), lf.dense(3))


def convolution(filters=None, **form):
    """The first layer of a network, which needs no dx."""
    return (lf.conv2d(filters or 2 * lanes(), 3, padding=1, **form),)


def second(conv=None):
    """Layers of which the last is a convolution that needs dx, of filters that fill no vector."""
    return lf.conv2d(8, 3, padding=1), lf.tanh(), conv or lf.conv2d(9, 3, padding=1)


def shifting():
    """A layer that reads g otherwise, too."""
    return lf.Layer(
        "shift()",
        lambda params, x: (x + params, None),
        lambda params, cache, g: (g, g.sum()),
        lambda key, x: torch.zeros(()),
    )


# A network, and how often the kernels are called there and back.
NETS = {
    "a convolution": (lambda: pooled(convolution()), 1, 1),
    "without a bias": (lambda: pooled(convolution(bias=False)), 1, 1),
    "half a vector of filters": (lambda: pooled(convolution(lanes() + lanes() // 2)), 0, 1),
    "few filters": (lambda: pooled(second(), lf.relu()), 0, 1),
    "stride": (lambda: pooled(convolution(stride=2)), 0, 0),
    "strides of a second": (lambda: pooled(second(lf.conv2d(9, 2, stride=2))), 0, 0),
    "dilation": (lambda: pooled(convolution(dilation=2)), 0, 0),
    "dilated, padded": (lambda: pooled(second(lf.conv2d(9, 3, padding=2, dilation=2))), 0, 0),
    "groups": (lambda: pooled(convolution(groups=2)), 0, 0),
    "groups of a second": (lambda: pooled(second(lf.conv2d(8, 3, padding=1, groups=2))), 0, 0),
    "transposed": (lambda: pooled(second(lf.conv_transpose2d(9, 3, padding=1))), 0, 0),
    "small windows": (lambda: pooled(second(), pool=lf.max_pool2d((1, 2))), 0, 0),
    "overlapping windows": (lambda: pooled(second(), pool=lf.max_pool2d(2, 1)), 0, 0),
    "an activation that stays in front": (lambda: pooled(convolution(), lf.tanh()), 0, 0),
    "a layer between": (lambda: pooled(second(), lf.tanh()), 0, 0),
    "used twice": (
        lambda: pooled(
            convolution(), pool=lf.branch(lf.max_pool2d(2), lf.avg_pool2d(2), merge=lf.add())
        ), 0, 0,
    ),
    "a g that is read otherwise": (lambda: pooled(second(), shifting()), 0, 0),
}  # fmt: skip


def rewritten(graph):
    pooling.rewrite(graph)
    pooling.rewrite_convolutions(graph)


@pytest.mark.parametrize(("make", "there", "back"), NETS.values(), ids=NETS)
def test_which_convolutions_the_kernels_take(make, there, back):
    graph, given = traced(make(), drawn(1, 6, 2, 8, 8))
    atens = aten.convolution.default, aten.convolution_backward.default
    before = [targets(graph).count(each) for each in atens]
    assert_same_after(rewritten, graph, given)
    graph.graph.eliminate_dead_code()
    called = targets(graph)
    assert (called.count(forward), called.count(backward)) == (there, back)
    assert [called.count(each) for each in atens] == [before[0] - there, before[1] - back]
    if there:
        assert pooling.pool not in called


def test_the_first_layer_s_dx_is_left_out():
    graph, _ = traced(pooled(convolution()), drawn(1, 6, 2, 8, 10))
    rewritten(graph)
    (node,) = graph.graph.find_nodes(op="call_function", target=backward)
    assert node.args[-1] == (False, True)


@pytest.mark.parametrize(("most", "count"), [(18, 1), (17, 0)])
def test_a_filter_of_many_numbers_is_left_to_onednn(monkeypatch, most, count):
    monkeypatch.setattr(pooling, "_LARGEST_FILTER", most)
    graph, _ = traced(pooled(convolution()), drawn(1, 6, 2, 8, 6))
    rewritten(graph)
    assert targets(graph).count(forward) == count


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
        return pooling._find_unpermuted(last.args[0]) is made

    assert permuted()
    assert permuted((0, 2, 3, 1), (0, 3, 1, 2))
    assert not permuted((0, 1, 3, 2))
    assert not permuted((0, 2, 3, 1), (0, 3, 2, 1))
