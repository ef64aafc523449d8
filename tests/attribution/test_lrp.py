"""Relevance is shared out as the rules' formulas say, and conserved where they say so."""

import pytest
import torch
from helpers import CASES, cast, same_bits, same_number
from helpers.refusals import refusals
from helpers.relevance import EXACT, normal

import lincoln_fn as lf
from lincoln_fn import attribution, keys, tree
from lincoln_fn.attribution import kinds, rules
from lincoln_fn.testing.exact.field import FREE, Field, P
from lincoln_fn.testing.prove import Trial
from lincoln_fn.testing.sample import Subject


def relevance_of(layer, params, x, y_relevance, rule):
    """Propagate the relevance of a single layer's output."""
    y, cache = layer.forward(params, x)
    return rule.propagate(rules.Use(layer, params, x, y, cache), y_relevance)


# Conservation


def residual_network():
    block = lf.residual(lf.serial(lf.dense(6, bias=False), lf.relu(), lf.dense(5, bias=False)))
    return lf.serial(block, block, lf.residual(lf.relu(), lf.dense(5)), lf.dense(4, bias=False))


def test_residual_blocks_conserve_relevance():
    net, x = residual_network(), normal(3, 5)
    params = net.init(lf.Key(1), x)
    found = attribution.lrp(net, params, x, torch.tensor([1, 3, 0]), rules=EXACT)
    y = net.predict(params, x)
    total = y[torch.arange(3), torch.tensor([1, 3, 0])]
    assert same_number(found.x.sum(1), total)
    sums = attribution.conservation(found)
    assert all(abs(layer.lost) < 1e-6 for layer in sums)
    assert abs(sums.lost) < 1e-6
    # The gradient's rule for `add`, which gives R to both, doubles it at each block.
    doubling = attribution.Composite(((kinds.ADDITION, rules.gradient()), *EXACT.choices))
    doubled = attribution.lrp(net, params, x, torch.tensor([1, 3, 0]), rules=doubling)
    assert (doubled["2"].x.sum() - 2 * doubled["2"].y.sum()).abs() < 1e-9


def test_a_residual_connection_shares_in_proportion():
    net, x = lf.residual(lf.tanh()), normal(3, 5)
    found = attribution.lrp(net, ((), ()), x, torch.ones(3, 5), rules=EXACT)
    # Both parts pass relevance on to the same elements of x.
    assert same_number((found.x, found["0"].y, found["1"].y), (x + x.tanh(), x.tanh(), x))


NOT_CONSERVED = (
    "softmax", "softmin", "bilinear", "log_softmax", "token_log_probs", "constant_pad",
    "positional_embedding", "sinusoidal_positions", "embedding", "alibi", "relative_position_bias",
    "bias", "class_token", "cosine_similarities", "divide", "graph_", "logsumexp", "spectral_norm",
    "jvp", "timestep_embedding", "variance", "weight_norm",
)  # fmt: skip
# And elements of y that no x enters.
EMPTY = "output_padding"


SINGLE = [
    case
    for case in CASES
    if case.layer.composition is None
    and not case.layer.name.startswith(NOT_CONSERVED)
    and EMPTY not in case.layer.name
]


@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_every_layer_conserves_relevance(case):
    """By equality of exact numbers, but for roots that the field has not; and in floats."""
    layer = lf.inference(case.layer)
    rule = EXACT.rules_of(layer)[""]
    trial = Trial(Subject(layer, *cast((case.params(), case.x))), Field(1))
    drawn = trial.g
    with trial.active():
        # An element that is 0, such as one of padding, has no relevance.
        relevance = tree.map(torch.mul, trial.y, drawn)
        if "return_indices" in layer.name:
            relevance = relevance[0], None
        use = rules.Use(layer, trial.params, trial.x, trial.y, trial.cache)
        found = rule.propagate(use, relevance)
    given = trial.x if isinstance(trial.x, tuple) else (trial.x,)
    for own, of_it in zip(given, found if isinstance(found, tuple) else (found,), strict=True):
        shapes = [leaf.shape for leaf in tree.leaves(of_it)]
        assert shapes in ([leaf.shape for leaf in tree.leaves(own)], [])
    before, after = map(trial.read, (relevance, found))
    if FREE not in trial.field.notes:
        assert total(before, "value") % P == total(after, "value") % P
    terms = sum(abs(each.shadow).sum() for each in after)
    sums = (torch.as_tensor(total(each, "shadow")) for each in (after, before))
    assert same_number(*sums, terms=terms)


