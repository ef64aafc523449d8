"""Compiled predictions: the same as eager for every kind of layer, and the same errors."""

import sys

import pytest
import torch
from helpers import assert_says, drawn, error_of, same_number
from helpers.compiling import CASES, LETTERS, TOKENS, compiles_in_full, since_2_13
from torch._inductor.utils import fresh_cache

import lincoln_fn as lf
from lincoln_fn.compiler.inductor import disk_cache

NET = lf.serial(lf.dense(4), lf.sigmoid(), lf.dense(3))
X = drawn(0, 5, 8)
PARAMS = NET.init(lf.Key(0), X)
NOTE_ON = disk_cache.note_on


@compiles_in_full
@pytest.mark.parametrize("name", [name for name in CASES if name != "momentum"])
def test_predictions_are_the_eager_ones(name, request):
    net, _, _, (x, _) = CASES[name]
    params, fast = net.init(lf.Key(3), x), lf.compile(net)
    few = x[:1] if name in ("lstm", "attention") else x
    if few is not x:  # of two graphs, whose operations test_compile.py compiles in a step
        request.getfixturevalue("uncompiled")
    for given in (x, few, x):
        assert same_number(fast.predict(params, given), net.predict(params, given))
    assert len(fast.predict.graphs.kinds) == (1 if few is x else 2)


def test_trees_go_in_and_come_out(uncompiled):
    net = lf.parallel(lf.dense(4), lf.relu())
    x = drawn(0, 5, 8), drawn(1, 5, 2)
    params = net.init(lf.Key(0), x)
    assert same_number(lf.compile(net).predict(params, x), net.predict(params, x))


def test_nothing_else_of_a_layer_changes():
    fast = lf.compile(NET)
    assert lf.compile(fast) is fast
    assert repr(fast) == repr(NET)
    for name in ("forward", "backward", "init", "input_grad", "grads", "advance", "parts"):
        assert getattr(fast, name) is getattr(NET, name)


BAD = {
    "another number of features": X[:, :4],
    "another dtype": X.double(),
    "no tensor": X.numpy(),
    "nothing": None,
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_the_eager_layers(name):
    expected = error_of(NET.predict, PARAMS, BAD[name])
    assert error_of(lf.compile(NET).predict, PARAMS, BAD[name]) == expected


@pytest.mark.full(but=("[7]",))
@pytest.mark.parametrize("wrong", [-1, 7, 10**9])
def test_an_index_out_of_range_is_refused(wrong, uncompiled):
    net = CASES["attention"][0]
    params, fast, tokens = net.init(lf.Key(0), TOKENS), lf.compile(net), TOKENS.clone()
    fast.predict(params, LETTERS)
    tokens[1, 2] = wrong
    assert_says(f"expected indices from 0 to 6, got {wrong}$", fast.predict, params, tokens)


def test_a_layer_that_looks_at_numbers_is_named():
    def predict(params, x):
        return x if x.sum() > 0 else -x

    looks = lf.identity().replace(name="looks()", predict=predict)
    fast = lf.compile(lf.serial(lf.dense(3), looks))
    params = lf.serial(lf.dense(3), lf.identity()).init(lf.Key(0), X)
    said = "looks(): cannot be traced ... numpy, item() or tolist(); or use the layer as it is$"
    assert_says(said, fast.predict, params, X)


def test_a_prediction_that_is_no_tensor_is_refused():
    count = lf.identity().replace(name="count()", predict=lambda params, x: (x, 3))
    message = "expected the prediction to be tensors alone, got 3"
    assert_says(message, lf.compile(count).predict, (), X)


def test_autograd_and_torch_func_see_the_layer(monkeypatch):
    module = sys.modules["lincoln_fn.compiler.compile"]
    monkeypatch.setattr(module, "graph_of", lambda *given, **options: 1 / 0)
    fast, x = lf.compile(NET), X.clone().requires_grad_()
    fast.predict(PARAMS, x).sum().backward()
    ours, x.grad = x.grad, None
    NET.predict(PARAMS, x).sum().backward()
    assert same_number(ours, x.grad)
    mapped = torch.vmap(lambda row: fast.predict(PARAMS, row[None])[0])(X)
    assert same_number(mapped, NET.predict(PARAMS, X))


def test_a_compiled_layer_is_a_part_of_another(uncompiled):
    net = lf.serial(lf.compile(NET), lf.softmax())
    params = net.init(lf.Key(0), X)
    assert same_number(lf.compile(net).predict(params, X), net.predict(params, X))
    # Of numbers, and not of what only has a shape.
    assert len(net.parts[0].predict.graphs.kinds) == 1


@compiles_in_full
@since_2_13
def test_a_prediction_is_found_on_disk(monkeypatch):
    with fresh_cache():
        monkeypatch.setattr(disk_cache, "note_on", NOTE_ON)
        expected = lf.compile(NET).predict(PARAMS, X)
        monkeypatch.setattr(
            "lincoln_fn.compiler.graphs.by_inductor", lambda *given, **options: 1 / 0
        )
        assert same_number(lf.compile(NET).predict(PARAMS, X), expected)
        with pytest.warns(UserWarning, match="without being compiled.*ZeroDivisionError"):
            lf.compile(NET).predict(PARAMS, X[:2])
