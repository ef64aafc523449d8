"""A program's graph: traced, rewritten, and compiled by Inductor or loaded from disk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from threading import RLock
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiler.inductor import disk_cache
from lincoln_fn.compiler.inductor.compile_graph import by_inductor
from lincoln_fn.compiler.inductor.disk_cache import Graph
from lincoln_fn.compiler.inductor.settings import use_trusted_cache, with_threads
from lincoln_fn.compiler.passes import pooling, products, sequences
from lincoln_fn.compiler.passes.donation import Flat, donate
from lincoln_fn.compiler.passes.rewriting import copy_views, to_torch, write_numbers
from lincoln_fn.compiler.tracing import Program, Traced, graphs_in, guard, write_down
from lincoln_fn.core import Arrays, LayerError
from lincoln_fn.recording import Structure, flatten
from lincoln_fn.runtime import log_if_slow, make_cache_folder

# A lock: Inductor's settings, and the mode in which a program is traced, belong to the process.
_ONE_AT_A_TIME: Final = RLock()
# Each replaces what those before it have left. Products are also in what replaces an LSTM. The last
# one sees the strides that the others have changed. Before them, donation puts a donated state into
# the graph: it looks for products.
PASSES: Final = (
    pooling.rewrite, pooling.rewrite_convolutions, sequences.rewrite, products.rewrite,
    write_numbers, to_torch, copy_views,
)  # fmt: skip


def graph_of(program: Program, *arguments: Arrays, donated: int = 0) -> tuple[Graph, Structure]:
    """Compile a program for arguments like those given, or load its graph from disk."""
    with _ONE_AT_A_TIME:
        make_cache_folder()
        with log_if_slow(f"tracing the {program.where}, once a process"):
            traced = write_down(program, *arguments)
        # The loops of a small graph have one thread.
        is_small = all(map(products.is_small, graphs_in(traced.graph)))
        try:
            with with_threads(1 if is_small else torch.get_num_threads()):
                graph = _find_or_compile(program, traced, donated)
        except LayerError:
            raise
        except Exception as error:
            graph = _as_it_is(program, arguments, error)
        return Graph(_restride(graph.run, traced.inputs), graph.fates), traced.structure


def _find_or_compile(program: Program, traced: Traced, donated: int) -> Graph:
    with use_trusted_cache():
        with log_if_slow(f"looking for the compiled {program.where} on disk"):
            note = disk_cache.note_on(traced, donate=donated > 0)
            graph = disk_cache.find(note)
        if graph is None:
            later = "once; later runs find it on disk" if note else "once a process"
            with log_if_slow(f"compiling the {program.where}, {later}"):
                graph = _compile(guard(program, traced), donated)
            disk_cache.keep(note, graph)
    return graph


def _restride(run: Flat, inputs: Sequence[Tensor]) -> Flat:
    """Give axes of one entry the strides that the graph was traced with: kernels check them."""
    narrow = [(i, x.shape, x.stride()) for i, x in enumerate(inputs) if 1 in x.shape]

    def run_restrided(leaves: list[Tensor]) -> Sequence[Tensor]:
        for i, shape, stride in narrow:
            if leaves[i].stride() != stride:
                leaves[i] = leaves[i].as_strided(shape, stride)
        return run(leaves)

    return run_restrided if narrow else run


def _as_it_is(program: Program, arguments: tuple[Arrays, ...], error: Exception) -> Graph:
    """Run a program uncompiled, and warn: compiling failed, for example without a C++ compiler."""
    reason, *output = f"{type(error).__name__}: {error}".strip().splitlines()
    refused = next((line.strip() for line in output if "error: " in line), None)
    mend = (
        "it needs a C++ compiler, such as g++ or the one that CXX names, and a folder that it can"
        " write, which TORCHINDUCTOR_CACHE_DIR names"
        if refused is None
        else f"the C++ compiler says {refused!r}; another one, which CXX names, may accept the code"
    )
    warnings.warn(
        f"the {program.where} runs as it is, without being compiled: with torch"
        f" {torch.__version__} that failed ({reason}); {mend}",
        stacklevel=2,
    )
    _, structure = flatten(arguments)

    def run(leaves: list[Tensor]) -> list[Tensor]:
        result, value = program.pure(*structure.unflatten(leaves))
        return [*flatten(result)[0], value]

    return Graph(run, None)


def _compile(traced: Traced, donated: int) -> Graph:
    fates = donate(traced, donated) if donated else None
    for graph in graphs_in(traced.graph):
        for rewrite in PASSES:
            rewrite(graph)
    return Graph(by_inductor(traced.graph, traced.inputs), fates)
