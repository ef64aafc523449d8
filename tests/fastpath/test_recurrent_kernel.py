"""The faster lstm: oneDNN's kernel for a whole sequence."""

import pytest
import torch
from helpers.cases.case import cast
from helpers.compare import same_bits, same_number
from torch._subclasses import FakeTensorMode

import lincoln_fn as lf
from lincoln_fn.fastpath import lstm as kernel

FORMS = [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}]


def used_kernel(cache):
    scans = (scan for layer in cache.scans for scan in layer)
    return {isinstance(scan, kernel.KernelCache) for scan in scans}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("order", ["batch first", "length first"])
def test_equals_the_formula(form, has_state, order):
    formula = lf.lstm(5, **form)
    layer = lf.fast(formula)
    x = lf.keys.normal(lf.Key(0), (3, 7, 4))
    if order == "length first":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    params = layer.init(lf.Key(1), x)
    cells = form.get("num_layers", 1) * (1 + form.get("bidirectional", False))
    state = tuple(lf.keys.normal(lf.Key(2 + i), (cells, 3, 5)) for i in range(2))
    given = (x, state) if has_state else x
    y, cache = layer.forward(params, given)
    exact_y, exact_cache = formula.forward(cast(params), cast(given))
    assert used_kernel(cache) == {True}
    assert used_kernel(formula.forward(params, given)[1]) == {False}
    g = lf.tree.map(lambda leaf: lf.keys.normal(lf.Key(9), tuple(leaf.shape)), y)
    results = (y, layer.backward(params, cache, g))
    exact = (exact_y, formula.backward(cast(params), exact_cache, cast(g)))
    assert same_number(results, exact, dtype=torch.float32)


def test_the_same_bits_and_no_record_of_autograd():
    layer = lf.fast(lf.lstm(5))
    x = lf.keys.normal(lf.Key(0), (3, 7, 4))
    params = layer.init(lf.Key(1), x)
    y, cache = layer.forward(params, x)
    with torch.no_grad():
        again, cache_again = layer.forward(params, x.clone().requires_grad_())
    assert same_bits(y, again)
    assert not again.requires_grad
    first = layer.backward(params, cache, y)
    for other in (layer.backward(params, cache, y), layer.backward(params, cache_again, y)):
        assert same_bits(first, other)


def test_two_biases_are_two_tensors():
    layer = lf.fast(lf.lstm(5))
    x = lf.keys.normal(lf.Key(0), (3, 7, 4))
    params = layer.init(lf.Key(1), x)
    y, cache = layer.forward(params, x)
    (cell,) = layer.grads(params, cache, y).cells[0]
    assert same_bits(cell.bias_ih, cell.bias_hh)
    assert cell.bias_ih.data_ptr() != cell.bias_hh.data_ptr()


@pytest.mark.parametrize("x", [
    torch.zeros(2, 3, 4, dtype=torch.float64), torch.zeros(2, 3, 4, dtype=torch.bfloat16),
    torch.zeros(2, 0, 4), torch.zeros(0, 3, 4), torch.zeros(2, 3, 4, device="meta"),
], ids=str)  # fmt: skip
def test_what_the_kernel_cannot_take(x):
    assert not kernel.supports(x)
    with FakeTensorMode():  # a traced step is written cell by cell
        assert not kernel.supports(torch.zeros(2, 3, 4))


def test_a_mask_takes_the_formula():
    layer = lf.fast(lf.lstm(5))
    x = lf.keys.normal(lf.Key(0), (3, 7, 4))
    mask = torch.arange(7) < torch.tensor([[7], [4], [0]])
    _, cache = layer.forward(layer.init(lf.Key(1), x), (x, None, mask))
    assert used_kernel(cache) == {False}