def total(numbers, column):
    return sum(getattr(each, column).sum() for each in numbers)


def test_conservation_says_which_layer_loses_how_much():
    net, x = lf.serial(lf.dense(4), lf.relu(), lf.dense(3)), normal(2, 5)
    params = net.init(lf.Key(1), x)
    found = attribution.lrp(
        net, params, x, 1, rules=attribution.composite((kinds.LINEAR, rules.epsilon(0.0)))
    )
    sums = attribution.conservation(found)
    assert [layer.path for layer in sums] == ["2", "1", "0", ""]
    last, relu, first, whole = sums
    assert same_number(last.lost, 2 * params[2].bias[1].item())
    assert relu.lost == 0
    hidden = (x @ params[0].weight + params[0].bias).relu()
    of_hidden = hidden * params[2].weight[:, 1]
    z = x @ params[0].weight + params[0].bias
    assert same_number(first.lost, (of_hidden * params[0].bias / z).sum().item())
    assert same_number([sums.lost, whole.lost], [last.lost + first.lost] * 2)
    lines = str(sums).splitlines()
    assert lines[0].split() == ["path", "layer", "sum", "over", "y", "sum", "over", "x", "lost"]
    assert lines[2].split()[:2] == ["2", "dense"]


# The relevance at each path


def test_relevance_is_found_at_every_path_in_order():
    net, x = (
        lf.serial(lf.embedding(9, 4), lf.residual(lf.tanh()), lf.last_state()),
        torch.tensor([[1, 2, 8]]),
    )
    params = cast(net.init(lf.Key(1), x))
    found = attribution.lrp(net, params, x, 1)
    assert [layer.path for layer in found.layers] == ["2", "1.2", "1.1", "1.0", "1", "0", ""]
    assert found.x is None
    assert found["0"].y.shape == (1, 3, 4)
    assert found["0"].x is None
    y = net.predict(params, x)
    assert same_number(found["0"].y[0, 2, 1], y[0, 1], error=1e-5)  # epsilon is 1e-6
    with pytest.raises(KeyError, match=r"3\.1"):
        found["3.1"]
    rows = attribution.conservation(found)
    assert rows[-1].x is None
    assert rows[-1].lost == 0


def test_checkpointed_shared_and_frozen_layers_have_the_relevance_of_the_plain_network():
    net, x = residual_network(), normal(3, 5)
    params = net.init(lf.Key(1), x)
    expected = attribution.lrp(net, params, x, 1).x
    again = lf.serial(*map(lf.checkpointed, net.parts))
    assert same_bits(attribution.lrp(again, params, x, 1).x, expected)
    frozen = lf.frozen(net)
    own = frozen.init(lf.Key(1), x)
    found = attribution.lrp(frozen, own, x, 1).x
    assert same_bits(found, attribution.lrp(net, own.params, x, 1).x)
    twice = lf.serial(lf.shared(net), lf.add())
    found = attribution.lrp(twice, (params, ()), (x, x.flip(0)), 1)
    uses = [layer for layer in found.layers if layer.path == "0.0.1"]
    assert len(uses) == 2
    # At the sum of both, epsilon is added once more.
    assert same_number((found.x[0], found.x[1].flip(0)), (expected, expected), error=1e-5)


def test_a_tied_network_has_relevance_at_its_embedding():
    body = lf.serial(lf.dense(4), lf.tanh(), lf.last_state())
    net, x = lf.tied(lf.embedding(9, 4), body), torch.tensor([[3, 5]])
    params = cast(net.init(lf.Key(1), x))
    found = attribution.lrp(net, params, x, 7, rules=EXACT)
    assert same_number(found["0"].y.sum(), net.predict(params, x)[0, 7])


# Attention


def attention_by_loops(q, k, v, mask, r, scale):
    """Share the relevance by the equations of the paper, sum by sum."""
    scores = scale * torch.einsum("ie,je->ij", q, k)
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    a = scores.softmax(-1)
    y = a @ v
    r_a, r_v, r_q, r_k = (torch.zeros_like(t) for t in (a, v, q, k))
    for i in range(len(q)):
        for j in range(len(k)):
            for f in range(v.shape[1]):
                message = a[i, j] * v[j, f] * r[i, f] / (2 * y[i, f])
                r_a[i, j] += message
                r_v[j, f] += message
    for i in range(len(q)):
        for j in range(len(k)):
            if a[i, j] == 0:
                continue
            r_score = scores[i, j] * (r_a[i, j] - a[i, j] * r_a[i].sum())
            for e in range(q.shape[1]):
                message = scale * q[i, e] * k[j, e] * r_score / (2 * scores[i, j])
                r_q[i, e] += message
                r_k[j, e] += message
    return r_q, r_k, r_v


