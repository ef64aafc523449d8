"""The table of layers, against numbers worked out by hand and against real runs."""

import pytest
import torch
from helpers import CASES, assert_says, cast, first_run

import lincoln_fn as lf
from lincoln_fn.inspect.summary import summary


def own(forward):
    return lf.Layer("own()", lambda params, x: (forward(x), x), lambda params, x, g: (g, ()))


def test_a_network_is_counted_layer_by_layer():
    net = lf.serial(lf.conv2d(6, 3), lf.relu(), lf.flatten(), lf.dense(10))
    table = summary(net, torch.zeros(2, 3, 8, 7))
    rows = [
        (row.path, row.name, row.output_shape, row.parameters, row.multiply_adds)
        for row in table.layers
    ]
    assert rows == [
        ("0", "conv2d(6, 3)", (2, 6, 6, 5), 6 * 3 * 9 + 6, 2 * 6 * 6 * 5 * 3 * 9),
        ("1", "relu()", (2, 6, 6, 5), 0, 0),
        ("2", "flatten()", (2, 180), 0, 0),
        ("3", "dense(10)", (2, 10), 180 * 10 + 10, 2 * 180 * 10),
    ]
    assert (table.total.path, table.total.name, table.total.output_shape) == ("", net.name, (2, 10))
    assert (table.total.parameters, table.total.multiply_adds) == (168 + 1810, 9720 + 3600)
    assert table.total.states == 0


def test_a_single_layer_is_its_own_total():
    table = summary(lf.dense(4), torch.zeros(5, 3))
    assert table.layers == (table.total,)
    assert (table.total.parameters, table.total.multiply_adds) == (16, 60)


def test_it_is_printed_as_a_table():
    net = lf.serial(
        lf.residual(lf.serial(lf.dense(2000), lf.tanh(), lf.dense(3))), lf.frozen(lf.dense(1))
    )
    assert str(summary(net, torch.zeros(5, 3))).splitlines() == [
        "path   layer            output shape  parameters  cache bytes  multiply-adds",
        "────────────────────────────────────────────────────────────────────────────",
        "0      residual         (5, 3)            14,003       40,000         60,000",
        "0.0      serial         (5, 3)            14,003       40,000         60,000",
        "0.0.0      dense(2000)  (5, 2000)          8,000            0         30,000",
        "0.0.1      tanh()       (5, 2000)              0       40,000              0",
        "0.0.2      dense(3)     (5, 3)             6,003            0         30,000",
        "0.1      identity()     (5, 3)                 0            0              0",
        "0.2      add()          (5, 3)                 0            0              0",
        "1      frozen           (5, 1)                 0           60             15",
        "1.0      dense(1)       (5, 1)                 0           60             15",
        "────────────────────────────────────────────────────────────────────────────",
        "       total            (5, 1)            14,003       40,060         60,015",
        "Numbers in states, which are not trained: 4",
    ]


@pytest.mark.full
def test_a_block_with_a_name_of_its_own_keeps_its_arguments():
    net = lf.repeat(2, lf.transformer_encoder_block(2, 16))
    lines = str(summary(net, torch.zeros(2, 5, 8))).splitlines()
    assert lines[2].split("  ")[0] == "0"
    assert "transformer_encoder_block(2, dim_feedforward=16)" in lines[2]


def test_nothing_is_computed_or_allocated():
    wide = 10**8  # a weight of that many rows and columns would take 40,000 TB
    net = lf.serial(lf.dense(wide), lf.relu(), lf.dense(wide))
    table = summary(net, torch.empty(10**6, wide, device="meta"))
    assert table.layers[0].parameters == wide * wide + wide
    assert table.total.multiply_adds == 2 * 10**6 * wide * wide
    assert table.total.cache_bytes == 4 * 10**6 * wide
    wide = 10**13  # a vector of features would take 40 TB
    net = lf.serial(lf.batch_norm(), lf.layer_norm(), lf.prelu(wide), lf.dropout(), lf.rms_norm())
    assert summary(net, torch.empty(4, wide, device="meta")).total.parameters == 6 * wide


def test_only_the_shape_of_x_counts():
    net = lf.serial(lf.dense(4), lf.relu())
    real, on_meta = torch.full((5, 3), torch.nan), torch.empty(5, 3, device="meta")
    assert summary(net, real) == summary(net, on_meta)


