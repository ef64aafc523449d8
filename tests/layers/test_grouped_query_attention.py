"""Grouped-query attention and gated feed-forward layers: what the table of cases cannot say."""

import pytest
import torch
from helpers import normal, run, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf

GQA = lf.grouped_query_attention
X = normal(2, 5, 12)


def test_sizes_of_the_projections():
    params = GQA(6, 2).init(lf.Key(0), X)
    shapes = [params.query.weight, params.key.weight, params.value.weight, params.output.weight]
    assert [tuple(w.shape) for w in shapes] == [(12, 12), (12, 4), (12, 4), (12, 12)]
    params = GQA(3, 1, head_dim=5, bias=True, output_bias=False).init(lf.Key(0), X)
    shapes = [params.query.weight, params.key.weight, params.value.weight, params.output.weight]
    assert [tuple(w.shape) for w in shapes] == [(12, 15), (12, 5), (12, 5), (15, 12)]
    assert params.value.bias.shape == (5,)
    assert params.output.bias is None
    cross = GQA(2, head_dim=3).init(lf.Key(0), (X, normal(2, 4, 7), normal(2, 4, 2)))
    assert [tuple(p.weight.shape) for p in (cross.query, cross.key, cross.value)] == [
        (12, 6), (7, 6), (2, 6)
    ]  # fmt: skip
    names = lf.swiglu(7, bias=True).init(lf.Key(0), X)
    assert (names.up.weight.shape, names.down.bias.shape) == ((12, 7), (12,))


def test_positions_say_where_a_sequence_begins():
    layer = GQA(3, 1, sliding_window=2)
    params = layer.init(lf.Key(0), X)
    later = (X, None, torch.arange(7, 12))
    assert same_number(layer.predict(params, later), layer.predict(params, X))
    assert not same_number(
        layer.predict(params, (X, None, torch.tensor([0, 2, 3, 5, 9]))), layer.predict(params, X)
    )
    # On the left of padded sequences, positions begin with the first token.
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    places = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]])
    y = layer.predict(params, (X, mask, places))
    assert same_number(y[0, 2:], layer.predict(params, X[:1, 2:])[0])
    assert same_number(y[1], layer.predict(params, X)[1])


@pytest.mark.full
def test_it_is_used_in_a_block_with_masks_and_positions_as_context():
    attention = lf.serial(
        lf.parallel(lf.rms_norm(), lf.identity(), lf.identity()), GQA(3, 1)
    )  # fmt: skip
    block = lf.residual(attention, lf.select(0))
    feed = lf.residual(lf.serial(lf.rms_norm(), lf.swiglu(7)))
    net = lf.with_context(block, lf.serial(lf.select(0), feed), block)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    x = (X, mask, torch.arange(5))
    lf.testing.check_layer(net, net.init(lf.Key(0), x), x)


def test_params_by_the_names_of_transformers():
    layer = GQA(3, 1, head_dim=4, qk_norm=lf.rms_norm(), bias=True, output_bias=False)
    params = layer.init(lf.Key(0), X)
    named = lf.interop.to_state_dict(layer, params)
    assert list(named) == [
        *("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias"),
        *("v_proj.weight", "v_proj.bias", "q_norm.weight", "k_norm.weight", "o_proj.weight"),
    ]
    assert same_bits(named["q_proj.weight"], params.query.weight.mT.contiguous())
    assert same_bits(lf.interop.from_state_dict(layer, named), params)
    net = lf.serial(lf.geglu(7), lf.swiglu(5, bias=True))
    params = net.init(lf.Key(0), X)
    named = lf.interop.to_state_dict(net, params)
    assert [name for name in named if name.startswith("0")] == [
        "0.gate_proj.weight", "0.up_proj.weight", "0.down_proj.weight",
    ]  # fmt: skip
    assert same_bits(lf.interop.from_state_dict(net, named), params)


def test_a_part_that_is_replaced_makes_its_own_params():
    layer = GQA(3, 1)
    assert [part.name for part in layer.parts] == [
        *["dense(heads)"] * 3, *["identity()"] * 2, *["rotary_embedding()"] * 2,
        "attention_heads(3, num_kv_heads=1, is_causal=True)", "dense(features)",
    ]  # fmt: skip
    wide = layer.rebuild((lf.dense(12), *layer.parts[1:]))
    params = wide.init(lf.Key(0), X)
    assert same_bits(run(wide, params, X, torch.cos), run(layer, params, X, torch.cos))
    ruled = lf.rules.feedback_alignment(layer)
    assert ruled.predict(ruled.init(lf.Key(0), X), X).shape == X.shape


test_errors_of_grouped_queries = refusals("""
GQA(4, 3) -> num_kv_heads to divide num_heads = 4, got 3
GQA(5).init(Key(0), X) -> a query with features in 5 heads, or head_dim, got 12
GQA(3).init(Key(0), (X, X, X, None, None)) -> x to be a sequence, (sequence, mask)
GQA(3).forward(GQA(3).init(Key(0), X), (X, torch.ones(2, 4) > 0)) -> grouped_query_attention:
    expected a mask that broadcasts to (2, 5), got (2, 4)
GQA(3).forward(GQA(3).init(Key(0), X), (X, torch.ones(2, 1, 5, 4) > 0)) ->
    grouped_query_attention[7]
GQA(3).init(Key(0), (X, None, torch.tensor(3))) -> positions to be integers of shape (..., length),
    got int64 3
swiglu(7).backward(swiglu(7).init(Key(0), X), (), X) -> 5 entries
""")