@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 0, 1, 1]] * 3 + [[1, 1, 0, 0]] * 2) > 0])
def test_attention_is_shared_as_in_attnlrp(mask):
    q, k, v, r = normal(5, 6), normal(4, 6, seed=1), normal(4, 3, seed=2), normal(5, 3, seed=3)
    layer = lf.scaled_dot_product_attention(scale=0.3)
    found = relevance_of(layer, (), (q, k, v, mask), r, rules.attention(0.0))
    assert found[3] is None
    assert same_number(found[:3], attention_by_loops(q, k, v, mask, r, 0.3))
    assert same_number(found[2].sum(), r.sum().item() / 2)


def test_the_heads_share_as_attention_does_one_by_one():
    net, x = lf.multi_head_attention(2, is_causal=True, dropout=0.1), normal(1, 5, 6)
    params = net.init(lf.Key(1), x)
    composite = attribution.composite((kinds.ATTENTION, rules.attention(0.0)))
    found = attribution.lrp(net, params, x, normal(1, 5, 6, seed=5), rules=composite)
    q, k, v = ((x @ p.weight + p.bias)[0] for p in (params.query, params.key, params.value))
    past = torch.ones(5, 5).tril() > 0
    for head in (slice(0, 3), slice(3, 6)):
        r = found["3"].y[0][:, head]
        expected = attention_by_loops(q[:, head], k[:, head], v[:, head], past, r, 1 / 3**0.5)
        for path, of_it in zip("012", expected, strict=True):
            assert same_number(found[path].y[0][:, head], of_it)


def test_an_added_mask_takes_its_share_as_a_bias():
    q, k, v, r = normal(5, 6), normal(4, 6, seed=1), normal(4, 3, seed=2), normal(5, 3, seed=3)
    mask = normal(5, 4, seed=4)
    layer = lf.scaled_dot_product_attention()
    r_q, r_k, _, r_mask = relevance_of(layer, (), (q, k, v, mask), r, rules.attention(0.0))
    scores = q @ k.mT / 6**0.5 + mask
    a = scores.softmax(-1)
    r_a = a * (r / (2 * (a @ v)) @ v.mT)
    r_scores = scores * (r_a - a * r_a.sum(-1, keepdim=True))
    share = q @ k.mT / 6**0.5 / scores / 2
    assert same_number(r_q.sum(1), (share * r_scores).sum(1))
    assert same_number(r_k.sum(1), (share * r_scores).sum(0))
    assert not r_mask.any()


def test_softmax_is_shared_as_in_attnlrp():
    x, r = normal(4, 5), normal(4, 5, seed=1)
    y = x.softmax(1)
    expected = x * (r - y * r.sum(1, keepdim=True))
    assert same_number(relevance_of(lf.softmax(1), (), x, r, rules.norm(0.0)), expected)


# Normalisations


@pytest.mark.parametrize("layer", [lf.layer_norm(), lf.rms_norm(), lf.layer_norm((-1, -1))])
def test_a_constant_std_leaves_a_linear_map(layer):
    x, r = normal(4, 5, 6), normal(4, 5, 6, seed=1)
    params = tree.map(lambda p: p + normal(*p.shape, seed=2) / 2, cast(layer.init(lf.Key(1), x)))
    y, cache = layer.forward(params, x)
    x_in = x.clone().requires_grad_()
    axes = tuple(range(-cache.axes, 0))
    centred = x_in if layer.name.startswith("rms") else x_in - x_in.mean(axes, keepdim=True)
    linear = centred * cache.rstd * params.weight
    expected = x * torch.autograd.grad(linear, x_in, r / y)[0]
    assert same_number(relevance_of(layer, params, x, r, rules.constant_std(0.0)), expected)


def test_a_constant_std_is_for_norms_of_rows():
    with pytest.raises(lf.LayerError, match=r"tanh\(\): expected layer_norm or rms_norm for const"):
        relevance_of(lf.tanh(), (), normal(2, 3), normal(2, 3), rules.constant_std())


# Recurrent layers


def linear_messages(h, w, z, r):
    """Share by h_i W_ij / z_j R_j, message by message, as in the published code for LSTMs."""
    return (h[:, :, None] * w / z[:, None] * r[:, None]).sum(2)


