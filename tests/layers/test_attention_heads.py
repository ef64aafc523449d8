"""The heads of attention: what the table of cases cannot say."""

import pytest
import torch
from helpers import assert_says, normal, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.layers.attention_heads import merge_heads, split_heads

HEADS = lf.attention_heads


def qkv(length=5, key_length=6, dtype=torch.float64):
    query = normal(2, length, 12).to(dtype)
    return query, *(normal(2, key_length, 6, seed=i).to(dtype) for i in (1, 2))


def run(layer, x, params=()):
    y, cache = layer.forward(params, x)
    return y, layer.backward(params, cache, normal(*y.shape, seed=9).to(y))[0]


@pytest.mark.parametrize("options", [{}, {"sliding_window": 3}, {"softcap": 0.5}], ids=str)
@pytest.mark.parametrize("of", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
def test_the_last_queries_see_what_they_see_in_the_whole(options, of):
    query, key, value = qkv(6, 6)
    layer = of(HEADS(4, 2, is_causal=True, **options))
    whole = layer.predict((), (query, key, value))
    for count in (1, 2, 5):
        last = layer.predict((), (query[:, -count:], key, value))
        assert same_number(last, whole[:, -count:])
    # torch, and `multi_head_attention` with it, puts the first query beside the first key.
    params = lf.multi_head_attention(2, is_causal=True).init(lf.Key(0), query[..., :6])
    net = of(lf.multi_head_attention(2, is_causal=True))
    first = net.predict(params, (query[:, :2, :6], key, value))
    assert same_number(first, net.predict(params, (query[..., :6], key, value))[:, :2])


def test_a_window_of_one_sees_its_own_place_and_a_wide_one_sees_all():
    query, key, value = qkv(6, 6)
    y = HEADS(2, sliding_window=1).predict((), (query[..., :6], key, value))
    assert same_number(y, value)
    for is_causal in (False, True):
        wide = HEADS(4, 2, is_causal=is_causal, sliding_window=6)
        all_of_them = HEADS(4, 2, is_causal=is_causal)
        assert same_bits(run(wide, qkv(6, 6)), run(all_of_them, qkv(6, 6)))


def test_numbers_up_to_1e4_are_as_good_as_float32_allows():
    x = tuple(1e2 * part for part in qkv(dtype=torch.float32))
    wide = tuple(part.double() for part in x)
    for layer in (HEADS(4, 2, softcap=30.0), HEADS(4, 2, is_causal=True, scale=1e-4)):
        y, dx = run(layer, x)
        exact, exact_dx = run(layer, wide)
        assert same_number(y, exact, dtype=torch.float32)
        assert same_number(dx, exact_dx, dtype=torch.float32, error=1e-5)
    far = tuple(1e2 * part for part in x)
    for layer in (HEADS(4, 2), HEADS(4, 2, softcap=30.0)):
        for of in (layer, lf.fast(layer)):
            assert all(part.isfinite().all() for part in lf.tree.leaves(run(of, far)))


@pytest.mark.parametrize("layer", [HEADS(4, 2), HEADS(4, 2, is_causal=True, sliding_window=2)])
def test_any_length(layer):
    for of in (layer, lf.fast(layer)):
        for sizes in ((0, 4), (5, 0), (0, 0), (1, 1)):
            y, _ = run(of, qkv(*sizes))
            assert y.shape == (2, sizes[0], 12)
            assert not (y.any() and 0 in sizes)


@pytest.mark.parametrize("bias", [lf.alibi(4), lf.relative_position_bias(4, 8, 6)], ids=str)
def test_masks_of_distances_are_used_by_attention(bias):
    inputs = lf.branch(
        lf.serial(lf.dense(12), lf.identity()), lf.dense(6), lf.dense(6), bias, merge=TUPLE
    )
    net = lf.serial(inputs, HEADS(4, 2, is_causal=True))
    x = normal(2, 5, 3)
    params = net.init(lf.Key(0), x)
    lf.testing.check_layer(net, params, x)
    y, cache = net.forward(params, x)
    norms = lf.per_example.squared_norms(net, params, cache, torch.ones_like(y))
    for i in range(2):
        _, alone = net.forward(params, x[i : i + 1])
        grads = net.grads(params, alone, torch.ones_like(y[:1]))
        assert same_number(norms[i], sum(leaf.square().sum() for leaf in lf.tree.leaves(grads)))


TUPLE = lf.Layer("together()", lambda params, x: (x, None), lambda params, cache, g: (g, ()))


def test_a_bias_of_positions_hides_what_a_mask_hides():
    layer, x = lf.relative_position_bias(2, 6, 3), normal(3, 4, 5)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False, True, False, True]])
    params = layer.init(lf.Key(0), (x, mask))
    plain, plain_cache = layer.forward(params, x)
    y, cache = layer.forward(params, (x, mask))
    hidden = ~mask[:, None, None, :].expand(y.shape)
    assert same_bits(y, plain.masked_fill(hidden, -torch.inf))
    g = normal(*y.shape, seed=1)
    (dx, dmask), dparams = layer.backward(params, cache, g)
    zeros, expected = layer.backward(params, plain_cache, g.masked_fill(hidden, 0))
    assert dmask is None
    assert same_bits((dx, dparams), (zeros, expected))
    norms = lf.per_example.squared_norms(layer, params, cache, g)
    alone = lf.per_example.squared_norms(layer, params, plain_cache, g.masked_fill(hidden, 0))
    assert same_number(norms, alone)
    assert same_bits(layer.predict(params, (x, None)), plain)


