"""Compositions free a cache that nobody else holds part by part, and leave any other alone."""

import weakref

import pytest
import torch
from cases.case import normal
from compare import same_bits, same_number
from test_combinators import STATEFUL, X

import lincoln_fn as lf
from lincoln_fn.walk import gradients
from lincoln_fn.walk.parts import owned


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
UP = [[True, True, True], [False, True, True], [False, False, True]]
# Of three watched layers, how they are held, and which caches are alive as each is used.
HOLDERS = {
    "serial": (lf.serial, DOWN),
    "repeat": (lambda a, b, c: lf.repeat(3, a), DOWN),
    "serial in serial": (lambda a, b, c: lf.serial(a, lf.serial(b, lf.tanh()), c), DOWN),
    "residual": (lambda a, b, c: lf.residual(lf.serial(a, b, c)), DOWN),
    "parallel": (lambda a, b, c: lf.serial(twice(), lf.parallel(a, lf.serial(b, c)), lf.add()), [
        [True, True, True], [False, True, True], [False, True, False]
    ]),
    "branch": (lambda a, b, c: lf.branch(a, b, c), UP),
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
    cache = owned(cache)
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
    ours = run(params, owned(cache), g)
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
            gradients(net, params, owned(cache), y)


def test_an_entry_that_is_taken_twice_is_refused_by_name():
    def back(visit, params, cache, g):
        assert cache[0] is not None
        return visit(0, params[0], cache[0], g)

    net = lf.walk.composition("mine", (lf.dense(2),), lf.serial().composition.there, back)
    params = net.init(lf.Key(0), X)
    y, cache = net.forward(params, X)
    with pytest.raises(LookupError, match=r"entry 0 .* was taken before; take each entry once"):
        gradients(net, params, cache, y)


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
