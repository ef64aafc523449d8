"""Params are split into those of the parts and joined again, in each composition's own way."""

import pytest
import torch
from helpers import assert_says, normal, same_bits
from helpers.stateful import STATEFUL

import lincoln_fn as lf

X = normal(2, 5, 4)
NETS = {
    **STATEFUL,
    "attention": (lf.multi_head_attention(2, dropout=0.1), X),
    "block": (lf.transformer_encoder_block(2, 6), X),
    "decoder": (lf.transformer_decoder_block(2, 6), (X, X)),
    "tied": (lf.tied(lf.frozen(lf.embedding(9, 4)), lf.dense(4)), torch.zeros(2, 3).long()),
    "feedback": (lf.rules.feedback_alignment(lf.serial(lf.dense(3), lf.dense(2))), X),
    "straight through": (lf.rules.straight_through(lf.serial(lf.prelu())), X),
    "masked": (lf.masked(lf.dense(3), lf.rnn(2)), (X, torch.ones(2, 5, dtype=torch.bool))),
    "grouped queries": (lf.grouped_query_attention(2, 1, qk_norm=lf.rms_norm(), dropout=0.1), X),
    "gated": (lf.swiglu(3, bias=True), X),
    "reversible": (lf.reversible((lf.dense(2), lf.dense(2))), X),
}


@pytest.mark.parametrize("name", NETS)
def test_every_layer_gets_its_own_params(name):
    net, x = NETS[name]
    params = net.init(lf.Key(0), x)
    seen = []

    def visit(layer, path, own):
        seen.append(own)
        # A layer of which the params are split wrongly does not take them.
        return layer, lf.tree.map(lambda leaf: leaf * 2, own, states=True)

    doubled, twice = lf.map_params(visit, net, params)
    assert repr(doubled) == repr(net)
    assert same_bits(twice, lf.tree.map(lambda leaf: leaf * 2, params, states=True))
    leaves = {id(leaf) for leaf in lf.tree.leaves(params, states=True)}
    assert {id(leaf) for own in seen for leaf in lf.tree.leaves(own, states=True)} == leaves


def test_paths_have_the_names_of_parts_and_each_call_a_key_of_its_own():
    net = lf.serial(lf.multi_head_attention(1), lf.dense(2))
    found = {}

    def visit(layer, path, params, key):
        found[path] = key.bits.item()
        return layer, params

    lf.map_params(visit, net, net.init(lf.Key(0), X), lf.Key(1))
    assert [*found] == ["0.query", "0.key", "0.value", "0.heads", "0.output", "1"]
    assert len(set(found.values())) == 6


def test_params_without_a_place_are_refused():
    net = lf.residual(lf.dense(4))
    visit, params = lambda layer, path, p: (layer, p or (1,)), net.init(lf.Key(0), X)
    assert_says("residual[2]: expected params () for add()", lf.map_params, visit, net, params)
    given = "both", (lf.tanh(),) * 2, print, print
    assert_says("both: expected 2 names", lf.walk.composition, *given, names=("first",))


@lf.record
class Pair:
    second: object
    first: object


def own(second_first):
    """Make a combinator of one's own, whose params are a record."""

    def there(visit, params, x):
        h, first = visit(0, params.first, x)
        y, second = visit(1, params.second, h)
        return y, (first, second)

    def back(visit, params, cache, g):
        g, second = visit(1, params.second, cache[1], g)
        g, first = visit(0, params.first, cache[0], g)
        return g, (first, second)

    def init(parts, key, x):
        first = parts[0].init(key, x)
        return Pair(parts[1].init(key, parts[0].predict(first, x)), first)

    return lf.walk.composition(
        "own", second_first, there, back, init=init, names=("first", "second"),
        gather=lambda visit, p, r: Pair(visit(1, p.second, r[1]), visit(0, p.first, r[0])),
        arrange=lf.walk.fields(Pair, "first", "second"),
    )  # fmt: skip


def test_a_combinator_of_ones_own_converts_by_torchs_names():
    net = lf.serial(own((lf.dense(3), lf.dense(2))), lf.tanh())
    params = net.init(lf.Key(0), X)
    named = lf.interop.to_state_dict(net, params)
    assert {name: tuple(t.shape) for name, t in named.items()} == {
        "0.0.weight": (3, 4), "0.0.bias": (3,), "0.1.weight": (2, 3), "0.1.bias": (2,),
    }  # fmt: skip
    assert same_bits(lf.interop.from_state_dict(net, named), params)
    lf.testing.check_layer(net, params, X)


def test_a_record_of_params_needs_an_arrangement():
    net = own((lf.dense(3), lf.dense(2))).rebuild((lf.dense(3), lf.dense(2)))
    made = net.composition.rebuild(net.parts, arrange=lf.walk.ENTRIES)
    with pytest.raises(lf.LayerError, match="own: expected params with an entry for each part"):
        lf.map_params(lambda layer, path, p: (layer, p), made, net.init(lf.Key(0), X))
