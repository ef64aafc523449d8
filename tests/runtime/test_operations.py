"""Work that is due at some steps only, in Python, in a graph and under vmap."""

import torch
from helpers.compare import same_bits, same_number
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.runtime import when_due

CALLS = []


@when_due
def _swap_for_test(x, factor, *, first, second):
    CALLS.append(type(x))
    return x * second, factor * first


@when_due
def _root_for_test(x, *, old):
    CALLS.append(type(x))
    return (x.sqrt(),)


X, Y = torch.tensor([4.0, 9.0]), torch.tensor([5.0, 6.0])
YES, NO = torch.tensor(True), torch.tensor(False)


def test_python_does_the_work_when_it_is_due():
    CALLS.clear()
    assert same_bits(_root_for_test(YES, X, old=Y)[0], X.sqrt())
    assert len(CALLS) == 1
    (kept,) = _root_for_test(NO, X, old=Y)
    assert len(CALLS) == 1
    assert same_bits(kept, Y)
    assert kept.data_ptr() != Y.data_ptr()
    given = _swap_for_test(YES, X, Y, first=X, second=Y)
    assert same_bits(given, (X * Y, Y * X))


def test_vmap_chooses_for_each_case():
    cases = torch.stack([YES, NO])
    given = torch.func.vmap(lambda is_due: _root_for_test(is_due, X, old=Y)[0])(cases)
    assert same_bits(given, torch.stack([X.sqrt(), Y]))


def test_a_graph_for_another_process_has_torchs_operations_alone():
    def run(is_due, x, old):
        return _root_for_test(is_due, x, old=old)[0]

    traced = make_fx(run, tracing_mode="fake")(YES, X, Y)
    assert {str(node.target).partition(".")[0] for node in traced.graph.nodes} >= {"aten"}
    assert not any("lincoln_fn" in str(node.target) for node in traced.graph.nodes)
    assert same_bits(traced(YES, X, Y), X.sqrt())
    assert same_bits(traced(NO, X, Y), Y)


def test_a_compiled_function_pays_only_when_it_is_due(uncompiled):
    def step(state, batch):
        count, first, second = state
        first, second = _swap_for_test(count % 2 == 0, batch, batch, first=first, second=second)
        (first,) = _root_for_test(count == 1, batch, old=first)
        return (count + 1, first, second), first.sum()

    compiled, begin = lf.compile(step), (torch.tensor(0), X, Y)
    state, _ = compiled(begin, X)
    wanted, _ = step(begin, X)
    CALLS.clear()
    for _ in range(4):  # the root at count 1, a swap at 2 and at 4, and neither at 3
        state, _ = compiled(state, X)
    assert [torch.Tensor] * 3 == CALLS
    for _ in range(4):
        wanted, _ = step(wanted, X)
    assert same_number(state, wanted)
