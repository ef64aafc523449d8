"""Attention and the transformer blocks: what the table of layers cannot say."""

import math

import pytest
import torch
from helpers import assert_refused, cast, first_run
from helpers.compare import largest, same_bits, same_number, same_statistics
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.initializers import constant, glorot_uniform, zeros
from lincoln_fn.layers import multi_head_attention

SDPA, MHA = lf.scaled_dot_product_attention, lf.multi_head_attention
ENCODER = lf.transformer_encoder_block
INF = math.inf


def normal(*shape, seed=0, dtype=torch.float64):
    return lf.keys.normal(lf.Key(seed), shape, dtype=dtype)


def run(layer, x, g=None, params=None):
    params = layer.init(lf.Key(0), x) if params is None else params
    y, cache = layer.forward(params, x)
    g = normal(*y.shape, seed=9).to(y.dtype) if g is None else g
    return y, *layer.backward(params, cache, g)


def qkv(*batch, length=5, key_length=4, dtype=torch.float64):
    return (
        normal(*batch, length, 6, dtype=dtype),
        normal(*batch, key_length, 6, seed=1, dtype=dtype),
        normal(*batch, key_length, 3, seed=2, dtype=dtype),
    )


def check(layer, x, **options):
    lf.testing.check_layer(layer, layer.init(lf.Key(0), x), x, **options)


# Attention itself.


BARRED = torch.tensor([True, False, True, False, True]).unsqueeze(1)
BARRING = [
    BARRED.expand(5, 4),
    BARRED,
    torch.zeros(5, 4).masked_fill(~BARRED, -INF).double(),
    torch.zeros(1, 5, 1).masked_fill(~BARRED, -INF).double(),
]