def test_relevance_of_grouped_heads_and_of_a_wide_soft_cap():
    query, key, value = qkv()
    copies = tuple(
        merge_heads(split_heads(part, 2).repeat_interleave(2, -3)) for part in (key, value)
    )

    def relevance(layer, x):
        y, cache = layer.forward((), x)
        use = lf.attribution.rules.Use(layer, (), x, y, cache)
        return lf.attribution.rules.attention().propagate(use, normal(*y.shape, seed=9).double())

    of_query, of_key, of_value = relevance(HEADS(4, 2), (query, key, value))
    own_query, *of_copies = relevance(HEADS(4), (query, *copies))
    assert same_number(of_query, own_query)
    for ours, each in zip((of_key, of_value), of_copies, strict=True):
        assert same_number(ours, merge_heads(split_heads(each, 4).unflatten(-3, (2, 2)).sum(-3)))
    wide = relevance(HEADS(4, 2, softcap=1e5), (query, key, value))
    assert same_number(wide, (of_query, of_key, of_value), error=1e-8)
    narrow = relevance(HEADS(4, 2, softcap=0.5), (query, key, value))
    assert not same_number(narrow[0], of_query, error=1e-2)


QUERY, KEY, VALUE = qkv(dtype=torch.float32)


MISTAKES = [
    ((), (QUERY, KEY), "x to be (query, key, value)"),
    ((), (QUERY, KEY, VALUE, "causal"), "a mask of bool or torch.float32, got 'causal'"),
    ((1,), (QUERY, KEY, VALUE), "params dropout.Params, got (1,)"),
]


@pytest.mark.parametrize("of", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
@pytest.mark.parametrize(("params", "x", "message"), MISTAKES, ids=[m for *_, m in MISTAKES])
def test_the_fast_path_has_the_errors_of_the_formula(of, params, x, message):
    assert_says(message, of(HEADS(4, 2)).forward, params, x)


test_errors = refusals("""
alibi(2).predict((), normal(3)) -> x of shape (..., length, features), got (3,)
relative_position_bias(2, 8, 2) -> max_distance above 2, got 2
HEADS(4, 3) -> num_kv_heads to divide num_heads = 4, got 3
HEADS(5).predict((), (QUERY, KEY, VALUE)) -> a query with features in 5 heads, got 12
HEADS(4).predict((), (QUERY, KEY, VALUE)) -> a key with 4 heads of 3 features, got 6
HEADS(4, 2).predict((), (QUERY, KEY, VALUE[:, :4])) -> key and value of one length
HEADS(4, 2).predict((), QUERY) -> x to be (query, key, value)
HEADS(4, 2).predict((), (QUERY, KEY, VALUE, torch.ones(2, 6))) -> a mask that broadcasts to (2, 4,
    5, 6), got (2, 6)
HEADS(4, 2, dropout=0.2).forward((), (QUERY, KEY, VALUE)) -> dropout.Params
""")
