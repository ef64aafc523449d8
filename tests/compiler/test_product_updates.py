"""Updates of one product: which are found, what the loop makes of them, and steps that use it."""

from functools import partial
from itertools import product as pairs

import pytest
import torch
from helpers import CE, begin, drawn, same_bits, same_number, trace
from helpers.compiling import assert_compiles, compiles, since_2_13
from helpers.graphs import column_major
from helpers.kernels_together import together
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.compiler import cpp_kernel
from lincoln_fn.compiler.passes import product_updates as op
from lincoln_fn.compiler.passes.donation import donate
from lincoln_fn.compiler.passes.product_updates import supports, updates, write
from lincoln_fn.fastpath import product
from lincoln_fn.recording import flatten

pytestmark = [pytest.mark.full, compiles, since_2_13, pytest.mark.usefixtures("needs_vectors")]


@pytest.fixture(autouse=True)
def _by_mkl(monkeypatch):
    monkeypatch.setattr(product, "MKL", True)


@pytest.fixture
def of_any_size(monkeypatch):
    monkeypatch.setattr(op, "_LEAST", 1)
    monkeypatch.setattr(op, "_SIDE", 1)
    monkeypatch.setattr(op, "_LARGE", 1)


def momentum(w, b, a, c, rate):
    moved = 0.9 * b + a @ c
    return w - rate * moved, moved


def adam(w, m, v, a, c, rate):
    dw = a @ c
    m = torch.lerp(m, dw, 0.1)
    v = torch.addcmul(0.99 * v, dw, dw, value=0.01)
    return torch.addcdiv(w, m, (v.sqrt() + 1e-3) * rate, value=-1.5), m, v


def all_known(w, v, a, c, rate):
    dw = a @ c
    largest = torch.maximum(w.abs(), -dw)
    smallest = torch.minimum(largest / 3, v)
    return torch.lerp(dw, smallest, 0.75) - 2.5 * v + rate, dw


def by_columns(w, b, a, c, rate):
    moved = 0.9 * b + (c.mT @ a.mT).mT
    return w - rate * moved, moved


def graph_of(update, given):
    return make_fx(update, tracing_mode="fake")(*given).graph


def found_in(graph, leaves):
    """Find updates in a graph whose first inputs are leaves, and whose outputs follow these."""
    holders = graph.find_nodes(op="placeholder")[:leaves]
    return updates(graph, holders, graph.output_node().args[0])


def carried_out(update, given, leaves, is_finite=True):
    """Carry out an update by the loop, in the memory of its leaves."""
    graph = graph_of(update, given)
    (found,) = found_in(graph, leaves)
    end = graph.output_node()
    with graph.inserting_before(end):
        yes = graph.call_function(torch.tensor, (is_finite,))
        write(graph, found, yes)
    end.args = (None,)
    torch.fx.GraphModule({}, graph)(*given)


# Rows, terms and columns: one tile and many, whole ones and parts, one of them a line shorter than
# the one before; and one of each.
SHAPES = [(64, 128, 96), (86, 20, 33), (45, 33, 70), (3, 5, 7), (1, 1, 1)]
FACTORS = {
    "a turned": (lambda a: a.mT.contiguous().mT, lambda c: c),
    "b turned": (lambda a: a, lambda c: c.mT.contiguous().mT),
}


@pytest.mark.parametrize("update", [momentum, adam], ids=lambda update: update.__name__)
def test_the_kernel_makes_what_the_operations_make(update, of_any_size):
    count, cases = {momentum: 2, adam: 3}[update], []
    for (rows, terms, columns), factors in pairs(SHAPES, FACTORS):
        lay_a, lay_c = FACTORS[factors]
        leaves = [drawn(i, rows, columns).abs() for i in range(count)]
        a, c = lay_a(drawn(5, rows, terms)), lay_c(drawn(6, terms, columns))
        given = (*leaves, a, c, torch.tensor(0.3, dtype=torch.float64))
        cases.append((given, 2 if factors == "a turned" else 1))

    def run(given, threads):
        torch.set_num_threads(threads)
        kept, changed = ([x.clone() for x in given] for _ in range(2))
        carried_out(update, kept, count, is_finite=False)
        carried_out(update, changed, count)
        return kept, changed

    made = together([partial(run, *case) for case in cases])
    for (given, _), (kept, changed) in zip(cases, made, strict=True):
        assert same_bits(kept, list(given))
        expected = update(*(x.double() for x in given))
        assert same_number(changed[:count], list(expected), dtype=torch.float32)
        assert same_bits(changed[count:], list(given[count:]))


