"""A program's graph, traced, put in faster ways, and compiled or found on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn._waiting import waiting
from lincoln_fn.compiled import (
    attention,
    columns,
    lstm,
    lstm_of_codes,
    on_disk,
    pooled_convolution,
    pooling,
    products,
    scalars,
    sparse_convolution,
)
from lincoln_fn.compiled.donation import Flat, written_over
from lincoln_fn.compiled.inductor import by_inductor
from lincoln_fn.compiled.kernels import keep
from lincoln_fn.compiled.on_disk import Made
from lincoln_fn.compiled.private import trusted_cache
from lincoln_fn.compiled.structures import Layouts, Structure, builder, layouts
from lincoln_fn.compiled.tracing import Program, Traced, guarded, write_down
from lincoln_fn.fastpath.bfloat16 import precision
from lincoln_fn.layer import Arrays

# The structure of both arguments, their tensors' layouts, the number of threads, and how precise
# products are to be.
Kind: TypeAlias = tuple[Structure, Layouts, int, str]
# By the kind of the arguments: a graph, and what puts its outputs together. A memo and no state:
# what it holds would be found anew.
Graphs: TypeAlias = dict[Kind, tuple[Flat, Callable[[Sequence[Tensor]], Arrays]]]


def computed(
    graphs: Graphs,
    leaves: list[Tensor],
    structure: Structure,
    make: Callable[[], tuple[Made, Structure]],
    plain: Callable[[], Arrays],
) -> Arrays:
    """Run a program by the graph for such arguments, made now if there is none.

    Args:
        graphs: those made so far.
        leaves: the tensors of the arguments, in a list that is emptied.
        structure: that of the arguments.
        make: compiles the program for the arguments, as `graph_of` does.
        plain: runs what users call on the arguments, to say why the program's number is nan.

    Returns:
        What the program makes beside the number.
    """
    kind = structure, layouts(leaves), torch.get_num_threads(), precision()
    if kind not in graphs:
        made, of_result = make()
        graphs[kind] = made.run, builder(of_result)
    run, build = graphs[kind]
    with torch.no_grad():
        *outputs, flag = run(leaves)
    return build(outputs) if math.isfinite(flag.item()) else plain()


def graph_of(
    program: Program, first: Arrays, second: Arrays, *, donated: int = 0
) -> tuple[Made, Structure]:
    """Compile a program for arguments like those given, or find its graph on disk.

    Args:
        program: of which `pure` is compiled.
        first: its first argument.
        second: its second.
        donated: how many leaves, of the first, the graph may update in place.

    Returns:
        The graph, and the structure of what it makes beside the number.

    Raises:
        LayerError: as the program does on the same arguments; else if a part of it cannot be
            traced.
        NonFiniteError: as a step does.
    """
    with waiting(f"tracing the {program.where}, once a process"):
        traced = write_down(program, first, second)
    with trusted_cache():
        with waiting(f"looking for the compiled {program.where} on disk"):
            note = on_disk.note_on(traced, donate=donated > 0)
            made = on_disk.find(note)
        if made is None:
            later = "once; later runs find it on disk" if note else "once a process"
            with waiting(f"compiling the {program.where}, {later}"):
                made = _made(guarded(program, traced), donated)
            on_disk.keep(note, made)
    return made, traced.structure


def _made(traced: Traced, donated: int) -> Made:
    small = products.is_small(traced.graph)
    fates = written_over(traced, donated, small=small) if donated else None
    columns.rewrite(traced.graph, small=small)
    products.rewrite(traced.graph, small=small)
    pooling.rewrite(traced.graph)
    sparse_convolution.rewrite(traced.graph)
    pooled_convolution.rewrite(traced.graph)
    lstm.rewrite(traced.graph)
    lstm_of_codes.rewrite(traced.graph)
    attention.rewrite(traced.graph)
    products.rewrite_many(traced.graph)
    scalars.rewrite(traced.graph)
    keep(traced.graph)
    return Made(by_inductor(traced.graph, traced.inputs, small=small), fates)
