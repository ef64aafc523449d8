"""Patching of outputs and of edges, at once, equals patching one at a time, to first order."""

import pytest
import torch
from helpers import assert_says, cast, same_bits, same_number
from helpers.relevance import normal

import lincoln_fn as lf
from lincoln_fn.attribution import attribution_patching, edge_attribution_patching
from lincoln_fn.inspect.patching import outputs, patched


def brute_force(net, params, clean_x, corrupted_x, metric):
    """Patch each output in a run of its own, and measure how the metric changes."""
    clean = outputs(net, params, clean_x)
    before = metric(net.predict(params, corrupted_x))
    return {
        path: metric(patched(net, {path: y}).predict(params, corrupted_x)) - before
        for path, y in clean.items()
        if "use" not in path
    }


def check_first_order(net, params, clean_x, direction, metric, target):
    """Compare the estimates for two differences of the inputs, the second a tenth of the first."""
    errors = []
    for size in (1e-4, 1e-5):
        corrupted = lf.tree.map(lambda x, d, size=size: x + size * d, clean_x, direction)
        found = attribution_patching(net, params, clean_x, corrupted, target)
        expected = brute_force(net, params, clean_x, corrupted, metric)
        sums = {path: sum(leaf.sum() for leaf in lf.tree.leaves(found[path])) for path in expected}
        errors.append({path: (sums[path] - expected[path]).abs().item() for path in expected})
        for path, change in expected.items():
            assert errors[-1][path] <= 0.01 * abs(change) + 1e-12, path
    for path, error in errors[0].items():
        # Of second order: a tenth of the difference has a hundredth of the error.
        assert errors[1][path] <= error / 50 + 1e-13, path


X = normal(3, 5, 6)
NET = lf.serial(
    lf.transformer_encoder_block(2, 7, 0.1, "gelu", norm_first=True, is_causal=True),
    lf.checkpointed(lf.residual(lf.serial(lf.layer_norm(), lf.dense(6), lf.tanh()))),
    lf.masked_mean(),
    lf.dense(4),
)
PARAMS = NET.init(lf.Key(1), X)


def test_the_effect_of_every_output_is_right_to_first_order():
    weights = normal(3, 4, seed=2)
    direction = normal(3, 5, 6, seed=1)
    check_first_order(NET, PARAMS, X, direction, lambda y: (weights * y).sum(), weights)


def test_a_metric_may_be_any_function_of_y():
    def metric(y):
        return y.logsumexp(1).sum()

    check_first_order(NET, PARAMS, X, normal(3, 5, 6, seed=1), metric, lambda y: y.softmax(1))


def test_the_effects_are_exact_behind_the_last_layer_that_is_not_linear():
    other = normal(3, 5, 6, seed=3)
    found = attribution_patching(NET, PARAMS, X, other, 2)
    change = (NET.predict(PARAMS, X) - NET.predict(PARAMS, other))[:, 2]
    for path in ("1.0", "1", "2", "3", ""):
        own = found[path].flatten(1).sum(1)
        assert same_number(own, change)
    assert not same_number(found["0"].flatten(1).sum(1), change)
    assert list(found) == list(outputs(NET, PARAMS, X))


@pytest.mark.parametrize("wrap", [lambda layer: layer, lf.checkpointed])
def test_uses_with_equal_outputs_have_effects_of_their_own(wrap):
    net = lf.serial(wrap(lf.shared(lf.tanh())), lf.concatenate(1), lf.dense(1))
    x, same = (normal(2, 3), normal(2, 3, seed=1)), normal(2, 3, seed=2)
    params = net.init(lf.Key(0), x)
    found = attribution_patching(net, params, x, (same, same), 0)
    path = "0.0" if wrap is lf.checkpointed else "0"
    of_uses = [found[f"{path}.0"], found[f"{path}.0, use 2"]]
    weights = params[2].weight.double().reshape(2, 3)
    for effect, h, w in zip(of_uses, x, weights, strict=True):
        assert same_number(effect, w * (h.tanh() - same.tanh()))
    assert same_number(found["0"], tuple(of_uses))