@pytest.mark.parametrize("mask", BARRING, ids=["bools", "column", "added", "added column"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_query_that_may_attend_to_nothing_gives_zeros(mask, is_causal):
    x = qkv(2)
    y, (dquery, dkey, dvalue, dmask), _ = run(SDPA(is_causal), (*x, mask))
    free, (free_dquery, *_), _ = run(SDPA(is_causal), x)
    assert same_number((y, dquery), (free * BARRED, free_dquery * BARRED))
    # The others' gradients are as if that query were not there.
    g = normal(2, 5, 3, seed=9) * BARRED
    assert same_number((dkey, dvalue), run(SDPA(is_causal), x, g)[1][1:])
    assert dmask is None or bool((dmask.masked_select(~BARRED.expand(mask.shape)) == 0).all())
    check(SDPA(is_causal), (*x, mask))


def test_a_causal_row_that_a_mask_leaves_nothing_of_gives_zeros():
    later = torch.tensor([False, True, True, True])
    for mask in (later, torch.zeros(4).masked_fill(~later, -INF).double()):
        y, (dquery, *_), _ = run(SDPA(is_causal=True), (*qkv(), mask))
        assert bool((y[0] == 0).all())
        assert bool((dquery[0] == 0).all())
        assert bool((y[1:] != 0).all())
        check(SDPA(is_causal=True), (*qkv(), mask))


def test_the_padding_of_a_whole_example_gives_zeros_in_multi_head_attention():
    x, mask = normal(2, 5, 6), torch.tensor([[True] * 5, [False] * 5])
    layer = MHA(2, bias_init=constant(0.5))
    y, (dx, dmask), dparams = run(layer, (x, mask))
    assert same_number(y[1], torch.full_like(y[1], 0.5))
    assert dmask is None
    assert bool((dx[1] == 0).all())
    g = normal(2, 5, 6, seed=9)[:1]
    assert same_number(run(layer, x[:1], g)[2].query.weight, dparams.query.weight)
    check(layer, (x, mask))


def test_numbers_up_to_1e4_stay_finite_and_as_good_as_float32_allows():
    x = tuple(part * 1e4 for part in qkv(2, dtype=torch.float32))
    added = normal(5, 4, seed=3).float() * 1e4
    for mask in (None, added, added > 0, BARRED):
        given, truth = run(SDPA(), (*x, mask)), run(SDPA(), cast((*x, mask)))
        of_y, (_, _, of_dvalue, of_dmask), of_params = lf.tree.map(largest, truth)
        # A score's gradient is a difference of sums of g * value, which a key multiplies.
        of_dx = 1e8, 1e8, of_dvalue, None if of_dmask is None else 1e4
        # A score of 1e8 is rounded by 1e8 eps, and exp makes that the relative error of a weight.
        terms = of_y, of_dx, of_params
        assert same_number(given, truth, terms=terms, length=1024, dtype=torch.float32)


def test_what_is_forbidden_has_no_weight_however_low_the_other_scores_are():
    query, key, value = (part * 1e4 for part in qkv(2))
    allowed = normal(5, 4, seed=3) > 0
    for mask in (allowed, torch.zeros(5, 4).masked_fill(~allowed, -INF).double()):
        _, cache = SDPA().forward((), (query, key, value, mask))
        assert bool((cache.weights.masked_select(~allowed) == 0).all())


@pytest.mark.parametrize("layer", [SDPA(), SDPA(is_causal=True), MHA(2), MHA(2, is_causal=True)])
@pytest.mark.parametrize("sizes", [(0, 4), (5, 0), (0, 0), (1, 1), (1, 4), (5, 1)], ids=str)
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_empty_and_single_lengths(layer, sizes, batch):
    query, key, value = qkv(batch, length=sizes[0], key_length=sizes[1])
    for rest in ((), (None,), (torch.ones(1, 1, 1, sizes[1]) > 0,)):
        single = layer.name.startswith("scaled")
        masks = tuple(mask[0] if single and mask is not None else mask for mask in rest)
        y, dx, _ = run(layer, (query, key, value, *masks))
        assert y.shape == (batch, sizes[0], 3 if single else 6)
        for part, gradient in zip((query, key, value), dx, strict=False):
            assert gradient.shape == part.shape
            assert torch.isfinite(gradient).all()
        if sizes[1] == 0:
            assert bool((y == 0).all())
            assert bool((dx[0] == 0).all())
    if batch and min(sizes) and single:
        check(layer, (query, key, value))


@pytest.mark.parametrize("layer", [MHA(2), ENCODER(2, 7, 0.0), ENCODER(2, 7, 0.0, norm_first=True)])
@pytest.mark.parametrize("shape", [(2, 0, 6), (0, 5, 6), (1, 1, 6), (5, 6)], ids=str)
def test_sequences_of_any_length_and_leading_axes(layer, shape):
    x = normal(*shape)
    y, dx, dparams = run(layer, x)
    assert y.shape == dx.shape == x.shape
    assert all(bool(torch.isfinite(leaf).all()) for leaf in lf.tree.leaves(dparams))
    if shape == (5, 6):
        assert same_number(y, run(layer, x[None])[0][0])
        check(layer, x)


def test_two_leading_axes_and_their_masks():
    x, layer = normal(2, 3, 5, 6), MHA(2)
    params = layer.init(lf.Key(0), x)
    for mask in (normal(2, 3, 5) > 0, normal(2, 3, 2, 5, 5) > 0):
        y = layer.predict(params, (x, mask))
        assert same_number(y[1, 2], layer.predict(params, (x[1, 2], mask[1, 2])))


# Multi-head attention.


def test_parameters_start_as_torchs_do():
    n = 64
    params = MHA(4).init(lf.Key(0), normal(2, 5, n, dtype=torch.float32))
    bound = math.sqrt(6 / (n + 3 * n))
    for part in (params.query, params.key, params.value):
        assert 0.97 * bound < part.weight.abs().max() <= bound
        assert same_statistics(part.weight.flatten(), mean=0, std=bound / math.sqrt(3))
    assert 0.97 / 8 < params.output.weight.abs().max() <= 1 / 8
    parts = params.query, params.key, params.value, params.output
    assert all(part.bias.shape == (n,) and not part.bias.any() for part in parts)
    assert len({float(part.weight[0, 0]) for part in parts}) == 4
    assert params.dropout is None
    assert all(leaf.dtype is torch.float32 for leaf in lf.tree.leaves(params))


def test_projections_of_other_sizes_start_each_for_itself():
    x = (normal(2, 5, 64), normal(2, 4, 128), normal(2, 4, 64))
    params = MHA(4).init(lf.Key(0), x)
    assert params.key.weight.shape == (128, 64)
    for part, size in ((params.query, 64), (params.key, 128), (params.value, 64)):
        bound = math.sqrt(6 / (size + 64))
        assert 0.97 * bound < part.weight.abs().max() <= bound


def test_initializers_by_keyword():
    layer = MHA(
        2, weight_init=constant(2.0), output_weight_init=constant(3.0), bias_init=constant(4.0)
    )
    params = layer.init(lf.Key(0), normal(2, 5, 6))
    drawn = [leaf.unique().tolist() for leaf in lf.tree.leaves(params)]
    assert drawn == [*[[2], [4]] * 3, [3], [4]]


def test_the_keys_bias_has_a_gradient_of_exactly_0():
    layer, x = MHA(2, bias_init=lf.initializers.normal(1.0)), normal(2, 5, 6)
    params = layer.init(lf.Key(0), x)
    *_, dparams = run(layer, x, params=params)
    assert bool((dparams.key.bias == 0).all())
    moved = lf.evolve(params, key=lf.evolve(params.key, bias=normal(6, seed=3)))
    assert same_number(layer.predict(moved, x), layer.predict(params, x))


@pytest.mark.parametrize("form", ["a sequence", "three sequences", "with a mask"])
def test_the_cache_grows_with_the_length_and_not_with_its_square(form):
    def kept(length):
        x = normal(2, length, 6)
        with_mask = x, torch.ones(2, length) > 0
        given = {"a sequence": x, "three sequences": (x, x, x), "with a mask": with_mask}[form]
        layer = MHA(2, is_causal=True)
        leaves = lf.tree.leaves(layer.forward(layer.init(lf.Key(0), given), given)[1])
        return sum(leaf.untyped_storage().nbytes() for leaf in leaves)

    assert kept(400) <= 2.01 * kept(200)


def test_dropout_drops_weights_by_the_key_and_predict_keeps_them():
    layer, x = MHA(2, dropout=0.4), (normal(2, 5, 6), normal(2, 5, seed=3) > -0.5)
    params, y, cache = first_run(layer, x)
    mask = lf.keys.bernoulli(params.dropout.key, (2, 2, 5, 5), 0.6)
    heads = cache.parts[3]
    assert same_bits(heads.dropped.mask, mask)
    assert 0 < int(mask.sum()) < mask.numel()
    scores = (heads.q @ heads.k.mT).masked_fill(~x[1][:, None, None], -INF)
    attended = (torch.softmax(scores, -1) * mask / 0.6 @ heads.v).transpose(1, 2).reshape(2, 5, 6)
    assert same_number(y, attended @ params.output.weight + params.output.bias)
    assert same_number(layer.predict(params, x), MHA(2).predict(lf.evolve(params, dropout=None), x))


def test_dropping_every_weight_leaves_the_bias():
    layer, x = MHA(2, dropout=1.0, bias_init=constant(0.5)), normal(2, 5, 6)
    y, dx, _ = run(layer, x)
    assert same_number(y, torch.full_like(y, 0.5))
    assert bool((dx == 0).all())


# Errors and names.

SHAPES = "query, key and value of shapes (..., length, features), key and value of one length"
FORMS = "expected x to be (query, key, value) or (query, key, value, mask)"
Q, K, V = qkv(2)


@pytest.mark.parametrize(("layer", "x", "message"), [
    (SDPA(), Q, f"{FORMS}, got float64[2, 5, 6]"),
    (SDPA(), (Q, K), f"{FORMS}, got (float64[2, 5, 6], float64[2, 4, 6])"),
    (SDPA(), (Q, K, V.float()), "expected value of dtype torch.float64, got torch.float32"),
    (SDPA(), (Q, K, V[:, :3]),
        f"expected {SHAPES}, with equal leading axes, got (2, 5, 6), (2, 4, 6) and (2, 3, 3)"),
    (SDPA(), (Q, K[:1], V),
        f"expected {SHAPES}, with equal leading axes, got (2, 5, 6), (1, 4, 6) and (2, 4, 3)"),
    (SDPA(), (Q[0, 0], Q[0, 0], Q[0, 0]),
        f"expected {SHAPES}, with equal leading axes, got (6,), (6,) and (6,)"),
    (SDPA(), (Q, V, V), "expected query and key with the same features, got 6 and 3"),
    (SDPA(), (Q, K, V, torch.ones(5, 4)),
        "expected a mask of bool or torch.float64, got float32[5, 4]"),
    (SDPA(), (Q, K, V, torch.ones(5, 3) > 0),
        "expected a mask that broadcasts to (2, 5, 4), got (5, 3)"),
    (SDPA(), (Q, K, V, torch.ones(5, 4, device="meta") > 0), "expected the mask on cpu, got meta"),
    (MHA(4), Q, "expected a query with features in 4 heads, got 6"),
    (MHA(2), (Q, torch.ones(2, 4) > 0), "expected a mask that broadcasts to (2, 5), got (2, 4)"),
    (MHA(2), (Q, torch.ones(2, 5, 5) > 0),
        "expected a mask of shape (2, 5), or of 4 axes that broadcast to (2, 2, 5, 5), "
        "got (2, 5, 5)"),
    (MHA(2), (Q,), "expected x to be a sequence, (sequence, mask), (query, key, value) or "
        "(query, key, value, mask), got (float64[2, 5, 6],)"),
    (MHA(2, batch_first=False), (Q[0, 0], Q[0, 0], Q[0, 0]),
        f"expected {SHAPES}, with equal leading axes, got (6,), (6,) and (6,)"),
])  # fmt: skip
def test_errors_of_x(layer, x, message):
    params = MHA(2).init(lf.Key(0), Q) if layer.name.startswith("multi") else ()
    assert_refused(f"{layer.name.partition('(')[0]}: {message}", layer.forward, params, x)
    if params:
        with pytest.raises(lf.LayerError) as error:
            layer.init(lf.Key(0), x)
        assert error.value.problem == message


def test_a_query_without_features_is_refused():
    with pytest.raises(lf.LayerError, match="expected a query with features in 2 heads, got 0"):
        MHA(2).init(lf.Key(0), Q[:, :, :0])


test_errors_of_hyperparameters = refusals("""
with_context() -> ^with_context: expected at least one of layers, got ()$
select() -> ^select: expected at least one of entries, got ()$
""")


def test_each_projection_is_a_part_of_its_own():
    net, x = lf.multi_head_attention(2), normal(2, 5, 6)
    params = net.init(lf.Key(0), x)
    visited = {}

    def forward(layer, path, params, x):
        visited[path] = params
        return layer.forward(params, x)

    y, cache = lf.walk.there(forward, net, params, x)
    _, sites = lf.cotangents(net, params, cache, y)
    for i, name in enumerate(("query", "key", "value", None, "output")):
        own = params.dropout if name is None else getattr(params, name)
        assert visited[str(i)] is own
        assert sites[i].path == str(i)
        assert sites[i].params is own


def test_the_functions_of_the_file_are_those_of_the_layer():
    x, g = normal(2, 5, 6), normal(2, 5, 6, seed=1)
    params, y, cache = first_run(lf.multi_head_attention(2), x)
    given, of_file = multi_head_attention.forward(params, x, num_heads=2)
    assert same_bits(given, y)
    expected = lf.multi_head_attention(2).backward(params, cache, g)
    assert same_bits(multi_head_attention.backward(params, of_file, g), expected)


def test_an_error_names_the_projection():
    params, *_ = first_run(MHA(2), Q)
    problem = "projection(): expected x of shape (..., 6), got (2, 4, 3)"
    assert_refused(f"multi_head_attention[2] {problem}", MHA(2).forward, params, (Q, K, V))


def test_a_projection_alone_has_as_many_outputs_as_inputs():
    x = normal(2, 5, 6)
    made = lf.multi_head_attention(2).parts[0].init(lf.Key(3), x)
    expected = lf.dense(6, weight_init=glorot_uniform(), bias_init=zeros()).init(lf.Key(3), x)
    assert same_bits((made.weight, made.bias), (expected.weight, expected.bias))


def kernels_of(layer, params, x):
    with torch.profiler.profile() as profile:
        y, cache = layer.forward(params, x)
        layer.backward(params, cache, y)
    return {event.key for event in profile.key_averages() if "flash_attention" in event.key}


FLASH = {
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
}


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_fast_twin_runs_the_flash_kernel_where_it_can(is_causal):
    layer = MHA(2, is_causal=is_causal)
    x = normal(3, 5, 6)
    params, fast = layer.init(lf.Key(0), x), lf.fast(layer)
    assert (kernels_of(fast, params, x), kernels_of(layer, params, x)) == (FLASH, set())
    mask = torch.ones(3, 5, dtype=torch.bool)
    for other in ((x, mask), normal(5, 6), normal(2, 3, 5, 6), (x, x[:, :3], x[:, :3])):
        assert kernels_of(fast, params, other) == FLASH
    for other in ((x, normal(3, 5)), x[:0], 1e4 * x):
        assert not kernels_of(fast, params, other) >= FLASH
    dropping = MHA(2, dropout=0.3, is_causal=is_causal)
    with_key = dropping.init(lf.Key(0), x)
    assert kernels_of(lf.fast(dropping), with_key, x) == set()


def test_a_projection_may_have_an_init_of_its_own():
    def zeros(layer):
        init = layer.init
        return layer.replace(init=lambda key, x: lf.tree.map(torch.zeros_like, init(key, x)))

    net, x = lf.multi_head_attention(2), torch.ones(2, 3, 4)
    own = lf.map_layers(lambda part: zeros(part) if part.name == "projection()" else part, net)
    assert all(not leaf.any() for leaf in lf.tree.leaves(own.init(lf.Key(0), x)))