def lstm_by_steps(cell, x, r_y):
    """Run an LSTM of one layer, and share its outputs' relevance step by step."""
    w_g, v_g = (w.chunk(4, 1)[2] for w in (cell.weight_ih, cell.weight_hh))
    h = c = x.new_zeros(len(x), 4)
    steps = []
    for t in range(x.shape[1]):
        a = x[:, t] @ cell.weight_ih + cell.bias_ih + h @ cell.weight_hh + cell.bias_hh
        i, f, g, o = a.chunk(4, 1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        steps.append((h, c, i.sigmoid() * g.tanh(), f.sigmoid() * c, new_c, g))
        h, c = o.sigmoid() * new_c.tanh(), new_c
    r_h = r_c = torch.zeros_like(h)
    r_x = []
    for t in reversed(range(x.shape[1])):
        h, _, new, kept, c, g = steps[t]
        r_c = r_c + r_h + r_y[:, t]
        r_g, r_c = new / c * r_c, kept / c * r_c
        r_x.insert(0, linear_messages(x[:, t], w_g, g, r_g))
        r_h = linear_messages(h, v_g, g, r_g)
    return torch.stack(r_x, 1)


def test_an_lstm_gives_all_to_the_signal_and_nothing_to_the_gates():
    layer, x, r = lf.lstm(4), normal(2, 5, 3), normal(2, 5, 4, seed=1)
    params = layer.init(lf.Key(1), x)
    found = relevance_of(layer, params, x, r, rules.recurrent(0.0))
    assert same_number(found, lstm_by_steps(params.cells[0][0], x, r))


def test_a_gru_shares_between_the_signal_and_the_old_state():
    layer, x, h = lf.gru_cell(4), normal(2, 3), normal(2, 4, seed=1)
    params, r = layer.init(lf.Key(1), x), normal(2, 4, seed=2)
    a = x @ params.weight_ih + params.bias_ih
    b = h @ params.weight_hh + params.bias_hh
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, 1), b.chunk(3, 1)
    reset, z = (a_r + b_r).sigmoid(), (a_z + b_z).sigmoid()
    signal = a_n + reset * b_n
    n = signal.tanh()
    new = (1 - z) * n + z * h
    r_n, r_old = (1 - z) * n / new * r, z * h / new * r
    w, v = (w.chunk(3, 1)[2] for w in (params.weight_ih, params.weight_hh))
    r_x, r_h = relevance_of(layer, params, (x, h), r, rules.recurrent(0.0))
    assert same_number(r_x, linear_messages(x, w, signal, r_n))
    assert same_number(r_h, r_old + linear_messages(h, v, signal, reset * r_n))


def test_padding_of_a_masked_lstm_has_no_relevance():
    layer, x = lf.lstm(4, bidirectional=True), normal(2, 5, 3)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    params, r = layer.init(lf.Key(1), x), normal(2, 5, 8, seed=1)
    found, _, _ = relevance_of(layer, params, (x, None, mask), (r, None), rules.recurrent(0.0))
    assert not found[1, 2:].any()
    alone = relevance_of(layer, params, x[1:, :2], r[1:, :2], rules.recurrent(0.0))
    assert same_number(found[1:, :2], alone)


def test_a_gated_linear_unit_gives_all_to_the_signal():
    x, r = normal(3, 6, 5), normal(3, 3, 5, seed=1)
    found = relevance_of(lf.glu(1), (), x, r, rules.signal())
    assert same_bits(found, torch.cat([r, torch.zeros(3, 3, 5)], 1))


def test_a_product_is_shared_equally():
    x, r = (normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)), normal(3, 4, seed=3)
    for found in relevance_of(lf.multiply(), (), x, r, rules.split(0.0)):
        assert same_number(found, r / 3)


# Composites


def test_a_composite_chooses_by_path_then_first_then_kind():
    net = lf.serial(lf.relu(), lf.conv2d(3, 3), lf.conv2d(3, 3), lf.flatten(), lf.dense(4))
    made = attribution.composite(
        (kinds.CONVOLUTION, rules.gamma(0.5)),
        first=[(kinds.CONVOLUTION, rules.w_square())],
        by_path={"4": rules.z_plus()},
    )
    expected = "{'0': pass_(), '1': w_square(), '2': gamma(0.5), '3': gradient(), '4': z_plus()}"
    assert repr(made.rules_of(net)) == expected
    made = attribution.composite(
        first=[(kinds.CONVOLUTION, rules.w_square())], by_path={"1": rules.flat()}
    )
    assert repr(made.rules_of(net)["1"]) == "flat()"
    assert repr(made.rules_of(net)["2"]) == "epsilon(1e-06)"


