"""Compositions free a cache that nobody else holds part by part, and leave any other alone."""

import weakref

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from helpers.stateful import STATEFUL, X

import lincoln_fn as lf
from lincoln_fn.distributed.data_parallel.posting import post_gradients
from lincoln_fn.walk import gradients, one_part
from lincoln_fn.walk.parts import take_ownership


def watched(made, alive):
    """Make a layer whose caches are counted: which are alive when its backward runs."""

    def forward(params, x):
        cache = x + 0
        made.append(weakref.ref(cache))
        return x * 1, cache

    def backward(params, cache, g):
        alive.append([ref() is not None for ref in made])
        return g, ()

    return lf.Layer("watched()", forward, backward)


def twice():
    """Make a layer that gives x two times, as a tuple."""
    return lf.Layer(
        "twice()", lambda params, x: ((x, x), None), lambda params, cache, g: (g[0] + g[1], ())
    )


def first_alone(*parts):
    return lf.serial(lf.select(0), *parts)


DOWN = [[True, True, True], [True, True, False], [True, False, False]]
# Of three watched layers, how they are held, and which caches are alive as each is used.
HOLDERS = {
    "serial": (lf.serial, DOWN),
    "repeat": (lambda a, b, c: lf.repeat(3, a), DOWN),
    "serial in serial": (lambda a, b, c: lf.serial(a, lf.serial(b, lf.tanh()), c), DOWN),
    "residual": (lambda a, b, c: lf.residual(lf.serial(a, b, c)), DOWN),
    "parallel": (
        lambda a, b, c: lf.serial(twice(), lf.parallel(a, lf.serial(b, c)), lf.add()), DOWN
    ),
    "branch": (lambda a, b, c: lf.branch(a, b, c), DOWN),
    "with context": (
        lambda a, b, c: lf.serial(twice(), lf.with_context(first_alone(a, b), first_alone(c))), DOWN
    ),
    "frozen": (lambda a, b, c: lf.frozen(lf.serial(a, b, c)), DOWN),
}  # fmt: skip


@pytest.mark.parametrize("way", ["backward", "input_grad"])
@pytest.mark.parametrize("name", HOLDERS)
def test_an_owned_cache_is_freed_part_by_part(name, way):
    hold, expected = HOLDERS[name]
    made, alive = [], []
    net = hold(*(watched(made, alive) for _ in range(3)))
    params = net.init(lf.Key(0), X)
    made.clear()
    y, cache = net.forward(params, X)
    cache = take_ownership(cache)
    getattr(net, way)(params, cache, torch.ones_like(y))
    assert alive == expected
    assert not any(ref() for ref in made)


@pytest.mark.parametrize("way", ["backward", "input_grad", "grads"])
@pytest.mark.parametrize("name", STATEFUL)
def test_the_gradients_are_those_of_a_cache_that_is_kept(name, way):
    net, x = STATEFUL[name]
    net = lf.serial(net, lf.identity())
    params = net.init(lf.Key(1), x)
    y, cache = net.forward(params, x)
    g = lf.tree.map(lambda leaf: normal(*leaf.shape, seed=5), y)
    run = getattr(net, way)
    expected = run(params, cache, g)
    again = run(params, cache, g)
    ours = run(params, take_ownership(cache), g)
    for trees in (again, ours):
        assert same_bits(trees, expected)


def test_checkpointed_frees_what_it_has_made_again():
    made, alive = [], []
    net = lf.checkpointed(lf.serial(*(watched(made, alive) for _ in range(3))))
    params = net.init(lf.Key(0), X)
    y, cache = net.forward(params, X)
    made.clear()
    net.backward(params, cache, y)
    assert alive == DOWN


def test_a_layer_of_one_s_own_gets_its_own_tuple():
    def backward(params, cache, g):
        assert type(cache) is tuple
        return g, ()

    own = lf.Layer("own()", lambda params, x: (x, (x, x)), backward)
    for layer in (own, lf.serial(lf.relu()).replace(forward=own.forward, backward=backward)):
        for net in (layer, lf.serial(layer, lf.relu()), lf.frozen(layer), lf.shared(layer)):
            x = (X, X) if net.name.startswith("shared") else X
            params = net.init(lf.Key(0), x)
            y, cache = net.forward(params, x)
            gradients(net, params, take_ownership(cache), y)


# How a user's loop back may read its cache: the entries, in their order.
READS = {
    "by index": lambda cache: [cache[i] for i in range(len(cache))],
    "by negative index": lambda cache: [cache[i] for i in range(-len(cache), 0)],
    "by slices": lambda cache: [*cache[:1], *cache[1:]],
    "by iteration": lambda cache: [entry for entry in cache],  # noqa: C416  # as a user writes it
    "by unpacking": lambda cache: (lambda first, *others: [first, *others])(*cache),
    "reversed": lambda cache: [*reversed(cache)][::-1],
}
# What takes a tuple, or reads an entry again.
READS_OF_A_TUPLE = {
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
    return own(
        read,
        middle,
        lf.branch(lf.dense(5), lf.serial(twice(), lf.shared(inner), lf.add())),
        **options,
    )


def check_every_walk(net):
    """Hold every walk that owns its caches, or records, to the same bits."""
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
    loss, optimizer = lf.losses.mse(), lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(1), X)
    moved, value = lf.make_step(net, loss, optimizer, fast=False)(state, (X, y + 1))
    assert value.isfinite()
    assert not same_bits(moved.params, state.params)


