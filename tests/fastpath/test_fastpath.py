"""Every faster pair of functions is equal to its formula, in every case that it matches."""

import pytest
import torch
from helpers import CASES, CE, Case, begin, cast, error_of, largest, normal, same_number
from helpers.cases import first_of
from helpers.compare import same_bits
from helpers.fast_layers import LARGE, ROWS
from torch._subclasses import FakeTensorMode

import lincoln_fn as lf
from lincoln_fn.core import file_of
from lincoln_fn.fastpath import lstm as kernel
from lincoln_fn.fastpath.table import TWINS

# Inputs at the extremes: far from 0, at kinks and ties, and too small for a normal number.
EXTREMES = {"usual": 1.0, "far": 1e4, "zero": 0.0, "denormal": 1e-40}


def scaled(x, factor):
    return lf.tree.map(lambda leaf: leaf * factor if leaf.is_floating_point() else leaf, x)


def results(layer, params, x):
    """Compute y, prediction, dx, dparams and the halves."""
    y, cache = layer.forward(params, x)

    def drawn(leaf):
        is_number = leaf.is_floating_point()
        return (normal(*leaf.shape, seed=3) if is_number else torch.zeros_like(leaf)).to(leaf.dtype)

    g = lf.tree.map(drawn, y)
    dx, dparams = layer.backward(params, cache, g)
    halves = layer.input_grad(params, cache, g), layer.grads(params, cache, g)
    return y, layer.predict(params, x), dx, dparams, halves, layer.advance(params, cache)


def assert_same(given, expected, size=1.0):
    # Some gradients cancel: those of a bias before a norm, and of the keys. g is about 1.
    terms = lf.tree.map(lambda leaf: max(size, largest(leaf)), expected, states=True)
    assert same_number(given, expected, terms=terms)


# Kinks, ties and denormals are a kernel's business, and not that of its options.
@pytest.mark.parametrize(("case", "extreme"), [
    pytest.param(case, extreme, id=f"{case}-{extreme}") for case in ROWS for extreme in EXTREMES
    if case in first_of(ROWS) or extreme in ("usual", "far")
])  # fmt: skip
def test_a_twin_is_equal_to_its_formula(case, extreme):
    if case.layer.parts and extreme == "far":
        pytest.skip("a composition amplifies what its layers round; each of them is a row itself")
    params, x = case.params(), scaled(case.x, EXTREMES[extreme])
    fast = lf.fast(case.layer)
    # The gradient of a score is a difference of sums of g * value, which a key multiplies.
    size = max(1.0, largest(x) ** 2) if "attention" in case.layer.name else 1.0
    assert_same(results(fast, params, x), results(case.layer, params, x), size)
    if extreme != "denormal":
        params, x = cast(params), cast(x)
        assert_same(results(fast, params, x), results(case.layer, params, x), size)


def test_every_row_of_the_table_is_matched_by_a_case():
    files = []
    for case in CASES:
        lf.map_layers(lambda layer: files.append(file_of(layer)) or layer, case.layer)
    assert {twin.formula for twin in TWINS} <= {*files}


def test_a_layer_with_functions_of_its_own_stays_as_it_is():
    for name in ("forward", "backward", "predict", "input_grad", "grads"):
        own = lf.dense(3)
        own = own.replace(**{name: lambda *arguments: None})
        assert lf.fast(lf.serial(own, lf.relu())).parts[0] is own


def test_a_step_without_the_fast_path_computes_the_same():
    net = lf.serial(lf.conv2d(3, 3), lf.relu(), lf.max_pool2d(2), lf.flatten(), lf.dense(4))
    x, target = normal(5, 2, 8, 8), torch.tensor([0, 3, 1, 2, 0])
    for optimizer in (lf.optim.sgd(0.1), lf.optim.adam(0.1)):
        step, state = begin(net, x, CE, optimizer)
        plain, expected = lf.make_step(net, CE, optimizer, fast=False)(state, (x, target))
        fast, value = step(state, (x, target))
        assert same_number((value, fast.params), (expected, plain.params))


@pytest.mark.parametrize("which", ["twin", "formula"])
@pytest.mark.parametrize("name", ["dense(500)", "conv2d(16, 3, padding=1)"])
def test_a_twin_or_a_formula_that_is_broken_is_noticed(name, which, monkeypatch):
    case = next(case for case in LARGE if case.layer.name == name)
    formula, fast = case.layer, lf.fast(case.layer)

    def broken(layer):
        return layer.replace(
            backward=lambda params, cache, g: layer.backward(params, cache, 1.001 * g)
        )

    monkeypatch.setattr(lf, "fast", lambda layer: broken(fast) if which == "twin" else fast)
    case = Case(broken(formula) if which == "formula" else formula, case.x)
    with pytest.raises(AssertionError):
        test_a_twin_is_equal_to_its_formula(case, "usual")


SINGLE = [case for case in first_of(ROWS) if case.layer.composition is None]


@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_a_twin_refuses_what_its_formula_refuses(case):
    params, said = case.params(), []
    for layer in (case.layer, lf.fast(case.layer)):
        y, cache = layer.forward(params, case.x)
        g = lf.tree.map(lambda t: t[..., None] if t.is_floating_point() else t, y)
        said.append([
            error_of(layer.forward, 5, case.x), error_of(layer.backward, params, cache, g),
            error_of(layer.backward, params, 5, y),
        ])  # fmt: skip
    assert said[0] == said[1]


# The faster lstm: oneDNN's kernel for a whole sequence.


FORMS = [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}]


def used_kernel(cache):
    scans = (scan for layer in cache.scans for scan in layer)
    return {isinstance(scan, kernel.KernelCache) for scan in scans}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_is_used(form):
    """Its numbers are those of the table's cases."""
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
