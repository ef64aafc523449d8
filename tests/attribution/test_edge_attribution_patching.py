"""Edges add up to what patching a whole output does, and are exact where the network is linear."""

import pytest
import torch
from helpers import assert_says, cast, same_number
from helpers.relevance import normal

import lincoln_fn as lf
from lincoln_fn.attribution import attribution_patching, edge_attribution_patching


def block():
    attention = lf.serial(lf.rms_norm(), lf.grouped_query_attention(4, 2))
    return lf.serial(lf.residual(attention), lf.residual(lf.serial(lf.rms_norm(), lf.swiglu(6))))


NET = lf.serial(block(), block(), lf.rms_norm(), lf.last_state(), lf.dense(3))
CLEAN, CORRUPTED, WEIGHTS = normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(2, 3, seed=2)
PARAMS = cast(NET.init(lf.Key(1), CLEAN))
RUN = (NET, PARAMS, CLEAN, CORRUPTED, WEIGHTS)
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
    gradients = lf.rules.relp(NET) if rule else NET
    _, cache = gradients.forward(PARAMS, CORRUPTED)
    dx = gradients.input_grad(PARAMS, cache, WEIGHTS)
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
