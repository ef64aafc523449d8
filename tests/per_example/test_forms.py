"""The forms of single examples' gradients: which one is taken, and what is refused."""

import pytest
import torch
from helpers import first_run, same_bits, same_number
from helpers.cases.case import cast
from helpers.one_by_one import check, example, norms_of, one_by_one, run_alone
from helpers.refusals import assert_says, refusals

import lincoln_fn as lf
from lincoln_fn import keys, per_example
from lincoln_fn.combine.scan import scan
from lincoln_fn.core.terms import Explicit, Gather, Outer, Total
from lincoln_fn.per_example import forms
from lincoln_fn.per_example.network import terms_of


def drawn(*shape, seed=0):
    return keys.normal(lf.Key(400 + seed), shape, dtype=torch.float64)


# (layer, x, whether the weight's norms come from the factors, without its gradients)
FORMS = {
    "dense, one row": (lf.dense(2), drawn(4, 3), True),
    "dense, few rows": (lf.dense(9), drawn(4, 2, 8), True),
    "dense, many rows": (lf.dense(3), drawn(4, 7, 2), False),
    "dense, axes of rows": (lf.dense(9), drawn(4, 2, 1, 8), True),
    "convolution, few positions": (lf.conv2d(9, 3), drawn(3, 5, 4, 3), True),
    "convolution, stride": (lf.conv2d(9, (3, 2), (1, 2), dilation=2), drawn(3, 5, 6, 7), True),
    "convolution, many positions": (lf.conv2d(2, 2, padding=1), drawn(3, 4, 6, 5), False),
    "convolution, groups": (lf.conv1d(8, 3, groups=2), drawn(3, 6, 4), False),
    "convolution, volume": (lf.conv3d(9, 2), drawn(3, 5, 2, 3, 2), True),
    "transposed convolution": (lf.conv_transpose1d(6, 5, 2, 1), drawn(3, 7, 2), True),
    "transposed, many positions": (lf.conv_transpose1d(2, 3), drawn(3, 4, 9), False),
    "recurrent": (lf.gru(5), drawn(3, 2, 8), True),
    "bilinear": (lf.bilinear(2), (drawn(4, 3), drawn(4, 5, seed=1)), True),
}


