"""RelP's backward is that of a linear map with y = J x, and its forward is the network's own."""

from itertools import product

import pytest
import torch
from helpers import CASES, begin, cast, same_bits, same_number
from helpers.cases.case import random_like
from helpers.compositions import check_split, run
from helpers.refusals import refusals
from helpers.relevance import normal

import lincoln_fn as lf
from lincoln_fn import tree
from lincoln_fn.rules import backpropagation, relp


def sums(net, params, x):
    """Sum g y, then x dx and b db for all biases b, and the sizes of these terms."""
    y, cache = net.forward(params, x)
    g = random_like(y)
    dx, dparams = net.backward(params, cache, g)
    biases = [path.endswith("bias") for path in tree.paths(params)]
    pairs = [
        *products(x, dx),
        *(
            p * d
            for is_bias, p, d in zip(biases, tree.leaves(params), tree.leaves(dparams), strict=True)
            if is_bias
        ),
    ]
    of_y = products(y, g)
    terms = sum(each.abs().sum() for each in (*pairs, *of_y))
    return sum(each.sum() for each in of_y), sum(each.sum() for each in pairs), terms


def products(values, factors):
    """Multiply what is floating, and has a factor, of two trees."""
    if isinstance(values, tuple):
        pairs = zip(values, factors, strict=True)
        return [each for pair in pairs for each in products(*pair)]
    is_number = factors is not None and values.is_floating_point()
    return [values * factors] if is_number else []


def with_biases(params):
    """Make params whose biases are not 0."""
    return tree.map(lambda leaf: leaf + 0.1 * torch.cos(leaf + leaf.numel()), params)


# Networks


def block(attention, feed_forward, norm):
    return lf.serial(
        lf.residual(lf.serial(norm, attention)), lf.residual(lf.serial(norm, feed_forward))
    )


def heads_of_three():
    ways = [lf.dense(8)] * 3
    return lf.branch(*ways, merge=lf.scaled_dot_product_attention())


NETWORKS = {
    "llama": block(lf.grouped_query_attention(4, 2, qk_norm=lf.rms_norm()), lf.swiglu(6),
        lf.rms_norm()),
    "gemma": block(lf.grouped_query_attention(4, 1, softcap=2.0, sliding_window=3),
        lf.geglu(6, "tanh"), lf.rms_norm(offset=1.0)),
    "gpt": lf.transformer_encoder_block(2, 7, 0.1, "gelu", norm_first=True, is_causal=True),
    "bert": lf.transformer_encoder_block(4, 6, 0.0, "gelu"),
    "bare attention": lf.serial(lf.layer_norm(), lf.tanh(), heads_of_three()),
    "checkpointed": lf.checkpointed(lf.residual(lf.serial(lf.rms_norm(), lf.swiglu(5)))),
    "convolutions": lf.serial(lf.conv1d(4, 3), lf.gelu(), lf.max_pool1d(2), lf.layer_norm(),
        lf.silu()),
}  # fmt: skip
every_network = pytest.mark.parametrize("name", NETWORKS)


def made(name):
    net, x = lf.inference(NETWORKS[name]), normal(2, 6, 8)
    return net, with_biases(cast(net.init(lf.Key(1), x))), x


@every_network
def test_the_relevance_of_y_is_that_of_x_and_of_the_biases(name):
    net, params, x = made(name)
    before, after, terms = sums(relp(net), params, x)
    assert same_number(before, after, terms=terms)
    before, after, terms = sums(net, params, x)
    assert not same_number(before, after, terms=terms)


@every_network
def test_forward_has_the_bits_of_the_network(name):
    net, params, x = made(name)
    ruled = relp(net)
    assert same_bits(ruled.forward(params, x)[0], net.forward(params, x)[0])
    assert same_bits(ruled.predict(params, x), net.predict(params, x))


# Layers

# What is no bias's and no input's: constants, params that are added to y, and those of indices.
CONSTANTS = (
    "embedding", "positional_embedding", "class_token", "sinusoidal_positions", "constant_pad",
    "alibi", "relative_position_bias", "frozen(", "serial(frozen(", "ode(",
)  # fmt: skip
REFUSED = {
    "batch_norm", "bilinear", "cosine_similarities", "cos", "coupling", "divide", "exp", "glu",
    "gated_linear_recurrence", "graph_attention", "group_norm", "gru", "gru_cell", "hardsigmoid",
    "inference", "instance_norm", "jvp",
    "linear_attention", "linear_scan", "local_response_norm", "log", "log_sigmoid",
    "log_softmax", "logsumexp", "lstm", "lstm_cell", "mixture_of_experts", "normalize", "power",
    "reciprocal", "rnn", "rnn_cell", "selective_scan", "shift", "sigmoid", "softmax", "softmin",
    "softplus", "spectral_norm", "threshold", "timestep_embedding", "token_log_probs", "variance",
    "vector_quantize", "weight_norm",
}  # fmt: skip