@pytest.mark.parametrize("name", [*READS, *READS_OF_A_TUPLE])
def test_a_combinator_of_ones_own_works_in_every_walk_whatever_it_reads(name):
    check_every_walk(nested({**READS, **READS_OF_A_TUPLE}[name]))


@pytest.mark.parametrize("name", READS)
def test_one_that_declares_that_it_reads_once_works_however_it_does_so(name):
    net = nested(READS[name], reads_once=True)
    check_every_walk(lf.map_layers(lambda layer: layer, net))


def test_a_combinator_of_ones_own_may_wrap_the_cache_of_a_part():
    check_every_walk(nested(READS["by index"], note=Noted, noted=lambda entry: entry.inside))


@pytest.mark.parametrize(("options", "freed"), [({}, False), ({"reads_once": True}, True)])
def test_a_combinator_of_ones_own_frees_its_cache_where_it_declares_that_it_reads_once(
    options, freed
):
    made, alive = [], []

    def back(visit, params, cache, g):
        records = [None] * 3
        for i in reversed(range(3)):
            g, records[i] = visit(i, params[i], cache[i], g)
        return g, tuple(records)

    parts = tuple(watched(made, alive) for _ in range(3))
    net = lf.walk.composition("mine", parts, lf.serial().composition.there, back, **options)
    net = lf.map_layers(lambda layer: layer, net)  # makes it again, with the declaration
    y, cache = net.forward(((), (), ()), X)
    cache = take_ownership(cache)
    net.backward(((), (), ()), cache, y)
    assert alive == (DOWN if freed else [[True] * 3] * 3)


def twice_read(visit, params, cache, g):
    assert cache[0] is not None
    return visit(0, params, cache[0], g)


def twice_visited(visit, params, cache, g):
    entry = cache[0]
    visit(0, params, entry, g)
    return visit(0, params, entry, g)


def advanced_behind(visit, params, cache, g):
    entry = cache[0]
    dx, record = visit(0, params, entry, g)
    visit.advance(0, params, entry)
    return dx, record


@pytest.mark.parametrize(
    ("back", "message"),
    [
        (twice_read, r"mine: reads entry 0 of its cache a second time, .*; leave reads_once out"),
        (
            twice_visited,
            r"mine\[0\] serial\(dense\(2\), dropout\(.*\)\): its cache was read before",
        ),
        (
            advanced_behind,
            r"mine\[0\] .*: its cache was read before.*True; leave reads_once out there",
        ),
    ],
)
def test_a_false_declaration_is_refused_by_name_in_a_step_and_by_the_checker(back, message):
    def there(visit, params, x):
        y, record = visit(0, params, x)
        return y, (record,)

    def made(**options):
        return lf.walk.composition(
            "mine", (lf.serial(lf.dense(2), lf.dropout(0.5)),), there, back,
            gather=one_part.gather, init=one_part.init,
            advance=lambda visit, params, cache: visit.advance(0, params, cache[0]), **options,
        )  # fmt: skip

    net, loss, optimizer = made(reads_once=True), lf.losses.mse(), lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    with pytest.raises(lf.LayerError, match=message):
        lf.make_step(net, loss, optimizer)(state, (X, X[:, :2]))
    with pytest.raises(
        lf.testing.GradientError, match=f"mine.*: the walk of a step raised .*{message}"
    ):
        lf.testing.check_layer(net, state.params, X)
    lf.make_step(made(), loss, optimizer)(state, (X, X[:, :2]))
    lf.testing.check_layer(made(), state.params, X)


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
    with pytest.raises(lf.LayerError, match="expected the cache with 2 entries, got"):
        net.backward(((), ()), [X], X)
    with pytest.raises(lf.LayerError, match="expected params with 2 entries, got"):
        net.backward([(), ()], (X, X), X)


def test_a_step_goes_back_through_a_composition_once():
    runs = []

    def backward(params, cache, g):
        runs.append(cache)
        return g, ()

    counted = lf.Layer("counted()", lambda params, x: (x, None), backward)
    net = lf.serial(lf.dense(4), lf.serial(lf.dense(3), counted, lf.dense(3)), lf.dense(2))
    loss, optimizer = lf.losses.mse(), lf.optim.sgd(0.1)
    target = normal(6, 2, seed=1)
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    moved, _ = lf.make_step(net, loss, optimizer)(state, (X, target))
    assert len(runs) == 1
    y, cache = net.forward(state.params, X)
    dparams = net.grads(state.params, cache, loss.backward(loss.forward(y, target)[1]))
    expected, _ = optimizer.update(state.params, dparams, ())
    assert same_number(moved.params, expected)