@pytest.mark.parametrize("make", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
@pytest.mark.parametrize(("layer", "x", "from_factors"), FORMS.values(), ids=FORMS)
def test_the_form_that_costs_less_is_taken(layer, x, from_factors, make):
    net = make(layer)
    params, cache, g = example(net, x)
    check(net, params, cache, g, run_alone(net, params, x, g))
    terms = terms_of("test", net, params, cache, g)
    paths = lf.tree.paths(params)
    at = paths.index(max(paths, key=lambda path: "weight" in path))
    weight, p = lf.tree.leaves(terms)[at], lf.tree.leaves(params)[at]
    assert isinstance(forms.measure(weight, p)[1], Explicit) != from_factors


@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_an_embedding_adds_up_equal_tokens(tokens):
    net, x = lf.embedding(5, 3, padding_idx=2), torch.arange(4 * tokens).reshape(4, tokens) % 5 % 3
    params, cache, g = example(net, x)
    check(net, params, cache, g, run_alone(net, params, x, g))
    (term,) = lf.tree.leaves(terms_of("test", net, params, cache, g))
    found = forms.measure(term, params.weight)[1]
    assert isinstance(found, Gather if tokens < 9 else Explicit)


def test_uses_are_put_together_by_their_factors():
    x, y, g, h = (
        drawn(4, rows, size, seed=rows) for rows, size in ((2, 9), (3, 9), (2, 8), (3, 8))
    )
    index = torch.tensor([[0, 8, 0], [1, 1, 1], [2, 0, 5], [7, 3, 3]])
    outer, more, rows, p = Outer(x, g), Outer(y, h), Gather(index, h), torch.zeros(9, 8)
    both = torch.add(outer, torch.add(torch.zeros(9, 8), rows))
    each = forms.gradients(both, p)
    assert same_number(each, forms.gradients(outer, p) + forms.gradients(rows, p))
    norms, kept = forms.measure(both, p)
    assert same_number(norms, norms_of(each))
    assert isinstance(kept, Total)
    three = sum([outer, more, rows, Explicit(drawn(4, 9, 8))], torch.zeros(9, 8))
    assert len(three.terms) == 4
    norms, kept = forms.measure(three, p)
    assert same_number(norms, norms_of(forms.gradients(three, p)))
    assert isinstance(kept, Explicit)


def test_a_sum_over_examples_needs_the_memory_of_a_few(monkeypatch):
    monkeypatch.setattr("lincoln_fn.per_example.forms._AT_ONCE", 20)
    sizes = []
    gradients = forms.gradients

    def watched(term, p):
        sizes.append(term.count)
        return gradients(term, p)

    monkeypatch.setattr(forms, "gradients", watched)
    term, p = Outer(drawn(5, 3, 2), drawn(5, 3, 4, seed=1)), torch.zeros(2, 4)
    total = forms.square_sum(term, p)
    assert sizes == [2, 2, 1]
    assert same_number(total, gradients(term, p).square().sum(0))


def scaled():
    """A layer of the user's own, with a single number as its parameter."""

    def backward(scale, x, g):
        return scale * g, (g * x).sum()

    return lf.Layer(
        "scaled()", lambda scale, x: (scale * x, x), backward, lambda key, x: torch.tensor(1.5)
    )


def own_layer(weights):
    """A layer of the user's own, whose cache has a tensor with an axis as long as the batch."""

    def forward(params, x):
        return params["scale"] * (x @ params["mix"]) + params["shift"], (x, params["mix"])

    def backward(params, cache, g):
        x, mix = cache
        of_mix = params["scale"] * g
        dparams = {"scale": (g * (x @ mix)).sum(), "mix": x.mT @ of_mix, "shift": g.sum(0)}
        return of_mix @ mix.mT, dparams

    return lf.Layer("own()", forward, backward, lambda key, x: weights)


def test_a_layer_of_the_users_own():
    own = {"scale": torch.tensor(1.5), "mix": drawn(3, 3), "shift": drawn(3, seed=1)}
    net = lf.serial(lf.dense(3), own_layer(own), lf.tanh(), lf.dense(2))
    x = drawn(3, 3, seed=2)
    params, cache, g = example(net, x)
    check(net, params, cache, g, run_alone(net, params, x, g))


def test_a_layer_with_another_input_grad_has_the_same_row():
    def turned(params, cache, g):
        return -lf.dense(2).input_grad(params, cache, g)

    net = lf.serial(lf.dense(4), lf.dense(3).replace(input_grad=turned), lf.dense(2))
    params, cache, g = example(net, drawn(5, 3))
    check(net, params, cache, g, one_by_one(net, params, cache, g))
    true = per_example.gradients(lf.serial(*map(lf.dense, (4, 3, 2))), params, cache, g)
    assert same_number(per_example.gradients(net, params, cache, g)[0].weight, -true[0].weight)


@pytest.mark.parametrize("make", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
@pytest.mark.parametrize(("layer", "given"), [
    (lf.lstm(6), "sequence"),
    (lf.lstm(6, bias=False, num_layers=2, bidirectional=True), "sequence"),
    (lf.lstm(6, bidirectional=True), "state"),
    (lf.shared(lf.lstm(3)), "pair"),
], ids=str)  # fmt: skip
def test_float32_of_lstm(layer, given, make):
    net, sequence = make(layer), drawn(5, 7, 4).float()
    state = drawn(2, 5, 6, seed=1).float(), drawn(2, 5, 6, seed=2).float()
    x = {"sequence": sequence, "state": (sequence, state), "pair": (sequence, sequence.flip(1))}
    params, y, cache = first_run(net, x[given], 5)
    g = lf.tree.map(lambda leaf: keys.normal(lf.Key(3), tuple(leaf.shape)), y)
    exact = cast(params), layer.forward(cast(params), cast(x[given]))[1]
    each = one_by_one(layer, *exact, cast(g))
    found = per_example.gradients(net, params, cache, g)
    assert same_number(found, each, dtype=torch.float32)
    norms = per_example.squared_norms(net, params, cache, g)
    assert same_number(norms, norms_of(each), dtype=torch.float32)
    weights = torch.linspace(0, 1, 5)
    weighted = per_example.weighted_sum(net, params, cache, g, weights)
    wanted = lf.tree.map(lambda d: torch.einsum("n,n...->...", weights.double(), d), each)
    assert same_number(weighted, wanted, dtype=torch.float32)


def test_a_bfloat16_layer_is_measured_in_the_parameters_dtype():
    net, x = lf.in_dtype(lf.shared(lf.dense(40)), torch.bfloat16), drawn(3, 30).float()
    x = x, x.flip(0)
    params, y, cache = first_run(net, x, 5)
    norms = per_example.squared_norms(net, params, cache, y)
    each = per_example.gradients(net, params, cache, y)
    assert {leaf.dtype for leaf in (norms, *lf.tree.leaves(each))} == {torch.float32}
    assert same_number(norms, norms_of(each))


def test_half_precision_is_summed_in_float32():
    net, x = lf.serial(lf.dense(40), lf.layer_norm()), drawn(3, 500, 30).bfloat16()
    params = lf.tree.map(torch.Tensor.bfloat16, net.init(lf.Key(5), x.float()))
    y, cache = net.forward(params, x)
    norms = per_example.squared_norms(net, params, cache, y)
    _, sites = lf.cotangents(net, params, cache, y)
    exact = sites[0].cache.double().mT @ sites[0].g.double(), sites[0].g.double().sum(1)
    alone = per_example.squared_norms(net.parts[0], params[0], cache[0], sites[0].g)
    assert same_number(alone, norms_of(exact), length=500, dtype=torch.float32)
    assert norms.dtype is torch.float32
    weighted = per_example.weighted_sum(net, params, cache, y, torch.ones(3))
    each = per_example.gradients(net, params, cache, y)
    moments = per_example.variance(net, params, cache, y)
    for leaf in lf.tree.leaves((weighted, each, moments)):
        assert leaf.dtype is torch.bfloat16


def named(layer, x):
    params, y, cache = first_run(layer, x)
    return params, cache, lf.tree.map(torch.ones_like, y)


# By the message: the network, and the shape of its x.
REFUSED = {
    r"^serial\[1\] residual\[0\] serial\[1\] batch_norm\(\): .* alone, got .* over the batch; "
    "use group_norm, layer_norm or inference":
        (lf.serial(lf.dense(4), lf.residual(lf.serial(lf.relu(), lf.batch_norm()))), (5, 3)),
    r"^serial\[0\] frozen\[0\] batch_norm\(\): ":
        (lf.serial(lf.frozen(lf.batch_norm()), lf.dense(4)), (5, 3)),
    r"^serial\[0\] inference\(batch_norm\(track_running_stats=False\)\): ":
        (lf.serial(lf.inference(lf.batch_norm(track_running_stats=False))), (5, 3)),
    r"^serial\[1\] multi_head_attention\[3\] attention_heads\(2, .*\): expected a batch,":
        (lf.serial(lf.dense(4), lf.multi_head_attention(2), lf.dense(2)), (5, 3)),
    r"^serial\[1\] multi_head_attention\(2, batch_first=False\): .*; use batch_first=True$":
        (lf.serial(lf.dense(4), lf.multi_head_attention(2, batch_first=False)), (5, 3, 2)),
    r"^serial\[0\] gru\(4, batch_first=False\): .*; use batch_first=True$":
        (lf.serial(lf.gru(4, batch_first=False), lf.dense(2)), (5, 3, 2)),
    r"^serial\[0\] scan\(gru_cell\(4\), dim=0\): .*; use dim=1$":
        (lf.serial(scan(lf.gru_cell(4), dim=0), lf.dense(2)), (5, 3, 2)),
    r"^serial\[0\] dense\(4\): expected 4 examples on axis 0, as the network's g has, got 5$":
        (lf.serial(lf.dense(4), lf.flatten(0), lf.unflatten(0, (4, 5))), (5, 3)),
    r"^serial\[0\] scaled\(\): expected a batch, .* got g of shape \(5, 3\)$":
        (lf.serial(scaled(), lf.flatten(0), lf.unflatten(0, (3, 5))), (5, 3)),
    r"^dense\(4\): expected a batch, .* got g of shape \(4,\)$": (lf.dense(4), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_layers_without_single_examples_are_refused(message):
    net, shape = REFUSED[message]
    params, cache, g = named(net, drawn(*shape).float())
    for quantity in (per_example.gradients, per_example.squared_norms, per_example.variance):
        with pytest.raises(lf.LayerError, match=message):
            quantity(net, params, cache, g)


def test_a_batch_norm_at_inference_is_not_refused():
    net = lf.serial(lf.dense(4), lf.frozen(lf.batch_norm(), statistics="still"), lf.dense(2))
    params, cache, g = example(net, drawn(5, 3))
    check(net, params, cache, g, run_alone(net, params, drawn(5, 3), g))


DENSE = lf.dense(2), *named(lf.dense(2), drawn(5, 3).float())
test_wrong_weights_are_refused = refusals("""
per_example.weighted_sum(*DENSE, torch.ones(4)) -> ^weighted_sum: expected weights of shape (5,),
    got
per_example.weighted_sum(*DENSE, torch.ones(5, 1)) -> ^weighted_sum: expected weights of shape (5,),
    got
per_example.weighted_sum(*DENSE, [1.0] * 5) -> ^weighted_sum: expected weights of shape (5,), got
""")


def test_a_network_without_parameters():
    net, x = lf.serial(lf.relu(), lf.tanh()), drawn(5, 3)
    params, cache, g = example(net, x)
    assert per_example.squared_norms(net, params, cache, g).tolist() == [0] * 5
    assert per_example.gradients(net, params, cache, g) == ((), ())
    assert_says("expected net to be a Layer", per_example.gradients, None, params, cache, g)


def test_nothing_given_is_changed():
    net, x = lf.fast(lf.serial(lf.dense(4), lf.layer_norm(), lf.prelu(), lf.dense(2))), drawn(5, 3)
    params, cache, g = example(net, x)
    tensors = lf.tree.leaves((params, cache, g), states=True)
    before = [tensor.clone() for tensor in tensors]
    check(net, params, cache, g, run_alone(net, params, x, g))
    assert same_bits(tensors, before)