def test_indices_and_masks_have_no_effect_of_their_own():
    net = lf.serial(
        lf.parallel(lf.embedding(9, 4), lf.identity()), lf.multi_head_attention(2), lf.last_state()
    )
    codes, mask = torch.tensor([[1, 2, 3]]), normal(1, 3)
    params = cast(net.init(lf.Key(1), (codes, mask.float())))
    other = torch.tensor([[1, 7, 3]]), mask
    found = attribution_patching(net, params, (codes, mask), other, 1)
    assert found["0.0"].shape == (1, 3, 4)
    assert not found["0.0"][:, [0, 2]].any()
    bools = torch.tensor([[True, True, False]])
    found = attribution_patching(net, params, (codes, bools), (other[0], bools), 1)
    assert found["0"][1] is None


def test_runs_of_different_shapes_are_refused():
    with pytest.raises(lf.LayerError, match="expected both runs to have outputs of one shape"):
        attribution_patching(NET, PARAMS, X, X[:, :4], 1)


def test_a_rule_takes_the_place_of_the_gradient():
    net = lf.serial(lf.dense(4), lf.silu(), lf.dense(3))
    params, x, other = cast(net.init(lf.Key(2), X[0])), normal(5, 6), normal(5, 6, seed=1)
    found = attribution_patching(net, params, x, other, 1, rule=lf.rules.relp)
    h, h_other = (lf.dense(4).predict(params[0], x) for x in (x, other))
    g = params[2].weight[:, 1]
    assert same_number(found["0"], (h - h_other) * g * h_other.sigmoid())
    assert same_number(found["1"], (h * h.sigmoid() - h_other * h_other.sigmoid()) * g)
    assert list(found) == list(outputs(net, params, x))
    by_gradient = attribution_patching(net, params, x, other, 1)
    assert same_bits(found["1"], by_gradient["1"])
    assert not same_number(found["0"], by_gradient["0"])
    # A network that has the rule already is explained by its gradient, as with any rule.
    assert same_number(attribution_patching(lf.rules.relp(net), params, x, other, 1), by_gradient)


# Edges add up to what patching a whole output does, and are exact where the network is linear.


def block():
    attention = lf.serial(lf.rms_norm(), lf.grouped_query_attention(4, 2))
    return lf.serial(lf.residual(attention), lf.residual(lf.serial(lf.rms_norm(), lf.swiglu(6))))


STREAM = lf.serial(block(), block(), lf.rms_norm(), lf.last_state(), lf.dense(3))
CLEAN, CORRUPTED, WEIGHTS = normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(2, 3, seed=2)
OF_STREAM = cast(STREAM.init(lf.Key(1), CLEAN))
RUN = (STREAM, OF_STREAM, CLEAN, CORRUPTED, WEIGHTS)
WEIGHTS_OF_4 = normal(3, 4, seed=3)
every_rule = pytest.mark.parametrize("rule", [None, lf.rules.relp], ids=["gradient", "relp"])


@every_rule
def test_the_edges_from_a_branch_add_up_to_its_own_effect(rule):
    edges = edge_attribution_patching(*RUN, rule=rule)
    whole = attribution_patching(*RUN, rule=rule)
    for path in ("0.0.0", "0.1.0", "1.0.0", "1.1.0"):
        total = sum(effect for (source, _), effect in edges.items() if source.startswith(path))
        assert same_number(total, whole[path].sum(-1))
    total = sum(effect for (source, _), effect in edges.items() if source == "input")
    gradients = lf.rules.relp(STREAM) if rule else STREAM
    _, cache = gradients.forward(OF_STREAM, CORRUPTED)
    dx = gradients.input_grad(OF_STREAM, cache, WEIGHTS)
    assert same_number(total, ((CLEAN - CORRUPTED) * dx).sum(-1))


@every_rule
def test_each_head_reads_by_its_query_its_key_and_its_value(rule):
    edges = edge_attribution_patching(*RUN, rule=rule)
    read = {target.rpartition(" ")[0] for _, target in edges if target.startswith("1.0.0.1.7, ")}
    assert read == {
        f"1.0.0.1.7, {name}" for name in (["value"] if rule else ["query", "key", "value"])
    }
    heads = {source for source, _ in edges if source.startswith("0.0.0.1.7, ")}
    assert heads == {f"0.0.0.1.7, head {i}" for i in range(4)}
    assert {target for _, target in edges if target.endswith("value 1")} == {
        "0.0.0.1.7, value 1", "1.0.0.1.7, value 1"
    }  # fmt: skip


