"""Combinators of one's own in every walk, whatever their loops do with the cache."""

import pytest
from helpers import MSE, SGD, assert_says, begin, layer_of, normal, same_bits, same_number, twice
from helpers.stateful import X

import lincoln_fn as lf
from lincoln_fn.distributed.data_parallel.mean import post_gradients
from lincoln_fn.walk import gradients

# How a user's loop back may read its cache: the entries, in their order.
READS = {
    "by index": lambda cache: [cache[i] for i in range(len(cache))],
    "twice": lambda cache: [cache[0], *cache][1:],
    "as a tuple": lambda cache: list(tuple.__getitem__(cache, slice(None))),
    "by tree": lambda cache: [*lf.tree.map(lambda leaf: leaf, cache, states=True)],
}


@lf.record
class Noted:
    """A record around the cache of a part."""

    inside: object


def own(read, *parts, note=lambda cache: cache, noted=lambda entry: entry, **options):
    """Make a user's `serial`, which reads its cache in a way of its own."""

    def there(visit, params, x):
        records = []
        for i, entry in enumerate(params):
            x, record = visit(i, entry, x)
            records.append(note(record))
        return x, tuple(records)

    def back(visit, params, cache, g):
        entries = read(cache)
        records = [None] * len(parts)
        for i in reversed(range(len(parts))):
            visit.advance(i, params[i], noted(entries[i]))
            g, records[i] = visit(i, params[i], noted(entries[i]), g)
        return g, tuple(records)

    def advance(visit, params, cache):
        pairs = enumerate(zip(params, cache, strict=True))
        return tuple(visit.advance(i, entry, noted(record)) for i, (entry, record) in pairs)

    return lf.walk.composition("own", parts, there, back, advance=advance, **options)


def nested(read, **options):
    """Make a network in which a user's combinator is inside the library's, and they inside it."""
    block = lf.serial(lf.dense(5), lf.residual(lf.tanh()), lf.dropout(0.4))
    inner = own(read, lf.dense(4), block, lf.frozen(block), **options)
    middle = lf.serial(lf.checkpointed(inner), lf.repeat(2, own(read, inner, **options)))
    beside = lf.serial(twice(), lf.shared(inner), lf.add())
    return own(read, middle, lf.branch(lf.dense(5), beside), **options)


def check_every_walk(net):
    """Hold every walk to the same bits."""
    params = net.init(lf.Key(1), X)
    y, cache = net.forward(params, X)
    g = normal(*y.shape, seed=5)
    expected = net.grads(params, cache, g)
    assert same_bits(net.backward(params, cache, g)[1], expected)
    assert same_bits(gradients(net, params, cache, g), expected)
    posted = {}
    post_gradients(net, params, net.forward(params, X)[1], g, posted.__setitem__)
    assert same_bits([posted[i] for i in range(len(posted))], lf.tree.leaves(expected))
    assert same_bits(lf.grads_at(net, params, lf.cotangents(net, params, cache, g)[1]), expected)
    step, state = begin(net, X, MSE, key=1, fast=False)
    moved, value = step(state, (X, y + 1))
    assert value.isfinite()
    assert not same_bits(moved.params, state.params)


@pytest.mark.parametrize("name", READS)
def test_a_combinator_of_ones_own_works_in_every_walk_whatever_it_reads(name):
    check_every_walk(nested(READS[name]))


def test_former_declarations_are_taken():
    net = nested(READS["by index"], reads_once=True, freezes=True)
    check_every_walk(lf.map_layers(lambda layer: layer, net))


def test_a_combinator_of_ones_own_gets_everything_from_its_two_loops():
    net = own(READS["by index"], lf.dense(4), lf.serial(lf.dropout(0.3), lf.frozen(lf.dense(3))))
    params = net.init(lf.Key(0), X)
    lf.testing.check_layer(net, params, X)
    assert not same_bits(net.advance(params, net.forward(params, X)[1]), params)
    assert net.name == "own(dense(4), serial(dropout(p=0.3), frozen(dense(3))))"
    rows = [row.path for row in lf.summary(net, X).layers]
    assert rows == ["0", "1", "1.0", "1.1", "1.1.0"]
    tanhs = lf.map_layers(lambda layer: lf.tanh(), net)
    assert tanhs.name == "own(tanh(), serial(tanh(), frozen(tanh())))"


def test_a_combinator_of_ones_own_may_wrap_the_cache_of_a_part():
    check_every_walk(nested(READS["by index"], note=Noted, noted=lambda entry: entry.inside))


def test_the_checker_walks_with_recorded_cotangents():
    loops = lf.serial().composition
    net = lf.walk.composition(
        "mine", (lf.dense(2),), loops.there, loops.back,
        gather=lambda visit, params, records: records,  # gradients in `backward` alone
    )  # fmt: skip
    params = net.init(lf.Key(0), X)
    with pytest.raises(lf.testing.GradientError, match=r"lf\.grads_at differs .* by visit\(i"):
        lf.testing.check_layer(net, params, X)


def test_a_list_of_another_length_is_refused():
    net = lf.serial(lf.relu(), lf.tanh())
    assert_says("expected the cache with 2 entries, got", net.backward, ((), ()), [X], X)
    assert_says("expected params with 2 entries, got", net.backward, [(), ()], (X, X), X)


def test_a_step_goes_back_through_a_composition_once():
    runs = []

    counted = layer_of(lambda x: x, back=lambda g: runs.append(g) or g)
    net = lf.serial(lf.dense(4), lf.serial(lf.dense(3), counted, lf.dense(3)), lf.dense(2))
    target = normal(6, 2, seed=1)
    step, state = begin(net, X, MSE)
    moved, _ = step(state, (X, target))
    assert len(runs) == 1
    y, cache = net.forward(state.params, X)
    dparams = net.grads(state.params, cache, MSE.backward(MSE.forward(y, target)[1]))
    expected, _ = SGD.update(state.params, dparams, ())
    assert same_number(moved.params, expected)
