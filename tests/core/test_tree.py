"""Trees: maps, leaves, paths and structure, with states and without."""

from collections import deque

import numpy as np
import pytest
import torch
from helpers import assert_says, first_run, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.walk import is_trained

NET = lf.serial(lf.dense(4), lf.tanh(), lf.serial(lf.dense(2)))
PARAMS = NET.init(lf.Key(0), torch.zeros(1, 3))
KEYED = (PARAMS[0], {"key": lf.Key(1), "b": [torch.ones(2), None]})


def test_paths_name_the_leaves_in_their_order():
    assert lf.tree.paths(PARAMS) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    shapes = [tuple(leaf.shape) for leaf in lf.tree.leaves(PARAMS)]
    assert (shapes, lf.tree.paths(torch.ones(2))) == ([(3, 4), (4,), (4, 2), (2,)], [""])
    assert lf.tree.paths(()) == lf.tree.paths(None) == []


def test_states_are_seen_on_demand():
    assert lf.tree.paths(KEYED) == ["0.weight", "0.bias", "1.b.0"]
    assert lf.tree.paths(KEYED, states=True) == ["0.weight", "0.bias", "1.b.0", "1.key.bits"]
    assert len(lf.tree.leaves(KEYED)) == 3
    assert lf.tree.leaves(KEYED, states=True)[3] is KEYED[1]["key"].bits


def test_children_are_the_trees_below():
    first, nothing, inner = PARAMS
    assert list(map(id, lf.tree.children(PARAMS))) == [id(first), id(nothing), id(inner)]
    assert list(map(id, lf.tree.children(first))) == [id(first.weight), id(first.bias)]
    assert list(lf.tree.children({"b": 1, "a": [2, 3]})) == [[2, 3], 1]
    assert lf.tree.children([2, None]) == [2, None]
    assert lf.tree.children(KEYED[1]["key"]) == (KEYED[1]["key"].bits,)
    assert not any(map(lf.tree.children, ((), None, torch.ones(2), 3)))


def test_children_of_what_optree_alone_knows():
    a, b = torch.ones(2), torch.zeros(3)
    assert list(map(id, lf.tree.children(deque([a, b])))) == [id(a), id(b)]
    layer = lf.Layer(
        "pair()",
        lambda params, x: (x + params[0] * params[1], (params, x)),
        lambda params, cache, g: (g, deque([(g * p).sum() for p in reversed(params)])),
        lambda key, x: deque([torch.tensor(2.0), torch.tensor(3.0)]),
    )
    net = lf.serial(layer, lf.tanh())
    x = torch.zeros(4)
    params, y, cache = first_run(net, x)
    assert [leaf.item() for leaf in net.grads(params, cache, y * 0 + 1)[0]] != [2.0, 3.0]


@pytest.mark.parametrize(
    ("params", "trained"),
    [
        ((), False),
        (None, False),
        ({}, False),
        (lf.Key(0), False),
        (((), [None, {"key": lf.Key(0)}]), False),
        (torch.ones(1), True),
        (0.5, True),  # of a layer of one's own, that knows what to do with it
        ({"a": (), "b": [np.ones(2)]}, True),
        (PARAMS[0], True),
    ],
)
def test_whatever_has_a_leaf_outside_of_a_state_is_trained(params, trained):
    assert is_trained(params) is trained


def test_children_leave_out_what_is_structure():
    @lf.record
    class Cache:
        x: torch.Tensor
        dim: int = lf.static()

    x = torch.ones(2)
    assert lf.tree.children(Cache(x, 1)) == (x,)


def test_map_makes_new_leaves_and_hands_states_through():
    mapped = lf.tree.map(lambda leaf: leaf + 1, KEYED)
    assert mapped[1]["key"] is KEYED[1]["key"]
    assert same_number(mapped[1]["b"][0], torch.full((2,), 2.0))
    assert mapped[1]["b"][1] is None
    assert same_bits(mapped[0].weight, KEYED[0].weight + 1)
    assert same_number(KEYED[1]["b"][0], torch.ones(2))
    everywhere = lf.tree.map(lambda leaf: leaf + 1, KEYED, states=True)
    assert same_bits(everywhere[1]["key"].bits, KEYED[1]["key"].bits + 1)


def test_map_walks_trees_together():
    doubled = lf.tree.map(lambda leaf: 2 * leaf, PARAMS)
    differences = lf.tree.map(torch.sub, doubled, PARAMS)
    assert same_bits(differences, PARAMS)
    assert_says("ValueError: mismatch", lf.tree.map, torch.sub, PARAMS, PARAMS[:2])


@pytest.mark.parametrize(("a", "b", "same"), [
    ((1, (2, None)), (3, (4, None)), True), ((1, None), (1, 2), False), ((1, 2), [1, 2], False),
    ((1, 2), (1, 2, 3), False), ({"a": 1}, {"b": 1}, False),
    (PARAMS, lf.tree.map(torch.neg, PARAMS), True), (PARAMS, PARAMS[:2], False),
    (lf.Key(0), lf.Key(1), True),
])  # fmt: skip
def test_structure_is_where_the_leaves_are(a, b, same):
    assert lf.tree.same_structure(a, b) is same
    assert lf.tree.same_structure(a, b, states=True) is same


@pytest.mark.parametrize("states", [False, True])
def test_a_tree_is_made_of_its_leaves_again(states):
    doubled = [2 * leaf for leaf in lf.tree.leaves(KEYED, states=states)]
    made = lf.tree.unflatten(KEYED, doubled, states=states)
    assert same_bits(made, lf.tree.map(lambda leaf: 2 * leaf, KEYED, states=states))
    assert_says("ValueError: leaves", lf.tree.unflatten, KEYED, doubled[1:], states=states)