def forgetting(mean, a, c):
    return (torch.lerp(mean, a @ c, 1.0),)


# An update, its leaves, the factors and a number: leaves by columns, which stay so, every known
# operation, and a mean that forgets all and keeps no rounding.
UPDATES = {
    "by columns": (
        by_columns, [drawn(i, 33, 20).mT for i in range(2)],
        (drawn(5, 20, 9), drawn(6, 9, 33), torch.tensor(0.3)),
    ),
    "known operations": (
        all_known, [drawn(i, 10, 40) for i in range(2)],
        (drawn(5, 10, 9), drawn(6, 9, 40), torch.tensor(3)),
    ),
    "a mean": (forgetting, [torch.full((2, 3), 1e9)], (drawn(5, 2, 1), drawn(6, 1, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
def test_leaves_change_in_place_as_the_operations_say(name, of_any_size):
    update, leaves, factors = UPDATES[name]
    leaves = [leaf.mT.clone().mT if name == "by columns" else leaf.clone() for leaf in leaves]
    strides, given = [leaf.stride() for leaf in leaves], (*leaves, *factors)
    expected = update(*(x.double() for x in given))
    (found,) = found_in(graph_of(update, given), len(leaves))
    assert found.are_turned is (name == "by columns")
    carried_out(update, given, len(leaves))
    assert [leaf.stride() for leaf in leaves] == strides
    assert same_number(leaves, list(expected), dtype=torch.float32)


def test_extremes_are_as_torch_makes_them(of_any_size):
    # Of one term, so that no sum is rounded: zero, denormal, huge, infinite, and no number.
    a = torch.tensor([[0.0], [1e-20], [1e20], [-1e4]])
    c = torch.tensor([[0.0, 1.0, -1e-20, 1e25, torch.inf, torch.nan, 1e4, 3e-3]])
    given = tuple(torch.zeros(4, 8) for _ in range(3))
    given = (*given, a, c, torch.tensor(1.0))
    expected = adam(*(x.clone() for x in given))
    carried_out(adam, given, 3)
    for leaf, wanted in zip(given[:3], expected, strict=True):
        is_nan = wanted.isnan()
        assert same_bits(leaf.isnan(), is_nan)
        ours, theirs = leaf[~is_nan], wanted[~is_nan]
        assert same_number(ours, theirs, terms=theirs.abs().nan_to_num(0, 0), length=8)


NOT_FOUND = {
    "the gradient's norm": lambda w, v, a, c: (lambda dw: (w - dw / dw.norm(), v))(a @ c),
    "a row": lambda w, v, a, c: (w - a @ c + v[0], v),
    "another tensor": lambda w, v, a, c: (w - (a @ c) * v.exp(), v),
    "an unknown operation": lambda w, v, a, c: (w - (a @ c).exp(), v),
    "an infinite number": lambda w, v, a, c: (w - (a @ c) * float("inf"), v),
    "another leaf that changes otherwise": lambda w, v, a, c: (w - a @ c * v, v.exp()),
    "another view of the gradient": lambda w, v, a, c: (
        lambda dw: (w - dw, v.mT.mT + dw.view(5, 4).view(4, 5))
    )(a @ c),
    "no leaf": lambda w, v, a, c: (w, v, a @ c),
    "a leaf in the product": lambda w, v, a, c: (w - v[:, :3] @ c, v),
    "in double precision": lambda w, v, a, c: (w - (a.double() @ c.double()).float(), v),
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_another_update_is_not_found(name, of_any_size):
    given = drawn(0, 4, 5), drawn(1, 4, 5), drawn(2, 4, 3), drawn(3, 3, 5)
    graph = graph_of(NOT_FOUND[name], given)
    holders = graph.find_nodes(op="placeholder")[:2]
    assert updates(graph, holders, graph.output_node().args[0][:2]) == []


def test_a_leaf_that_lies_otherwise_or_has_more_axes_does_not_change_so(of_any_size):
    factors = drawn(2, 4, 3), drawn(3, 3, 5), torch.tensor(0.3)
    by_rows, turned, more = drawn(0, 4, 5), drawn(1, 5, 4).mT, drawn(1, 2, 4, 5)
    pairs = (by_rows, by_rows), (by_rows, turned), (turned, turned), (more, more), (by_rows, more)
    counts = [len(found_in(graph_of(momentum, (*pair, *factors)), 2)) for pair in pairs]
    assert counts == [1, 0, 0, 0, 0]


def test_a_product_that_is_shown_in_two_ways_changes_nothing(of_any_size):
    def update(w, v, a, c):
        dw = a @ c
        return w - dw, v - dw.mT

    graph = graph_of(update, [drawn(i, 4, 4) for i in range(4)])
    assert found_in(graph, 2) == []


def test_which_products_suit(monkeypatch):
    def suits(rows, terms, columns, dtype=torch.float32, device="cpu"):
        a = torch.empty(rows, terms, dtype=dtype, device=device)
        return supports(a, a.new_empty(terms, columns))

    assert suits(500, 256, 784)
    assert suits(64, 128, 2**7)
    assert suits(2**11, 1024, 2**11)
    for rows, *shape in (63, 128, 2**10), (2**10, 128, 63), (64, 127, 2**7), (500, 257, 784):
        assert not suits(rows, *shape)
    assert not suits(2**11, 1025, 2**11)
    assert not suits(2**11, 1024, 2**11 - 1)
    assert not suits(500, 128, 784, dtype=torch.float64)
    assert not suits(500, 128, 784, device="meta")
    monkeypatch.setattr(product, "MKL", False)
    assert not suits(500, 128, 784)
    monkeypatch.setattr(product, "MKL", True)
    monkeypatch.setattr(cpp_kernel, "lanes", lambda: 0)
    assert not suits(500, 128, 784)


@pytest.mark.parametrize(
    ("name", "rounded"), [("highest", False), ("high", True), ("medium", True)]
)
def test_torch_is_left_products_that_it_may_round(name, rounded, precision):
    precision(name)
    assert supports(torch.empty(500, 128), torch.empty(128, 784)) is not rounded


# What a dense layer's updates are found to change, with W by rows or by columns.
X, TARGET = drawn(0, 6, 5), torch.tensor([0, 2, 1, 1, 2, 0])
NET = lf.serial(lf.dense(20), lf.tanh(), lf.dense(3))


def fates_of(optimizer, layout=lambda state: state):
    step, state = begin(NET, X, CE, optimizer, donate=True)
    state = layout(state)
    traced = trace(step, state, (X, TARGET))
    fates = donate(traced, len(flatten(state)[0]))
    return fates, [node.target for node in traced.graph.graph.nodes]


@pytest.mark.parametrize("layout", [column_major, lambda state: state])
def test_the_updates_of_a_step_are_found(layout, of_any_size):
    fates, made = fates_of(lf.optim.adamw(0.01), layout)
    assert made.count(op.change) == 2
    assert set(fates) == {"updated", "kept"}


FUSED = ["sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "nadam", "adamax"]


@pytest.mark.parametrize("name", FUSED)
def test_the_optimizers_whose_updates_are_found(name, of_any_size):
    make = getattr(lf.optim, name)
    optimizer = make(0.01, momentum=0.9) if name == "sgd" else make(0.01)
    assert fates_of(optimizer)[1].count(op.change) == 2


MADE_ALIKE = [
    lf.optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    lf.optim.adamw(0.01, amsgrad=True),
    lf.optim.chain(lf.optim.ema(0.9), lf.optim.adam(0.01)),
]


@pytest.mark.parametrize("optimizer", MADE_ALIKE, ids=str)
def test_steps_make_what_the_pure_step_makes(optimizer, of_any_size):
    assert_compiles(NET, optimizer, X, TARGET, donate=True)
