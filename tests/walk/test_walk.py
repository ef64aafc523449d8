"""The two walks: dx now and dparams later, and visitors of one's own."""

import pytest
import torch
from helpers import CASES, FIRST, assert_says, normal, same_bits, same_number
from helpers.compositions import check_split, run
from helpers.stateful import STATEFUL, X
from torch.utils.flop_counter import FlopCounterMode

import lincoln_fn as lf

# By name, a layer and its x: what is no composition is split by its own functions, which
# test_layers.py and test_prove.py hold against `backward` in each configuration.
SPLIT = {
    **{str(case): (case.layer, case.x) for case in CASES if case in FIRST or case.layer.parts},
    **{f"{name}, with states": STATEFUL[name] for name in STATEFUL},
}


@pytest.mark.parametrize("name", SPLIT)
def test_the_split_has_the_bits_of_backward(name):
    layer, x = SPLIT[name]
    params, _, cache, g = run(layer, x)
    check_split(layer, params, cache, g)


def flops(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


ONCE = [
    lf.serial(lf.dense(4), lf.relu(), lf.dense(2)),
    lf.serial(lf.layer_norm(), lf.dense(4), lf.layer_norm()),
    lf.serial(lf.unflatten(-1, (1, 3)), lf.lstm(4)),
    lf.serial(lf.unflatten(-1, (1, 3)), lf.multi_head_attention(3)),
    lf.serial(lf.unflatten(-1, (1, 3)), lf.grouped_query_attention(3, positions=None)),
    lf.checkpointed(lf.serial(lf.dense(4), lf.dense(3))),
]


@pytest.mark.parametrize("layer", ONCE, ids=str)
def test_the_split_makes_no_product_twice(layer):
    params, _, cache, g = run(layer, X)

    def split():
        _, sites = lf.cotangents(layer, params, cache, g)
        lf.grads_at(layer, params, sites)

    assert flops(split) == flops(lambda: layer.backward(params, cache, g)) > 0


def test_there_is_one_site_for_each_use_with_its_path():
    net = lf.serial(lf.shared(lf.dense(3)), lf.add(), lf.residual(lf.frozen(lf.dense(3))))
    params, _, cache, g = run(net, (X, 2 * X))
    _, sites = lf.cotangents(net, params, cache, g)
    assert [site.path for site in sites[0]] == ["0.0", "0.0"]
    assert sites[1].path == "1"
    assert [site.path for site in sites[2]] == ["2.0.0", "2.1", "2.2"]
    first, second = sites[0]
    assert first.layer.name == "dense(3)"
    assert same_bits(first.cache, X)
    assert same_bits(second.cache, 2 * X)
    assert sites[2][0].dparams is None
    with pytest.raises(AttributeError):
        first.g = g


def test_what_shares_its_work_is_made_at_once():
    net = lf.serial(lf.dense(4), lf.layer_norm(), lf.dense(2))
    params, _, cache, g = run(net, X)
    _, sites = lf.cotangents(net, params, cache, g)
    assert sites[0].dparams is None
    assert sites[2].dparams is None
    assert same_bits(sites[1].dparams, net.grads(params, cache, g)[1])


def test_without_dx_the_walk_ends_at_the_first_layer_that_is_trained():
    def refused(params, cache, g):
        raise AssertionError("nobody needs this dx")

    still = lf.tanh().replace(backward=refused)
    net = lf.serial(still, lf.serial(still, lf.dense(3).replace(input_grad=refused)), lf.relu())
    params, _, cache, g = run(net, X)
    dx, sites = lf.cotangents(net, params, cache, g, dx=False)
    assert dx is None
    assert sites[0].g is None
    assert sites[1][0].g is None
    assert same_bits(lf.grads_at(net, params, sites), net.grads(params, cache, g))


# Visitors of one's own


DEEP = lf.serial(
    lf.branch(lf.dense(4), lf.serial(lf.tanh(), lf.checkpointed(lf.dense(4)))),
    lf.in_dtype(lf.serial(lf.dense(5), lf.relu()), torch.float64),
    lf.frozen(lf.repeat(2, lf.dense(5))),
    lf.residual(lf.dense(5), lf.dense(5, bias=False)),
)


def test_a_visitor_that_returns_something_else_works_at_any_depth():
    params, _, cache, g = run(DEEP, X)
    seen = {}

    def squared_norm(layer, path, params, cache, g):
        dx, dparams = layer.backward(params, cache, g)
        seen[path] = g
        return dx, sum((leaf.double() ** 2).sum() for leaf in lf.tree.leaves(dparams))

    dx, norms = lf.walk.back(squared_norm, DEEP, params, cache, g)
    expected_dx, dparams = DEEP.backward(params, cache, g)
    assert same_bits(dx, expected_dx)
    expected = sum((leaf.double() ** 2).sum() for leaf in lf.tree.leaves(dparams[0]))
    assert same_number(sum(lf.tree.leaves(norms[0])), expected)
    assert set(seen) == {
        "0.0", "0.1.0", "0.1.1.0", "0.2", "1.0.0", "1.0.1", "2.0.0", "2.0.1", "3.0", "3.1", "3.2",
    }  # fmt: skip


def test_a_parameter_that_is_used_in_several_places_gives_its_visitor_every_use():
    x = torch.tensor([[1, 2, 3]])
    net = lf.tied(lf.embedding(7, 4), lf.dense(4))
    params, _, cache, g = run(net, x)
    _, records = lf.walk.back(
        lambda layer, path, params, cache, g: layer.backward(params, cache, g),
        net, params, cache, g,
    )  # fmt: skip
    whole = records[0].weight + records[2].weight
    assert same_number(whole, net.grads(params, cache, g)[0].weight)


def test_a_visitors_error_names_the_place():
    net = lf.serial(lf.dense(4), lf.residual(lf.tanh()))
    params, _, cache, g = run(net, X)

    def failing(layer, path, params, cache, g):
        if path == "1.0":
            raise RuntimeError("not here")
        return layer.input_grad(params, cache, g), None

    said = "serial[1] residual[0] tanh() ... not here"
    assert_says(said, lf.walk.back, failing, net, params, cache, g)


# Combinators of one's own


def test_a_part_that_is_called_by_keywords_is_named():
    def there(visit, params, x):
        return visit.parts[0].forward(params=params[0], x=x)

    net = lf.walk.composition("mine", (lf.dense(2),), there, print)
    params = net.init(lf.Key(0), torch.ones(1, 3))
    message = "^mine[0] dense(2): expected x of shape"
    assert_says(message, net.forward, params, torch.ones(1, 4))


# Functions that are replaced


@pytest.mark.parametrize("half", ["grads", "input_grad"])
def test_a_replaced_half_recomposes_backward(half):
    layer = lf.dense(4)
    params, _, cache, g = run(layer, X)
    own = layer.replace(**{half: lambda params, cache, g: "mine"})
    dx, dparams = own.backward(params, cache, g)
    assert (dparams if half == "grads" else dx) == "mine"
    other = layer.backward(params, cache, g)[half == "input_grad"]
    assert same_bits(dx if half == "grads" else dparams, other)


def test_a_composition_with_a_function_of_its_own_is_a_single_layer():
    net = lf.serial(lf.dense(4), lf.relu())
    own = net.replace(backward=lambda params, cache, g: ("dx", "dparams"))
    assert own.parts == ()
    params, _, cache, g = run(net, X)
    _, site = lf.cotangents(own, params, cache, g)
    assert (site.path, site.dparams) == ("", "dparams")
    assert lf.map_layers(lambda layer: lf.tanh(), own).name == "tanh()"


def test_a_composition_keeps_its_own_name_and_init_when_it_is_rebuilt():
    net = lf.serial(lf.dense(4), lf.relu()).replace(name="block()", init=lambda key, x: "made")
    again = lf.map_layers(lambda layer: layer, net)
    assert again.name == "block()"
    assert again.init(None, None) == "made"
    assert [part.name for part in again.parts] == ["dense(4)", "relu()"]


def test_a_layer_that_is_mapped_into_a_transformer_block_keeps_its_init():
    block, x = lf.transformer_encoder_block(2, dim_feedforward=5), normal(2, 3, 4)

    def ones(key, x):
        return lf.layers.dense.Params(torch.ones(5, 4), torch.ones(4))

    def with_ones(layer):
        return layer.replace(init=ones) if layer.name == "dense(features)" else layer

    def found(net):
        params = net.init(lf.Key(0), x)
        return [p for p in lf.tree.leaves(params) if same_number(p, torch.ones_like(p))]

    assert len(found(lf.map_layers(with_ones, block))) == len(found(block)) + 2
