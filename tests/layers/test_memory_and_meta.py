"""Every layer of the table, and its faster functions, on any memory order and on `meta`."""

import pytest
import torch
from helpers import VERSIONS, largest, normal, run, same_number

import lincoln_fn as lf

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def strided(leaf):
    return torch.stack((leaf, leaf), -1)[..., 0]


def turned(leaf):
    return leaf.mT.contiguous().mT if leaf.ndim > 1 else leaf


def channels_last(leaf):
    return leaf.contiguous(memory_format=LAST[leaf.ndim]) if leaf.ndim in LAST else turned(leaf)


def repeated(leaf):
    return leaf[..., :1].expand_as(leaf) if leaf.ndim else leaf


def like(leaf):
    return normal(*leaf.shape, seed=3) if leaf.is_floating_point() else leaf


def check_on_meta(case, layer, trained):
    on_meta = lf.tree.map(lambda leaf: leaf.to("meta"), (case.params(), case.x), states=True)
    y, cache = layer.forward(*on_meta)
    pairs = (layer.predict(*on_meta), layer.predict(case.params(), case.x)), (y, trained)
    for on_meta_y, expected in pairs:
        assert lf.tree.same_structure(on_meta_y, expected)
        for given, of in zip(lf.tree.leaves(on_meta_y), lf.tree.leaves(expected), strict=True):
            assert given.is_meta
            assert given.shape == of.shape
    g = lf.tree.map(lambda leaf: like(leaf).to("meta"), trained)
    assert all(leaf.is_meta for leaf in lf.tree.leaves(layer.backward(on_meta[0], cache, g)))


@pytest.mark.parametrize(("case", "layer"), VERSIONS)
def test_memory_order_does_not_matter_and_shapes_are_found_on_meta(case, layer):
    params, x = case.params(), case.x
    trained = layer.forward(params, x)[0]
    check_on_meta(case, layer, trained)
    g = lf.tree.map(like, trained)
    expected = run(layer, params, x, g)
    size = lf.tree.map(lambda leaf: max(1.0, largest(leaf)), expected, states=True)
    for of_x, of_g in ((strided, turned), (turned, strided), (channels_last, channels_last)):
        given = run(layer, params, lf.tree.map(of_x, x), lf.tree.map(of_g, g))
        assert same_number(given, expected, terms=size)
    g = lf.tree.map(repeated, g)
    given, expected = (run(layer, params, x, each) for each in (g, lf.tree.map(torch.clone, g)))
    assert same_number(given, expected, terms=size)
