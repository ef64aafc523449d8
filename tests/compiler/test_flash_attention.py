"""Attention in compiled steps by the flash kernel, without tensors of the length squared."""

import pytest
import torch
from helpers import assert_compiles, begin, compiles_in_full, same_number, targets, trace, traced
from helpers.graphs import run

import lincoln_fn as lf
from lincoln_fn.fastpath import flash_attention

LENGTH, N = 256, 7
IDS = torch.randint(N, (2, LENGTH + 1), generator=torch.Generator().manual_seed(0))
X, TARGET = IDS[:, :-1].clone(), IDS[:, 1:].clone()
FLASH, FLASH_BACKWARD = [flash_attention._in_graph], [flash_attention._in_graph_backward]


def writer(attention, factor=1.0):
    embed = lf.serial(lf.embedding(N, 20), lf.scale(factor))
    return lf.serial(embed, lf.residual(attention), lf.dense(N), lf.permute(0, 2, 1))


NETS = {
    "causal, fewer heads of keys": writer(lf.grouped_query_attention(4, 2, head_dim=6)),
    "window": writer(lf.grouped_query_attention(2, sliding_window=9, head_dim=6)),
    "multi_head_attention": writer(lf.multi_head_attention(4)),
    # The formula computes these in the operation.
    "scores beyond the kernel's": writer(lf.grouped_query_attention(2, head_dim=6), 300.0),
    "one head": writer(
        lf.serial(
            lf.branch(
                *(lf.dense(5), lf.dense(5), lf.dense(3)),
                merge=lf.scaled_dot_product_attention(is_causal=True),
            ),
            lf.dense(20),
        )
    ),
}


def taken(net):
    """Make the graph of a step, and what it and the eager step compute."""
    (step, state), batch = begin(net, X), (X, TARGET)
    graph = trace(step, state, batch).graph
    return graph, run(graph, (state, batch)), lf.tree.leaves(step(state, batch), states=True)


@pytest.mark.full(but=("window",))
@pytest.mark.parametrize("name", NETS)
def test_a_traced_step_has_the_kernel_and_computes_what_the_eager_step_does(name):
    graph, found, expected = taken(NETS[name])
    called = targets(graph)
    assert [called.count(each) for each in FLASH + FLASH_BACKWARD] == [1, 1]
    made = [n.meta["val"] for n in graph.graph.nodes if n.op == "call_function"]
    by_head = [t.shape for t in made if isinstance(t, torch.Tensor) and t.ndim > 2]
    assert not [s for s in by_head if s[-2:] == (LENGTH, LENGTH) and s.numel() > LENGTH**2]
    assert same_number([*found], expected, dtype=torch.float32)


@pytest.mark.full
def test_where_the_weights_are_few_a_traced_step_has_the_formula():
    graph, _ = traced(NETS["window"], X[:, 1:], TARGET[:, 1:])
    assert not {*FLASH, *FLASH_BACKWARD} & {*targets(graph)}


@compiles_in_full
def test_a_compiled_step_is_the_eager_one():
    net = NETS["causal, fewer heads of keys"]
    assert_compiles(net, lf.optim.sgd(0.1), X, TARGET, donate=False)
