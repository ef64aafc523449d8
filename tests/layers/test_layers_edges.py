"""Every layer of the table, and its fast twins: 16 bits, no examples, draws, memory and `meta`."""

from functools import cache

import pytest
import torch
from helpers import FIRST, VERSIONS, cast, largest, normal, run, same_bits, same_number

import lincoln_fn as lf

# A solver with a tolerance of its own, a cast, a frequency of 16 bits, and a variance of two.
EXACT = ("fixed_point", "in_dtype", "timestep_embedding", "batch_norm(eps=0.1)-2x3")


def like(leaf, seed=3):
    return normal(*leaf.shape, seed=seed).to(leaf.dtype) if leaf.is_floating_point() else leaf


def floats(tree):
    return [leaf for leaf in lf.tree.leaves(tree) if leaf.is_floating_point()]


def is_smooth(row):
    """Tell whether rounding moves no unit within across a kink, as that of a block's relu."""
    is_relus = "transformer" in row.id and "gelu" not in row.id
    return not row.id.startswith(EXACT) and not is_relus and "nonlinearity='relu'" not in row.id


STEP = 1e-6  # of a float64, far from a kink


def moved(seed, tree):
    """Move each number by a step of its own size, up or down."""
    return lf.tree.map(
        lambda leaf: (
            leaf * (1 + STEP * like(leaf, seed).sign()) if leaf.is_floating_point() else leaf
        ),
        tree,
    )


def sizes(leaf, *others):
    """Give how much of a result one rounding of what came in can be."""
    return max(
        1.0, largest(leaf), *(largest(leaf.double() - other.double()) / STEP for other in others)
    )


@pytest.mark.parametrize(("case", "layer"), [*filter(is_smooth, VERSIONS)])
def test_16_bits_are_kept_and_near_float64(case, layer):
    # Numbers that both dtypes have, so that no kink lies between them and float64.
    params, x = (cast(cast(tree, torch.bfloat16)) for tree in (case.params(), case.x))
    y, _ = case.layer.forward(params, x)
    g = cast(cast(lf.tree.map(like, y), torch.bfloat16))
    exact = run(case.layer, params, x, g)
    others = (
        run(case.layer, *map(moved, seeds, (params, x, g))) for seeds in ((0, 1, 2), (3, 4, 5))
    )
    terms = lf.tree.map(sizes, exact, *others, states=True)
    for dtype in (torch.bfloat16, torch.float16):
        given = run(layer, *(cast(tree, dtype) for tree in (params, x, g)))
        assert {leaf.dtype for leaf in floats(given)} <= {dtype}
        # From x to the last gradient; several layers have more.
        results = 20 if case.layer.parts else 8
        assert same_number(given, exact, terms=terms, results=results, dtype=dtype)


# They need an element, or have channels where others have examples.
NEEDING = ("amax", "logsumexp")


@cache
def takes_one(case):
    """Tell whether a layer takes one example of x as it takes several."""
    leaves, params = lf.tree.leaves(case.x), case.params()
    is_batch = len({leaf.shape[:1] for leaf in leaves}) == 1 and leaves[0].ndim > 1
    if not is_batch or "without batch" in case.note or case.layer.name.startswith(NEEDING):
        return False
    try:
        one, whole = (floats(case.layer.forward(params, x)[0]) for x in (first(1, case.x), case.x))
    except lf.LayerError:  # of a norm, one example has no variance
        return False
    sizes = [(y.shape[:1], ys.shape[:1]) for y, ys in zip(one, whole, strict=True)]
    return all(each == ((1,), leaves[0].shape[:1]) for each in sizes)


def first(count, x):
    return lf.tree.map(lambda leaf: leaf[:count], x)


# Which rows these two tests are about is asked within: to compute every case takes seconds.
@pytest.mark.parametrize(("case", "layer"), VERSIONS)
def test_a_batch_may_be_empty_where_one_example_is_taken_as_several(case, layer):
    params, x = case.params(), case.x
    if not takes_one(case):
        return
    y, dx, dparams = run(layer, params, first(0, x), lambda y: lf.tree.map(like, y))
    for given, leaf in zip(floats((y, dx)), floats((layer.predict(params, x), x)), strict=True):
        assert given.shape == (0, *leaf.shape[1:])
    assert not any(leaf.any() for leaf in floats(dparams))


def keys_of(params):
    pairs = zip(*(of(params, states=True) for of in (lf.tree.paths, lf.tree.leaves)), strict=True)
    return [leaf for path, leaf in pairs if path.endswith("key.bits")]


@cache
def draws(case):
    """Tell whether forward draws numbers by a key."""
    layer, params, x = case.layer, case.params(), case.x
    if not keys_of(params) or "p=1.0" in layer.name:
        return False
    is_fractional = layer.name.startswith("fractional") and "window" not in case.note
    return is_fractional or not same_bits(layer.forward(params, x)[0], layer.predict(params, x))


WITH_KEYS = [row for row in VERSIONS if keys_of(row.values[0].params())]


@pytest.mark.parametrize(("case", "layer"), WITH_KEYS)
def test_a_layer_that_draws_draws_anew_after_advance_and_not_before(case, layer):
    params, x = case.params(), case.x
    if not draws(case):
        return
    y, _, dparams = run(layer, params, x, lambda y: lf.tree.map(like, y))
    assert same_bits((layer.forward(params, x)[0], keys_of(dparams)), (y, keys_of(params)))
    seen = []
    for _ in range(4):
        params = layer.advance(params, layer.forward(params, x)[1])
        seen.append(layer.forward(params, x)[0])
    assert same_bits(lf.tree.leaves(params), lf.tree.leaves(case.params()))
    assert not all(same_bits(later, y) for later in seen)


def test_most_layers_take_one_example_and_some_draw():
    assert sum(map(takes_one, FIRST)) > 150
    assert sum(map(draws, FIRST)) > 8


# Any memory order, and `meta`.


LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def strided(leaf):
    return torch.stack((leaf, leaf), -1)[..., 0]


def turned(leaf):
    return leaf.mT.contiguous().mT if leaf.ndim > 1 else leaf


def channels_last(leaf):
    return leaf.contiguous(memory_format=LAST[leaf.ndim]) if leaf.ndim in LAST else turned(leaf)


def repeated(leaf):
    return leaf[..., :1].expand_as(leaf) if leaf.ndim else leaf


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
