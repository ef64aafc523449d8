"""The faster lstm: oneDNN's kernel for a whole sequence."""

import pytest
import torch
from helpers.compare import same_bits
from torch._subclasses import FakeTensorMode

import lincoln_fn as lf
from lincoln_fn.fastpath import lstm as kernel

FORMS = [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}]


def used_kernel(cache):
    scans = (scan for layer in cache.scans for scan in layer)
    return {isinstance(scan, kernel.KernelCache) for scan in scans}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_is_used(form):
    """Its numbers are those of the table's cases, in test_fastpath.py."""
    layer, x = lf.lstm(5, **form), lf.keys.normal(lf.Key(0), (3, 7, 4))
    params = layer.init(lf.Key(1), x)
    assert used_kernel(lf.fast(layer).forward(params, x)[1]) == {True}
    assert used_kernel(layer.forward(params, x)[1]) == {False}


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
