"""What a layer is given is checked by the types in its functions, in whatever file they stand."""

from __future__ import annotations

import pickle

import pytest
import torch
from helpers import assert_refused, first_run
from jaxtyping import Float
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn.core import Like, bare, constructor, record, static
from lincoln_fn.core.signatures import unbound


@record
class Params:
    """One factor."""

    factor: Tensor


@record
class Cache:
    """The input, and what y is like."""

    x: Float[Tensor, " n"]
    y: lf.core.Like = static()


def init(key: lf.Key, x: Float[Tensor, " n"]) -> Params:
    return Params(x.new_ones(()))


def forward(
    params: Params, x: Float[Tensor, " n"], *, layer: str
) -> tuple[Float[Tensor, "2 n"], Cache]:
    y = torch.stack([params.factor * x, x])
    return y, Cache(x, Like.of(y))


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "2 n"]
) -> tuple[Float[Tensor, " n"], Params]:
    return params.factor * g[0] + g[1], Params((g[0] * cache.x).sum())


@constructor
def scaled_and_plain(layer: str = "") -> lf.Layer:
    return bare(lf.Layer, forward, backward, init)


X = torch.zeros(3)
LAYER = scaled_and_plain()
PARAMS, Y, CACHE = first_run(LAYER, X)


@pytest.mark.parametrize(("function", "arguments", "problem"), [
    ("init", (0, X), "key to be a Key, got 0; write lf.Key(0)"),
    ("init", (lf.Key(0), 3), "x to be a tensor, got int; convert it by torch.tensor"),
    ("forward", ((), X), "params test_signatures.Params, got ()"),
    ("predict", (PARAMS, X.long()),
        "x of a floating dtype, got torch.int64; convert it first, say by x.float()"),
    ("backward", ((), CACHE, Y), "params test_signatures.Params, got ()"),
    ("grads", (PARAMS, X, Y), "the cache of its own forward, got float32[3]"),
    ("input_grad", (PARAMS, CACHE, X), "g of shape (2, 3), got (3,)"),
    ("backward", (PARAMS, CACHE, None), "g to be a tensor, got NoneType"),
    ("backward", (PARAMS, CACHE, Y.double()), "g of dtype torch.float32, got torch.float64"),
    ("grads", (PARAMS, CACHE, Y.to("meta")), "g on cpu, got meta"),
])  # fmt: skip
def test_what_is_not_of_its_type_is_refused(function, arguments, problem):
    assert_refused(f"scaled_and_plain: expected {problem}", getattr(LAYER, function), *arguments)


def test_a_checked_function_is_that_of_its_file_with_the_same_arguments():
    layer = scaled_and_plain("another")  # an argument may have any name
    assert layer.forward.keywords == {"layer": "another"}
    assert torch.equal(layer.forward(params=PARAMS, x=X)[0], Y)
    for copied in (layer, pickle.loads(pickle.dumps(layer))):
        assert unbound(copied.forward) is forward
        assert unbound(copied.init) is init
    assert layer.advance is lf.relu().advance  # nothing to check
