"""Graphs of steps."""

import torch

import lincoln_fn as lf
from helpers.compare import same_number
from helpers.compiling import T
from helpers.steps import CE, begin
from lincoln_fn.compiler.tracing import guard, of_step, write_down

MOMENTUM = lf.optim.sgd(0.1, momentum=0.9)


def drawn(i, *shape):
    return lf.keys.normal(lf.Key(i), shape)


def column_major(state, least=1):
    """Give a state's matrices of so many numbers another layout, as `lf.fast(net).init` may."""

    def turned(leaf):
        return leaf.mT.contiguous().mT if leaf.ndim == 2 and leaf.numel() >= least else leaf

    return lf.tree.map(turned, state, states=True)


def trace(step, state, batch, *, here=True):
    """Trace a step for arguments like those given."""
    program = of_step(step)
    return guard(program, write_down(program, state, batch, here=here))


def traced(net, x, target=T, loss=CE, optimizer=MOMENTUM):
    step, state = begin(net, x, loss, optimizer)
    return trace(step, state, (x, target)).graph, (state, (x, target))


def targets(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def run(graph, arguments):
    outputs = graph(*lf.tree.leaves(arguments, states=True))
    return [outputs] if isinstance(outputs, torch.Tensor) else outputs


def assert_same_after(rewrite, graph, arguments):
    before = run(graph, arguments)
    rewrite(graph)
    graph.graph.lint()
    assert same_number(run(graph, arguments), before)
