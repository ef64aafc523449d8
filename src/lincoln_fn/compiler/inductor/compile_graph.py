"""A traced graph as a fast function, by torch's Inductor."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiler.decompositions import VARIANCES
from lincoln_fn.compiler.inductor.disk_cache import digest, library_of
from lincoln_fn.compiler.inductor.settings import IS_KNOWN, VECTORS, compiler_flags
from lincoln_fn.compiler.passes.donation import Flat
from lincoln_fn.compiler.passes.rewriting import outputs_of
from lincoln_fn.core import same_strides

_OPTIONS: Final = {
    # The caller has compared sizes and strides.
    "size_asserts": False,
    "alignment_asserts": False,
    # It assumes that sums of indices do not overflow 64 bits. The draws from a key do overflow:
    # with it, the masks of dropout would be different.
    "constant_and_index_propagation": False,
    # With it, a user's own layer that draws from torch's generator draws the same numbers.
    "fallback_random": True,
    # Reordering would compute at once, and keep, what a checkpointed layer recomputes later.
    "reorder_for_locality": False,
    # Loops and products are called from C++: a call from Python takes as long as a small loop.
    "cpp_wrapper": True,
    # Independent loops are not fused: a fused loop would keep the tensors of all of them until it
    # has run, such as a layer's gradient until the next layer's.
    "cpp.max_horizontal_fusion_size": 1,
    # A loop of fewer elements ends before a second thread has started.
    "cpp.min_chunk_size": 4096,
    # Precompiling the headers takes longer than compiling a few graphs with them. And they would be
    # stored in a folder that others may be able to write to, whatever the cache folder is.
    "cpp_cache_precompile_headers": False,
    **VECTORS,
}


def by_inductor(graph: GraphModule, inputs: tuple[Tensor, ...]) -> Flat:
    """Let Inductor compile a graph."""
    # Only its inner half runs. The outer half prepares for autograd and for functions that change
    # their inputs. It would take as long, at every call, as a small network's matrix product.
    with warnings.catch_warnings():
        # When Inductor is imported, it uses deprecated parts of torch.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Imported here, because it takes longer than all the rest of the library.
        from torch._inductor import config
        from torch._inductor.compile_fx import compile_fx_inner

        fake, inputs = _fakes_like(inputs)
        options = {**_OPTIONS, **compiler_flags()}
        with fake, torch.no_grad(), config.patch(options), _extend_inductor():
            simpler = _simpler(graph, inputs)
            # The context lists which sizes are numbers. Without it, no compiled graph is stored.
            with tracing(TracingContext(fake)), _silent_on_proxies():
                compiled: Any = compile_fx_inner(
                    simpler, inputs, is_inference=True, cpp_wrapper=True
                )
            # Without the records that Inductor makes of each call.
            run: Flat = library_of(compiled) or compiled.current_callable
            return run


@contextmanager
def _extend_inductor() -> Iterator[None]:
    """Let Inductor call our operations from C++, and reuse memory after its last read."""
    # A torch with which neither has been tried calls the operations through Python.
    if not IS_KNOWN:
        yield
        return
    from torch._inductor import config as options

    from lincoln_fn.compiler.inductor.lowering import WithoutOrderings, lower

    lower()
    # So that graphs which another version of this library compiled are not loaded.
    config: Any = torch.compiler.config  # Any: its functions are set when it is imported
    with (
        config.patch(cache_key_tag=config.cache_key_tag + digest()),
        options.patch(
            {
                "_pre_fusion_custom_pass": WithoutOrderings(),
                # The calls are compiled separately from the loops, and with less optimization. They
                # are not slower, and together the C++ compiler took five times as long.
                "cpp_wrapper_build_separate": True,
            }
        ),
    ):
        yield


def _fakes_like(inputs: Sequence[Tensor]) -> tuple[FakeTensorMode, tuple[Tensor, ...]]:
    """Make fake tensors like the inputs, in a mode in which Inductor can number a loop's steps."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    fake = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    with fake:
        return fake, tuple(map(same_strides, inputs))


def _simpler(graph: GraphModule, inputs: tuple[Tensor, ...]) -> GraphModule:
    """Write a graph in the operations that Inductor knows best."""
    from torch._inductor.decomposition import select_decomp_table

    # Without propagation of indices, Inductor's own single pass over the numbers fails.
    # Without Inductor's passes over joint graphs: they find nothing in a step, and search for other
    # forms of attention and the like, which takes a third of a second.
    simpler = make_fx(graph, {**select_decomp_table(), **VARIANCES})(*inputs)
    end = simpler.graph.output_node()
    outputs, traced = outputs_of(simpler.graph), outputs_of(graph.graph)
    end.args = (tuple(outputs),)
    # Outputs whose strides have to be those that were traced, even if a pass has changed them, so
    # that the next step finds this graph again.
    visible = [i for i, output in enumerate(outputs) if isinstance(output, Node)]
    for i in visible:
        shown = traced[i].meta["val"]
        outputs[i].meta["val"] = (
            outputs[i].meta["val"].new_empty_strided(shown.shape, shown.stride())
        )
    end.meta["user_visible_output_idxs"] = visible
    return simpler


@contextmanager
def _silent_on_proxies() -> Iterator[None]:
    """Keep Inductor from logging a warning for each operation that it cannot call from C++."""
    log = logging.getLogger("torch._inductor.ir")

    def is_other(record: logging.LogRecord) -> bool:
        return "using proxy executor" not in str(record.msg)

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)