def test_an_edge_of_a_linear_network_is_what_patching_it_changes():
    first, second, third = (lf.dense(4, bias=False) for _ in range(3))
    net = lf.serial(*map(lf.residual, (first, second, third)), lf.dense(2))
    x, other = normal(3, 4), normal(3, 4, seed=1)
    params = cast(net.init(lf.Key(2), x))
    a, b, c = (entry[0].weight for entry in params[:3])
    edges = edge_attribution_patching(net, params, x, other, 1)

    def score(read_by_second, read_by_third, read_at_the_end):
        """Compute the score where the first branch's output is another for each reader."""
        of_second = (other + read_by_second) @ b
        of_third = (other + read_by_third + of_second) @ c
        stream = other + read_at_the_end + of_second + of_third
        return (stream @ params[3].weight)[:, 1]

    new, old = x @ a, other @ a
    unchanged = score(old, old, old)
    assert same_number(edges["0.0", "1.0"], score(new, old, old) - unchanged)
    assert same_number(edges["0.0", "2.0"], score(old, new, old) - unchanged)
    assert same_number(edges["0.0", "output"], score(old, old, new) - unchanged)
    assert len(edges) == 10


def test_one_residual_connection_has_three_edges_also_with_another_inside():
    x, other = normal(3, 4), normal(3, 4, seed=1)
    net = lf.residual(lf.residual(lf.dense(4, bias=False)))
    params = cast(net.init(lf.Key(2), x))
    edges = edge_attribution_patching(net, params, x, other, WEIGHTS_OF_4)
    change = net.predict(params, x) - net.predict(params, other)
    assert list(edges) == [("input", "0"), ("input", "output"), ("0", "output")]
    total = edges["input", "output"] + edges["0", "output"]
    assert same_number(total, (change * WEIGHTS_OF_4).sum(-1))


def test_a_head_is_patched_exactly_where_all_behind_it_is_linear():
    attention = lf.grouped_query_attention(4, 2)
    net = lf.serial(lf.residual(attention), lf.residual(lf.dense(8, bias=False)), lf.dense(1))
    params = cast(net.init(lf.Key(3), CLEAN))
    metric = torch.ones_like
    edges = edge_attribution_patching(net, params, CLEAN, CORRUPTED, metric)
    heads = [lf.inspect.outputs(net, params, x)["0.0.7"] for x in (CLEAN, CORRUPTED)]
    change = (heads[0] - heads[1])[..., 4:6] @ params[0][0].output.weight[4:6]
    expected = (change @ params[1][0].weight @ params[2].weight).squeeze(-1)
    assert same_number(edges["0.0.7, head 2", "1.0"], expected)


def test_what_is_no_stream_of_branches_is_refused():
    norm = lf.serial(lf.residual(lf.dense(4)), lf.layer_norm(), lf.residual(lf.tanh()))
    x = normal(2, 4)

    def edges(net, corrupted=2 * x):
        return edge_attribution_patching(net, cast(net.init(lf.Key(0), x)), x, corrupted, 0)

    assert_says("'2.0': expected it to read the sum of the input and all branches", edges, norm)
    assert_says("expected a network with residual connections, got dense(2)", edges, lf.dense(2))
    twice = lf.serial(lf.branch(lf.tanh(), lf.relu(), merge=lf.identity()),
                      lf.shared(lf.residual(lf.dense(4))), lf.add())  # fmt: skip
    assert_says("dense(4): expected a branch that is used once, got a second use", edges, twice)
    for width in (4, 3):
        shortcut = lf.residual(lf.dense(width), lf.dense(width))
        assert_says("'output': expected it to read the sum of the input and", edges, shortcut)
    one = lf.residual(lf.dense(4))
    assert_says("expected both runs of one shape, got [(2, 4), (1, 4)]", edges, one, x[:1])