def test_rules_for_ones_own_layer():
    double_it = lf.Layer("double_it()", lambda p, x: (2 * x, None), lambda p, c, g: (2 * g, ()))
    net, x = lf.serial(lf.dense(3), double_it), normal(2, 4)
    params = net.init(lf.Key(1), x)
    mend = (
        r"lrp: 1 double_it\(\): the composite has no rule; give it one by composite\(by_path=\{'1'"
    )
    with pytest.raises(lf.LayerError, match=mend):
        attribution.lrp(net, params, x, 0)
    own = rules.Rule("own()", lambda use, relevance: use.x * relevance / use.y * 2)
    by_path = attribution.composite(by_path={"1": own})
    by_kind = attribution.composite((frozenset({double_it.forward}), own))
    expected = attribution.lrp(lf.serial(lf.dense(3)), params[:1], x, 0)
    for rules_ in (by_path, by_kind):
        found = attribution.lrp(net, params, x, 0, rules=rules_)
        assert same_number(found.x, 2 * expected.x)


test_what_does_not_fit_is_refused = refusals("""
attribution.composite(by_path={'7': rules.flat()}).rules_of(tanh()) -> expected the path of a layer,
    got '7'; there are ''
attribution.lrp(log_softmax(), (), normal(2, 3), 0) -> explain the scores before it: leave the layer
    out
attribution.lrp(tanh(), (), normal(2, 3), 0, rules=rules.flat()) -> Composite
rules.alpha_beta(2.0, 2.0) -> alpha - beta = 1
rules.epsilon(-1.0) -> at least 0
relevance_of(add(), (), (normal(2), normal(2)), normal(2), rules.z_plus()) -> ^add(): expected a
    layer with one floating input
attribution.lrp(dense(2), dense(2).init(Key(0), torch.ones(1, 3)), torch.ones(1, 3), 0,
    rules=attribution.composite(by_path={'': rules.z_box(torch.zeros(4), 1.0)})) -> ^z_box: expected
    low to broadcast to x, (1, 3), got float32[4]
""")


# Merged batch norm


@pytest.mark.parametrize(("layers", "shape"), [
    ((lf.dense(4), lf.batch_norm()), (7, 3)),
    ((lf.conv1d(4, 3, groups=2, bias=False), lf.batch_norm(eps=0.1)), (7, 2, 6)),
    ((lf.conv_transpose2d(6, 2, groups=2), lf.batch_norm(bias=False)), (5, 4, 3, 2)),
    ((lf.conv2d(3, 2), lf.batch_norm(affine=False)), (5, 4, 3, 2)),
])  # fmt: skip
def test_a_merged_linear_layer_is_the_pair(layers, shape):
    net, x = lf.residual(lf.serial(*layers, lf.tanh()), lf.serial(*layers)), normal(*shape)
    net = lf.serial(lf.checkpointed(lf.frozen(net)))
    params = net.init(lf.Key(1), x)
    params = net.advance(params, net.forward(params, x)[1])
    params = tree.map(
        lambda p: p + keys.uniform(lf.Key(p.ndim), tuple(p.shape), dtype=p.dtype),
        params,
        states=False,
    )
    merged = attribution.merge_batch_norm(net, params)
    assert same_number(net.predict(merged, x), net.predict(params, x))
    linear, _, _ = merged[0].params[0]
    own, own_norm, _ = params[0].params[0]
    pair = lf.serial(*layers)
    assert same_number(layers[0].predict(linear, x), pair.predict((own, own_norm), x))


def test_a_batch_norm_without_statistics_stays():
    net, x = lf.serial(lf.dense(3), lf.batch_norm(track_running_stats=False)), normal(5, 2)
    params = net.init(lf.Key(1), x)
    merged = attribution.merge_batch_norm(net, params)
    assert merged[0] is params[0]
    assert merged[1] is params[1]


def test_a_batch_norm_of_other_channels_than_the_dense_layers_stays():
    net, x = lf.serial(lf.dense(3), lf.batch_norm()), normal(4, 5, 2)
    params = net.init(lf.Key(1), x)
    params = net.advance(params, net.forward(params, x)[1])
    merged = attribution.merge_batch_norm(net, params)
    assert same_number(net.predict(merged, x), net.predict(params, x))