# Multiply-adds


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        (lf.dense(4), [(3,)], 3 * 4),
        (lf.dense(4, bias=False), [(3,)], 3 * 4),
        (lf.dense(4), [(2, 5, 3)], 2 * 5 * 3 * 4),
        (lf.relu(), [(5, 3)], 0),
        (lf.layer_norm(), [(5, 3)], 0),
        (lf.conv1d(4, 3, stride=2), [(2, 6, 9)], 2 * 4 * 4 * 6 * 3),
        (lf.conv2d(4, (3, 5), groups=2), [(2, 6, 8, 9)], 2 * 4 * 6 * 5 * (6 // 2) * 15),
        (lf.conv2d(4, 3, padding="same"), [(2, 6, 8, 9)], 2 * 4 * 8 * 9 * 6 * 9),
        (lf.conv3d(4, 2), [(2, 3, 4, 5, 6)], 2 * 4 * 3 * 4 * 5 * 3 * 8),
        # Each number that comes in meets each weight of its channel.
        (lf.conv_transpose2d(4, 3, stride=2), [(2, 6, 5, 7)], 2 * 6 * 5 * 7 * 4 * 9),
        (lf.rnn(5), [(2, 7, 3)], 2 * 7 * (3 + 5) * 5),
        (lf.lstm(5), [(2, 7, 3)], 2 * 7 * (3 + 5) * 4 * 5),
        (lf.gru(5), [(2, 7, 3)], 2 * 7 * (3 + 5) * 3 * 5),
        (
            lf.lstm(5, num_layers=2, bidirectional=True),
            [(2, 7, 3)],
            2 * 7 * 2 * ((3 + 5) * 20 + (10 + 5) * 20),
        ),
        (
            lf.scaled_dot_product_attention(),
            [(2, 5, 6), (2, 7, 6), (2, 7, 4)],
            2 * 5 * 7 * 6 + 2 * 5 * 7 * 4,
        ),
        # Four projections of 5 places, and per head scores and sums.
        (lf.multi_head_attention(2), [(3, 5, 8)], 3 * 4 * 5 * 8 * 8 + 3 * 2 * 2 * 5 * 5 * 4),
        # A with v first, then with u.
        (lf.bilinear(4), [(5, 3), (5, 6)], 5 * 4 * 3 * 6 + 5 * 4 * 3),
        (lf.bilinear(4), [(3,), (6,)], 4 * 3 * 6 + 4 * 3),
        (lf.residual(lf.dense(3)), [(5, 3)], 5 * 3 * 3),
        (lf.checkpointed(lf.dense(3)), [(5, 3)], 5 * 3 * 3),
        (lf.shared(lf.dense(4)), [(5, 3), (2, 3)], 7 * 3 * 4),
        # Products with a vector.
        (own(lambda x: x @ x.new_ones(3, 4)), [(3,)], 12),
        (own(lambda x: x.new_ones(4, 3) @ x), [(3,)], 12),
        (own(lambda x: x.dot(x)), [(3,)], 3),
        (own(lambda x: torch.addmv(x.new_ones(4), x.new_ones(4, 3), x)), [(3,)], 12),
    ],
    ids=str,
)
def test_multiply_adds_are_those_worked_out_by_hand(layer, shapes, expected):
    x = tuple(torch.zeros(shape) for shape in shapes)
    assert summary(layer, x if len(x) > 1 else x[0]).total.multiply_adds == expected


def test_the_scores_of_a_tied_embedding_are_a_layer_without_parameters_of_their_own():
    net = lf.tied(lf.embedding(11, 4), lf.dense(4))
    table = summary(net, torch.zeros(2, 3, dtype=torch.int64))
    assert [layer.multiply_adds for layer in table.layers] == [0, 6 * 4 * 4, 6 * 4 * 11]
    assert [layer.parameters for layer in table.layers] == [11 * 4, 4 * 4 + 4, 0]
    assert table.total.multiply_adds == 6 * 4 * 4 + 6 * 4 * 11


# Cache bytes


X, TALL = torch.zeros(5, 3), torch.zeros(5, 3, 2, dtype=torch.float64)
KEPT = {
    # The first dense layer keeps x, sigmoid its y, which is all that the second keeps.
    "what two layers keep counts at the first": (X, {"0": 0, "1": 5 * 6 * 4, "2": 0, "3": 40},
        lf.serial(lf.dense(6), lf.sigmoid(), lf.dense(2), lf.log_softmax())),
    "an output that only the next layer keeps counts there": (X, {"0": 0, "1": 5 * 6 * 4},
        lf.serial(lf.dense(6), lf.dense(2))),
    "a view costs nothing, and a stand-in one number": (TALL, {"0": 5 * 6 * 8, "1": 8, "2": 0},
        lf.serial(lf.tanh(), lf.flatten(), lf.dense(2))),
}  # fmt: skip