def ruled_or_none(layer):
    try:
        return relp(lf.inference(layer))
    except lf.LayerError:
        return None


ALL = [(case, ruled_or_none(case.layer)) for case in CASES]
TAKEN = [(c, net) for c, net in ALL if net is not None and not c.layer.name.startswith(CONSTANTS)]


def test_the_layers_that_are_refused_are_these():
    single = {case.constructor for case, net in ALL if net is None and not case.layer.parts}
    composed = {case.constructor for case, net in ALL if net is None and case.layer.parts}
    assert single | (composed & {"coupling", "mixture_of_experts", "vector_quantize"}) == REFUSED


@pytest.mark.parametrize(("case", "net"), TAKEN, ids=lambda given: str(given))
def test_every_layer_that_is_taken_conserves(case, net):
    params, x = cast((case.params(), case.x))
    before, after, terms = sums(net, params, x)
    assert same_number(before, after, terms=terms)


@pytest.mark.parametrize(("layer", "x", "slope"), [
    (lf.silu(), [2.0, -1.0, 0.0], [0.8807970779778823, 0.2689414213699951, 0.5]),
    (lf.tanh(), [1.0, 0.0, -2.0], [0.7615941559557649, 1.0, 0.4820137900379085]),
    (lf.gelu(), [1.0, 0.0, -1.0], [0.8413447460685429, 0.5, 0.15865525393145707]),
    (lf.leaky_relu(0.25), [3.0, -3.0], [1.0, 0.25]),
], ids=str)  # fmt: skip
def test_an_activation_multiplies_g_by_its_value_over_x(layer, x, slope):
    net, x = relp(layer), torch.tensor(x, dtype=torch.float64)
    dx = net.input_grad((), net.forward((), x)[1], torch.full_like(x, 3.0))
    assert same_number(dx, 3 * torch.tensor(slope, dtype=torch.float64))


def test_the_factors_of_a_product_share_alike():
    net, x, g = relp(lf.multiply()), tuple(normal(3, 4, seed=i) for i in range(3)), normal(4)
    _, cache = net.forward((), x)
    first, *_ = net.input_grad((), cache, g.expand(3, 4))
    assert same_number(first, g * x[1] * x[2] / 3)


def test_attention_gives_all_to_the_values_or_has_its_gradient():
    layer = lf.attention_heads(2, is_causal=True)
    x, g = tuple(normal(3, 4, seed=i) for i in range(3)), normal(3, 4, seed=9)
    query, key, value = relp(layer).input_grad((), layer.forward((), x)[1], g)
    own = layer.input_grad((), layer.forward((), x)[1], g)
    assert not query.any()
    assert not key.any()
    assert same_number(value, own[2])
    kept = relp(layer, constant_weights=False)
    assert same_bits(kept.input_grad((), layer.forward((), x)[1], g), own)


test_what_has_no_rule_is_refused_by_name = refusals("""
relp(lf.serial(lf.dense(2), lf.residual(lf.batch_norm()))) -> ^relp: 1.0 inference(batch_norm()): it
    has no rule; put another layer in its place, or explain a part of the network without it$
relp(lf.sigmoid()) -> ^relp: sigmoid(): f(0) is 0.5, so f(x) / x has no bound near 0; put another
relp(lf.Layer("mine()", print, print)) -> ^relp: mine(): it has no rule; put another
relp(lf.coupling(lf.dense(4))) -> ^relp: coupling(dense(4)): its own loops multiply outputs of its
""")


# As any network


@every_network
def test_the_rule_is_taken_out_again(name):
    net, params, x = made(name)
    ruled = relp(net)
    y, cache = ruled.forward(params, x)
    g = random_like(y)
    _, own = net.forward(params, x)
    assert same_bits(
        backpropagation(ruled).backward(params, cache, g), net.backward(params, own, g)
    )
    _, twice = relp(ruled).forward(params, x)
    assert same_bits(relp(ruled).backward(params, twice, g), ruled.backward(params, cache, g))
    assert str(relp(ruled)) == str(ruled)


@pytest.mark.parametrize("name", ["llama", "gpt"])
def test_the_split_has_the_bits_of_backward(name):
    net = relp(made(name)[0])
    params, _, cache, g = run(net, normal(2, 6, 8), torch.float64)
    check_split(net, params, cache, g)


def test_a_step_of_faster_functions_keeps_the_rule():
    net = lf.serial(made("llama")[0], lf.last_state())
    ruled, x, target = relp(net), normal(2, 6, 8).float(), torch.tensor([1, 3])
    states, loss = [], lf.losses.softmax_cross_entropy()
    for each, fast in product((ruled, net), (True, False)):
        step, start = begin(each, x, loss, key=1, fast=fast)
        states.append(step(start, (x, target))[0].params)
    assert same_number(states[0], states[1])
    assert not same_number(states[0], states[2])
    assert same_number(states[2], states[3])
