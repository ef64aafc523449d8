"""Linear scans in a traced step: one operation for each, which a kernel computes when compiled."""

from functools import partial

import pytest
import torch
from helpers import assert_same_after, begin, compiles, drawn, same_number, targets, traced
from helpers.kernels_together import together

import lincoln_fn as lf
from lincoln_fn.compiler.passes import sequences
from lincoln_fn.layers.linear_scan import scan

lincoln = torch.ops.lincoln_fn
NET = lf.serial(lf.mamba(4, 3), lf.flatten(), lf.dense(3))


@pytest.mark.full
def test_a_step_of_any_length_is_one_operation_for_each_scan():
    lengths = []
    for steps in (20, 70):
        graph, arguments = traced(NET, drawn(1, 6, steps, 4))
        called = targets(graph)
        assert called.count(lincoln.linear_scan.default) == 2  # there and back
        lengths.append(len(called))
    assert max(lengths) - min(lengths) < 20
    assert_same_after(sequences.rewrite, graph, arguments)


@pytest.mark.full
def test_an_exported_step_has_the_formulas_operations(tmp_path):
    net = lf.serial(lf.gated_linear_recurrence(), lf.flatten(), lf.dense(3))
    x = tuple(drawn(i, 6, 4, 5) for i in range(3))
    step, state = begin(net, x)
    lf.export_step(step, state, (x, torch.tensor([0, 2, 1, 1, 2, 0])), tmp_path / "step.pt2")
    assert "lincoln_fn" not in str(torch.export.load(tmp_path / "step.pt2").graph)


@compiles
def test_the_kernel_computes_the_scan(needs_vectors):
    def given(*shape):
        return drawn(1, *shape).sigmoid(), drawn(2, *shape), drawn(3, shape[0], *shape[2:])

    # Batch, steps and features, reverse, and threads: shares of one size and of two.
    shapes = (1, 9, 5), (5, 4, 3, 7), (3, 1, 16), (2, 6)
    sizes = [*zip(shapes, (False, True, False, True), (1, 2, 3, 1), strict=True)]

    def run(shape, reverse, threads):
        torch.set_num_threads(threads)
        return sequences.scan_by_kernel(*given(*shape), 16, reverse)

    calls = [partial(run, *size) for size in sizes]
    for (shape, reverse, _), made in zip(sizes, together(calls), strict=True):
        exact = (part.double() for part in given(*shape))
        expected = scan(*exact, chunk_size=16, reverse=reverse)
        assert same_number(made, expected, dtype=torch.float32)