@pytest.mark.parametrize(("x", "kept", "net"), KEPT.values(), ids=KEPT)
def test_cache_bytes_are_those_worked_out_by_hand(x, kept, net):
    assert {layer.path: layer.cache_bytes for layer in summary(net, x).layers} == kept


def test_parameters_in_a_cache_cost_nothing():
    keeper = lf.Layer(
        "keeper()",
        forward=lambda params, x: (x * params, (params, x, x.mT)),
        backward=lambda params, cache, g: (g * params, (g * cache[1]).sum(0)),
        init=lambda key, x: x.new_ones(x.shape[-1]),
    )
    assert summary(keeper, torch.zeros(5, 3)).total.cache_bytes == 0


def test_what_is_dropped_and_made_again_costs_nothing():
    block = lf.serial(lf.dense(6), lf.tanh(), lf.dense(3))
    net = lf.serial(block, lf.checkpointed(block), lf.checkpointed(block))
    table = summary(net, torch.zeros(5, 3))
    by_path = {layer.path: layer.cache_bytes for layer in table.layers}
    x_bytes, hidden_bytes = 5 * 3 * 4, 5 * 6 * 4
    assert (by_path["0"], by_path["1"], by_path["2"]) == (hidden_bytes, x_bytes, x_bytes)
    assert table.total.cache_bytes == hidden_bytes + 2 * x_bytes


# Parameters and states


def test_a_shared_layers_parameters_count_once():
    table = summary(lf.shared(lf.dense(4)), (torch.zeros(5, 3), torch.zeros(2, 3)))
    rows = [(row.path, row.output_shape, row.parameters) for row in table.layers]
    assert rows == [("0", (5, 4), 16), ("0", (2, 4), 0)]
    assert (table.total.output_shape, table.total.parameters) == (((5, 4), (2, 4)), 16)


def test_states_are_told_from_parameters():
    net = lf.serial(lf.batch_norm(), lf.frozen(lf.serial(lf.dense(4), lf.dropout())))
    table = summary(net, torch.zeros(5, 3))
    counted = {row.path: (row.parameters, row.states) for row in table.layers}
    running = 3 + 3 + 1  # mean, variance, and the number of batches
    assert (counted["0"], counted["1.0.0"], counted["1.0.1"]) == ((6, running), (0, 16), (0, 1))
    assert counted["1"] == (0, 17)
    assert (table.total.parameters, table.total.states) == (6, running + 17)


# Every layer


def storages(arrays):
    return {
        leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes()
        for leaf in lf.tree.leaves(arrays, states=True)
    }


ONE_OF_A_KIND = {case.layer.name.partition("(")[0]: case for case in CASES}


@pytest.mark.full(but=("[dense", "[conv2d", "[lstm("))
@pytest.mark.parametrize("case", ONE_OF_A_KIND.values(), ids=str)
def test_the_summary_of_every_layer_is_that_of_a_real_run(case):
    # In float64, for which the layers have no kernels that keep notes of a size of their own.
    x = cast(case.x)
    params, y, cache = first_run(case.layer, x)
    there = storages((params, x))
    kept = {at: size for at, size in storages(cache).items() if at not in there}
    total = summary(case.layer, x).total
    assert total.cache_bytes == sum(kept.values())
    assert total.output_shape == lf.tree.map(lambda leaf: tuple(leaf.shape), y)
    assert total.parameters == sum(leaf.numel() for leaf in lf.tree.leaves(params))
    everything = sum(leaf.numel() for leaf in lf.tree.leaves(params, states=True))
    assert total.parameters + total.states == everything


# Errors


def test_an_input_that_does_not_fit_is_refused():
    with pytest.raises(lf.LayerError, match=r"serial\[1\] conv2d"):
        summary(lf.serial(lf.dense(4), lf.conv2d(2, 3)), torch.zeros(5, 3))


def test_a_layer_that_looks_at_numbers_is_named():
    looks = lf.Layer(
        "looks()",
        forward=lambda params, x: (x * x.sum().item(), x),
        backward=lambda params, x, g: (g, ()),
    )
    assert_says("serial[1] looks()", summary, lf.serial(lf.relu(), looks), torch.zeros(5, 3))
