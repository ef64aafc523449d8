"""A convolution and its max-pooling as one loop: the same numbers, and the same places."""

from functools import partial

import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.compiling import compiles
from helpers.graphs import assert_same_after, drawn, targets, traced
from helpers.kernels_together import together

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.pooled_convolution import op
from lincoln_fn.compiler.passes import pooled_convolution, pooling

aten = torch.ops.aten
CHANNELS_LAST = torch.channels_last
TARGET = torch.tensor([0, 1, 2, 1])
pytestmark = pytest.mark.usefixtures("needs_vectors")


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


@compiles
def test_is_pooling_of_the_convolution():
    given = []
    for name in SHAPES:
        x, weight, bias, padding, window = arguments(name)
        given += [(x, weight, b, padding, window) for b in (bias, None)]
    calls = [partial(op.forward, *case) for case in given]
    for (x, weight, bias, padding, window), (y, places) in zip(given, together(calls), strict=True):
        made = torch.conv2d(x, weight, bias, padding=padding).to(memory_format=CHANNELS_LAST)
        expected, expected_places = pooling.pool(made, window)
        assert same_number(y, expected)
        assert same_bits(places, expected_places)
        assert (y.stride(), places.stride()) == (expected.stride(), expected_places.stride())


@compiles
def test_the_first_of_equals_is_chosen_and_nan_stays():
    x = torch.zeros(1, 1, 2, 6).to(memory_format=CHANNELS_LAST)
    x[0, 0, 1, 1], x[0, 0, 0, 3] = 5.0, torch.nan
    weight = torch.ones(lanes(), 1, 1, 1)
    y, places = op.forward(x, weight, None, (0, 0), (2, 2))
    assert y[0, 0, 0].isnan().tolist() == [False, True, False]
    assert y[0, 0, 0, [0, 2]].tolist() == [5.0, 0.0]
    assert places[0, 0, [0, 2], 0].tolist() == [3, 0]


@compiles
def test_any_number_of_threads_gives_the_same():
    given = arguments("one channel")

    def run(threads):
        torch.set_num_threads(threads)
        return op.forward(*given)

    results = together([partial(run, threads) for threads in (1, 2, 7)])
    for y, places in results[1:]:
        assert same_bits(y, results[0][0])
        assert same_bits(places, results[0][1])


def convolutional(*between, **form):
    last = lf.serial(*between, lf.max_pool2d(2), lf.relu(), lf.flatten(), lf.dense(3))
    return lf.serial(lf.conv2d(2 * lanes(), 3, padding=1, **form), *last.parts)


def rewritten(graph):
    pooling.rewrite(graph)
    pooled_convolution.rewrite(graph)


@compiles
@pytest.mark.parametrize("bias", [True, False])
def test_takes_the_convolution_s_place(bias):
    graph, given = traced(convolutional(bias=bias), drawn(1, 4, 2, 8, 6), TARGET)
    assert_same_after(rewritten, graph, given)
    assert targets(graph).count(op.forward) == 1
    assert pooling.pool not in targets(graph)


OTHERS = {
    "stride": lambda: convolutional(stride=2),
    "dilation": lambda: convolutional(dilation=2),
    "groups": lambda: convolutional(groups=2),
    "an activation that stays in front": lambda: convolutional(lf.tanh()),
    "half a vector of filters": lambda: lf.serial(
        lf.conv2d(lanes() + lanes() // 2, 3, padding=1), *convolutional().parts[1:]
    ),
    "used twice": lambda: lf.serial(
        convolutional().parts[0],
        lf.branch(lf.max_pool2d(2), lf.avg_pool2d(2), merge=lf.add()),
        lf.flatten(),
        lf.dense(3),
    ),
}


@compiles
@pytest.mark.parametrize("name", OTHERS)
def test_which_convolutions_stay(name):
    graph, given = traced(OTHERS[name](), drawn(1, 4, 2, 8, 8), TARGET)
    assert_same_after(rewritten, graph, given)
    assert aten.convolution.default in targets(graph)
    assert op.forward not in targets(graph)


@compiles
@pytest.mark.parametrize(("most", "count"), [(18, 1), (17, 0)])
def test_a_filter_of_many_numbers_is_left_to_onednn(monkeypatch, most, count):
    monkeypatch.setattr(pooled_convolution, "_MOST", most)
    graph, _ = traced(convolutional(), drawn(1, 4, 2, 8, 6), TARGET)
    rewritten(graph)
    assert targets(graph).count(op.forward) == count
